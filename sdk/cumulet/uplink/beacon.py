"""The site's status for the sky: taken from a file, offered to the terminal when nothing else carries it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from cumulet.core.errors import CumuletError, UsageError
from cumulet.core.files import write_text
from cumulet.uplink.choose import Choice
from cumulet.uplink.model import Link
from cumulet.uplink.status import LINKS, NodeStatus, SiteStatus, encode_status
from cumulet.uplink.terminal import Terminal

STATUS_FILE = Path("/run/cumulet/status.json")
KEY_FILE = Path("/etc/cumulet/beidou.key")


def load_status(text: str) -> SiteStatus:
    """A status from JSON with the names of `SiteStatus`; `site` is the least. Raises UsageError."""
    try:
        given: dict[str, Any] = json.loads(text)
        known = {each.name for each in fields(SiteStatus)}
        values = {name: _freeze(value) for name, value in given.items() if name in known}
        values["each_node"] = tuple(NodeStatus(**each) for each in given.get("each_node", ()))
        return SiteStatus(**{"sequence": 0, "time": 0, **values})
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"not a site's status: {error}") from error


def write_status(status: SiteStatus, path: Path = STATUS_FILE) -> None:
    """Publish a status for the beacon, whole or not at all. Raises ToolError if it cannot be written."""
    write_text(path, json.dumps(asdict(status), indent=1) + "\n")


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(slots=True)
class Beacon:
    """Offers the status of `file`, signed with `key`, while the Beidou link is what carries the class status.

    The file is written by whoever knows how the site is; the state of the links is added here.
    """

    link: Link
    file: Path = STATUS_FILE
    key: bytes = b""
    clock: Callable[[], float] = time.time
    sequence: int = 0
    error: str = ""

    def feed(self, terminal: Terminal, choice: Choice, links: Sequence[Mapping[str, Any]]) -> None:
        """Offer the newest status if it is Beidou's turn. Trouble with the file is kept in `error`."""
        if choice.links.get("status") != self.link.name:
            return
        try:
            status = load_status(self.file.read_text())
            states = tuple(_state_of(kind, links) for kind in LINKS)
            signal = max((int(each["signal"]) for each in links), default=0)
            status = replace(
                status,
                sequence=self.sequence,
                # A status that nobody renews must not look like a new one.
                time=status.time or int(self.clock()),
                links=states,
                signal=status.signal or signal,
            )
            terminal.offer(encode_status(status, self.link.service, self.key))
        except (CumuletError, OSError) as error:
            self.error = f"{self.file}: {error}"
            return
        self.sequence, self.error = (self.sequence + 1) & 0xFFFF, ""


def _state_of(kind: str, links: Sequence[Mapping[str, Any]]) -> str:
    found = [each for each in links if each["kind"] == kind]
    if not found:
        return "none"
    if any(each["used"] for each in found):
        return "used"
    return "up" if any(each["up"] for each in found) else "down"
