"""What the clusters say of their tasks: taken from their leases, read when somebody asks, summed for the hub above."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cumulet.central.hub.fleet import Fleet, keep_lease
from cumulet.central.kube import Json, Kube, Query
from cumulet.central.protocol import HUB_NAMESPACE, LEASE, LEASES, PULSE_MAP
from cumulet.central.pulse import Pulse, add_pulses, read_pulse, write_pulse
from cumulet.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Read:
    """A pulse as it was read: from which text, and what was wrong with it if it is None."""

    text: str
    pulse: Pulse | None
    wrong: str = ""


class Pulses:
    """The pulses of all clusters. A text is taken apart once, and only if somebody looks at it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._read: dict[str, Read] = {}

    def get(self, name: str) -> Pulse | None:
        """What a cluster has said last; None if it has said nothing, or nothing that can be read."""
        found = self._look(name)
        return found.pulse if found is not None else None

    def problem(self, name: str) -> str:
        """What is wrong with a cluster's pulse, or an empty text."""
        found = self._look(name)
        return found.wrong if found is not None else ""

    def all(self) -> Iterator[tuple[str, Pulse]]:
        """Name and pulse of every accepted cluster that has one, by name."""
        for name in sorted(self.fleet.clusters.found):
            cluster = self.fleet.get(name)
            pulse = self.get(name) if cluster is not None and cluster.accepted else None
            if pulse is not None:
                yield name, pulse

    def problems(self) -> Mapping[str, str]:
        """Every cluster whose pulse cannot be read, and why."""
        return {name: wrong for name in sorted(self.fleet.clusters.found) if (wrong := self.problem(name))}

    def total(self) -> Pulse | None:
        """The sum of those clusters that are in touch."""
        for name in self._read.keys() - self.fleet.clusters.found.keys():
            del self._read[name]
        present = (pulse for name, pulse in self.all() if (found := self.fleet.get(name)) and found.available)
        return add_pulses(present, int(time.time()))

    def _look(self, name: str) -> Read | None:
        lease = self.fleet.leases.get(name)
        if lease is None or not lease.pulse:
            self._read.pop(name, None)
            return None
        known = self._read.get(name)
        if known is None or known.text != lease.pulse:
            try:
                known = Read(lease.pulse, read_pulse(lease.pulse))
            except UsageError as error:
                known = Read(lease.pulse, None, error.message)
            self._read[name] = known
        return known


async def list_pulses(kube: Kube) -> dict[str, Pulse]:
    """What the clusters of a hub have said last, by name; those that cannot be read are left out.

    Raises RefusedError, UnreachableError.
    """
    found: dict[str, Pulse] = {}
    for lease in await kube.collect(Query(LEASES, fields=f"metadata.name={LEASE}")):
        with contextlib.suppress(UsageError):
            found[lease["metadata"]["namespace"]] = read_pulse(keep_lease(lease).pulse)
    return dict(sorted(found.items()))


def make_pulse_map(pulse: Pulse) -> Json:
    """The ConfigMap in which the agent of a hub finds what it hands up."""
    return {"metadata": {"name": PULSE_MAP, "namespace": HUB_NAMESPACE}, "data": {"pulse": write_pulse(pulse)}}
