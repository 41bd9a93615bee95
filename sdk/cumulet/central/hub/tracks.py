"""How long works take until their clusters have them: spans that end when the report is here."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import Work
from cumulet.central.traces import Traces

STEPS = ("Applied", "Available")
MOST_OPEN = 20_000
"""Works that are waited for. A hub that has more of them under way traces the newest."""


@dataclass(frozen=True, slots=True)
class Waited:
    """A work that is waited for: since when, for which content, and what its cluster has said already."""

    since: float
    trace: str
    said: frozenset[str]


class Tracks:
    """Follows every work that carries a context. Those that were there before this hub began are not counted."""

    def __init__(self, fleet: Fleet, traces: Traces) -> None:
        self.fleet, self.traces = fleet, traces
        self._waited: dict[str, Waited] = {}
        fleet.on_work.append(self.note)

    def note(self, work: Work) -> None:
        """A work has come, has changed, or is gone."""
        key = f"{work.cluster}/{work.name}"
        known = self._waited.get(key)
        if not work.trace or work.deleting or self.fleet.works.get(key) is None:
            self._waited.pop(key, None)
            return
        said = frozenset(step for step in STEPS if work.holds(step))
        if known is None or known.trace != work.trace:
            if said == frozenset(STEPS):
                return
            # What was here at the start is waited for too, but nobody knows since when.
            self._waited[key] = known = Waited(time.time(), work.trace, said)
            while len(self._waited) > MOST_OPEN:
                self._waited.pop(next(iter(self._waited)))
        for step in STEPS:
            if step in said and step not in known.said:
                self._tell(work, step.lower(), known)
        if said == frozenset(STEPS):
            self._waited.pop(key)
        else:
            self._waited[key] = Waited(known.since, known.trace, said | known.said)

    def _tell(self, work: Work, step: str, known: Waited) -> None:
        """One span: from when the work was known here until its cluster's word has come."""
        with self.traces.span(step, known.trace, since=known.since, cluster=work.cluster, work=work.name):
            pass
