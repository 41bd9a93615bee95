"""Files from this computer to a device, going on where an earlier try ended. Filled in with packages."""

from __future__ import annotations

from cumulet.site.actions import Send
from cumulet.site.ssh import Host


async def send_file(action: Send, host: Host) -> None:
    """Bring a file to the host."""
    with open(action.source, "rb") as stream:  # noqa: PTH123
        await host.put(action.path, stream.read())
