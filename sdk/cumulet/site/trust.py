"""Host keys that are not known yet: shown to a person, and kept once they have been compared."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.core.errors import UsageError
from cumulet.core.files import write_text
from cumulet.site.site import Site
from cumulet.site.ssh import known_hosts_path, known_key, make_known_hosts_line, read_known_hosts, scan


@dataclass(frozen=True, slots=True)
class ShownKey:
    """The key that a device shows: its .pub line and the fingerprint of it."""

    node: str
    address: str
    public: str

    @property
    def fingerprint(self) -> str:
        """`SHA256:...`, as ssh itself writes it."""
        return make_fingerprint(self.public)


def make_fingerprint(public: str) -> str:
    """The fingerprint of a .pub line."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def find_unknown(site: Site, names: Sequence[str] = ()) -> list[ShownKey]:
    """The keys that devices show and that are not known: of those named, or of all. Raises TargetError, UsageError."""
    unknown = [node.name for node in site.document.nodes if known_key(site.document, node, site.folder) is None]
    for name in names:
        if site.document.node(name) is None:
            raise UsageError(f"{name}: no such node in the site")
        if name not in unknown:
            raise UsageError(
                f"{name}: has a known key already", hint="take the old one away first, if the device is new"
            )
    wanted = [node for node in site.document.nodes if node.name in (names or unknown)]

    async def ask() -> list[str]:
        return list(await asyncio.gather(*(scan(node) for node in wanted)))

    keys = asyncio.run(ask())
    return [ShownKey(node.name, node.address, key) for node, key in zip(wanted, keys, strict=True)]


def trust_key(site: Site, key: ShownKey) -> None:
    """Make a key known from now on."""
    node = site.document.node(key.node)
    if node is None:
        raise UsageError(f"{key.node}: no such node in the site")
    path = known_hosts_path(site.document, site.folder)
    write_text(path, read_known_hosts(site.document, site.folder) + make_known_hosts_line(node, key.public))
