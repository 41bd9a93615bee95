"""Devices over ssh, against a real server on the loopback interface: host keys, logins, files, lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest

from cumulet.core.errors import TargetError
from cumulet.site import ssh
from cumulet.site.model import SiteDocument, SiteNode, Ssh
from cumulet.site.ssh import Host, connect, known_hosts_path, make_known_hosts_line, scan

KEYS = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(3)]
HOST_KEY, USER_KEY, OTHER_KEY = KEYS
LINE = HOST_KEY.export_public_key().decode().strip()


@dataclass
class Device:
    """An ssh server that runs what it is told by a real shell; `path` is what its programs are found in."""

    folder: Path
    port: int = 0
    path: str = os.environ["PATH"]
    connections: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    children: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def handle(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        data = await process.stdin.read()
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), asyncio.subprocess.PIPE)
        child = await asyncio.create_subprocess_shell(
            process.command or "", **pipes, env={"PATH": self.path}, start_new_session=True
        )
        self.children.append(child)
        out, err = await child.communicate(data)
        # The other side may have gone meanwhile.
        with contextlib.suppress(OSError):
            process.stdout.write(out)
            process.stderr.write(err)
            process.exit(child.returncode or 0)

    def abort(self) -> None:
        for each in self.connections:
            each.abort()

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        device = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                device.connections.append(conn)

        (self.folder / "authorized").write_text(USER_KEY.export_public_key().decode())
        server = await asyncssh.create_server(
            Server,
            "127.0.0.1",
            0,
            server_host_keys=[HOST_KEY],
            authorized_client_keys=str(self.folder / "authorized"),
            process_factory=self.handle,
            encoding=None,
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            for child in self.children:
                if child.returncode is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    await child.wait()
            self.abort()
            server.close()
            await server.wait_closed()


def make_site(node: SiteNode, **options: Any) -> SiteDocument:
    return SiteDocument(version=1, site="pier-7", nodes=(node,), ssh=Ssh(**{"key": "id", **options}))


def make_node(port: int, host_key: str | None = LINE) -> SiteNode:
    return SiteNode(name="p1", address="127.0.0.1", role="single", port=port, host_key=host_key)


def write_key(folder: Path, key: asyncssh.SSHKey = USER_KEY) -> None:
    (folder / "id").write_bytes(key.export_private_key())


async def log_in(node: SiteNode, folder: Path, **options: Any) -> TargetError:
    """The error of a login that must fail."""
    async with connect(make_site(node, **options), [node], folder) as hosts:
        error = hosts["p1"]
        assert isinstance(error, TargetError)
        return error


def with_host(folder: Path, use: Callable[[Host, Device], Awaitable[None]], **changes: Any) -> None:
    """Log in to a device and use it."""
    device = Device(folder, **changes)

    async def main() -> None:
        write_key(folder)
        async with device.serve():
            node = make_node(device.port)
            async with connect(make_site(node), [node], folder) as hosts:
                host = hosts["p1"]
                assert isinstance(host, Host), host
                await use(host, device)

    asyncio.run(main())


def error_of(folder: Path, host_key: str | None, key: asyncssh.SSHKey = USER_KEY, **options: Any) -> tuple[str, str]:
    """Message and hint of a login that must fail, with the port taken out."""

    async def main() -> TargetError:
        device = Device(folder)
        write_key(folder, key)
        async with device.serve():
            return await log_in(make_node(device.port, host_key), folder, **options)

    error = asyncio.run(main())
    return error.message, error.hint


def test_a_program_runs_with_its_words_and_input_as_they_are(tmp_path: Path) -> None:
    async def use(host: Host, device: Device) -> None:
        words = ["printf", "%s|", "a b", "$HOME", "'", "*"]
        assert (await host.run(words)).out == "a b|$HOME|'|*|"
        assert (await host.run(["cat"], input="ä\n")).out == "ä\n"
        assert (await host.run(["cat"], input="")).out == ""
        result = await host.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
        assert (result.code, result.out, result.err) == (3, "out\n", "err\n")

    with_host(tmp_path, use)


def test_a_program_that_fails_is_named_with_what_it_said(tmp_path: Path) -> None:
    async def use(host: Host, device: Device) -> None:
        with pytest.raises(TargetError) as caught:
            await host.run(["sh", "-c", "echo no luck >&2; exit 3"])
        assert caught.value.message == "p1: sh exited with code 3\nno luck"
        assert caught.value.hint == "on p1: sh -c 'echo no luck >&2; exit 3'"

    with_host(tmp_path, use)


def test_a_program_that_takes_too_long_is_named(tmp_path: Path) -> None:
    async def use(host: Host, device: Device) -> None:
        with pytest.raises(TargetError) as caught:
            await host.run(["sleep", "30"], seconds=0.1)
        assert caught.value.message == "p1: sleep is not done after 0 s"

    with_host(tmp_path, use)


def test_a_connection_that_breaks_in_the_middle_of_a_program_is_an_error(tmp_path: Path) -> None:
    async def use(host: Host, device: Device) -> None:
        asyncio.get_running_loop().call_later(0.1, device.abort)
        with pytest.raises(TargetError) as caught:
            await host.run(["sleep", "30"], check=False)
        assert caught.value.message.startswith("p1: the connection broke")
        assert caught.value.hint == "run the same command again"
        with pytest.raises(TargetError, match="p1: the connection broke"):
            await host.run(["true"])

    with_host(tmp_path, use)


def test_a_device_that_vanishes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cable is pulled: nothing comes any more, not even an end."""
    monkeypatch.setattr(ssh, "KEEPALIVE_SECONDS", 0.05)
    device = Device(tmp_path)
    writers: list[asyncio.StreamWriter] = []
    plugged = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while data := await reader.read(65536):
            await plugged.wait()
            writer.write(data)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", device.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    async def main() -> None:
        write_key(tmp_path)
        plugged.set()
        async with device.serve(), await asyncio.start_server(forward, "127.0.0.1", 0) as cable:
            node = make_node(cable.sockets[0].getsockname()[1])
            async with connect(make_site(node), [node], tmp_path) as hosts:
                host = hosts["p1"]
                assert isinstance(host, Host), host
                asyncio.get_running_loop().call_later(0.05, plugged.clear)
                with pytest.raises(TargetError, match="p1: the connection broke"):
                    await host.run(["sleep", "30"])
            plugged.set()
            for writer in writers:
                writer.close()

    asyncio.run(main())


def test_an_unknown_host_key_is_refused_and_the_hint_says_how_to_trust_it(tmp_path: Path) -> None:
    message = f"p1 (127.0.0.1): its host key {HOST_KEY.get_fingerprint()} is not known"
    assert error_of(tmp_path, None) == (message, "cumulet site trust p1")


@pytest.mark.parametrize("form", ["line", "fingerprint", "file"])
def test_another_host_key_than_the_known_one_is_refused(tmp_path: Path, form: str) -> None:
    line = OTHER_KEY.export_public_key().decode().strip()
    (tmp_path / "known").write_text(f"127.0.0.1 {line}\n")
    keys = {"line": line, "fingerprint": OTHER_KEY.get_fingerprint(), "file": None}
    assert error_of(tmp_path, keys[form], known_hosts="known") == (
        f"p1 (127.0.0.1): its host key {HOST_KEY.get_fingerprint()} is not the known one",
        "look at the device: somebody may answer in its place",
    )


@pytest.mark.parametrize("form", ["line", "fingerprint", "scanned"])
def test_a_known_host_key_lets_us_in(tmp_path: Path, form: str) -> None:
    async def main() -> None:
        device = Device(tmp_path)
        write_key(tmp_path)
        async with device.serve():
            keys = {"line": LINE, "fingerprint": HOST_KEY.get_fingerprint(), "scanned": None}
            node = make_node(device.port, keys[form])
            site = make_site(node)
            if form == "scanned":
                path = known_hosts_path(site, tmp_path)
                assert path == tmp_path / ".pier-7.known_hosts"
                path.write_text(make_known_hosts_line(node, await scan(node)))
            async with connect(site, [node], tmp_path) as hosts:
                host = hosts["p1"]
                assert isinstance(host, Host), host
                assert (await host.run(["echo", "in"])).out == "in\n"

    asyncio.run(main())


def test_a_login_that_is_refused_says_who_and_which_setting(tmp_path: Path) -> None:
    assert error_of(tmp_path, LINE, key=OTHER_KEY) == (
        "p1 (127.0.0.1): does not let root in with this key",
        "site.yaml: ssh.key names the private key",
    )


def test_a_private_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = asyncio.run(log_in(make_node(1), tmp_path))
    assert error.message == "ssh.key id: No such file or directory"
    assert error.hint == "site.yaml: ssh.key names the private key"


def test_a_private_key_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("nothing\n")
    error = asyncio.run(log_in(make_node(1), tmp_path))
    assert error.message.startswith("ssh.key id: ")
    assert error.hint == "site.yaml: ssh.key names the private key"


def test_a_device_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def main() -> list[TargetError]:
        write_key(tmp_path)
        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            node = make_node(server.sockets[0].getsockname()[1])
            with pytest.raises(TargetError) as caught:
                await scan(node)
            return [caught.value, await log_in(node, tmp_path)]

    for error in asyncio.run(main()):
        assert error.message == "p1 (127.0.0.1): cannot be reached: no answer"
        assert error.hint == "is it on, and plugged in?"


def test_a_closed_port_is_named(tmp_path: Path) -> None:
    write_key(tmp_path)
    error = asyncio.run(log_in(make_node(1), tmp_path))
    assert error.message == "p1 (127.0.0.1): cannot be reached: Connection refused"


def test_all_devices_that_cannot_be_reached_are_told_of_at_once(tmp_path: Path) -> None:
    async def main() -> dict[str, str]:
        write_key(tmp_path)
        nodes = [make_node(1).model_copy(update={"name": f"p{number}"}) for number in (1, 2, 3)]
        async with connect(make_site(nodes[0]), nodes, tmp_path) as hosts:
            return {name: str(each) for name, each in hosts.items()}

    assert set(asyncio.run(main())) == {"p1", "p2", "p3"}


def test_a_file_is_written_with_its_permissions_and_read_back(tmp_path: Path) -> None:
    async def use(host: Host, device: Device) -> None:
        path = tmp_path / "new folder/it's"
        await host.put(str(path), "ä\n".encode(), 0o600)
        assert (await host.read(str(path)), path.stat().st_mode & 0o777) == ("ä\n", 0o600)
        await host.put(str(path), b"")
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"", 0o644)
        assert path.parent.stat().st_mode & 0o777 == 0o755
        assert [each.name for each in path.parent.iterdir()] == ["it's"]
        with pytest.raises(TargetError) as caught:
            await host.read(str(path.parent / "none"))
        assert caught.value.message == f"p1: {path.parent}/none: No such file or directory"

    with_host(tmp_path, use)


def test_several_files_are_one_round_trip(tmp_path: Path) -> None:
    contents = [b"", b"one", b"x" * 300_000, b"last"]
    files = [(str(tmp_path / f"etc/{number}/it's"), data, 0o600 + number) for number, data in enumerate(contents)]

    async def use(host: Host, device: Device) -> None:
        before = len(device.children)
        await host.put_all(files)
        assert len(device.children) == before + 1

    with_host(tmp_path, use)
    for path, data, mode in files:
        assert (Path(path).read_bytes(), Path(path).stat().st_mode & 0o777) == (data, mode)
        assert [each.name for each in Path(path).parent.iterdir()] == ["it's"]


def test_of_several_files_none_is_changed_if_one_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "taken").write_text("no folder")
    files = [(str(tmp_path / "file"), b"new", 0o644), (str(tmp_path / "taken/file"), b"new", 0o644)]

    async def use(host: Host, device: Device) -> None:
        with pytest.raises(TargetError) as caught:
            await host.put_all(files)
        assert caught.value.message == f"p1: {tmp_path}/taken/file: File exists"

    with_host(tmp_path, use)
    assert (tmp_path / "file").read_text() == "old"
    assert not (tmp_path / "file.new").exists()


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    full = tmp_path / "bin/head"
    full.parent.mkdir()
    full.write_text("#!/bin/sh\nprintf new\necho 'head: write error: No space left on device' >&2\nexit 1\n")
    full.chmod(0o755)
    path = tmp_path / "etc/file"
    path.parent.mkdir()
    path.write_text("old")

    async def use(host: Host, device: Device) -> None:
        with pytest.raises(TargetError) as caught:
            await host.put(str(path), b"new content")
        assert caught.value.message == f"p1: {path}: No space left on device"
        assert caught.value.hint == "free some space on p1"

    with_host(tmp_path, use, path=f"{full.parent}:{os.environ['PATH']}")
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", "old")]


class Recorder:
    """A connection that only remembers the command."""

    command = ""

    async def run(self, command: str, **options: object) -> Any:
        self.command = command
        return type("Done", (), {"exit_status": 0, "exit_signal": None, "stdout": b"", "stderr": b""})


@pytest.mark.parametrize("sent", [0, 1, 4999, 5000])
def test_a_file_whose_connection_breaks_is_there_whole_or_not_at_all(tmp_path: Path, sent: int) -> None:
    """A shell on the other side cannot tell a connection that breaks from the end of the file."""
    data, path = b"x" * 5000, tmp_path / "file"
    path.write_bytes(b"old")
    connection = Recorder()
    asyncio.run(Host(make_node(22), cast("Any", connection)).put(str(path), data))
    done = subprocess.run(["sh", "-c", connection.command], input=data[:sent], capture_output=True, check=False)
    assert done.returncode == (0 if sent == 5000 else 1)
    assert path.read_bytes() == (data if sent == 5000 else b"old")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
