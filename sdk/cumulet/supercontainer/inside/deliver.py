"""A member hands its result over, again and again if need be, until it is told that the whole result is safe."""

from __future__ import annotations

import hashlib
import queue
import ssl
import threading
from collections.abc import Iterator

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.supercontainer.inside import wire
from cumulet.supercontainer.inside.collect import make_offer
from cumulet.supercontainer.inside.setting import Listener, Setting
from cumulet.supercontainer.inside.values import Content
from cumulet.supercontainer.inside.wire import BrokenError

PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0)
AHEAD = 4
"""So many chunks are hashed before they are sent: hashing and sending go on at the same time."""


class Delivery:
    """One member's result on its way. The result is kept until the end, wherever the task has left it."""

    def __init__(self, setting: Setting, content: Content, listen: Listener) -> None:
        self.setting = setting
        self.content = content
        self._listen = listen
        self._digests: list[bytes] = []
        self._context = wire.make_client_context(setting.trust)

    def run(self, deadline: Deadline) -> None:
        """Come back when the whole result is safe. Raises TargetError if it failed, or the deadline has passed."""
        setting, tries, reason = self.setting, 0, ""
        while not deadline.passed:
            try:
                address = setting.address(setting.merging)
                with wire.connect(address, self._context, wire.name_member(setting.merging)) as connection:
                    tries = 0
                    self._talk(connection, deadline)
                    return
            except BrokenError as error:
                reason = error.message
                self._listen(reason)
            deadline.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1
        where = f"the merging member {setting.merging} has not said that the result is safe"
        message = f"member {setting.index}: {where} within {deadline.seconds:.0f} s"
        raise TargetError(f"{message}: {reason}" if reason else message)

    def _talk(self, connection: ssl.SSLSocket, deadline: Deadline) -> None:
        wire.send(connection, make_offer(self.setting, self.content))
        self._listen("offered")
        while not deadline.passed:
            message = wire.receive(connection)
            match message.get("do"):
                case "send":
                    self._send(connection, [bytes.fromhex(each) for each in message["have"]])
                    self._listen("sent")
                case "stored":
                    self._listen("stored")
                case "wait" if "why" in message:
                    raise BrokenError(str(message["why"]))
                case "wait":
                    pass
                case "safe":
                    wire.send(connection, {"do": "bye"})
                    self._listen("safe")
                    return
                case "failed":
                    wire.send(connection, {"do": "bye"})
                    raise TargetError(str(message.get("why", "failed")))
                case _:
                    raise BrokenError("a message that makes no sense")
        raise BrokenError("the deadline has passed")

    def _send(self, connection: ssl.SSLSocket, have: list[bytes]) -> None:
        start = self._count_same(have)
        wire.send(connection, {"from": start})
        self._listen(f"sending from {start}")
        for digest, chunk in self._hashed(start):
            wire.send_bytes(connection, digest)
            wire.send_bytes(connection, chunk)
            self._listen("chunk")

    def _count_same(self, have: list[bytes]) -> int:
        """How many chunks the other side has already, from whoever it got them."""
        for number, (digest, _) in enumerate(self._hash(0)):
            if number >= len(have) or have[number] != digest:
                return number
        return min(len(have), self.content.count)

    def _hash(self, start: int) -> Iterator[tuple[bytes, memoryview]]:
        for number, chunk in enumerate(self.content.chunks(start), start):
            if number == len(self._digests):
                self._digests.append(hashlib.sha256(chunk).digest())
            yield self._digests[number], chunk

    def _hashed(self, start: int) -> Iterator[tuple[bytes, memoryview]]:
        """The same, made by another thread a little ahead. Raises what reading raises."""
        line: queue.Queue[tuple[bytes, memoryview] | Exception | None] = queue.Queue(AHEAD)
        over = threading.Event()

        def put(item: tuple[bytes, memoryview] | Exception | None) -> bool:
            while not over.is_set():
                try:
                    line.put(item, timeout=0.5)
                except queue.Full:
                    continue
                return True
            return False

        def fill() -> None:
            try:
                if all(put(pair) for pair in self._hash(start)):
                    put(None)
            except Exception as error:
                put(error)

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            while (item := line.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            over.set()
            thread.join()
