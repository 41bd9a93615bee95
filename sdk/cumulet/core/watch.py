"""Watches the containers of one pod on the node where they run: CPU and memory of its control groups, GPU of its files.

Called as `python3 - UID SECONDS EVERY` with this text on its input; prints one line of JSON.
A GPU is seen where its driver writes `drm-engine-...` into /proc/PID/fdinfo; most do, some only when told to.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")
DEEPEST = 6
USUAL = 0.95


@dataclass(frozen=True)
class Sample:
    """One look: seconds of a steady clock, nanoseconds of CPU so far, bytes now, nanoseconds of each GPU engine."""

    at: float
    cpu: int
    memory: int
    engines: dict[str, int]


def find_groups(uid: str, root: Path = CGROUP) -> list[Path]:
    """The control groups of a pod, in every hierarchy that has it."""
    names = (uid, uid.replace("-", "_"))
    found = []
    for folder, inside, _ in os.walk(root):
        if len(Path(folder).relative_to(root).parts) >= DEEPEST:
            inside.clear()
        for name in list(inside):
            if any(each in name for each in names):
                found.append(Path(folder) / name)
                inside.remove(name)
    return sorted(found)


def read_cpu(groups: Iterable[Path]) -> int:
    """Nanoseconds of CPU that the pod has used; 0 if it is gone."""
    for group in groups:
        with contextlib.suppress(OSError, ValueError):
            return int((group / "cpuacct.usage").read_text())
        with contextlib.suppress(OSError, ValueError, KeyError):
            return read_table(group / "cpu.stat")["usage_usec"] * 1000
    return 0


def read_memory(groups: Iterable[Path]) -> int:
    """Bytes that cannot be had back by forgetting files that were read; 0 if it is gone."""
    for group in groups:
        for name, old in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            with contextlib.suppress(OSError, ValueError):
                used = int((group / name).read_text())
                return max(0, used - read_table(group / "memory.stat").get(old, 0))
    return 0


def read_table(path: Path) -> dict[str, int]:
    """A file of names and numbers."""
    words = [line.split() for line in path.read_text().splitlines()]
    return {each[0]: int(each[1]) for each in words if len(each) == 2}


def list_processes(groups: Iterable[Path]) -> set[int]:
    """The processes of the pod."""
    found: set[int] = set()
    for group in groups:
        for path in [group / "cgroup.procs", *group.glob("**/cgroup.procs")]:
            with contextlib.suppress(OSError):
                found.update(int(line) for line in path.read_text().split())
    return found


def read_engines(processes: Iterable[int], proc: Path = PROC) -> dict[str, int]:
    """Nanoseconds that each engine of each GPU has worked for these processes."""
    engines: dict[str, int] = {}
    for (device, _, engine), spent in read_clients(processes, proc).items():
        engines[f"{device}/{engine}"] = engines.get(f"{device}/{engine}", 0) + spent
    return engines


def read_clients(processes: Iterable[int], proc: Path = PROC) -> dict[tuple[str, str, str], int]:
    """(device, client, engine) -> nanoseconds, of all files of these processes; a client of many files counts once."""
    clients: dict[tuple[str, str, str], int] = {}
    for process in processes:
        with contextlib.suppress(OSError):
            for path in (proc / str(process) / "fdinfo").iterdir():
                with contextlib.suppress(OSError):
                    clients.update(parse_fdinfo(path.read_text()))
    return clients


def parse_fdinfo(text: str) -> dict[tuple[str, str, str], int]:
    """(device, client, engine) -> nanoseconds, divided by the number of engines that share the name."""
    fields = dict(line.split(":", 1) for line in text.splitlines() if line.startswith("drm-") and ":" in line)
    client = fields.get("drm-client-id", "").strip()
    device = (fields.get("drm-pdev") or fields.get("drm-driver", "")).strip()
    found = {}
    for name, value in fields.items():
        match = re.fullmatch(r"drm-engine-(?!capacity-)(.+)", name)
        number = re.match(r"\s*(\d+) ns", value)
        if client and match and number:
            capacity = re.match(r"\s*(\d+)", fields.get(f"drm-engine-capacity-{match[1]}", "1"))
            found[device, client, match[1]] = int(number[1]) // max(1, int(capacity[1]) if capacity else 1)
    return found


def summarize(samples: list[Sample], cpus: int) -> dict[str, object]:
    """What was seen, in percent of the node: the highest of the stretches between two looks but for 5 % of them."""
    cpu, gpu = [], []
    for before, after in itertools.pairwise(samples):
        seconds = after.at - before.at
        if seconds <= 0 or after.cpu < before.cpu:
            continue
        cpu.append(100 * (after.cpu - before.cpu) / 1e9 / seconds / cpus)
        # A process that ends takes its time along; what is left is never less than nothing.
        worked = [max(0, spent - before.engines.get(name, spent)) for name, spent in after.engines.items()]
        gpu.append(min(100.0, 100 * max(worked, default=0) / 1e9 / seconds))
    return {
        "cpu": usual(cpu),
        "gpu": usual(gpu),
        "memory": max((sample.memory for sample in samples), default=0),
        "cpus": cpus,
        "seconds": samples[-1].at - samples[0].at if samples else 0.0,
        "gpu_seen": any(sample.engines for sample in samples),
    }


def usual(values: list[float]) -> float:
    """The highest of them but for 5 %."""
    return sorted(values)[math.ceil(USUAL * len(values)) - 1] if values else 0.0


def look(groups: list[Path]) -> Sample:
    """One look at the pod."""
    engines = read_engines(list_processes(groups))
    return Sample(time.monotonic(), read_cpu(groups), read_memory(groups), engines)


def watch(uid: str, seconds: float, every: float) -> dict[str, object]:
    """Look at a pod until it is gone or the time is over."""
    groups = find_groups(uid)
    if not groups:
        return {"error": f"there are no control groups of pod {uid}"}
    samples = [look(groups)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(every)
        sample = look(groups)
        if not sample.cpu:
            break
        samples.append(sample)
    return summarize(samples, os.cpu_count() or 1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(watch(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))) + "\n")
