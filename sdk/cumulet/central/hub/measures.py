"""What the clusters say of their tasks and links, as text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from cumulet.central.hub.metrics import Sample, write_metric
from cumulet.central.hub.pulses import Pulses
from cumulet.central.pulse import Pulse

TASK_WORDS = (
    ("replicas_wanted", "Replicas that a task shall have.", "wanted", 1.0),
    ("replicas_ready", "Replicas of a task that are ready.", "ready", 1.0),
    ("containers", "Containers of a task that were measured.", "running", 1.0),
    ("cpu_cores", "Processors that a task uses.", "cpu", 0.001),
    ("memory_bytes", "Memory that a task uses.", "memory", float(1 << 20)),
    ("switching_sites", "Sites at which the model of a task is being switched.", "changing", 1.0),
)
LOADS = ("cpu", "gpu", "memory")
LINK_STATES = ("used", "up", "down")


GAUGES: tuple[tuple[str, str, Callable[[Pulse], float]], ...] = (
    ("sites", "Sites that a cluster stands for.", lambda each: each.sites),
    ("pulse_time_seconds", "When a cluster has looked at itself, by its clock.", lambda each: each.at),
    ("nodes", "Nodes of a cluster.", lambda each: each.nodes[1]),
    ("nodes_ready", "Nodes of a cluster that are ready.", lambda each: each.nodes[0]),
    ("results_waiting", "Results that wait to go up.", lambda each: each.spool[0]),
    ("results_waiting_bytes", "Their bytes.", lambda each: each.spool[1] << 20),
    ("tasks_left_out", "Tasks for which a pulse had no room.", lambda each: each.left_out),
)


def write_measures(pulses: Pulses) -> Iterator[str]:
    """The metrics of every cluster and task, one after the other: of thousands of clusters they are megabytes.

    A hub below counts as one cluster, with its sums.
    """
    known = list(pulses.all())
    for name, text, word, unit in TASK_WORDS:
        samples: list[Sample] = [
            (_of(site, task=one.name), getattr(one, word) * unit) for site, each in known for one in each.tasks
        ]
        yield write_metric(f"cumulet_task_{name}", "gauge", text, samples)
    models = [
        (_of(site, task=one.name, model=model), float(count))
        for site, each in known
        for one in each.tasks
        for model, count in sorted(one.models.items())
    ]
    yield write_metric("cumulet_task_model_sites", "gauge", "Sites at which a task has a model.", models)
    for name, text, value in GAUGES:
        found = [(_of(site), float(value(each))) for site, each in known]
        yield write_metric(f"cumulet_site_{name}", "gauge", text, found)
    yield _write_loads(known)
    yield _write_windows(known)
    yield _write_links(known)
    refused: list[Sample] = [({}, float(len(pulses.problems())))]
    yield write_metric("cumulet_hub_pulses_unreadable", "gauge", "Clusters whose pulse cannot be read.", refused)


def _of(site: str, **more: str) -> dict[str, str]:
    return {"cluster": site, **more}


def _write_loads(known: Iterable[tuple[str, Pulse]]) -> str:
    samples = [
        (_of(site, of=word), float(percent))
        for site, each in known
        for word, percent in zip(LOADS, each.load, strict=True)
    ]
    return write_metric("cumulet_site_load_percent", "gauge", "How busy a cluster is.", samples)


def _write_windows(known: Iterable[tuple[str, Pulse]]) -> str:
    samples = [(_of(site), float(each.window[0])) for site, each in known if each.window[1]]
    text = "When the next quiet stretch of a cluster begins."
    return write_metric("cumulet_site_window_start_seconds", "gauge", text, samples)


def _write_links(known: Iterable[tuple[str, Pulse]]) -> str:
    samples = [
        (_of(site, kind=kind, state=state), float(getattr(link, state)))
        for site, each in known
        for kind, link in sorted(each.links.items())
        for state in LINK_STATES
    ]
    return write_metric("cumulet_site_links", "gauge", "Links of a cluster by kind and state.", samples)
