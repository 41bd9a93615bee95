"""What a cluster says of its tasks once a minute: containers and what they use, models, its next quiet hour, its links.

It travels as an annotation of the lease, which is renewed anyway: no request more, nothing that a stock hub minds,
and no object that placements look at changes every minute. A hub hands the sum of what is below it up. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cumulet.core.errors import UsageError

VERSION = 1
MOST_BYTES = 12_000
"""Of the text. A minute's worth of it, twice (the hub sends the lease back), stays far below 1 KB/s."""
MOST_TASKS, MOST_MODELS, MOST_NAME = 64, 8, 130
OTHERS = "*"
KINDS = ("ethernet", "5g", "4g", "beidou")
LINK_WORDS = ("used", "up", "down")
LARGEST = 1 << 53
NAME = re.compile(r"[\w][\w./:@+-]*|\*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TaskPulse:
    """A task. `cpu` in thousandths of a processor and `memory` in MiB, of all its containers together.

    `wanted` and `ready` are replicas, `running` the containers that were measured, `models` says at how many sites
    it has which model, `changing` at how many a model is being switched just now.
    """

    name: str
    sites: int = 1
    wanted: int = 0
    ready: int = 0
    running: int = 0
    cpu: int = 0
    memory: int = 0
    models: Mapping[str, int] = field(default_factory=dict)
    changing: int = 0


@dataclass(frozen=True, slots=True)
class LinkPulse:
    """Links of one kind: how many are used, could be, and are down; the best signal in percent."""

    used: int = 0
    up: int = 0
    down: int = 0
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Pulse:
    """A site, or the sum of those below a hub. Times in seconds since 1970.

    `load` is the mean percentage of CPU, GPU and memory, `nodes` how many are ready and how many there are, `window`
    begin and length of the quiet stretch that comes next (length 0: not known), `windows` how many sites know theirs,
    `spool` entries and MiB of results that wait. `left_out` counts tasks for which there was no room.
    """

    at: int
    sites: int = 1
    load: tuple[int, int, int] = (0, 0, 0)
    nodes: tuple[int, int] = (0, 0)
    window: tuple[int, int] = (0, 0)
    windows: int = 0
    spool: tuple[int, int] = (0, 0)
    tasks: tuple[TaskPulse, ...] = ()
    links: Mapping[str, LinkPulse] = field(default_factory=dict)
    left_out: int = 0


def write_pulse(pulse: Pulse) -> str:
    """The text of a pulse, at most `MOST_BYTES`. Of too many tasks those with the most containers are in it."""
    ranked = sorted(pulse.tasks, key=lambda each: (-max(each.wanted, each.running), each.name))
    kept = ranked[:MOST_TASKS]
    while True:
        text = _write(replace(pulse, tasks=tuple(kept), left_out=pulse.left_out + len(ranked) - len(kept)))
        if len(text) <= MOST_BYTES or not kept:
            return text
        kept = kept[: len(kept) * 3 // 4]


def _write(pulse: Pulse) -> str:
    tasks = [
        [one.name, one.sites, one.wanted, one.ready, one.running, one.cpu, one.memory, _few(one.models), one.changing]
        for one in sorted(pulse.tasks, key=lambda each: each.name)
    ]
    links = {kind: [link.used, link.up, link.down, link.signal] for kind, link in sorted(pulse.links.items())}
    made = {"v": VERSION, "at": pulse.at, "n": pulse.sites, "load": pulse.load, "nodes": pulse.nodes}
    made |= {"win": [*pulse.window, pulse.windows], "spool": pulse.spool, "t": tasks, "l": links}
    made["more"] = pulse.left_out
    return json.dumps(made, separators=(",", ":"))


def _few(models: Mapping[str, int]) -> dict[str, int]:
    """The most frequent models; the others together as `*`."""
    ranked = sorted(models.items(), key=lambda each: (each[0] == OTHERS, -each[1], each[0]))
    shown = dict(ranked) if len(ranked) <= MOST_MODELS else dict(ranked[: MOST_MODELS - 1])
    rest = sum(models.values()) - sum(shown.values())
    return shown | ({OTHERS: rest + shown.get(OTHERS, 0)} if rest else {})


def read_pulse(text: str) -> Pulse:
    """The pulse of a text, which may come from anybody. Raises UsageError naming what is wrong with it."""
    if len(text) > MOST_BYTES:
        raise UsageError(f"a pulse of {len(text)} bytes; {MOST_BYTES} are allowed")
    try:
        found = json.loads(text)
        if found["v"] != VERSION:
            raise UsageError(f"a pulse of version {str(found['v'])[:20]}; known is {VERSION}")
        return _read(found)
    except UsageError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UsageError(f"not a pulse: {type(error).__name__}: {str(error)[:80]}") from error


def _read(found: Mapping[str, Any]) -> Pulse:
    start, seconds, windows = (_count(each) for each in found["win"])
    cpu, gpu, memory = (min(100, _count(each)) for each in found["load"])
    ready, nodes = (_count(each) for each in found["nodes"])
    entries, mib = (_count(each) for each in found["spool"])
    if len(found["t"]) > MOST_TASKS:
        raise UsageError(f"a pulse of {len(found['t'])} tasks; {MOST_TASKS} are allowed")
    tasks = tuple(_read_task(each) for each in found["t"])
    links = {kind: LinkPulse(*(_count(each) for each in found["l"][kind][:4])) for kind in KINDS if kind in found["l"]}
    return Pulse(
        at=_count(found["at"]),
        sites=_count(found["n"]),
        load=(cpu, gpu, memory),
        nodes=(ready, nodes),
        window=(start, seconds),
        windows=windows,
        spool=(entries, mib),
        tasks=tasks,
        links=links,
        left_out=_count(found["more"]),
    )


def _read_task(found: Sequence[Any]) -> TaskPulse:
    name, *counts, models, changing = found
    sites, wanted, ready, running, cpu, memory = (_count(each) for each in counts)
    if len(models) > MOST_MODELS:
        raise UsageError(f"a task with {len(models)} models; {MOST_MODELS} are allowed")
    kept = {_name(model): _count(count) for model, count in models.items()}
    return TaskPulse(_name(name), sites, wanted, ready, running, cpu, memory, kept, _count(changing))


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:20]!r} is not a number")
    if not 0 <= value <= LARGEST:
        raise ValueError(f"{value} is out of range")
    return int(value)


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_NAME or not NAME.fullmatch(value):
        raise ValueError(f"{str(value)[:20]!r} is not a name")
    return value


def add_pulses(pulses: Iterable[Pulse], at: int) -> Pulse | None:
    """The sum over clusters; a hub among them counts with all sites that it has summed up. None without any."""
    several = list(pulses)
    if not several:
        return None
    sites = sum(each.sites for each in several)
    ahead = [each.window for each in several if each.window[1] and sum(each.window) > at]
    load = [round(sum(each.load[place] * each.sites for each in several) / max(1, sites)) for place in range(3)]
    return Pulse(
        at=at,
        sites=sites,
        load=(load[0], load[1], load[2]),
        nodes=(sum(each.nodes[0] for each in several), sum(each.nodes[1] for each in several)),
        window=min(ahead, default=(0, 0)),
        windows=sum(each.windows for each in several),
        spool=(sum(each.spool[0] for each in several), sum(each.spool[1] for each in several)),
        tasks=_add_tasks(several),
        links=_add_links(several),
        left_out=sum(each.left_out for each in several),
    )


def _add_tasks(pulses: Iterable[Pulse]) -> tuple[TaskPulse, ...]:
    numbers = ("sites", "wanted", "ready", "running", "cpu", "memory", "changing")
    by_name: dict[str, list[TaskPulse]] = {}
    for pulse in pulses:
        for task in pulse.tasks:
            by_name.setdefault(task.name, []).append(task)
    sums = []
    for name, members in sorted(by_name.items()):
        models: dict[str, int] = {}
        for task in members:
            for model, count in task.models.items():
                models[model] = models.get(model, 0) + count
        counts = {number: sum(getattr(task, number) for task in members) for number in numbers}
        sums.append(TaskPulse(name=name, models=models, **counts))
    return tuple(sums)


def _add_links(pulses: Iterable[Pulse]) -> dict[str, LinkPulse]:
    sums: dict[str, LinkPulse] = {}
    for pulse in pulses:
        for kind, link in pulse.links.items():
            old = sums.get(kind, LinkPulse())
            best = max(old.signal, link.signal)
            sums[kind] = LinkPulse(old.used + link.used, old.up + link.up, old.down + link.down, best)
    return sums


def read_links(choice: Mapping[str, Any]) -> dict[str, LinkPulse]:
    """The links of a site from what `cumulet.uplink` publishes, by kind. Raises UsageError."""
    found: dict[str, LinkPulse] = {}
    try:
        for each in choice["links"]:
            kind, signal = str(each["kind"]), _count(each.get("signal", 0))
            used, up = bool(each["used"]), bool(each["up"])
            old = found.get(kind, LinkPulse())
            state = (used, up and not used, not up and not used)
            found[kind] = LinkPulse(
                old.used + state[0], old.up + state[1], old.down + state[2], max(old.signal, signal)
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"not the state of an uplink: {error}") from error
    return {kind: link for kind, link in found.items() if kind in KINDS}


def same_shape(one: Pulse | None, other: Pulse | None) -> bool:
    """Whether two pulses differ only in amounts: the hub need not hear of the second one before its time."""
    return (one is None) == (other is None) and (one is None or other is None or _shape(one) == _shape(other))


def _shape(pulse: Pulse) -> object:
    tasks = [(task.name, task.wanted, task.ready, dict(task.models), task.changing) for task in pulse.tasks]
    links = {kind: (link.used, link.up, link.down) for kind, link in pulse.links.items()}
    return (pulse.sites, pulse.nodes, tasks, links, pulse.left_out)
