"""A site of one device: the same commands, without a vote and without a balancer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sites import ask_dns, ready_nodes, until, up

from cumulet.site import Site
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
MakeLab = Callable[..., AbstractContextManager[Lab]]


def test_one_device_is_a_site_too(lab: MakeLab, tmp_path: Path) -> None:
    with lab("t1", 1, "10.66.0.0/24") as found:
        path = tmp_path / "site.yaml"
        path.write_text(
            f"version: 1\nsite: lone\ndistribution: kubeadm\nnodes:\n"
            f"  - {{name: n1, address: 10.66.0.11, role: single}}\n"
            f"ssh: {{key: {found.key}, known_hosts: {found.known_hosts}}}\n"
        )
        assert "kubernetes.control@n1" in up(path)
        assert up(path) == []
        assert Site.load(path).status().healthy
        assert ready_nodes(found, "n1") == {"n1"}
        until("DNS answers", lambda: ask_dns(found, "n1") == ["10.43.0.1"], 90)
