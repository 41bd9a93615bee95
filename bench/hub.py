"""How many clusters one hub holds: CPU, memory, and how soon it sees what matters. A real kube-apiserver and etcd.

`bench/hub.py --programs FOLDER [--clusters 5000]`: FOLDER has `kube` and `etcd`, as the build's stage `programs` makes
them. The clusters are made up: every one has what the hub gives to an accepted cluster, and its lease is renewed every
60 s, as its agent would, with what six tasks use. The hub is the process that runs everywhere,
`python3 -m cumulet.central.hub run`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/lab"))

from api_servers import ApiServer, api_server, free_port

from cumulet.central.access import load_access
from cumulet.central.agent.told import set_pulse
from cumulet.central.hub.approval import list_clusters
from cumulet.central.hub.install import install
from cumulet.central.kube import Kube, RefusedError
from cumulet.central.protocol import (
    AVAILABLE,
    CLUSTERS,
    JOINED,
    LEASE,
    LEASES,
    NAMESPACES,
    PLACEMENTS,
    REPLICA_SETS,
    make_condition,
    make_time,
)
from cumulet.central.pulse import LinkPulse, Pulse, TaskPulse
from cumulet.core.deadline import Deadline

LEASE_SECONDS = 60.0
SILENT = 25
AT_ONCE = 48


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--clusters", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=180, help="how long the steady state is watched")
    parser.add_argument("--quick", action="store_true", help="leave out the five minutes until silence is noticed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, api_server(Path(folder), arguments.programs) as server:
        asyncio.run(measure(server, Path(folder), arguments))
    return 0


async def measure(server: ApiServer, folder: Path, arguments: argparse.Namespace) -> None:
    """The whole story, in order."""
    number, silent = arguments.clusters, 0 if arguments.quick else SILENT
    kube = Kube(load_access(server.config), links=AT_ONCE)
    await install(kube, Deadline.after(120))
    names = [f"edge-{index:05}" for index in range(number)]
    await make_clusters(kube, names)
    with hub_process(server, folder) as hub:
        begin = time.monotonic()
        await wait_for(kube, "accepted", number, 1200)
        show("all accepted, with namespace, roles and lease", time.monotonic() - begin, "s")
        # A cluster that is not heard of is taken for silent, so leases come first.
        muted: set[str] = set()
        beats = asyncio.create_task(renew(kube, names, muted))
        await asyncio.sleep(LEASE_SECONDS)
        await tell_status(kube, names)
        await wait_for(kube, "ready", number, 600)
        await asyncio.sleep(LEASE_SECONDS)
        await watch_steady(hub.pid, arguments.seconds)
        await read_metrics(folder)
        show("work at every cluster", await spread(kube, number), "s")
        show("memory of the hub then", read_memory(hub.pid) / 2**20, "MiB", "less than 500")
        if silent:
            muted.update(names[:silent])
            begin = time.monotonic()
            await wait_for_silent(kube, silent)
            wanted = "300 to 375, from the last renewal"
            show(f"{silent} clusters that fell silent are Unknown", time.monotonic() - begin, "s", wanted)
    begin = time.monotonic()
    with hub_process(server, folder) as hub:
        await wait_for_entry(folder)
        show("a restarted hub is ready", time.monotonic() - begin, "s")
        await asyncio.sleep(30)
        ready = sum(1 for each in await list_clusters(kube) if each.state == "ready")
        show("clusters that are ready after its restart", ready, "", f"{number - silent}")
        show("memory of the restarted hub", read_memory(hub.pid) / 2**20, "MiB", "less than 500")
    beats.cancel()
    show("memory of kube-apiserver", read_memory(server.running["kube-apiserver"].pid) / 2**20, "MiB")
    kube.close()


@contextmanager
def hub_process(server: ApiServer, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The hub as a service."""
    port = free_port()
    (folder / "port").write_text(str(port))
    words = [sys.executable, "-m", "cumulet.central.hub", "run", "--kubeconfig", str(server.config)]
    with (folder / "hub.log").open("ab") as sink:
        process = subprocess.Popen([*words, "--port", str(port)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
    try:
        yield process
        if process.poll() is not None:
            sys.exit((folder / "hub.log").read_text()[-3000:])
    finally:
        process.terminate()
        process.wait(30)


async def make_clusters(kube: Kube, names: list[str]) -> None:
    """Clusters that an administrator has accepted."""
    begin = time.monotonic()

    async def make(name: str) -> None:
        body = {"metadata": {"name": name}, "spec": {"hubAcceptsClient": True, "leaseDurationSeconds": 60}}
        await kube.apply(CLUSTERS, body, owner="bench")

    await at_once(make, names)
    show(f"{len(names)} clusters made known", time.monotonic() - begin, "s")


async def tell_status(kube: Kube, names: list[str]) -> None:
    """What an agent reports."""

    async def tell(name: str) -> None:
        gpu = ("adreno-630", "adreno-750", "mali-g610")[int(name[-1]) % 3]
        status = {
            "version": {"kubernetes": "v1.36.3"},
            "capacity": {"cpu": "80", "memory": "64Gi", "pods": "1100"},
            "allocatable": {"cpu": "72", "memory": "56Gi", "pods": "1100"},
            "clusterClaims": [{"name": "gpu", "value": gpu}, {"name": "tier", "value": "edge"}],
            "conditions": [
                make_condition(JOINED, "True", JOINED, ""),
                make_condition(AVAILABLE, "True", "ManagedClusterAvailable", ""),
            ],
        }
        await kube.apply(CLUSTERS, {"metadata": {"name": name}, "status": status}, owner="agent", sub="status")

    await at_once(tell, names)


async def renew(kube: Kube, names: list[str], muted: set[str]) -> None:
    """Renew every lease every 60 s, spread evenly; those of `muted` clusters are not."""
    known: dict[str, dict[str, object]] = {}

    async def once(name: str) -> None:
        try:
            lease = known.get(name) or await kube.get(LEASES, LEASE, name)
            lease["metadata"].pop("managedFields", None)  # type: ignore[attr-defined]  # a mapping
            lease["spec"]["renewTime"] = make_time(micro=True)  # type: ignore[index]  # a mapping
            set_pulse(lease, make_pulse())
            known[name] = await kube.replace(LEASES, lease)
        except RefusedError:
            known.pop(name, None)

    order = random.sample(names, len(names))
    pause = LEASE_SECONDS / len(order)
    tasks: set[asyncio.Task[None]] = set()
    due = time.monotonic()
    while True:
        for name in order:
            due += pause
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if name not in muted:
                task = asyncio.create_task(once(name))
                tasks.add(task)
                task.add_done_callback(tasks.discard)


def make_pulse() -> Pulse:
    """What a site with six tasks says; it is another one every minute."""
    now = int(time.time())
    tasks = tuple(
        TaskPulse(f"default/task-{n}", 1, 4, 4, 4, random.randrange(4000), 900, {"yolo@4f53cda18c2b": 1})
        for n in range(6)
    )
    links = {"5g": LinkPulse(1, 0, 0, random.randrange(100)), "ethernet": LinkPulse(0, 0, 1)}
    return Pulse(now, 1, (31, 60, 44), (5, 5), (now + 7200, 1800), 1, (3, 15), tasks, links)


async def read_metrics(folder: Path) -> None:
    """What Prometheus does: how long it takes, how much it is, and how long somebody else waits meanwhile."""
    url = f"http://127.0.0.1:{(folder / 'port').read_text()}"

    def ask(path: str) -> tuple[float, int]:
        begin = time.monotonic()
        with urllib.request.urlopen(url + path, timeout=60) as answer:
            size = len(answer.read())
        return time.monotonic() - begin, size

    reading = asyncio.create_task(asyncio.to_thread(ask, "/metrics"))
    waits = []
    while not reading.done():
        waits.append((await asyncio.to_thread(ask, "/livez"))[0])
    seconds, size = await reading
    show("reading /metrics", seconds, "s")
    show("its size", size / 2**20, "MiB")
    show("longest wait of others meanwhile", max(waits), "s")


async def watch_steady(pid: int, seconds: float) -> None:
    """CPU and memory of the hub while nothing but leases happens."""
    before, begin = read_cpu(pid), time.monotonic()
    await asyncio.sleep(seconds)
    share = (read_cpu(pid) - before) / (time.monotonic() - begin)
    show("CPU of the hub, leases and pulses only", share * 100, "% of a core", "less than 100")
    show("memory of the hub", read_memory(pid) / 2**20, "MiB", "less than 500")


async def spread(kube: Kube, number: int) -> float:
    """A work for all clusters; seconds until every cluster's ManifestWork is there."""
    meta = {"name": "task", "namespace": "tasks"}
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "task", "namespace": "default"}}
    template = {"workload": {"manifests": [{**head, "data": {"x": "y" * 2000}}]}}
    await kube.apply(NAMESPACES, {"metadata": {"name": "tasks"}}, owner="bench")
    begin = time.monotonic()
    await kube.apply(PLACEMENTS, {"metadata": meta, "spec": {}}, owner="bench")
    spec = {"manifestWorkTemplate": template, "placementRefs": [{"name": "task"}]}
    await kube.apply(REPLICA_SETS, {"metadata": meta, "spec": spec}, owner="bench")
    while True:
        found = await kube.get(REPLICA_SETS, "task", "tasks")
        if ((found.get("status") or {}).get("summary") or {}).get("total") == number:
            return time.monotonic() - begin
        await asyncio.sleep(0.5)


async def wait_for(kube: Kube, state: str, number: int, seconds: float) -> None:
    """Until so many clusters are at least in a state."""
    good = {"accepted": ("accepted", "ready"), "ready": ("ready",)}[state]
    end = time.monotonic() + seconds
    while True:
        found = await list_clusters(kube)
        done = sum(1 for each in found if each.state in good and each.status("HubAcceptedManagedCluster") == "True")
        if done >= number:
            return
        if time.monotonic() > end:
            sys.exit(f"only {done} of {number} clusters are {state} after {seconds:.0f} s")
        await asyncio.sleep(3)


async def wait_for_silent(kube: Kube, number: int) -> None:
    """Until so many clusters are Unknown."""
    end = time.monotonic() + 500
    while sum(1 for each in await list_clusters(kube) if each.state == "silent") < number:
        if time.monotonic() > end:
            sys.exit("silent clusters do not become Unknown")
        await asyncio.sleep(5)


async def wait_for_entry(folder: Path) -> None:
    """Until the hub says that it is ready."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", int((folder / "port").read_text()))
            writer.write(b"GET /readyz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            writer.close()
            if b" 200 " in answer.split(b"\r\n")[0]:
                return
        except OSError:
            pass
        await asyncio.sleep(0.2)


async def at_once(call: object, names: list[str]) -> None:
    """Call a function for every name, some at the same time."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> None:
        async with turn:
            await call(name)  # type: ignore[operator]  # a function of one name

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(one(name))


def read_cpu(pid: int) -> float:
    """CPU seconds that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def read_memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def show(what: str, value: float, unit: str, wanted: str = "") -> None:
    """One line."""
    print(f"{what:<50} {value:9.1f} {unit:<12} {f'({wanted})' if wanted else ''}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
