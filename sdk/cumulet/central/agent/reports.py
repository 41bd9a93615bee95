"""What the hub is told of a work: conditions and values, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from cumulet.central.agent.applier import Outcome
from cumulet.central.agent.feedback import make_feedback_condition, read_conditions, read_values
from cumulet.central.agent.manifests import make_meta
from cumulet.central.kube import Json
from cumulet.central.protocol import find_condition, make_condition, same_condition


def make_report(outcomes: Sequence[Outcome], objects: Sequence[Json | None], before: Json, generation: int) -> Json:
    """The status of a work from what became of its manifests, and the objects as they are now."""
    old = {each["resourceMeta"]["ordinal"]: each for each in _manifests(before)}
    pairs = sorted(zip(outcomes, objects, strict=True), key=lambda each: each[0].manifest.ordinal)
    manifests = [
        make_manifest_report(outcome, found, old.get(outcome.manifest.ordinal), generation) for outcome, found in pairs
    ]
    conditions = make_work_conditions(manifests, before.get("conditions") or (), generation)
    return {"conditions": conditions, "resourceStatus": {"manifests": manifests}}


def make_manifest_report(outcome: Outcome, found: Json | None, old: Json | None, generation: int) -> Json:
    """What is told of one manifest."""
    before = (old or {}).get("conditions") or ()
    good = ("True", "AppliedManifestComplete", "Apply manifest complete")
    bad = ("False", "AppliedManifestFailed", f"Failed to apply manifest: {outcome.wrong}")
    conditions = [make_condition("Applied", *(bad if outcome.wrong else good), before, generation=generation)]
    there = ("True", "ResourceAvailable", "Resource is available")
    absent = ("False", "ResourceNotAvailable", "Resource is not available")
    conditions.append(make_condition("Available", *(there if found is not None else absent), before))
    made: Json = {"resourceMeta": make_meta(outcome.manifest, outcome.resource), "conditions": conditions}
    if found is not None:
        values, wrong = read_values(found, outcome.option.rules)
        conditions.append(make_feedback_condition(outcome.option.rules, wrong, before))
        conditions += read_conditions(found, outcome.option.conditions, before, generation)
        if values:
            made["statusFeedback"] = {"values": values}
    return made


def make_work_conditions(manifests: Sequence[Json], before: Sequence[Json], generation: int) -> list[Json]:
    """The conditions of the work as a whole."""
    applied = _all_true(manifests, "Applied")
    good = ("True", "AppliedManifestWorkComplete", "Apply manifest work complete")
    bad = ("False", "AppliedManifestWorkFailed", "Failed to apply manifest work")
    made = [make_condition("Applied", *(good if applied else bad), before, generation=generation)]
    missing = sum(1 for each in manifests if not _is_true(each, "Available"))
    there = ("True", "ResourcesAvailable", "All resources are available")
    absent = ("False", "ResourcesNotAvailable", f"{missing} of {len(manifests)} resources are not available")
    made.append(make_condition("Available", *(absent if missing else there), before, generation=generation))
    ending = [each for each in manifests if find_condition(each["conditions"], "Complete") is not None]
    if ending:
        done = _all_true(ending, "Complete")
        text = ("True", "ConditionRulesAggregated", "") if done else ("False", "ConditionRulesAggregated", "")
        made.append(make_condition("Complete", *text, before, generation=generation))
    return made


def same_report(one: Json, other: Json) -> bool:
    """Whether two reports say the same; when conditions began is no matter."""
    if not _same_conditions(one.get("conditions") or (), other.get("conditions") or ()):
        return False
    mine, theirs = _manifests(one), _manifests(other)
    return len(mine) == len(theirs) and all(
        a["resourceMeta"] == b["resourceMeta"]
        and a.get("statusFeedback") == b.get("statusFeedback")
        and _same_conditions(a["conditions"], b["conditions"])
        for a, b in zip(mine, theirs, strict=True)
    )


def _same_conditions(mine: Sequence[Json], theirs: Sequence[Json]) -> bool:
    known = {each["type"]: each for each in theirs}
    return len(mine) == len(known) and all(same_condition(known.get(each["type"]), each) for each in mine)


def _manifests(status: Json) -> list[Json]:
    found = (status.get("resourceStatus") or {}).get("manifests") or []
    return list(found)


def _is_true(manifest: Json, kind: str) -> bool:
    return (find_condition(manifest["conditions"], kind) or {}).get("status") == "True"


def _all_true(manifests: Sequence[Json], kind: str) -> bool:
    return bool(manifests) and all(_is_true(each, kind) for each in manifests)
