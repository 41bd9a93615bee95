"""How fast results are merged: against the line itself, against plain Dask; what a member costs; how it scales.

`bench/supercontainer.py [--members 4] [--mebibytes 256]`: as root, in network namespaces of its own. The line is
measured first, through the same sockets without TLS: from one namespace to another over a bridge, as nodes of the
lab are wired. Each figure that depends on another one is measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cumulet.core import proc
from cumulet.core.deadline import Deadline
from cumulet.supercontainer import Member, make_trust
from cumulet.supercontainer.inside import wire
from cumulet.supercontainer.inside.setting import read_setting

MEBI = 1 << 20
PORT = 7070
HERE = Path(__file__).resolve()
BRIDGE, SUBNET = "clsb", "10.88.0"


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--mebibytes", type=int, default=256, help="of each member's result")
    parser.add_argument("--only", choices=["line", "shaped", "dask", "memory", "speedup"])
    parser.add_argument("--play", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.play:
        PARTS[given.play](*given.words)
        return 0
    figures = {"line": bench_line, "shaped": bench_shaped, "dask": bench_dask, "memory": bench_memory}
    figures["speedup"] = bench_speedup
    for name, figure in figures.items():
        if given.only in (None, name):
            figure(given.members, given.mebibytes)
    return 0


def show(what: str, value: float, unit: str, more: str = "") -> None:
    """One figure as a line."""
    print(f"{what:<58} {value:9.2f} {unit:<6} {more}".rstrip(), flush=True)


def bench_line(members: int, mebibytes: int) -> None:
    """Merge over an unlimited link, which is as fast as this computer's processors."""
    with namespaces(members) as spaces:
        line = measure_line(spaces, mebibytes)
        parts, merged, _ = measure_merge(spaces, mebibytes)
    rate = (members - 1) * mebibytes / parts
    show("line, plain TCP, no limit", line, "MiB/s")
    show(f"{members - 1} results of {mebibytes} MiB received, TLS, hashed", rate, "MiB/s", f"{100 * rate / line:.0f} %")
    show("the same until they are one result", (members - 1) * mebibytes / merged, "MiB/s")


def bench_shaped(members: int, mebibytes: int) -> None:
    """Merge over links as devices have them."""
    for rate in ("300mbit", "1gbit"):
        size = max(8, mebibytes // (8 if rate == "300mbit" else 2))
        with namespaces(members, rate) as spaces:
            line = measure_line(spaces, size)
            parts, _, _ = measure_merge(spaces, size)
        found = (members - 1) * size / parts
        show(f"line, plain TCP, {rate}", line, "MiB/s")
        more = f"{100 * found / line:.0f} % (at least 70)"
        show(f"{members - 1} results of {size} MiB received over it", found, "MiB/s", more)


def bench_dask(members: int, mebibytes: int) -> None:
    """The whole job, results on disk, against the same job on plain Dask: no TLS there, nothing kept on disk."""
    with namespaces(members) as spaces:
        _, ours, _ = measure_merge(spaces, mebibytes)
    theirs = measure_dask(members, mebibytes)
    show(f"{members} results of {mebibytes} MiB as one result on disk, ours", ours, "s")
    show(
        f"{members} results of {mebibytes} MiB as one file on disk, plain Dask",
        theirs,
        "s",
        f"ours / theirs {ours / theirs:.2f}",
    )


def bench_memory(members: int, mebibytes: int) -> None:
    """The most memory of a member beside its own result, and beside a Python that does nothing."""
    with namespaces(members) as spaces:
        _, _, peaks = measure_merge(spaces, mebibytes)
    bare = proc.run([sys.executable, HERE, "--play", "peak"]).out
    for index in sorted(peaks):
        who = "merging member" if index == 0 else f"member {index}"
        more = f"a bare Python has {int(bare) / 1024:.1f} (at most 60 more)"
        show(f"most memory of the {who}, without its result", peaks[index] / 1024, "MiB", more)


def bench_speedup(members: int, mebibytes: int) -> None:
    """The same work by one member and by all of them, each with half a processor."""
    one = measure_work(1)
    several = measure_work(members)
    more = f"speed-up {one / several:.2f} of {members} (at least {0.9 * members:.1f})"
    show("one member with half a processor", one, "s")
    show(f"{members} members with half a processor each", several, "s", more)


@contextlib.contextmanager
def namespaces(count: int, rate: str = "") -> Iterator[list[tuple[str, str]]]:
    """Network namespaces on one bridge: name and address of each. `rate` limits every link in both directions."""
    names = [f"{BRIDGE}-{index}" for index in range(count)]
    made = [(name, f"{SUBNET}.{index + 1}") for index, name in enumerate(names)]
    commands = [f"ip link add {BRIDGE} type bridge", f"ip link set {BRIDGE} up"]
    for name, address in made:
        commands += [f"ip netns add {name}", f"ip link add {name} type veth peer name eth0 netns {name}"]
        commands += [f"ip link set {name} master {BRIDGE} up", f"ip -n {name} addr add {address}/24 dev eth0"]
        commands += [f"ip -n {name} link set eth0 up", f"ip -n {name} link set lo up"]
        if rate:
            shape = f"root tbf rate {rate} burst 256kb latency 50ms"
            commands += [f"tc qdisc add dev {name} {shape}", f"tc -n {name} qdisc add dev eth0 {shape}"]
    try:
        for command in commands:
            proc.run(command.split())
        yield made
    finally:
        for name in names:
            proc.run(["ip", "netns", "del", name], check=False)
        proc.run(["ip", "link", "del", BRIDGE], check=False)


def measure_line(spaces: list[tuple[str, str]], mebibytes: int) -> float:
    """MiB a second of plain TCP from the second namespace to the first, through sockets that are tuned as ours."""
    words = [sys.executable, HERE, "--play"]
    receiver = proc.spawn(["ip", "netns", "exec", spaces[0][0], *words, "receive", str(mebibytes), "/tmp/clsb-line"])
    try:
        proc.run(["ip", "netns", "exec", spaces[1][0], *words, "send", spaces[0][1], str(mebibytes)])
        receiver.wait()
    finally:
        # A namespace whose process lives does not go.
        proc.stop(receiver)
    found = float(Path("/tmp/clsb-line").read_text())
    Path("/tmp/clsb-line").unlink()
    return found


def measure_merge(spaces: list[tuple[str, str]], mebibytes: int) -> tuple[float, float, dict[int, int]]:
    """Seconds until all parts are on the merging member, until they are one result; and every member's peak in KiB."""
    size = len(spaces)
    peers = ",".join(f"{address}:{PORT}" for _, address in spaces)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        write_trust(folder, size)
        start = time.monotonic() + 3.0 + mebibytes * size / 1024
        running = []
        for index, (space, _) in enumerate(spaces):
            words = ["ip", "netns", "exec", space, sys.executable, HERE, "--play", "member"]
            words += [str(mebibytes), str(start), str(folder / f"log-{index}")]
            running.append(proc.spawn(words, env=make_environment(folder, index, size, peers)))
        codes = [process.wait() for process in running]
        logs = [(folder / f"log-{index}").read_text().splitlines() for index in range(size)]
        if codes != [0] * size:
            raise SystemExit(f"members ended with {codes}: {logs[0][-3:]}")
    events = [line.partition(" ") for line in logs[0]]
    # The merging member's own part has no way to go.
    parts = max(float(at) for at, _, event in events if event.startswith("part ") and event != "part 0") - start
    merged = next(float(at) for at, _, event in events if event == "merged") - start
    return parts, merged, {index: int(log[-1].split()[1]) for index, log in enumerate(logs)}


def measure_dask(members: int, mebibytes: int) -> float:
    """Seconds until as many results as there are members are one file, with one Dask worker each."""
    words = [sys.executable, HERE, "--play", "dask", str(members), str(mebibytes)]
    return float(proc.run(words, timeout=600).out.split()[-1])


def measure_work(members: int) -> float:
    """Seconds for a fixed amount of work by so many members, each of which has half a processor."""
    peers = ",".join(f"127.0.0.1:{PORT + index}" for index in range(members))
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, halves(members) as groups:
        folder = Path(name)
        write_trust(folder, members)
        start = time.monotonic() + 4.0
        running = []
        for index in range(members):
            words = [
                sys.executable,
                HERE,
                "--play",
                "work",
                str(start),
                str(groups[index]),
                str(folder / f"log-{index}"),
            ]
            running.append(proc.spawn(words, env=make_environment(folder, index, members, peers)))
        codes = [process.wait() for process in running]
        if codes != [0] * members:
            raise SystemExit(f"members ended with {codes}")
        return float((folder / "log-0").read_text()) - start


@contextlib.contextmanager
def halves(count: int) -> Iterator[list[Path]]:
    """Control groups with half a processor each, version 1 or 2."""
    old = Path("/sys/fs/cgroup/cpu")
    top = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"cumulet-bench-{os.getpid()}"
    groups = [top / str(index) for index in range(count)]
    top.mkdir()
    try:
        if not old.is_dir():
            (top / "cgroup.subtree_control").write_text("+cpu")
        for group in groups:
            group.mkdir()
            if old.is_dir():
                (group / "cpu.cfs_period_us").write_text("20000")
                (group / "cpu.cfs_quota_us").write_text("10000")
            else:
                (group / "cpu.max").write_text("10000 20000")
        yield groups
    finally:
        for group in (*groups, top):
            with contextlib.suppress(FileNotFoundError):
                group.rmdir()


def write_trust(folder: Path, size: int) -> None:
    """Each member's certificates, as their containers have them."""
    files = make_trust("bench", size)
    for index in range(size):
        (folder / f"trust-{index}").mkdir()
        names = {"ca.crt": "ca.crt", "tls.crt": f"{index}.crt", "tls.key": f"{index}.key"}
        for name, source in names.items():
            (folder / f"trust-{index}" / name).write_bytes(files[source])


def make_environment(folder: Path, index: int, size: int, peers: str) -> dict[str, str]:
    """What a member is told."""
    told = {
        "JOB": "bench",
        "INDEX": str(index),
        "SIZE": str(size),
        "PEERS": peers,
        "SPOOL": str(folder / f"spool-{index}"),
        "TRUST": str(folder / f"trust-{index}"),
        "SECONDS": "300",
    }
    return {f"CUMULET_{name}": text for name, text in told.items()}


def play_member(mebibytes: str, start: str, log: str) -> None:
    """A member that contributes at a given moment, and writes down what happens when."""
    with Path(log).open("w") as stream:

        def listen(event: str) -> None:
            if not event.startswith("chunk"):
                stream.write(f"{time.monotonic()} {event}\n")

        setting = read_setting(os.environ)
        member = Member(setting, listen)
        result = make_result(setting.index, int(mebibytes))
        before = read_peak()
        time.sleep(max(0.0, float(start) - time.monotonic()))
        member.contribute(result)
        stream.write(f"peak {read_peak() - int(mebibytes) * 1024} {before}\n")


def play_work(start: str, group: str, log: str) -> None:
    """A member that counts, within a control group."""
    (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    member = Member(read_setting(os.environ), lambda event: None)
    time.sleep(max(0.0, float(start) - time.monotonic()))
    total = 0
    for number in member.shard(range(240_000_000)):
        total += number & 7
    member.contribute(total, "sum")
    if member.merging:
        Path(log).write_text(str(time.monotonic()))


def play_send(address: str, mebibytes: str) -> None:
    """Plain bytes, as fast as they go."""
    data = random.Random(1).randbytes(MEBI)
    deadline = Deadline.after(30)
    while True:
        try:
            connection = socket.create_connection((address, PORT), timeout=30)
            break
        except ConnectionRefusedError:
            # On a busy computer the other side takes its time to start.
            deadline.check("the receiver listens")
            deadline.sleep(0.1)
    with connection:
        wire.tune(connection)
        for _ in range(int(mebibytes)):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def play_receive(mebibytes: str, log: str) -> None:
    """Takes them, and writes down how many MiB a second came."""
    buffer = memoryview(bytearray(MEBI))
    with socket.create_server(("0.0.0.0", PORT)) as server:
        connection, _ = server.accept()
        with connection:
            wire.tune(connection)
            begin = time.monotonic()
            while connection.recv_into(buffer):
                pass
            Path(log).write_text(str(int(mebibytes) / (time.monotonic() - begin)))


def play_dask(members: str, mebibytes: str) -> None:
    """The same job on plain Dask, written into one file."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - heavy, and an extra

    options = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
    with LocalCluster(n_workers=int(members), **options) as cluster, Client(cluster) as client:
        made = client.map(make_result, range(int(members)), mebibytes=int(mebibytes), pure=False)
        client.gather(client.map(len, made))
        begin = time.monotonic()
        with tempfile.NamedTemporaryFile(dir="/var/tmp") as stream:
            for part in client.gather(made):
                stream.write(part)
            stream.flush()
        print(time.monotonic() - begin)


def play_peak() -> None:
    """A Python that does nothing; this file's own imports are not its own."""
    words = [sys.executable, "-c", "print(open('/proc/self/status').read())"]
    lines = proc.run(words).out.splitlines()
    print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def make_result(index: int, mebibytes: int) -> bytes:
    """A member's result."""
    return random.Random(index).randbytes(MEBI) * mebibytes


def read_peak() -> int:
    """The most memory of this process so far, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


PARTS = {
    "member": play_member,
    "work": play_work,
    "send": play_send,
    "receive": play_receive,
    "dask": play_dask,
    "peak": play_peak,
}

if __name__ == "__main__":
    sys.exit(main())
