"""An image with a modem: it unlocks the SIM, attaches, has an address, carries packets, comes back after a drop.

The modem, its SIM and its network are simulated on the other side of a serial port; they tell what they were asked.
"""

from __future__ import annotations

import json
import shlex

import pytest

from cumulet_qemu.guest import Guest, Patience
from cumulet_qemu.published import ModemFacts, Published
from cumulet_qemu.sim.at import Modem
from cumulet_qemu.vm import VirtualMachine

CONNECT_SECONDS = 240.0
PROFILE = "/run/NetworkManager/system-connections/cumulet-modem.nmconnection"
HAVE_ADDRESS = "ip -4 -oneline address show up | grep -w inet | grep -w ppp0"
# One echo through the modem, whatever the routes say.
PING = """
import socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as line:
    line.settimeout(20)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"ppp0")
    line.sendto(struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1), ("192.0.2.1", 0))
    print(line.recv(100)[20])
"""


@pytest.fixture(scope="module")
def modem(vm: VirtualMachine) -> Modem:
    """The simulated modem."""
    assert vm.radio.modem is not None, "the board has no port for a modem"
    return vm.radio.modem


@pytest.fixture(scope="module")
def facts(image: Published) -> ModemFacts:
    """What the image wants of its modem."""
    assert image.modem is not None, "the image has no modem"
    return image.modem


@pytest.fixture(scope="module")
def connected(vm: VirtualMachine, node: Guest) -> str:
    """The address of the modem's link, once it has one."""
    return wait_address(vm, node)


def wait_address(vm: VirtualMachine, node: Guest) -> str:
    """Wait until the call is up on both sides; the address with its peer."""
    return node.until(HAVE_ADDRESS, CONNECT_SECONDS).split()[3]


def test_modem_connects_with_the_access_point_of_the_recipe(
    facts: ModemFacts, modem: Modem, node: Guest, connected: str
) -> None:
    assert modem.apns[-1] == facts.apn
    assert connected == modem.network.addresses.own
    answer = json.loads(node.output("mmcli -m any -J"))
    assert answer["modem"]["generic"]["state"] == "connected"
    assert answer["modem"]["3gpp"]["registration-state"] == "home"


def test_sim_was_unlocked_with_its_pin(vm: VirtualMachine, facts: ModemFacts, modem: Modem, connected: str) -> None:
    if not facts.pin:
        pytest.skip("the recipe names no PIN")
    assert modem.card.pin == vm.options.modem_pin
    assert modem.unlocked


@pytest.mark.usefixtures("connected")
def test_pin_is_in_no_file_that_others_may_read_and_in_no_log(
    vm: VirtualMachine, facts: ModemFacts, node: Guest
) -> None:
    if not facts.pin:
        pytest.skip("the recipe names no PIN")
    pin = vm.options.modem_pin
    found = node.run(f"grep -rlsF {pin} /etc /run /var /usr/lib/cumulet /usr/share/cumulet /data").output.split()
    assert PROFILE in found
    modes = [node.output(f"stat -c '%a %U' {path}") for path in found]
    assert set(modes) <= {"600 root", "640 root"}, dict(zip(found, modes, strict=True))
    assert [path for path in found if not path.startswith("/run/")] == []
    assert node.output(f"journalctl -b --no-pager | grep -cF {pin} || true") == "0"
    assert pin not in node.output("cat /proc/cmdline")


def test_packets_pass(node: Guest, modem: Modem, connected: str) -> None:
    # 0 is the type of an echo's reply.
    assert node.until(f"python3 -c {shlex.quote(PING)}", 120) == "0"
    assert modem.call is not None
    assert modem.call.pings > 0


@pytest.mark.usefixtures("connected")
def test_modem_takes_over_when_the_cable_is_pulled(node: Guest) -> None:
    way = "ip route get 192.0.2.1"
    cable = node.output("ip route show default | awk '/proto dhcp/ {print $5; exit}'")
    assert f"dev {cable}" in node.output(way)
    node.output(f"ip link set {cable} down")
    try:
        assert "dev ppp0" in node.output(way)
    finally:
        node.output(f"ip link set {cable} up")
    node.until(f"{way} | grep -w {cable}", 120)


@pytest.mark.usefixtures("connected")
def test_connection_survives_a_drop(vm: VirtualMachine, node: Guest, modem: Modem) -> None:
    calls = len(modem.apns)
    vm.radio.drop()
    node.until(f"! {HAVE_ADDRESS}", 120)
    vm.radio.restore()
    wait_address(vm, node)
    assert len(modem.apns) > calls
    node.until(f"python3 -c {shlex.quote(PING)}", 120)


@pytest.mark.usefixtures("connected")
def test_call_that_the_network_has_forgotten_is_made_again(vm: VirtualMachine, node: Guest, modem: Modem) -> None:
    calls = len(modem.apns)
    vm.radio.forget()
    node.until(f"! {HAVE_ADDRESS}", 180)
    wait_address(vm, node)
    assert len(modem.apns) > calls


@pytest.mark.usefixtures("connected")
def test_sdk_reads_and_changes_the_connection(
    vm: VirtualMachine, facts: ModemFacts, node: Guest, modem: Modem, patience: Patience
) -> None:
    if node.run("python3 -c 'import cumulet.modem'").code != 0:
        pytest.skip("the recipe leaves the SDK out of this image")
    status = json.loads(node.output("python3 -m cumulet.modem wait 60", 120))
    assert (status["state"], status["registration"], status["interface"]) == ("connected", "home", "ppp0")
    assert (status["operator"], status["address"]) == (modem.network.name, f"{modem.network.addresses.own}/32")
    assert status["technologies"]
    node.output("python3 -m cumulet.modem set apn=other.example failover=modem,ethernet", 120)
    deadline = patience(CONNECT_SECONDS)
    while modem.apns[-1] != "other.example":
        deadline.check("a call to the new access point")
        deadline.sleep(1)
    wait_address(vm, node)
    node.until("ip route get 192.0.2.1 | grep -w ppp0", 60)
    assert node.run("python3 -m cumulet.modem set pin=1234").code == 2
    # This modem has no command for bands, and nothing is kept that it refuses.
    refused = node.run("python3 -m cumulet.modem set bands=eutran-3")
    assert (refused.code, "SetCurrentBands" in refused.output) == (4, True), refused.output
    assert "bands" not in node.output("cat /etc/cumulet/modem.conf")
