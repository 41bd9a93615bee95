"""After the reboot the modem connects again by itself, with what was changed on the device."""

from __future__ import annotations

import pytest

from cumulet_qemu.checks.test_modem import CONNECT_SECONDS, HAVE_ADDRESS
from cumulet_qemu.guest import Guest
from cumulet_qemu.vm import VirtualMachine


@pytest.mark.usefixtures("rebooted")
def test_modem_connects_again_with_what_was_changed(vm: VirtualMachine, node: Guest) -> None:
    assert vm.radio.modem is not None
    node.until(HAVE_ADDRESS, CONNECT_SECONDS)
    changed = node.run("grep -h ^apn= /etc/cumulet/modem.conf").output.strip().removeprefix("apn=")
    wanted = changed or (vm.published.modem.apn if vm.published.modem is not None else "")
    assert vm.radio.modem.apns[-1] == wanted
