"""A phone in its boot loader's fastboot mode, on a TCP port of this computer.

It speaks the protocol that Google's `fastboot -s tcp:HOST:PORT` speaks: "FB01" from
both sides, then messages with eight bytes of length before them. Partitions are
files in a folder. A phone may be wrong in every way that a flashing tool must
notice: another product, locked, too small, a battery that is low, a cable that is pulled.
"""

from __future__ import annotations

import contextlib
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cumulet_qemu.sim.sparse import is_sparse, unpack

HANDSHAKE: Final = b"FB01"
PIECE: Final = 1 << 20


class CutError(Exception):
    """The cable was pulled."""


@dataclass
class Phone:
    """What the boot loader says of itself, and what it has been told.

    `partitions` maps names, with their slots, to bytes; each is the file `NAME` in `folder`. `variables` are answers
    that win over the usual ones; an empty one is not known to this boot loader. With `cut_after` the connection ends
    when so many bytes have been downloaded. `fetch_size` > 0 is a boot loader whose partitions can be read.
    """

    folder: Path
    partitions: Mapping[str, int]
    product: str = "sdm845"
    serial: str = "c0ffee"
    unlocked: bool = True
    slots: tuple[str, ...] = ("a", "b")
    current_slot: str = "a"
    max_download: int = 256 << 20
    fetch_size: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    commands: list[str] = field(default_factory=list)
    downloaded: int = 0

    def content(self, partition: str) -> bytes:
        """What is in a partition, without the zeros at its end."""
        path = self.folder / partition
        return path.read_bytes().rstrip(b"\0") if path.exists() else b""

    def answer(self, name: str) -> str | None:
        """The value of a variable, or None for one that the boot loader does not know."""
        if name in self.variables:
            return self.variables[name] or None
        what, _, partition = name.partition(":")
        if partition:
            return self._answer_partition(what, partition)
        known = {
            "version": "0.4",
            "product": self.product,
            "serialno": self.serial,
            "unlocked": "yes" if self.unlocked else "no",
            "secure": "yes",
            "is-userspace": "no",
            "max-download-size": f"{self.max_download:#x}",
            "slot-count": str(len(self.slots)),
            "battery-soc-ok": "yes",
            "current-slot": self.current_slot if self.slots else "",
            "max-fetch-size": f"{self.fetch_size:#x}" if self.fetch_size else "",
        }
        return known.get(name) or None

    def _answer_partition(self, what: str, partition: str) -> str | None:
        slotted = any(f"{partition}_{slot}" in self.partitions for slot in self.slots)
        if what == "has-slot":
            return "yes" if slotted else "no" if partition in self.partitions else None
        if what == "is-logical":
            return "no" if partition in self.partitions else None
        if what == "partition-size" and partition in self.partitions:
            return f"{self.partitions[partition]:#x}"
        if what == "partition-type" and partition in self.partitions:
            return "raw"
        return None


@contextlib.contextmanager
def plugged_in(phone: Phone) -> Iterator[str]:
    """The phone on a free port; yields what `fastboot -s` takes."""
    phone.folder.mkdir(parents=True, exist_ok=True)
    with _Server(("127.0.0.1", 0), _Session) as server:
        server.phone = phone
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"tcp:127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Server(socketserver.TCPServer):
    """One host at a time, as on a cable."""

    allow_reuse_address = True
    phone: Phone


class _Session(socketserver.BaseRequestHandler):
    """One connection: commands until the host hangs up."""

    server: _Server

    def setup(self) -> None:
        self.data = b""

    def handle(self) -> None:
        with contextlib.suppress(CutError, ConnectionError):
            if self._read(len(HANDSHAKE)) != HANDSHAKE:
                return
            self.request.sendall(HANDSHAKE)
            while True:
                command = self._receive().decode(errors="replace")
                self.server.phone.commands.append(command)
                self._obey(command)

    def _obey(self, command: str) -> None:
        word, _, rest = command.partition(":")
        phone = self.server.phone
        match word:
            case "getvar":
                value = phone.answer(rest)
                self._send(f"OKAY{value}" if value is not None else "FAILunknown variable")
            case "download":
                self._download(int(rest, 16))
            case "fetch":
                self._fetch(rest)
            case "flash" | "erase" if not phone.unlocked:
                self._send(f"FAIL{word.capitalize()} is not allowed in Lock State")
            case "flash" | "erase" if rest not in phone.partitions:
                self._send(f"FAILpartition {rest} not found")
            case "flash":
                self._flash(rest)
            case "erase":
                (phone.folder / rest).unlink(missing_ok=True)
                self._send("OKAY")
            case _ if command in ("reboot", "continue", "reboot-bootloader"):
                self._send("OKAY")
                raise CutError
            case _:
                self._send("FAILunknown command")

    def _download(self, size: int) -> None:
        phone = self.server.phone
        if size > phone.max_download:
            self._send("FAILdata too large")
            return
        self._send(f"DATA{size:08x}")
        parts, left = [], size
        while left:
            part = self._receive()
            parts.append(part)
            left -= len(part)
        self.data = b"".join(parts)
        self._send("OKAY")

    def _flash(self, partition: str) -> None:
        phone, data = self.server.phone, self.data
        try:
            pieces = list(unpack(data)) if is_sparse(data) else [(0, data)]
        except ValueError as error:
            self._send(f"FAIL{error}")
            return
        if any(offset + len(piece) > phone.partitions[partition] for offset, piece in pieces):
            self._send("FAILimage is larger than the partition")
            return
        path = phone.folder / partition
        path.touch()
        with path.open("r+b") as stream:
            for offset, piece in pieces:
                stream.seek(offset)
                stream.write(piece)
        self._send("OKAY")

    def _fetch(self, words: str) -> None:
        phone = self.server.phone
        partition, *numbers = words.split(":")
        if not phone.fetch_size or partition not in phone.partitions:
            self._send("FAILfetch is not supported for this partition")
            return
        offset, size = (int(each, 16) for each in numbers) if numbers else (0, phone.partitions[partition])
        path = phone.folder / partition
        stored = path.read_bytes() if path.exists() else b""
        self._send(f"DATA{size:08x}")
        self._send_bytes(stored[offset : offset + size].ljust(size, b"\0"))
        self._send("OKAY")

    def _send(self, text: str) -> None:
        self._send_bytes(text.encode())

    def _send_bytes(self, data: bytes) -> None:
        self.request.sendall(struct.pack(">Q", len(data)) + data)

    def _receive(self) -> bytes:
        size = struct.unpack(">Q", self._read(8))[0]
        return self._read(size)

    def _read(self, size: int) -> bytes:
        """So many bytes. Raises CutError at the end of the connection, or where the phone's cable is pulled."""
        phone, parts = self.server.phone, []
        while size:
            part = self.request.recv(min(size, PIECE))
            if not part:
                raise CutError
            phone.downloaded += len(part)
            if phone.cut_after is not None and phone.downloaded >= phone.cut_after:
                phone.cut_after = None
                raise CutError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)
