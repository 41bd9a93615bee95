"""The lab itself: nodes start in a moment, may be cut off and killed, and leave nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cumulet.core.errors import CumuletError, UsageError
from cumulet_qemu.lab.cgroups import list_processes, read_cgroups
from cumulet_qemu.lab.lab import Lab, clear_lab
from cumulet_qemu.lab.wiring import Slowness, make_wiring

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
CUMULET = (sys.executable, "-m", "cumulet_builder.cli")
MakeLab = Callable[..., AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def two(lab: MakeLab) -> Iterator[Lab]:
    """Two running nodes."""
    with lab("ta", 2, "10.61.0.0/24") as found:
        yield found


def traces(name: str) -> list[str]:
    """What there is of a lab on this computer: links, namespaces, control groups, processes."""
    wiring = make_wiring(name, "10.61.0.0/24")
    links = [path.name for path in Path("/sys/class/net").glob(f"{wiring.bridge}*")]
    spaces = [path.name for path in Path("/run/netns").glob(f"{wiring.bridge}-*")]
    cgroups = read_cgroups()
    groups = [str(path) for path in cgroups.folders(name).values() if path.exists()]
    return [*links, *spaces, *groups, *map(str, list_processes(cgroups, name))]


def test_a_node_is_a_whole_system_of_its_own(two: Lab) -> None:
    n1 = two.node("n1")
    assert n1.run("systemctl", "is-system-running", "--wait", check=False).out.strip() == "running"
    assert n1.run("cat", "/proc/sys/kernel/hostname").out.strip() == "n1"
    assert n1.run("cat", "/proc/1/comm").out.strip() == "systemd"
    assert "10.61.0.11/24" in n1.run("ip", "-o", "-4", "address", "show", "eth0").out
    assert n1.run("systemctl", "is-active", "containerd.service").out.strip() == "active"
    assert n1.run("touch", "/usr/there", check=False).code != 0
    assert n1.run("touch", "/etc/there", "/var/there").code == 0
    ids = {node.run("cat", "/etc/machine-id").out for node in two.nodes}
    assert len(ids) == 2
    assert {path.name for path in Path("/proc").iterdir() if path.name.isdigit()} != set(
        n1.run("ls", "/proc").out.split()
    )


def test_a_node_starts_in_five_seconds_and_keeps_what_it_wrote(two: Lab) -> None:
    n2 = two.node("n2")
    n2.run("sh", "-c", "echo kept >/var/lib/kept; sync")
    n2.kill()
    assert not n2.running
    begin = time.monotonic()
    two.start([n2])
    assert time.monotonic() - begin < 5
    assert n2.run("cat", "/var/lib/kept").out == "kept\n"


def test_up_again_changes_nothing(two: Lab) -> None:
    before = [node.init() for node in two.nodes]
    begin = time.monotonic()
    two.up(2)
    assert time.monotonic() - begin < 5
    assert [node.init() for node in two.nodes] == before


def test_a_cable_is_pulled_and_put_back(two: Lab) -> None:
    probe = ["sh", "-c", "exec 3<>/dev/tcp/10.61.0.11/22 && head -c 4 <&3"]
    bash = ["bash", *probe[1:]]
    assert two.node("n2").run(*bash).out == "SSH-"
    two.cut("n1")
    assert two.node("n2").run("timeout", "2", *bash, check=False).code != 0
    assert [each.plugged for each in two.status()] == [False, True]
    two.plug("n1")
    until = time.monotonic() + 20
    while two.node("n2").run("timeout", "2", *bash, check=False).code != 0:
        assert time.monotonic() < until


def test_a_slow_link_or_the_reason_why_not(two: Lab) -> None:
    two.slow("n1", Slowness(rate="5mbit"))
    assert (
        "5Mbit" in two.node("n1").run("sh", "-c", "true").out
        or "tbf"
        in subprocess.run(["tc", "qdisc", "show", "dev", "cl-ta-1"], capture_output=True, text=True, check=True).stdout
    )
    try:
        two.slow("n1", Slowness(delay="80ms", loss="2%"))
    except CumuletError as error:
        assert "no network emulator" in error.message
        assert "sch_netem" in error.hint
    two.slow("n1", Slowness())
    with pytest.raises(UsageError, match="--delay: 'soon' is not understood"):
        two.slow("n1", Slowness(delay="soon"))


def test_a_node_has_only_the_memory_that_it_is_given(lab: MakeLab) -> None:
    with lab("tb", 1, "10.62.0.0/24") as found:
        node = found.node("n1")
        node.kill()
        found.start([node], memory=256 << 20)
        limit = node.run(
            "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max", check=False
        )
        assert str(256 << 20) in limit.out
    assert traces("tb") == []


def test_down_leaves_nothing_even_after_a_kill_in_the_middle(lab_image: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    for seconds in (0.4, 0.9, 1.5, 2.5):
        words = ["lab", "up", "--name", "tc", "--nodes", "3", "--subnet", "10.63.0.0/24", "--image", str(lab_image)]
        process = subprocess.Popen(
            [*CUMULET, *words], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        clear_lab(make_wiring("tc", "10.63.0.0/24"), tmp_path / "cumulet/lab/tc")
        assert traces("tc") == []
        assert not (tmp_path / "cumulet/lab/tc").exists()


def test_the_commands(lab_image: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}

    def run(*words: str, code: int = 0) -> str:
        done = subprocess.run([*CUMULET, "lab", *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    name = ("--name", "td")
    try:
        run("up", *name, "--nodes", "2", "--subnet", "10.64.0.0/24", "--image", str(lab_image))
        assert run("ssh", *name, "n1", "uname", "-n").strip() == "n1"
        run("ssh", *name, "n1", "exit", "7", code=7)
        run("kill", *name, "n2")
        run("cut", *name, "n1")
        shown = json.loads(run("status", *name, "--json"))
        assert [(node["running"], node["plugged"]) for node in shown["nodes"]] == [(True, False), (False, True)]
        run("plug", *name, "n1")
        run("start", *name, "n2")
        assert "no such node; there are: n1, n2" in run("kill", *name, "n9", code=2)
    finally:
        run("down", *name)
    assert traces("td") == []
    assert "no such lab" in run("status", *name, code=2)
