"""What of an object goes back to the hub: values by feedback rules, conditions by condition rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from cumulet.central.jsonpath import find_value
from cumulet.central.kube import Json
from cumulet.central.protocol import make_condition

MOST_RAW = 1024
WELL_KNOWN: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {
    ("apps", "Deployment"): (
        ("ReadyReplicas", ".status.readyReplicas"),
        ("Replicas", ".status.replicas"),
        ("AvailableReplicas", ".status.availableReplicas"),
    ),
    ("apps", "DaemonSet"): (
        ("NumberReady", ".status.numberReady"),
        ("DesiredNumberScheduled", ".status.desiredNumberScheduled"),
        ("NumberAvailable", ".status.numberAvailable"),
    ),
    ("batch", "Job"): (
        ("JobComplete", '.status.conditions[?(@.type=="Complete")].status'),
        ("JobSucceeded", ".status.succeeded"),
    ),
    ("", "Pod"): (("PodReady", '.status.conditions[?(@.type=="Ready")].status'), ("PodPhase", ".status.phase")),
}
DONE = {("batch", "Job"): ("Complete", "Failed"), ("", "Pod"): ("Succeeded", "Failed")}


def read_values(found: Json, rules: Iterable[Json]) -> tuple[list[Json], list[str]]:
    """The values that the rules ask for, and what was wrong with rules."""
    group = str(found["apiVersion"]).rpartition("/")[0]
    values: dict[str, Json] = {}
    wrong: list[str] = []
    for rule in rules:
        if rule["type"] == "WellKnownStatus":
            paths: Sequence[tuple[str, str]] = WELL_KNOWN.get((group, found["kind"]), ())
            if not paths:
                wrong.append(f"nothing is well known of {found['kind']}")
        else:
            paths = [(each["name"], each["path"]) for each in rule.get("jsonPaths") or ()]
        for name, path in paths:
            try:
                value = find_value(found, path)
                if value is not None:
                    values[name] = {"name": name, "fieldValue": make_value(value)}
            except ValueError as error:
                wrong.append(f"{name}: {error}")
    return list(values.values()), wrong


def make_value(value: Any) -> Json:
    """A value with its type. Raises ValueError for what is too large or no whole number."""
    if isinstance(value, bool):
        return {"type": "Boolean", "boolean": value}
    if isinstance(value, int):
        return {"type": "Integer", "integer": value}
    if isinstance(value, str):
        return {"type": "String", "string": value}
    raw = json.dumps(value, separators=(",", ":"))
    if isinstance(value, float) or len(raw) > MOST_RAW:
        raise ValueError("is neither text, a whole number, true or false, nor a small list or mapping")
    return {"type": "JsonRaw", "jsonRaw": raw}


def make_feedback_condition(rules: Sequence[Json], wrong: Sequence[str], before: Sequence[Json]) -> Json:
    """The condition that says how feedback went."""
    kind = "StatusFeedbackSynced"
    if wrong:
        return make_condition(kind, "False", "StatusFeedbackSyncFailed", "; ".join(wrong), before)
    return make_condition(kind, "True", kind if rules else "NoStatusFeedbackSynced", "", before)


def read_conditions(found: Json, rules: Iterable[Json], before: Sequence[Json], generation: int) -> list[Json]:
    """The conditions that condition rules ask for."""
    made = []
    for rule in rules:
        if rule["type"] != "WellKnownConditions":
            text = f"rules of type {rule['type']} are not supported by this agent"
            made.append(make_condition(rule["condition"], "Unknown", "ConditionRuleInvalid", text, before))
            continue
        status = "True" if is_done(found) else "False"
        text = rule.get("message") or f"{found['kind']} is {'' if status == 'True' else 'not '}done"
        made.append(
            make_condition(rule["condition"], status, "ConditionRuleEvaluated", text, before, generation=generation)
        )
    return made


def is_done(found: Json) -> bool:
    """Whether a job or pod has ended, well or not."""
    group = str(found["apiVersion"]).rpartition("/")[0]
    ends = DONE.get((group, found["kind"]), ())
    status = found.get("status") or {}
    conditions = [each["type"] for each in status.get("conditions") or () if each.get("status") == "True"]
    return status.get("phase") in ends or any(end in conditions for end in ends)
