"""The service with a stand-in for ModemManager on a real bus, a Beidou terminal on a pseudo terminal, and gpsd."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.uplink import Beacon, Terminal, Uplink, decode_status, is_open, keep_terminal, load_uplink, read_fix
from cumulet.uplink.__main__ import main
from cumulet.uplink.service import Ways
from cumulet_qemu.sim.rdss import RdssTerminal

MM, NM = "org.freedesktop.ModemManager1", "org.freedesktop.NetworkManager"
MODEM, DEVICE, CONFIG = f"/{MM.replace('.', '/')}/Modem/0", f"/{NM.replace('.', '/')}/Devices/3", "/config/1"
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir={folder}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


class Phone:
    """ModemManager and NetworkManager of a phone, as far as its state is asked for; `technologies` is MM's mask."""

    def __init__(self, address: str) -> None:
        self.state, self.technologies, self.registration = 11, 1 << 14 | 1 << 15, 1
        self._address, self._loop, self._ready = address, asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._bus.disconnect()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _start(self) -> None:
        self._bus = await MessageBus(bus_address=self._address).connect()
        for name in (MM, NM):
            await self._bus.request_name(name)
        self._bus.add_message_handler(self._answer)

    def _answer(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.destination not in (MM, NM):
            return None
        if message.member == "GetManagedObjects":
            return Message.new_method_return(message, "a{oa{sa{sv}}}", [self._objects()])
        if message.member == "GetDevices":
            return Message.new_method_return(message, "ao", [[DEVICE]])
        values = {
            "DeviceType": Variant("u", 8),
            "Udi": Variant("s", MODEM),
            "IpInterface": Variant("s", "wwan0"),
            "Ip4Config": Variant("o", CONFIG if self.state == 11 else "/"),
            "ActiveConnection": Variant("o", "/"),
            "AddressData": Variant("aa{sv}", [{"address": Variant("s", "10.64.0.2"), "prefix": Variant("u", 32)}]),
        }
        return Message.new_method_return(message, "v", [values[message.body[1]]])

    def _objects(self) -> dict[str, Any]:
        modem = {
            "State": Variant("i", self.state),
            "AccessTechnologies": Variant("u", self.technologies),
            "SignalQuality": Variant("(ub)", [61, True]),
        }
        return {MODEM: {f"{MM}.Modem": modem, f"{MM}.Modem.Modem3gpp": {"RegistrationState": Variant("u", 1)}}}


@pytest.fixture
def bus(tmp_path: Path, need: Callable[[str], str]) -> Iterator[str]:
    (tmp_path / "bus.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    argv = [need("dbus-daemon"), f"--config-file={tmp_path / 'bus.conf'}", "--nofork", "--print-address"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().strip()
        daemon.terminate()


class Network:
    """iproute2 of the phone: Ethernet with or without a cable, the modem's link; what was changed."""

    def __init__(self) -> None:
        self.cable, self.changed, self.rules = True, list[str](), ""
        self.tables: dict[str, dict[str, str]] = {}

    def run(self, argv: Sequence[str]) -> str:
        line = " ".join(argv)
        if line == "ip -j addr":
            flags = ["UP", "LOWER_UP"] if self.cable else ["UP"]
            return json.dumps([{"ifname": "eth0", "flags": flags, "addr_info": [{"family": "inet"}]}, {}])
        if "show table all" in line:
            pairs = {"eth0": "10.0.0.1", "wwan0": "10.64.0.1"}
            main = [{"dst": "default", "dev": dev, "gateway": gateway} for dev, gateway in pairs.items()]
            return json.dumps([*main, *self.tables.values()])
        if line == "ip -4 rule show":
            return self.rules
        self.changed.append(line)
        if "route replace" in line:
            words = dict(zip(argv[5::2], argv[6::2], strict=False))
            more = {"type": "unreachable"} if "unreachable" in line else {"dev": words["dev"], "gateway": words["via"]}
            self.tables[argv[-1]] = {"dst": "default", "table": argv[-1], **more}
        if "rule add" in line:
            self.rules += f"from all fwmark {int(argv[5]):#x} lookup {argv[7]}\n"
        return ""


DOCUMENT = """\
version: 1
links:
  - {name: eth, kind: ethernet, interface: eth0}
  - {name: fast, kind: 5g, cost: 2}
  - {name: slow, kind: 4g, cost: 5}
  - {name: sky, kind: beidou, cost: 99, carries: [status], device: DEVICE, address: "358463"}
settle: 0
"""


def wait(want: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not want():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_traffic_moves_from_ethernet_to_5g_to_4g_to_beidou_and_back(
    tmp_path: Path, bus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network, phone, stop = Network(), Phone(bus), threading.Event()
    status, state = tmp_path / "status.json", tmp_path / "uplink.json"
    status.write_text(json.dumps({"site": "pier-7", "nodes": 4, "ready": 3, "alarms": ["node-lost"]}))
    with RdssTerminal() as device:
        (tmp_path / "uplink.yaml").write_text(DOCUMENT.replace("DEVICE", device.device))
        document = load_uplink(tmp_path / "uplink.yaml")
        terminal = Terminal("2.1", "358463")
        thread = threading.Thread(target=keep_terminal, args=(terminal, Path(device.device), stop))
        thread.start()
        beacon = Beacon(document.links[3], status, b"key", clock=lambda: 1795608000.0)
        uplink = Uplink(document, ways=Ways(network.run, bus=bus), terminal=terminal, beacon=beacon, state=state)
        wait(lambda: terminal.up)
        try:
            assert set(uplink.step().links.values()) == {"eth"}
            assert len(network.changed) == 8
            uplink.step()
            assert len(network.changed) == 8  # a second round does nothing
            network.cable = False
            assert set(uplink.step().links.values()) == {"fast"}
            assert network.changed[-1] == "ip -4 route replace default via 10.64.0.1 dev wwan0 table 7104"
            phone.technologies = 1 << 14
            assert set(uplink.step().links.values()) == {"slow"}
            assert is_open("result", state)
            assert device.sent == []
            phone.state = 8
            assert uplink.step().links == {"control": None, "model": None, "result": None, "status": "sky"}
            assert network.changed[-1] == "ip -4 route replace unreachable default table 7104"
            assert not is_open("result", state)
            assert not is_open("status", state)
            wait(lambda: device.sent)
            network.cable = True
            assert set(uplink.step().links.values()) == {"eth"}
        finally:
            stop.set()
            thread.join()
            phone.close()
    told = decode_status(device.sent[0][2], ["pier-7"], {"pier-7": b"key"})
    assert (told.nodes, told.ready, told.alarms, told.time) == (4, 3, ("node-lost",), 1795608000)
    assert told.links == ("down", "down", "down", "used")
    assert main(["show", "--state", str(state)]) == 0
    assert "control  eth        fast the modem is registered; slow the modem is registered" in capsys.readouterr().out


def test_without_modemmanager_the_mobile_links_say_so(tmp_path: Path, bus: str) -> None:
    (tmp_path / "u.yaml").write_text("version: 1\nlinks:\n  - {name: fast, kind: 5g}\n")
    uplink = Uplink(load_uplink(tmp_path / "u.yaml"), ways=Ways(Network().run, bus=bus), state=tmp_path / "s.json")
    assert uplink.step().links["control"] is None
    assert "ModemManager does not answer" in uplink.choice.reasons["control"]["fast"]


def test_a_published_choice_that_is_old_or_missing_holds_nothing_back(tmp_path: Path) -> None:
    state = tmp_path / "uplink.json"
    assert is_open("result", state)
    state.write_text("{")
    assert is_open("result", state)
    found = {"classes": {"result": None}, "links": [], "written": time.time()}
    state.write_text(json.dumps(found))
    assert not is_open("result", state)
    state.write_text(json.dumps({**found, "written": time.time() - 600}))
    assert is_open("result", state)
    assert main(["show", "--state", str(tmp_path / "none")]) == 4


TPV = {"class": "TPV", "mode": 3, "lat": 31.23, "lon": 121.47, "altHAE": 12.5, "time": "2026-11-25T11:00:00.000Z"}
SKY = {"class": "SKY", "satellites": [
    {"gnssid": 0, "svid": 1, "used": True}, {"gnssid": 3, "svid": 8, "used": True},
    {"gnssid": 3, "svid": 9, "used": True}, {"gnssid": 3, "svid": 10, "used": False},
]}  # fmt: skip


def serve_gpsd(*reports: Any) -> tuple[str, int]:
    """A gpsd that says these reports to one client, in small pieces."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener, listener.accept()[0] as link:
            assert link.recv(100).startswith(b"?WATCH=")
            text = "".join(json.dumps(report) + "\r\n" for report in ({"class": "VERSION"}, *reports)).encode()
            for at in range(0, len(text), 40):
                link.sendall(text[at : at + 40])
            link.settimeout(5)
            link.recv(1)

    threading.Thread(target=run, daemon=True).start()
    address: tuple[str, int] = listener.getsockname()
    return address


def test_gpsd_says_where_it_is_and_which_systems_take_part() -> None:
    fix = read_fix(Deadline.after(5), serve_gpsd({"class": "SKY"}, TPV, SKY))
    assert fix.position == (31.23, 121.47)
    assert (fix.mode, fix.height, fix.time, fix.used) == (3, 12.5, TPV["time"], {"gps": 1, "beidou": 2})


def test_a_receiver_without_a_fix_has_no_position() -> None:
    assert read_fix(Deadline.after(0.3), serve_gpsd({"class": "TPV", "mode": 1}, SKY)).position is None


def test_no_gpsd_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with pytest.raises(TargetError, match=rf"gpsd at 127.0.0.1:{address[1]}: Connection refused"):
        read_fix(Deadline.after(1), address)
