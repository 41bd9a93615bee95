"""What a container has been told about its super container, through its environment."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cumulet.core.errors import UsageError

PREFIX: Final = "CUMULET_"
ENGINES: Final = ("shards", "dask")
KEEPS: Final = ("taken", "stored")
MOST_MEMBERS: Final = 1000
Listener = Callable[[str], None]
"""Is told what happens, as `sent` or `part 2`: for logs."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One member of a super container.

    `peers` has host:port of every member, in order. `keep`: the result is safe once somebody has `taken` it, or once
    it is `stored` in the folder `store`. `seconds`: so long may it take until all results are there.
    """

    job: str
    index: int
    size: int
    peers: tuple[str, ...]
    spool: Path
    trust: Path
    attempt: int = 0
    merging: int = 0
    seconds: float = 3600.0
    engine: str = "shards"
    keep: str = "taken"
    store: Path = Path("/data/out")
    node: str = ""
    listen: str = ""
    """The address that is listened on; empty: all of them."""
    door: int = 0
    """The port at which the result is handed out; 0: nowhere."""
    token: str = field(default="", repr=False)
    life: str = field(default_factory=lambda: secrets.token_hex(8))
    """Another one each time that a member is started."""

    @property
    def merges(self) -> bool:
        """Whether this member merges the results."""
        return self.index == self.merging

    def address(self, index: int) -> tuple[str, int]:
        """Host and port of a member."""
        host, _, port = self.peers[index].rpartition(":")
        return host.strip("[]"), int(port)


def read_setting(environment: Mapping[str, str]) -> Setting:
    """The setting in an environment. Raises UsageError, also where there is none."""
    values = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    missing = [name for name in ("JOB", "INDEX", "SIZE", "PEERS", "SPOOL", "TRUST") if not values.get(name)]
    if missing:
        message = f"this is no member of a super container: {PREFIX}{missing[0]} is not set"
        raise UsageError(message, hint="start it with: cumulet super run TASK")
    size = _number(values, "SIZE", MOST_MEMBERS)
    trust = Path(values["TRUST"])
    token = trust / "token"
    made = Setting(
        job=values["JOB"],
        index=_number(values, "INDEX", size - 1),
        size=size,
        peers=_make_peers(values["PEERS"], size),
        spool=Path(values["SPOOL"]),
        trust=trust,
        attempt=_number({"ATTEMPT": "0", **{name: text for name, text in values.items() if text}}, "ATTEMPT", 1 << 31),
        merging=_number({"MERGING": "0", **values}, "MERGING", size - 1),
        seconds=float(_number({"SECONDS": "3600", **values}, "SECONDS", 1 << 31)),
        engine=_choice(values, "ENGINE", ENGINES),
        keep=_choice(values, "KEEP", KEEPS),
        store=Path(values.get("STORE", "/data/out")),
        node=values.get("NODE", ""),
        listen=values.get("LISTEN", ""),
        door=_number({"DOOR": "0", **values}, "DOOR", 65535),
        token=token.read_text().strip() if token.exists() else "",
    )
    if made.size < 1:
        raise UsageError(f"{PREFIX}SIZE: a super container has at least one member")
    return made


def _make_peers(text: str, size: int) -> tuple[str, ...]:
    """A pattern with `{index}` for all of them, or a list with commas."""
    peers = tuple(text.format(index=index) for index in range(size)) if "{index}" in text else tuple(text.split(","))
    if len(peers) != size or not all(peer.rpartition(":")[2].isdigit() for peer in peers):
        raise UsageError(f"{PREFIX}PEERS: {text!r} is not host:port of {size} members")
    return peers


def _number(values: Mapping[str, str], name: str, most: int) -> int:
    text = values[name]
    if not text.isdigit() or int(text) > most:
        raise UsageError(f"{PREFIX}{name}: {text!r} is not a number from 0 to {most}")
    return int(text)


def _choice(values: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    text = values.get(name) or known[0]
    if text not in known:
        raise UsageError(f"{PREFIX}{name}: {text!r} is none of {', '.join(known)}")
    return text
