"""What was recorded, looked at by an operator: from a ring file, or from the control node of a site."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.quantities import parse_seconds
from cumulet.monitor.recorder import FOLDER
from cumulet.monitor.ring import Bin, read_ring
from cumulet.monitor.window import Window, find_window

BASES = {"weekdays": "by the last two weeks", "days": "by the last days", "night": "nothing is known yet: at night"}


def find_window_of(site_path: Path, ring: Path | None, length: str) -> Window:
    """The quietest stretch of a site, in this computer's time zone. Raises UsageError for a wrong length."""
    try:
        seconds = parse_seconds(length)
    except ValueError as error:
        raise UsageError(f"--for: {error}", hint="--for 30m") from None
    now = time.time()
    return find_window(read_bins(site_path, ring, now), seconds, now, utc_offset=time.localtime(now).tm_gmtoff)


def describe_window(found: Window) -> str:
    """A stretch as a line."""
    begin = time.strftime("%a %d %b %H:%M", time.localtime(found.start))
    end = time.strftime("%H:%M", time.localtime(found.start + found.seconds))
    load_text = f": {found.load:.1f} % expected, {found.usual:.1f} % is usual" if found.load is not None else ""
    return f"{begin} to {end}{load_text} ({BASES[found.basis]})"


def read_bins(site_path: Path, ring: Path | None, now: float) -> list[Bin]:
    """What was recorded: in a ring file, or on the site's control node. Raises TargetError, UsageError."""
    from cumulet.site import Site  # noqa: PLC0415 - slow to import

    if ring is not None:
        return read_ring(ring, now)

    async def fetch() -> bytes:
        found = Site.load(site_path)
        async with found.connected([found.document.control]) as hosts:
            return await hosts[found.document.control.name].read_bytes(str(FOLDER / "load.ring"))

    with tempfile.NamedTemporaryFile() as file:
        file.write(asyncio.run(fetch()))
        file.flush()
        return read_ring(Path(file.name), now)
