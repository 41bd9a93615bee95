"""How a deployment is, over all tiers, from what has come back to the hub where it was made. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from cumulet.central.deploy.objects import MODEL_NOTE, TRAINED_NOTE
from cumulet.central.hub.placing import NEEDS
from cumulet.central.kube import Json
from cumulet.central.protocol import find_condition
from cumulet.central.reports import Reports, SiteReport, read_reports
from cumulet.core.errors import UsageError

GOOD = ("Running", "Done")


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment. `total` clusters have the work, `applied` have taken it; `counts` are sites by phase.

    `sites` are named by their way down, those in trouble first; `left_out` more are only counted.
    `problem` is what keeps the hub from sending it, `needs` what a site must have.
    """

    name: str
    total: int = 0
    applied: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    sites: Mapping[str, SiteReport] = field(default_factory=dict)
    left_out: int = 0
    problem: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    trained_by: str = ""
    deleting: bool = False

    @property
    def settled(self) -> bool:
        """Whether it runs, or is done, at every site that it is for, and at one at least."""
        sites = sum(self.counts.values())
        good = sum(self.counts.get(phase, 0) for phase in GOOD)
        return not self.problem and 0 < sites == good and self.total == self.applied

    @property
    def done(self) -> bool:
        """Whether it is done at every site, and at one at least."""
        return self.settled and self.counts.get("Done", 0) == sum(self.counts.values())

    def as_json(self) -> Json:
        """For programs."""
        return {**asdict(self), "settled": self.settled}


def make_deployment_status(replicas: Json, placement: Json | None) -> DeploymentStatus:
    """The status, from replica set and placement of the same name."""
    meta, status = replicas["metadata"], replicas.get("status") or {}
    notes = meta.get("annotations") or {}
    summary = status.get("summary") or {}
    try:
        text = status.get("reports", "")
        reports = read_reports(text) if text else Reports()
        problem = ""
    except UsageError as error:
        reports, problem = Reports(), error.message
    return DeploymentStatus(
        name=meta["name"],
        total=int(summary.get("total", 0)),
        applied=int(summary.get("applied", 0)),
        counts=reports.counts,
        sites=reports.sites,
        left_out=reports.left_out,
        problem=problem or find_problem(replicas, placement),
        needs=_read_needs(placement),
        model=notes.get(MODEL_NOTE, ""),
        trained_by=notes.get(TRAINED_NOTE, ""),
        deleting="deletionTimestamp" in meta,
    )


def find_problem(replicas: Json, placement: Json | None) -> str:
    """Why the hub sends it nowhere, or not everywhere; an empty text if it does, or has not looked yet."""
    if placement is None:
        return "its placement is not there any more: deploy it again"
    for found, kind in ((placement, "PlacementSatisfied"), (replicas, "PlacementVerified")):
        condition = find_condition((found.get("status") or {}).get("conditions") or (), kind)
        current = int((condition or {}).get("observedGeneration", 0)) >= found["metadata"].get("generation", 0)
        if condition is not None and current and condition["status"] == "False":
            return str(condition["message"])
    return ""


def _read_needs(placement: Json | None) -> dict[str, str]:
    notes = ((placement or {}).get("metadata") or {}).get("annotations") or {}
    try:
        return {str(name): str(amount) for name, amount in json.loads(notes.get(NEEDS, "{}")).items()}
    except (ValueError, AttributeError):
        return {}
