"""How a task is at every site, as hubs hand it up: read, put together, written within bounds. Pure.

A cluster tells by the feedback of its work, a hub by one text for all that are below it. Of very many sites those in
trouble are named first; the counts are always of all.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cumulet.central.kube import Json
from cumulet.central.protocol import PHASES, REPLICA_SETS, TASKS, find_condition
from cumulet.core.errors import UsageError

MOST_BYTES = 32 << 10
MOST_MESSAGE, MOST_NAME, MOST_PLACES = 240, 255, 64
FIELDS = ("phase", "message", "ready", "wanted", "places")
"""Of a Task's status, what its hub is told."""


@dataclass(frozen=True, slots=True)
class SiteReport:
    """A task at one site. `places`: node -> containers that are ready and all of them, `1/2`.

    `silent`: the site is out of touch, and this is what it said before.
    """

    phase: str
    message: str = ""
    ready: int = 0
    wanted: int = 0
    places: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Reports:
    """A task at many sites, named by their way down: `station-1/pier-7`. `counts`: phase -> sites, of all of them."""

    counts: Mapping[str, int] = field(default_factory=dict)
    sites: Mapping[str, SiteReport] = field(default_factory=dict)

    @property
    def left_out(self) -> int:
        """How many sites are counted and not named."""
        return sum(self.counts.values()) - len(self.sites)


def write_reports(reports: Reports) -> str:
    """The text, at most `MOST_BYTES`."""
    ranked = sorted(reports.sites.items(), key=lambda each: (PHASES.index(each[1].phase), each[0]))
    kept: dict[str, Any] = {}
    room = MOST_BYTES - 200
    for name, one in ranked:
        row = [one.phase, one.message, one.ready, one.wanted, dict(one.places), int(one.silent)]
        room -= len(_dump({name: row}))
        if room < 0:
            break
        kept[name] = row
    return _dump({"v": 1, "counts": dict(sorted(reports.counts.items())), "sites": kept})


def read_reports(text: str) -> Reports:
    """The reports of a text, which may come from anybody. Raises UsageError."""
    if len(text) > MOST_BYTES:
        raise UsageError(f"reports of {len(text)} bytes; {MOST_BYTES} are allowed")
    try:
        found = json.loads(text)
        if found["v"] != 1:
            raise UsageError(f"reports of version {str(found['v'])[:20]}; known is 1")
        counts = {phase: int(found["counts"][phase]) for phase in PHASES if phase in found["counts"]}
        sites = {name: _read_site(row) for name, row in found["sites"].items() if len(name) <= MOST_NAME}
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise UsageError(f"not reports of a task: {type(error).__name__}: {str(error)[:80]}") from error
    return Reports(counts, sites)


def merge_reports(parts: Mapping[str, str], silent: Collection[str] = ()) -> str:
    """The text over the clusters of a hub: cluster -> its own text, empty if it has told nothing yet."""
    counts: Counter[str] = Counter()
    sites: dict[str, SiteReport] = {}
    for cluster, text in sorted(parts.items()):
        try:
            found = read_reports(text) if text else Reports({"Sent": 1}, {"": SiteReport("Sent")})
        except UsageError as error:
            found = Reports({"Refused": 1}, {"": SiteReport("Refused", error.message[:MOST_MESSAGE])})
        counts.update(found.counts)
        for name, one in found.sites.items():
            whole = f"{cluster}/{name}" if name else cluster
            sites[whole] = replace(one, silent=one.silent or cluster in silent)
    return write_reports(Reports(counts, sites))


def find_reports(status: Json) -> str:
    """What a work's status says of its task, as text; empty if the work has none, or nothing was told yet."""
    for manifest in (status.get("resourceStatus") or {}).get("manifests") or ():
        meta = manifest["resourceMeta"]
        values = {
            each["name"]: each["fieldValue"] for each in (manifest.get("statusFeedback") or {}).get("values") or ()
        }
        if meta.get("kind") == REPLICA_SETS.kind and "reports" in values:
            return str(values["reports"].get("string", ""))
        if meta.get("kind") == TASKS.kind and meta.get("group") == TASKS.group:
            return _write_one(values, manifest.get("conditions") or ())
    return ""


def make_rules() -> list[Json]:
    """The feedback rules of a Task in a work."""
    return [{"type": "JSONPaths", "jsonPaths": [{"name": name, "path": f".status.{name}"} for name in FIELDS]}]


def _write_one(values: Mapping[str, Json], conditions: Iterable[Json]) -> str:
    """One cluster's own report, by the feedback of its Task, or by why it could not be applied."""
    phase = str(values.get("phase", {}).get("string", ""))
    if phase in PHASES:
        row = [phase, *(_get(values, name) for name in FIELDS[1:4])]
        try:
            places = json.loads(str(_get(values, "places") or "{}"))
            found = _read_site([*row[:1], row[1] or "", row[2] or 0, row[3] or 0, places, 0])
        except (ValueError, TypeError, AttributeError, RecursionError):
            found = SiteReport(phase)
    else:
        applied = find_condition(conditions, "Applied") or {}
        if applied.get("status") != "False":
            return ""
        found = SiteReport("Refused", str(applied.get("message", ""))[:MOST_MESSAGE])
    return write_reports(Reports({found.phase: 1}, {"": found}))


def _get(values: Mapping[str, Json], name: str) -> Any:
    value = values.get(name) or {}
    return value.get("string", value.get("integer"))


def _read_site(row: Any) -> SiteReport:
    phase, message, ready, wanted, places, silent = row
    if phase not in PHASES:
        raise ValueError(f"{str(phase)[:20]!r} is no phase")
    few = list(places.items())[:MOST_PLACES]
    named = {str(node)[:MOST_NAME]: str(text)[:20] for node, text in few}
    return SiteReport(phase, str(message)[:MOST_MESSAGE], int(ready), int(wanted), named, bool(silent))


def _dump(found: Any) -> str:
    return json.dumps(found, separators=(",", ":"))
