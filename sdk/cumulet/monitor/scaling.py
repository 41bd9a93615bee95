"""Reports of scaling: which task has how many containers now, how many it had, and why. Pure, but for their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cumulet.core.api import Json
from cumulet.core.files import write_text
from cumulet.packing import TASK_LABEL

SCALERS = "/apis/autoscaling/v2/horizontalpodautoscalers"
STATE = "state.json"
MOST_REPORTS = 1000
"""If nobody fetches them, the oldest go."""


@dataclass(frozen=True, slots=True)
class ScaleReport:
    """One change. `at` in seconds since 1970, `site` as the site calls itself."""

    site: str
    namespace: str
    task: str
    before: int
    after: int
    why: str
    at: float


def read_counts(scalers: Sequence[Json]) -> dict[str, int]:
    """`namespace/task` -> how many containers there shall be, for the autoscalers of tasks that have decided."""
    counts = {}
    for each in scalers:
        meta, status = each["metadata"], each.get("status", {})
        wanted = status.get("desiredReplicas", 0)
        if TASK_LABEL in meta.get("labels", {}) and wanted:
            counts[f"{meta['namespace']}/{meta['labels'][TASK_LABEL]}"] = int(wanted)
    return counts


def find_changes(site: str, known: Mapping[str, int], scalers: Sequence[Json], at: float) -> list[ScaleReport]:
    """What has changed since `known`. A task that is seen for the first time has not been scaled."""
    by_name = {f"{each['metadata']['namespace']}/{each['metadata']['name']}": each for each in scalers}
    reports = []
    for name, after in read_counts(scalers).items():
        before = known.get(name)
        if before is None or before == after:
            continue
        namespace, _, task = name.partition("/")
        why = describe_reason(by_name[name]) if name in by_name else ""
        reports.append(ScaleReport(site, namespace, task, before, after, why, at))
    return reports


def describe_reason(scaler: Json) -> str:
    """Why an autoscaler wants what it wants: its measured load beside its target, and the limit it has run into."""
    words = []
    targets = {
        each["resource"]["name"]: each["resource"]["target"].get("averageUtilization")
        for each in scaler["spec"].get("metrics", [])
        if each.get("type") == "Resource"
    }
    for each in scaler.get("status", {}).get("currentMetrics") or []:
        found = each.get("resource", {})
        percent = found.get("current", {}).get("averageUtilization")
        if percent is not None:
            name = str(found["name"]).upper() if found["name"] in ("cpu", "gpu") else found["name"]
            words.append(f"{name} {percent} % of what was asked for, wanted are {targets.get(found['name'])} %")
    for condition in scaler.get("status", {}).get("conditions", []):
        if condition["type"] == "ScalingLimited" and condition["status"] == "True":
            words.append(str(condition.get("message", condition.get("reason", ""))))
    return "; ".join(words)


class Reports:
    """A folder of reports that wait to be sent: one file each, the oldest first; and what was last known.

    Whoever sends them removes the files that have arrived. What is known is written after the reports, so that after
    a power cut a change may be told twice, and never not at all.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load_known(self) -> dict[str, int]:
        """Task -> number of containers that was last told of."""
        try:
            found = json.loads((self.folder / STATE).read_text())
        except (OSError, ValueError):
            return {}
        return {str(name): int(count) for name, count in found.items()} if isinstance(found, dict) else {}

    def add(self, reports: Sequence[ScaleReport], known: Mapping[str, int]) -> None:
        """Keep reports and what is known now."""
        for number, report in enumerate(reports):
            name = f"{int(report.at * 1000):015}-{number:03}-{report.task}.json"
            write_text(self.folder / name, json.dumps({"version": 1, "kind": "scaled", **asdict(report)}) + "\n")
        if known != self.load_known():
            write_text(self.folder / STATE, json.dumps(dict(sorted(known.items()))) + "\n")
        for path in self.list_reports()[:-MOST_REPORTS]:
            path.unlink(missing_ok=True)

    def list_reports(self) -> list[Path]:
        """The files of the reports that wait, the oldest first."""
        return sorted(path for path in self.folder.glob("[0-9]*.json"))

    def hand_on(self, take: Callable[[str, bytes], object]) -> int:
        """Give every report to `take(id, content)`, the oldest first, and forget those that it has taken.

        The id stays the same however often it is tried: whoever takes them keeps each once. Gives back how many it
        took; what `take` raises ends it, and the rest waits.
        """
        taken = 0
        for path in self.list_reports():
            take(f"scaled-{path.stem}", path.read_bytes())
            path.unlink()
            taken += 1
        return taken
