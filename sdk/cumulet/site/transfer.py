"""Files from this computer to a device over ssh, going on where an earlier try ended."""

from __future__ import annotations

import shlex
from pathlib import Path

from cumulet.core.errors import TargetError
from cumulet.site.actions import Send
from cumulet.site.ssh import Host

CHUNK = 4 << 20


async def send_file(action: Send, host: Host) -> None:
    """Bring a file to the host; what is there already is kept if its beginning is the same. Raises TargetError."""
    path, part = shlex.quote(action.path), shlex.quote(f"{action.path}.part")
    digest = await host.run(["sh", "-c", f"sha256sum <{path} 2>/dev/null | cut -c1-64"], seconds=300)
    if digest.out.strip() == action.sha256:
        return
    await host.run(["mkdir", "-p", str(Path(action.path).parent)])
    had = await host.run(["sh", "-c", f"stat -c %s {part} 2>/dev/null || echo 0"])
    begin = min(int(had.out), action.size) // CHUNK * CHUNK
    with Path(action.source).open("rb") as stream:
        stream.seek(begin)
        await host.run(["sh", "-c", f"touch {part} && truncate -s {begin} {part}"])
        while data := stream.read(CHUNK):
            await host.run(["sh", "-c", f"cat >>{part}"], input=data, seconds=600)
    check = await host.run(["sh", "-c", f"sync {part}; sha256sum <{part} | cut -c1-64"], seconds=300)
    if check.out.strip() != action.sha256:
        await host.run(["rm", "-f", f"{action.path}.part"])
        raise TargetError(f"{host.name}: {action.path}: arrived damaged", hint="run the same command again")
    await host.run(["sh", "-c", f"chmod {action.mode:o} {part} && mv {part} {path} && sync {path}"])
