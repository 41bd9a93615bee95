"""The device's modem: what it does now, and what it may do from now on.

    async with open_modem() as modem:
        print((await modem.read()).state)
        await modem.change(apn="cmnet", failover="modem,ethernet")

ModemManager and NetworkManager are asked over D-Bus, with dbus-fast: changes of state arrive as signals, so that
nobody polls, and errors have names. Changes outlive a restart: they are kept in /etc/cumulet/modem.conf, from which
the node's own service writes the connection's profile. Secrets are not in that file, and not changed here.
"""

from cumulet.modem.bands import GENERATIONS
from cumulet.modem.modem import DeviceModem, open_modem
from cumulet.modem.settings import SETTINGS, load_settings, make_settings
from cumulet.modem.status import Lock, Registration, State, Status

__all__ = [
    "GENERATIONS",
    "SETTINGS",
    "DeviceModem",
    "Lock",
    "Registration",
    "State",
    "Status",
    "load_settings",
    "make_settings",
    "open_modem",
]
