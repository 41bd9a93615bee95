"""Bad links between programs on this computer: slow, frozen, cut, or too narrow for full packets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest


@dataclass
class Wire:
    """Passes bytes on to a port. `delay` in seconds each way; `frozen`: takes everything and passes nothing on."""

    port: int
    delay: float = 0.0
    frozen: bool = False
    passed: int = 0
    address: str = ""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        self.writers |= {writer, back}
        async with asyncio.TaskGroup() as group:
            for source, sink in ((reader, back), (there, writer)):
                group.create_task(self.pump(source, sink))

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Pass bytes on until one end has enough. What is under way is under way side by side."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    sink.close()
                    return
                while self.frozen:
                    await asyncio.sleep(0.1)
                self.passed += len(data)
                sink.write(data)
                with contextlib.suppress(OSError):
                    await sink.drain()

        task = asyncio.create_task(deliver())
        try:
            while True:
                try:
                    data = await source.read(1 << 16)
                except OSError:
                    data = b""
                queue.put_nowait((loop.time() + self.delay, data))
                if not data:
                    await task
                    return
        finally:
            task.cancel()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()


@asynccontextmanager
async def open_wire(port: int, address: str = "127.0.0.1", **more: float) -> AsyncIterator[Wire]:
    """A wire to a port of this computer; its `address` is where it begins."""
    wire = Wire(port, **more)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        wire.tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
            await wire.serve(reader, writer)
        wire.tasks.discard(task)

    server = await asyncio.start_server(serve, address, 0)
    wire.address = f"https://{address}:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        server.close()
        wire.cut()
        for task in list(wire.tasks):
            task.cancel()
        await asyncio.gather(*wire.tasks, return_exceptions=True)


FAR, ROUTER = "cumulet-far", "cumulet-mid"
HUB_ADDRESS, SITE_ADDRESS = "10.87.1.1", "10.87.2.1"


def run(*words: str) -> None:
    """A program that must succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@contextmanager
def narrow_network() -> Iterator[str]:
    """A namespace that reaches HUB_ADDRESS by a link of 1280 bytes that tells nobody, SITE_ADDRESS by a wide one."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    made = False
    try:
        for name in (FAR, ROUTER):
            run("ip", "netns", "add", name)
            made = True
        run("ip", "link", "add", "cum-hub", "type", "veth", "peer", "name", "narrow", "netns", ROUTER)
        run("ip", "-n", ROUTER, "link", "add", "wide", "type", "veth", "peer", "name", "uplink", "netns", FAR)
        run("ip", "link", "add", "cum-site", "type", "veth", "peer", "name", "site", "netns", FAR)
        for where, link, address in (
            ("", "cum-hub", f"{HUB_ADDRESS}/24"),
            (ROUTER, "narrow", "10.87.1.2/24"),
            (ROUTER, "wide", "10.87.3.1/24"),
            (FAR, "uplink", "10.87.3.2/24"),
            ("", "cum-site", f"{SITE_ADDRESS}/24"),
            (FAR, "site", "10.87.2.2/24"),
        ):
            space = ("-n", where) if where else ()
            run("ip", *space, "address", "add", address, "dev", link)
            run("ip", *space, "link", "set", link, "up")
        run("ip", "-n", ROUTER, "link", "set", "narrow", "mtu", "1280")
        run("ip", "-n", FAR, "link", "set", "lo", "up")
        run("ip", "-n", FAR, "route", "add", "10.87.1.0/24", "via", "10.87.3.1")
        run("ip", "route", "add", "10.87.3.0/24", "via", "10.87.1.2")
        run("ip", "netns", "exec", ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        # Nobody is told that a packet was too large, as behind many a mobile network.
        run("ip", "netns", "exec", ROUTER, "iptables", "-A", "OUTPUT", "-p", "icmp", "-j", "DROP")
        yield FAR
    finally:
        if made:
            for words in (["ip", "link", "del", "cum-hub"], ["ip", "link", "del", "cum-site"]):
                subprocess.run(words, capture_output=True, check=False)
            for name in (FAR, ROUTER):
                subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
