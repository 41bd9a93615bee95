"""Last, the machine is rebooted: it is the same machine with the same files."""

from __future__ import annotations

import pytest

from cumulet_qemu.checks.facts import MARKERS, Identity
from cumulet_qemu.guest import RUNNING_SECONDS, Guest


def test_machine_was_rebooted(identity: Identity, rebooted: Identity) -> None:
    assert rebooted.boot_id != identity.boot_id


@pytest.mark.usefixtures("rebooted")
def test_system_reaches_running_again(node: Guest) -> None:
    outcome = node.run("systemctl is-system-running --wait", RUNNING_SECONDS)
    assert outcome.output.strip() == "running", node.run("systemctl list-units --failed --no-legend").output


@pytest.mark.usefixtures("rebooted")
@pytest.mark.parametrize("path", MARKERS)
def test_file_survives(node: Guest, identity: Identity, path: str) -> None:
    assert node.output(f"cat {path}") == identity.boot_id


def test_machine_id_stays(identity: Identity, rebooted: Identity) -> None:
    assert rebooted.machine_id == identity.machine_id


def test_host_key_stays(identity: Identity, rebooted: Identity) -> None:
    assert rebooted.host_key == identity.host_key
