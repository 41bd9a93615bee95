"""Hosts over ssh: one connection each, host keys always checked, every failure named. asyncssh inside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError
from cumulet.site.model import SiteDocument, SiteNode

if TYPE_CHECKING:
    import asyncssh

CONNECT_SECONDS = 15.0
# A device that has gone is noticed within fifteen seconds, also in the middle of a command.
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3
TAIL = 15
PUT_SCRIPT = Path(__file__).with_name("scripts") / "put.sh"


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished remote program left."""

    code: int
    out: str
    err: str


class Host:
    """A device that is logged in to."""

    def __init__(self, node: SiteNode, connection: asyncssh.SSHClientConnection) -> None:
        self.node = node
        self.connection = connection

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    async def run(
        self, argv: Sequence[str], *, input: str | bytes | None = None, seconds: float = 120.0, check: bool = True
    ) -> Result:
        """Run a program. Raises TargetError if it fails (with `check`), takes too long, or the device is gone."""
        import asyncssh  # noqa: PLC0415 - slow to import

        data = input.encode() if isinstance(input, str) else input
        try:
            done = await self.connection.run(
                shlex.join(argv),
                input=data or None,
                # asyncssh sends no end of input after an empty one.
                stdin=asyncssh.PIPE if data else asyncssh.DEVNULL,
                encoding=None,
                timeout=seconds,
                check=False,
            )
        except (TimeoutError, asyncssh.TimeoutError) as error:
            raise TargetError(
                f"{self.name}: {argv[0]} is not done after {seconds:.0f} s", hint=f"on {self.name}: {shlex.join(argv)}"
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise TargetError(
                f"{self.name}: the connection broke: {error}", hint="run the same command again"
            ) from error
        code = done.exit_status
        if code is None or (code < 0 and done.exit_signal is None):
            raise TargetError(f"{self.name}: the connection broke", hint="run the same command again")
        result = Result(code, _text(done.stdout), _text(done.stderr))
        if check and code != 0:
            raise failure(self.name, argv, result)
        return result

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file, whole or not at all. Raises TargetError."""
        await self.put_all([(path, data, mode)])

    async def put_all(self, files: Sequence[tuple[str, bytes, int]]) -> None:
        """Make files (path, content, permissions) in one round trip, each whole or not at all. Raises TargetError."""
        words = [word for path, data, mode in files for word in (path, str(len(data)), f"{mode:o}")]
        script = ["sh", "-c", PUT_SCRIPT.read_text(), "put", *words]
        result = await self.run(script, input=b"".join(data for _, data, _ in files), check=False)
        if result.code != 0:
            path = (result.out.splitlines() or [files[0][0]])[-1]
            reason = result.err.strip().splitlines()[-1:] or ["cannot be written"]
            hint = f"free some space on {self.name}" if "No space" in result.err else ""
            raise TargetError(f"{self.name}: {path}: {reason[0].rpartition(': ')[2]}", hint=hint)

    async def read(self, path: str) -> str:
        """A text file's content. Raises TargetError."""
        return (await self.read_bytes(path)).decode()

    async def read_bytes(self, path: str) -> bytes:
        """A file's content. Raises TargetError."""
        result = await self.run(["base64", "-w0", path], check=False)
        if result.code != 0:
            raise TargetError(f"{self.name}: {path}: {result.err.strip().rpartition(': ')[2]}")
        return base64.b64decode(result.out)


def failure(host: str, argv: Sequence[str], result: Result) -> TargetError:
    """The error for a remote program that failed: its last lines, and the command as hint."""
    tail = "\n".join((result.err or result.out).strip().splitlines()[-TAIL:])
    message = f"{host}: {argv[0]} exited with code {result.code}"
    return TargetError(f"{message}\n{tail}" if tail else message, hint=f"on {host}: {shlex.join(argv)}")


def _text(data: object) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data or "")


@contextlib.asynccontextmanager
async def connect(
    site: SiteDocument, nodes: Sequence[SiteNode], folder: Path
) -> AsyncIterator[dict[str, Host | TargetError]]:
    """Log in to nodes side by side; yields, per node, the host or the error that says why not.

    `folder` is where paths in the document start.
    """
    limit = asyncio.Semaphore(site.at_once)

    async def one(node: SiteNode) -> Host | TargetError:
        async with limit:
            try:
                return Host(node, await _log_in(site, node, folder))
            except TargetError as error:
                return error

    found = await asyncio.gather(*(one(node) for node in nodes))
    hosts = {node.name: each for node, each in zip(nodes, found, strict=True)}
    try:
        yield hosts
    finally:
        for each in hosts.values():
            if isinstance(each, Host):
                each.connection.close()


async def scan(node: SiteNode) -> str:
    """The host key that a node shows now, as a .pub line; nothing is trusted by this. Raises TargetError."""
    import asyncssh  # noqa: PLC0415 - slow to import

    try:
        key = await asyncio.wait_for(asyncssh.get_server_host_key(node.address, node.port, config=[]), CONNECT_SECONDS)
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise _unreachable(node, error) from error
    if key is None:
        raise TargetError(f"{node.name} ({node.address}): shows no host key")
    return key.export_public_key("openssh").decode().strip()


async def _log_in(site: SiteDocument, node: SiteNode, folder: Path) -> asyncssh.SSHClientConnection:
    import asyncssh  # noqa: PLC0415 - slow to import

    shown: list[str] = []

    class Client(asyncssh.SSHClient):
        """Refuses every key that is not the known one, and remembers it for the message."""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            shown.append(key.get_fingerprint())
            return node.host_key is not None and node.host_key == key.get_fingerprint()

    keys = [str(folder / Path(site.ssh.key).expanduser())] if site.ssh.key else ()
    try:
        return await asyncio.wait_for(
            asyncssh.connect(
                node.address,
                node.port,
                username=site.ssh.user,
                known_hosts=asyncssh.import_known_hosts(make_known_hosts(site, node, folder)),
                client_factory=Client,
                client_keys=keys,
                config=[],
                keepalive_interval=KEEPALIVE_SECONDS,
                keepalive_count_max=KEEPALIVE_COUNT,
            ),
            CONNECT_SECONDS,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        known = known_key(site, node, folder) is not None
        seen = shown[0] if shown else "a key of another kind"
        message = (
            f"{node.name} ({node.address}): its host key {seen} is {'not the known one' if known else 'not known'}"
        )
        hint = "look at the device: somebody may answer in its place" if known else f"cumulet site trust {node.name}"
        raise TargetError(message, hint=hint) from error
    except asyncssh.PermissionDenied as error:
        message = f"{node.name} ({node.address}): does not let {site.ssh.user} in with this key"
        raise TargetError(message, hint="site.yaml: ssh.key names the private key") from error
    except (asyncssh.KeyImportError, FileNotFoundError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(
            f"ssh.key {site.ssh.key}: {reason}", hint="site.yaml: ssh.key names the private key"
        ) from error
    except (TimeoutError, OSError, asyncssh.Error) as error:
        raise _unreachable(node, error) from error


def _unreachable(node: SiteNode, error: Exception) -> TargetError:
    number = getattr(error, "errno", None)
    reason = "no answer" if isinstance(error, TimeoutError) else os.strerror(number) if number else str(error)
    return TargetError(f"{node.name} ({node.address}): cannot be reached: {reason}", hint="is it on, and plugged in?")


def make_known_hosts(site: SiteDocument, node: SiteNode, folder: Path) -> str:
    """The known_hosts lines that hold for one node; none if its key is known by fingerprint only."""
    if node.host_key is not None and not node.host_key.startswith("SHA256:"):
        return f"{_host_pattern(node)} {' '.join(node.host_key.split()[:2])}\n"
    return "" if node.host_key is not None else read_known_hosts(site, folder)


def known_key(site: SiteDocument, node: SiteNode, folder: Path) -> str | None:
    """The known_hosts line or fingerprint of a node, or None."""
    if node.host_key is not None:
        return node.host_key
    for line in read_known_hosts(site, folder).splitlines():
        if line.split(" ")[0] in (_host_pattern(node), node.address):
            return line
    return None


def read_known_hosts(site: SiteDocument, folder: Path) -> str:
    """The text of the site's known_hosts file, empty if there is none yet."""
    try:
        return known_hosts_path(site, folder).read_text()
    except FileNotFoundError:
        return ""


def known_hosts_path(site: SiteDocument, folder: Path) -> Path:
    """Where the site's host keys are kept."""
    if site.ssh.known_hosts:
        return folder / Path(site.ssh.known_hosts).expanduser()
    return folder / f".{site.site}.known_hosts"


def make_known_hosts_line(node: SiteNode, public_key: str) -> str:
    """The line that makes a key known for a node."""
    return f"{_host_pattern(node)} {' '.join(public_key.split()[:2])}\n"


def _host_pattern(node: SiteNode) -> str:
    return node.address if node.port == 22 else f"[{node.address}]:{node.port}"
