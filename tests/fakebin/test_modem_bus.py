"""The SDK's modem over a real bus, with stand-ins for ModemManager, NetworkManager and systemd on it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.modem import DeviceModem, Lock, Registration, State, load_settings, open_modem

MM, NM, SYSTEMD = "org.freedesktop.ModemManager1", "org.freedesktop.NetworkManager", "org.freedesktop.systemd1"
MODEM, SIM = "/org/freedesktop/ModemManager1/Modem/0", "/org/freedesktop/ModemManager1/SIM/0"
DEVICE, CONFIG = "/org/freedesktop/NetworkManager/Devices/3", "/org/freedesktop/NetworkManager/IP4Config/9"
ACTIVE, PROFILE = "/org/freedesktop/NetworkManager/ActiveConnection/1", "/org/freedesktop/NetworkManager/Settings/1"
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:dir={folder}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


@dataclass
class Services:
    """What the stand-ins say, and what they were asked. `jobs` is how systemd's jobs end, `refused` what fails."""

    bus: MessageBus
    state: int = 11
    modems: bool = True
    jobs: str = "done"
    refused: set[str] = field(default_factory=set)
    calls: list[tuple[str, list[Any]]] = field(default_factory=list)

    def objects(self) -> dict[str, Any]:
        modem = {
            "State": Variant("i", self.state),
            "UnlockRequired": Variant("u", 1),
            "AccessTechnologies": Variant("u", 1 << 14 | 1 << 15),
            "SignalQuality": Variant("(ub)", [70, True]),
            "CurrentModes": Variant("(uu)", [0b11000, 0]),
            "SupportedModes": Variant("a(uu)", [[0b11000, 0], [0b11110, 0]]),
            "CurrentBands": Variant("au", [33, 378]),
            "Manufacturer": Variant("s", "Cumulet"),
            "Model": Variant("s", "Simulated modem"),
            "Sim": Variant("o", SIM),
        }
        network = {"RegistrationState": Variant("u", 1), "OperatorName": Variant("s", "China Mobile")}
        return {MODEM: {f"{MM}.Modem": modem, f"{MM}.Modem.Modem3gpp": network}} if self.modems else {}

    def properties(self) -> dict[tuple[str, str], Variant]:
        return {
            (DEVICE, "DeviceType"): Variant("u", 8),
            (DEVICE, "Udi"): Variant("s", MODEM),
            (DEVICE, "IpInterface"): Variant("s", "ppp0"),
            (DEVICE, "Ip4Config"): Variant("o", CONFIG if self.state == 11 else "/"),
            (DEVICE, "ActiveConnection"): Variant("o", ACTIVE if self.state == 11 else "/"),
            (ACTIVE, "Default"): Variant("b", True),
            (CONFIG, "AddressData"): Variant(
                "aa{sv}", [{"address": Variant("s", "10.64.0.2"), "prefix": Variant("u", 32)}]
            ),
        }

    def answer(self, message: Message) -> Message | None:
        if message.message_type is not MessageType.METHOD_CALL or message.destination == self.bus.unique_name:
            return None
        member, body = str(message.member), message.body
        if member == "Get":
            return Message.new_method_return(message, "v", [self.properties()[str(message.path), body[1]]])
        self.calls.append((member, body))
        if member in self.refused:
            return Message.new_error(message, "org.freedesktop.ModemManager1.Error.Core.Unsupported", "cannot do that")
        if member == "RestartUnit":
            self.end_job(body[0])
        return Message.new_method_return(message, *self.results().get(member, ("", [])))

    def results(self) -> dict[str, tuple[str, list[Any]]]:
        profile = {"connection": {"id": Variant("s", "cumulet-modem")}}
        return {
            "GetManagedObjects": ("a{oa{sa{sv}}}", [self.objects()]),
            "GetDevices": ("ao", [[DEVICE]]),
            "RestartUnit": ("o", ["/org/freedesktop/systemd1/job/7"]),
            "LoadConnections": ("bas", [True, []]),
            "ListConnections": ("ao", [[PROFILE]]),
            "GetSettings": ("a{sa{sv}}", [profile]),
            "ActivateConnection": ("o", [ACTIVE]),
        }

    def end_job(self, unit: str) -> None:
        body = [7, "/org/freedesktop/systemd1/job/7", unit, self.jobs]
        path, interface = "/org/freedesktop/systemd1", f"{SYSTEMD}.Manager"
        # systemd first answers, then ends the job; an early signal is harder to catch.
        self.bus.send(Message.new_signal(path, interface, "JobRemoved", "uoss", body))

    def move(self, state: int) -> None:
        self.state = state
        body = [f"{MM}.Modem", {"State": Variant("i", state)}, []]
        self.bus.send(
            Message.new_signal(MODEM, "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", body)
        )

    def named(self, member: str) -> list[list[Any]]:
        return [body for name, body in self.calls if name == member]


@pytest.fixture
def address(need: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bus of its own, as the system has one."""
    need("dbus-daemon")
    folder = tmp_path_factory.mktemp("bus")
    (folder / "bus.conf").write_text(CONFIGURATION.format(folder=folder))
    words = ["dbus-daemon", f"--config-file={folder}/bus.conf", "--print-address=1", "--nofork"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        yield daemon.stdout.readline().strip()
        daemon.terminate()


@asynccontextmanager
async def serving(address: str) -> AsyncIterator[Services]:
    bus = await MessageBus(bus_address=address).connect()
    services = Services(bus)
    bus.add_message_handler(services.answer)
    for name in (MM, NM, SYSTEMD):
        await bus.request_name(name)
    try:
        yield services
    finally:
        bus.disconnect()


Step = Callable[[DeviceModem, Services], Coroutine[Any, Any, Any]]


@pytest.fixture
def run(address: str, tmp_path: Path) -> Callable[[Step], Any]:
    """Run a step with the stand-ins on the bus and the SDK beside them."""

    async def both(step: Step) -> Any:
        async with serving(address) as services, open_modem(address, tmp_path / "modem.conf") as modem:
            return await step(modem, services)

    return lambda step: asyncio.run(asyncio.wait_for(both(step), 20))


def test_the_state_is_read_from_both_services(run: Callable[[Step], Any]) -> None:
    status = run(lambda modem, services: modem.read())
    assert (status.state, status.lock, status.registration) == (State.CONNECTED, Lock.NONE, Registration.HOME)
    assert (status.operator, status.signal, status.technologies) == ("China Mobile", 70, ("lte", "5gnr"))
    assert (status.generations, status.able) == (("4g", "5g"), ("2g", "3g", "4g", "5g"))
    assert status.bands == ("eutran-3", "ngran-78")
    assert (status.interface, status.address, status.default) == ("ppp0", "10.64.0.2/32", True)
    assert status.connected


def test_a_connection_is_waited_for_by_signals(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> list[str]:
        services.state = 8
        seen = [(await modem.read()).state.name]
        asyncio.get_running_loop().call_later(0.05, services.move, 11)
        waited = asyncio.get_running_loop().time()
        seen.append((await modem.wait(lambda status: status.connected, "connected", Deadline.after(10))).state.name)
        # Not the two seconds after which it would have looked by itself.
        assert asyncio.get_running_loop().time() - waited < 1
        return seen

    assert run(step) == ["REGISTERED", "CONNECTED"]


def test_what_does_not_come_is_said_with_the_last_state(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> None:
        services.state = 7
        await modem.wait(lambda status: status.connected, "connected", Deadline.after(0.1))

    with pytest.raises(TargetError, match="modem: connected: not within 0 s; it is searching"):
        run(step)


def test_a_new_access_point_is_kept_and_brings_the_connection_up_again(
    run: Callable[[Step], Any], tmp_path: Path
) -> None:
    async def step(modem: DeviceModem, services: Services) -> list[tuple[str, list[Any]]]:
        assert await modem.change(apn="3gnet", failover="modem,ethernet") == {
            "apn": "3gnet",
            "failover": "modem ethernet",
        }
        return [each for each in services.calls if each[0] in ("RestartUnit", "LoadConnections", "ActivateConnection")]

    profile = "/run/NetworkManager/system-connections/cumulet-modem.nmconnection"
    assert run(step) == [
        ("RestartUnit", ["cumulet-modem.service", "replace"]),
        ("LoadConnections", [[profile]]),
        ("ActivateConnection", [PROFILE, DEVICE, "/"]),
    ]
    assert load_settings(tmp_path / "modem.conf") == {"apn": "3gnet", "failover": "modem ethernet"}


def test_a_later_change_keeps_the_earlier_ones(run: Callable[[Step], Any], tmp_path: Path) -> None:
    async def step(modem: DeviceModem, services: Services) -> dict[str, str]:
        await modem.change(apn="3gnet")
        return await modem.change(roaming="yes")

    assert run(step) == {"apn": "3gnet", "roaming": "yes"}
    assert (tmp_path / "modem.conf").read_text().splitlines()[1:] == ["apn=3gnet", "roaming=yes"]


def test_bands_and_generations_are_told_to_the_modem_at_once(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> Services:
        await modem.change(bands="eutran-3,ngran-78", generations="4g,5g")
        await modem.change(bands="", generations="")
        return services

    services = run(step)
    assert services.named("SetCurrentBands") == [[[33, 378]], [[256]]]
    # All that the modem can be given at once, where nothing is asked for.
    assert [list(body[0]) for body in services.named("SetCurrentModes")] == [[0b11000, 0], [0b11110, 0]]
    assert services.named("ActivateConnection") == []
    assert ["cumulet-modem-radio.service", "replace"] in services.named("RestartUnit")


def test_a_modem_that_refuses_changes_nothing(run: Callable[[Step], Any], tmp_path: Path) -> None:
    async def step(modem: DeviceModem, services: Services) -> None:
        services.refused = {"SetCurrentBands"}
        await modem.change(bands="eutran-3")

    with pytest.raises(TargetError, match="SetCurrentBands: cannot do that"):
        run(step)
    assert not (tmp_path / "modem.conf").exists()


def test_a_service_that_fails_is_named(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> None:
        services.jobs = "failed"
        await modem.change(apn="3gnet")

    with pytest.raises(TargetError, match=r"modem: cumulet-modem\.service: restart failed"):
        run(step)


def test_a_pin_goes_to_the_sim_and_nowhere_else(run: Callable[[Step], Any], tmp_path: Path) -> None:
    async def step(modem: DeviceModem, services: Services) -> list[list[Any]]:
        await modem.send_pin("1234")
        return services.named("SendPin")

    assert run(step) == [["1234"]]
    assert list(tmp_path.iterdir()) == []


def test_without_a_modem_it_is_said_that_there_is_none(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> None:
        services.modems = False
        await modem.read()

    with pytest.raises(TargetError, match="modem: ModemManager knows of none"):
        run(step)


def test_without_modemmanager_it_is_said_that_it_does_not_answer(address: str, tmp_path: Path) -> None:
    async def step() -> None:
        async with open_modem(address, tmp_path / "modem.conf") as modem:
            await modem.read()

    with pytest.raises(TargetError, match="modem: ModemManager does not answer"):
        asyncio.run(step())


def test_without_a_bus_there_is_an_error_of_this_computer(tmp_path: Path) -> None:
    async def step() -> None:
        async with open_modem(f"unix:path={tmp_path}/nothing", tmp_path / "modem.conf"):
            pass

    with pytest.raises(ToolError, match="the system bus"):
        asyncio.run(step())


def test_an_unknown_setting_is_refused_before_the_bus_is_asked(run: Callable[[Step], Any]) -> None:
    async def step(modem: DeviceModem, services: Services) -> None:
        await modem.change(anp="cmnet")

    with pytest.raises(UsageError, match="unknown setting 'anp'") as caught:
        run(step)
    assert caught.value.hint == "did you mean 'apn'?"


def test_the_program_prints_the_state_for_programs(address: str) -> None:
    async def step() -> str:
        async with serving(address):
            words = [sys.executable, "-m", "cumulet.modem"]
            environment = {"DBUS_SYSTEM_BUS_ADDRESS": address, "PATH": "/usr/bin:/bin"}
            process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=subprocess.PIPE)
            out, _ = await process.communicate()
            return out.decode()

    answer = json.loads(asyncio.run(step()))
    assert (answer["state"], answer["registration"], answer["connected"]) == ("connected", "home", True)
