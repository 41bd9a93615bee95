"""Reports of scaling: which task has how many containers now, how many it had, and why. Pure, but for their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cumulet.core.api import Json
from cumulet.core.files import raise_os_error
from cumulet.packing import TASK_LABEL
from cumulet.spool import Disk, make_folders

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

    What is known and what follows from it are written in one piece, `state.json`, and only then become files. So a
    change is told once, also if the power is lost at any moment: neither is there, or both are, and the same report
    is written again under the same name. One process adds; another may hand on.
    """

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.folder = folder
        self._disk = disk or Disk()

    def load_known(self) -> dict[str, int]:
        """Task -> number of containers that was last told of."""
        return dict(self._load().known)

    def add(self, reports: Sequence[ScaleReport], known: Mapping[str, int]) -> None:
        """Keep reports and what is known now. Raises ToolError if the disk does not take them; then nothing is kept."""
        texts = {
            f"{int(report.at * 1000):015}-{number:03}-{report.task}.json": _dump(report)
            for number, report in enumerate(reports)
        }
        state = self._load()
        if texts or known != state.known:
            # What could not become a file the last time is not forgotten.
            self._save(_State(known, {**state.promised, **texts}))
        self.settle()

    def settle(self) -> None:
        """Make files of the reports that were promised, and let the oldest go if nobody takes any."""
        state = self._load()
        if state.promised:
            for name, text in sorted(state.promised.items()):
                self._write(self.folder / name, text)
            self._save(_State(state.known, {}))
        for path in self.list_reports()[:-MOST_REPORTS]:
            self._disk.remove(path)

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
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                continue  # the oldest of too many
            take(f"scaled-{path.stem}", content)
            self._disk.remove(path)
            taken += 1
        return taken

    def _load(self) -> _State:
        try:
            found = json.loads((self.folder / STATE).read_text())
            known = {str(name): int(count) for name, count in found["known"].items()}
            return _State(known, {str(name): str(text) for name, text in found["promised"].items()})
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return _State({}, {})

    def _save(self, state: _State) -> None:
        body = {"version": 1, "known": dict(sorted(state.known.items())), "promised": dict(state.promised)}
        self._write(self.folder / STATE, json.dumps(body) + "\n")

    def _write(self, path: Path, text: str) -> None:
        """A file, whole or not at all, and on the disk when this comes back."""
        made = path.with_name(f".new-{path.name}")
        try:
            if not self.folder.is_dir():
                make_folders(self.folder)
            self._disk.remove(made)
            self._disk.write(made, [text.encode()])
            self._disk.rename(made, path)
            self._disk.sync_folder(self.folder)
        except OSError as error:
            raise_os_error(error, path)


@dataclass(frozen=True, slots=True)
class _State:
    """What is known, and reports that follow from it and may not be files yet: name -> content."""

    known: Mapping[str, int]
    promised: Mapping[str, str]


def _dump(report: ScaleReport) -> str:
    return json.dumps({"version": 1, "kind": "scaled", **asdict(report)}) + "\n"
