"""The device's one modem over D-Bus: reading it, waiting for it, changing it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.modem.bands import ANY_BAND, make_band, make_modes
from cumulet.modem.bus import PROPERTIES, Bus, RefusedError, open_bus
from cumulet.modem.settings import FILE, load_settings, make_settings, write_settings
from cumulet.modem.status import MODEM, Status, make_status

MM, MM_PATH = "org.freedesktop.ModemManager1", "/org/freedesktop/ModemManager1"
NM, NM_PATH = "org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager"
SYSTEMD, SYSTEMD_PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER = (SYSTEMD, SYSTEMD_PATH, f"{SYSTEMD}.Manager")
SETTINGS = (NM, f"{NM_PATH}/Settings", f"{NM}.Settings")
PROFILE = "/run/NetworkManager/system-connections/cumulet-modem.nmconnection"
PROFILE_NAME = "cumulet-modem"
UNIT, RADIO_UNIT = "cumulet-modem.service", "cumulet-modem-radio.service"
MODEM_DEVICE = 8
PREFERRED_NONE = 0
# Of these settings the modem itself is told at once; of the others the connection.
OF_THE_MODEM = ("bands", "generations")


class DeviceModem:
    """The modem of this device. Made by `open_modem`."""

    def __init__(self, bus: Bus, settings: Path) -> None:
        self._bus = bus
        self._settings = settings

    async def read(self) -> Status:
        """What the modem does now. Raises TargetError if ModemManager knows of none."""
        path, interfaces = await self._find()
        return make_status(interfaces, await self._read_link(path))

    async def wait(self, want: Callable[[Status], bool], what: str, deadline: Deadline) -> Status:
        """Wait for a status, such as `lambda status: status.connected`. Raises TargetError at the deadline."""
        last = "no modem was found"
        while True:
            self._bus.changed.clear()
            try:
                status = await self.read()
                if want(status):
                    return status
                last = f"it is {status.state.name.lower()}"
            except TargetError as error:
                last = error.message
            if deadline.passed:
                raise TargetError(f"modem: {what}: not within {deadline.seconds:.0f} s; {last}")
            with contextlib.suppress(TimeoutError):
                # Signals say that something changed; the address of a link comes without one of ModemManager's.
                await asyncio.wait_for(self._bus.changed.wait(), min(2.0, deadline.left))

    async def change(self, **changes: str) -> dict[str, str]:
        """Change settings (`cumulet.modem.SETTINGS`), for now and for every later start; returns all that are changed.

        A changed connection is brought up again. Raises UsageError for a setting that is none, TargetError if the
        modem refuses: then bands and generations stay as they were, here too.
        """
        wanted = make_settings(changes)
        for key in OF_THE_MODEM:
            if key in wanted:
                await self._tell_modem(key, wanted[key].split())
        settings = {**load_settings(self._settings), **wanted}
        write_settings(settings, self._settings)
        await self._restart(UNIT)
        if any(key in wanted for key in OF_THE_MODEM):
            await self._restart(RADIO_UNIT)
        if any(key not in OF_THE_MODEM for key in wanted):
            await self._reconnect()
        return settings

    async def send_pin(self, pin: str) -> None:
        """Unlock the SIM for now. Raises TargetError if it refuses; after three times it wants its PUK."""
        _, interfaces = await self._find()
        sim = str(interfaces[MODEM].get("Sim", "/"))
        if sim == "/":
            raise TargetError("modem: it has no SIM", hint="put one in, and restart the device")
        await self._bus.call((MM, sim, f"{MM}.Sim"), "SendPin", "s", pin)

    async def _find(self) -> tuple[str, dict[str, Any]]:
        """Path and interfaces of the modem."""
        target = (MM, MM_PATH, "org.freedesktop.DBus.ObjectManager")
        try:
            objects: dict[str, dict[str, Any]] = await self._bus.call(target, "GetManagedObjects")
        except RefusedError as error:
            hint = "does the image have the feature modem-5g? systemctl status ModemManager"
            raise TargetError(f"modem: ModemManager does not answer: {error.message}", hint=hint) from error
        found = sorted((path, interfaces) for path, interfaces in objects.items() if MODEM in interfaces)
        if not found:
            raise TargetError("modem: ModemManager knows of none", hint="journalctl -u ModemManager")
        return found[0]

    async def _read_link(self, modem: str) -> dict[str, Any]:
        """NetworkManager's view: the link of the modem, its address, whether it is the way out."""
        device = await self._find_device(modem)
        if device is None:
            return {}
        link: dict[str, Any] = {"interface": await self._bus.get(NM, device, f"{NM}.Device.IpInterface")}
        config = await self._bus.get(NM, device, f"{NM}.Device.Ip4Config")
        if config != "/":
            addresses = await self._bus.get(NM, config, f"{NM}.IP4Config.AddressData")
            if addresses:
                link["address"] = f"{addresses[0]['address']}/{addresses[0]['prefix']}"
        active = await self._bus.get(NM, device, f"{NM}.Device.ActiveConnection")
        if active != "/":
            link["default"] = await self._bus.get(NM, active, f"{NM}.Connection.Active.Default")
        return link

    async def _find_device(self, modem: str) -> str | None:
        for device in await self._bus.call((NM, NM_PATH, NM), "GetDevices"):
            kind = await self._bus.get(NM, device, f"{NM}.Device.DeviceType")
            if kind == MODEM_DEVICE and await self._bus.get(NM, device, f"{NM}.Device.Udi") == modem:
                return str(device)
        return None

    async def _tell_modem(self, key: str, words: list[str]) -> None:
        path, interfaces = await self._find()
        modem = interfaces[MODEM]
        if key == "bands":
            bands = [make_band(word) for word in words] or [ANY_BAND]
            await self._bus.call((MM, path, MODEM), "SetCurrentBands", "au", bands)
        else:
            able = [tuple(each) for each in modem.get("SupportedModes", ())]
            mask = make_modes(words) or max((allowed for allowed, _ in able), default=0)
            await self._bus.call((MM, path, MODEM), "SetCurrentModes", "(uu)", [mask, PREFERRED_NONE])

    async def _restart(self, unit: str) -> None:
        """Restart a unit and wait until systemd says how that ended. Raises TargetError if it failed."""
        while not self._bus.signals.empty():
            self._bus.signals.get_nowait()
        job = await self._bus.call(MANAGER, "RestartUnit", "ss", unit, "replace")
        while True:
            _, member, body = await asyncio.wait_for(self._bus.signals.get(), 60)
            if member == "JobRemoved" and body[1] == job:
                if body[3] not in ("done", "skipped"):
                    raise TargetError(f"modem: {unit}: restart {body[3]}", hint=f"journalctl -u {unit}")
                return

    async def _reconnect(self) -> None:
        """Load the profile that the service has written, and bring the connection up with it."""
        _, failures = await self._bus.call(SETTINGS, "LoadConnections", "as", [PROFILE])
        if failures:
            raise TargetError(f"modem: NetworkManager does not take {PROFILE}", hint="journalctl -u NetworkManager")
        path, _ = await self._find()
        device = await self._find_device(path)
        connection = await self._find_profile()
        if device is not None:
            await self._bus.call((NM, NM_PATH, NM), "ActivateConnection", "ooo", connection, device, "/")

    async def _find_profile(self) -> str:
        for path in await self._bus.call(SETTINGS, "ListConnections"):
            held = await self._bus.call((NM, path, f"{NM}.Settings.Connection"), "GetSettings")
            if held["connection"]["id"] == PROFILE_NAME:
                return str(path)
        raise TargetError(f"modem: NetworkManager has no profile {PROFILE_NAME}", hint=f"systemctl status {UNIT}")


@contextlib.asynccontextmanager
async def open_modem(address: str | None = None, settings: Path = FILE) -> AsyncIterator[DeviceModem]:
    """The modem of this device, over the system bus or the one at `address`.

    Raises ToolError if there is no bus. `settings` is the file that keeps changes.
    """
    async with open_bus(address) as bus:
        await bus.listen(MM, PROPERTIES, "PropertiesChanged")
        await bus.listen(MM, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded")
        await bus.listen(NM, f"{NM}.Device", "StateChanged")
        await bus.listen(SYSTEMD, f"{SYSTEMD}.Manager", "JobRemoved")
        with contextlib.suppress(RefusedError):
            # Without a subscriber systemd keeps its signals to itself. Where there is none, nothing can be changed.
            await bus.call(MANAGER, "Subscribe")
        yield DeviceModem(bus, settings)
