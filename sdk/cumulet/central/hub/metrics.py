"""How the hub is, as text that Prometheus reads."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.leases import Leases
from cumulet.central.hub.requests import Requests
from cumulet.central.workqueue import WorkQueue

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


def write_metric(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    """One metric with its help, type and samples."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inside = ",".join(f'{key}="{_escape(each)}"' for key, each in labels.items())
        lines.append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    return "\n".join(lines) + "\n"


def write_metrics(fleet: Fleet, leases: Leases, requests: Requests, queues: Iterable[WorkQueue]) -> str:
    """Everything about clusters, requests, works and the hub itself."""
    states = Counter(each.state for each in fleet.all())
    works = Counter("applied" if work.holds("Applied") else "open" for work in fleet.works.found.values())
    silent = [seconds for name in leases.seen if (seconds := leases.silent_for(name)) is not None]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    retries = [({"queue": each.name}, float(len(each.failed))) for each in queues]
    lists = [({"kind": each.query.resource.plural}, float(each.lists)) for each in fleet.informers]
    waiting, cpu, memory = len(requests.waiting()), usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0
    gauges: list[tuple[str, str, Sequence[Sample]]] = [
        ("clusters", "Clusters by state.", _by("state", states)),
        ("works", "Works by state.", _by("state", works)),
        ("requests_waiting", "Requests that wait for a person.", [({}, waiting)]),
        ("lease_silence_seconds", "Longest time without a renewal.", [({}, max(silent, default=0.0))]),
        ("retries", "Keys that have failed and are tried again.", retries),
        ("memory_peak_bytes", "Most memory so far.", [({}, memory)]),
        ("time_seconds", "The hub's clock.", [({}, time.time())]),
    ]
    counters: list[tuple[str, str, Sequence[Sample]]] = [
        ("requests_refused_total", "Refused requests.", _by("reason", requests.refused)),
        ("requests_granted_total", "Granted requests.", _by("reason", requests.granted)),
        ("lists_total", "Times that all objects of a kind were listed.", lists),
        ("cpu_seconds_total", "CPU.", [({}, cpu)]),
    ]
    parts = [write_metric(f"cumulet_hub_{name}", "gauge", text, samples) for name, text, samples in gauges]
    parts += [write_metric(f"cumulet_hub_{name}", "counter", text, samples) for name, text, samples in counters]
    return "".join(parts)


def _by(label: str, counts: Mapping[str, int]) -> list[Sample]:
    return [({label: name}, float(count)) for name, count in sorted(counts.items())]


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
