"""What the page shows of tasks, models, windows and links, from the pulses of the clusters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cumulet.central.kube import Json
from cumulet.central.pulse import KINDS, LinkPulse, Pulse, TaskPulse

OLD_SECONDS = 300
"""A pulse comes with every lease; one that is older than this is shown with its age."""


def make_summary(pulse: Pulse | None, now: float) -> Json | None:
    """What the card of a site has of its pulse; None if it has none."""
    if pulse is None:
        return None
    return {
        "nodes": list(pulse.nodes),
        "load": list(pulse.load),
        "window": make_window(pulse),
        "tasks": len(pulse.tasks) + pulse.left_out,
        "short": sum(max(0, task.wanted - task.ready) for task in pulse.tasks),
        "links": make_links(pulse.links),
        "waiting": list(pulse.spool),
        "age": round(now - pulse.at) if now - pulse.at > OLD_SECONDS else 0,
    }


def make_details(pulse: Pulse | None, problem: str) -> Json:
    """What is shown of a cluster when somebody looks closer."""
    tasks = [make_task(task) for task in pulse.tasks] if pulse is not None else []
    return {"tasks": tasks, "left_out": pulse.left_out if pulse is not None else 0, "problem": problem}


def make_window(pulse: Pulse) -> list[int] | None:
    """Begin and end of the next quiet stretch."""
    start, seconds = pulse.window
    return [start, start + seconds] if seconds else None


def make_links(links: Mapping[str, LinkPulse]) -> list[Json]:
    """Links by kind, the ones that cost least first."""
    return [
        {"kind": kind, "used": link.used, "up": link.up, "down": link.down, "signal": link.signal}
        for kind in KINDS
        if (link := links.get(kind)) is not None
    ]


def make_task(task: TaskPulse) -> Json:
    """A task: replicas, what it uses, its models with the most frequent first."""
    models = sorted(task.models.items(), key=lambda each: (-each[1], each[0]))
    return {
        "name": task.name,
        "sites": task.sites,
        "wanted": task.wanted,
        "ready": task.ready,
        "running": task.running,
        "cpu": task.cpu / 1000,
        "memory": task.memory << 20,
        "models": [{"model": model, "sites": count} for model, count in models],
        "changing": task.changing,
    }


def make_usage(total: Pulse | None) -> Json:
    """The sums of all clusters that are in touch: tasks with what is missing first, links, windows."""
    if total is None:
        return {"sites": 0, "tasks": [], "links": [], "window": None, "windows": 0, "waiting": [0, 0], "left_out": 0}
    tasks: Iterable[TaskPulse] = sorted(total.tasks, key=lambda each: (each.ready >= each.wanted, each.name))
    return {
        "sites": total.sites,
        "tasks": [make_task(each) for each in tasks],
        "links": make_links(total.links),
        "window": make_window(total),
        "windows": total.windows,
        "waiting": list(total.spool),
        "left_out": total.left_out,
    }
