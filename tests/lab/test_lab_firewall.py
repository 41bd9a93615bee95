"""A site behind the firewall of its devices: it comes up, its pods and services work, nothing else is answered."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sites import assert_whole, until, up, write_site

from cumulet.site import Site
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
LISTEN = "import socket, time\nheld = socket.create_server(('', 9999))\ntime.sleep(600)"


def answers(host: str, port: int) -> bool:
    """Whether a device lets somebody outside of the site in."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_site_comes_up_behind_its_firewall(lab: MakeLab, tmp_path: Path) -> None:
    with lab("fw", 4, "10.88.0.0/24") as found:
        path = write_site(found, tmp_path, 4)
        nodes = {each.node.name: each for each in found.nodes}
        assert not answers(nodes["n2"].node.host, 6443)
        up(path)
        assert_whole(found, ["n1", "n2", "n3", "n4"], ["n1", "n2", "n3"])
        for name, role in (("n1", "control"), ("n2", "master"), ("n3", "master"), ("n4", "worker")):
            rules = nodes[name].run("nft", "list", "table", "inet", "cumulet_firewall").out
            assert rules.count("policy drop") == 2
            assert ("tcp dport 6443" in rules) == (role == "master"), name
            assert ("tcp dport 2379-2380" in rules) == (role != "worker"), name
        assert answers(nodes["n2"].node.host, 6443)
        # Somebody listens, and is not reached.
        nodes["n4"].run("systemd-run", "--unit=listener", "python3", "-c", LISTEN)
        until("the listener", lambda: "9999" in nodes["n4"].run("ss", "-Hltn").out, 30)
        assert not answers(nodes["n4"].node.host, 9999)
        assert answers(nodes["n4"].node.host, 22)
        # What a device opens by hand is in force at once, and after that the rest still is.
        nodes["n4"].run("sh", "-c", "echo 'tcp dport 9999 accept' >/etc/cumulet/firewall.d/mine.nft")
        nodes["n4"].run("systemctl", "start", "cumulet-firewall.service")
        assert answers(nodes["n4"].node.host, 9999)
        assert Site.load(path).status().healthy
