"""The lab's pure parts: names and addresses, link commands, control groups in the text of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet_qemu.lab.cgroups import find_cgroups
from cumulet_qemu.lab.settings import keep_settings, restore_settings
from cumulet_qemu.lab.wiring import (
    Slowness,
    make_cable_commands,
    make_known_hosts,
    make_node_document,
    make_slow_commands,
    make_wiring,
)

V1 = """\
30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd
32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw
"""
V2 = "30 25 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_nodes_have_names_that_fit_a_link() -> None:
    wiring = make_wiring("abcde", "10.51.0.0/24")
    last = wiring.node(50)
    assert (last.name, last.address, last.host) == ("n50", "10.51.0.60/24", "10.51.0.60")
    assert max(len(name) for name in (wiring.bridge, wiring.link(last))) <= 15
    assert wiring.gateway == "10.51.0.1"


@pytest.mark.parametrize(
    ("name", "subnet", "message"),
    [("Lab", "10.51.0.0/24", "cannot be a lab's name"), ("toolong", "10.51.0.0/24", "cannot be a lab's name")]
    + [("lab", subnet, "not a /24 network") for subnet in ("10.51.0.0/16", "10.51.0.1/24", "fd00::/24", "x")],
)
def test_a_bad_name_or_subnet_is_refused(name: str, subnet: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_wiring(name, subnet)


def test_a_cable_is_made_before_it_is_used() -> None:
    wiring = make_wiring("lab", "10.51.0.0/24")
    lines = [" ".join(argv) for argv in make_cable_commands(wiring, wiring.node(2))]
    assert lines[0] == "ip netns add cl-lab-n2"
    assert lines[1] == "ip link add cl-lab-2 type veth peer name eth0 address 02:63:0a:33:00:0c netns cl-lab-n2"
    assert "ip -n cl-lab-n2 address add 10.51.0.12/24 dev eth0" in lines


def test_a_slow_link_is_slow_in_both_directions() -> None:
    wiring = make_wiring("lab", "10.51.0.0/24")
    node = wiring.node(1)
    both = [" ".join(argv) for argv in make_slow_commands(wiring, node, Slowness("80ms", "2%", "5mbit"))]
    assert both == [
        "tc qdisc replace dev cl-lab-1 root netem delay 80ms loss 2% rate 5mbit",
        "ip netns exec cl-lab-n1 tc qdisc replace dev eth0 root netem delay 80ms loss 2% rate 5mbit",
    ]
    rate = [" ".join(argv) for argv in make_slow_commands(wiring, node, Slowness(rate="5mbit"))]
    assert rate[0] == "tc qdisc replace dev cl-lab-1 root tbf rate 5mbit burst 32kbit latency 400ms"
    good = [" ".join(argv) for argv in make_slow_commands(wiring, node, Slowness())]
    assert good[1] == "ip netns exec cl-lab-n1 tc qdisc del dev eth0 root"


def test_what_a_node_is_told() -> None:
    wiring = make_wiring("lab", "10.51.0.0/24")
    text = make_node_document(wiring, wiring.node(1), ["ssh-ed25519 AAAA me"])
    assert text.splitlines() == [
        "version: 1",
        "role: none",
        "hostname: n1",
        "interface: eth0",
        "address: 10.51.0.11/24",
        "gateway: 10.51.0.1",
        "ssh_authorized_keys:",
        "  - ssh-ed25519 AAAA me",
    ]
    assert make_known_hosts({"10.51.0.11": "ssh-ed25519 BBBB comment"}) == "10.51.0.11 ssh-ed25519 BBBB\n"


def test_control_groups_of_both_versions() -> None:
    old = find_cgroups(V1)
    assert old.version == "v1"
    assert {each.name: str(each.folder) for each in old.hierarchies} == {
        "systemd": "/sys/fs/cgroup/systemd",
        "cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "unified": "/sys/fs/cgroup/unified",
    }
    new = find_cgroups(V2)
    assert (new.version, new.folders("lab/n1")) == ("v2", {"unified": Path("/sys/fs/cgroup/cumulet-lab/lab/n1")})
    with pytest.raises(ToolError, match="no control groups"):
        find_cgroups("")


def test_settings_of_the_computer_are_put_back(tmp_path: Path) -> None:
    for name in ("kernel", "vm"):
        (tmp_path / name).mkdir()
    (tmp_path / "kernel/panic").write_text("0\n")
    (tmp_path / "vm/overcommit_memory").write_text("0\n")
    keep_settings(tmp_path, tmp_path)
    (tmp_path / "kernel/panic").write_text("10\n")
    keep_settings(tmp_path, tmp_path)
    restore_settings(tmp_path, tmp_path)
    assert (tmp_path / "kernel/panic").read_text() == "0"
    restore_settings(tmp_path / "nothing", tmp_path)
