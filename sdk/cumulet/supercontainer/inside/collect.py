"""The merging member takes the others' results in, and tells them when all of it is safe."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, TargetError
from cumulet.supercontainer.inside import wire
from cumulet.supercontainer.inside.setting import Listener, Setting
from cumulet.supercontainer.inside.spool import Incoming, Offer, Spool, SupersededError, WrongChunkError
from cumulet.supercontainer.inside.values import CHUNK, Content, Meta
from cumulet.supercontainer.inside.wire import BEAT_SECONDS, BrokenError, Message


class Collector:
    """Listens from the start, so that nobody need wait for the merging member's own share of the work."""

    def __init__(self, setting: Setting, listen: Listener) -> None:
        self.setting = setting
        self.spool = Spool(setting.spool, setting.job)
        self.nodes: dict[int, str] = {setting.index: setting.node}
        self._listen = listen
        self._changed = threading.Condition()
        self._outcome: Message | None = None
        self._released = {setting.index}
        self._server = wire.open_server(setting.listen, setting.address(setting.index)[1])
        self._context = wire.make_server_context(setting.trust)
        wire.serve_each(self._server, self._serve)
        listen("listening")

    @property
    def missing(self) -> list[int]:
        """The members whose results are not here."""
        return [index for index in range(self.setting.size) if index not in self.spool.whole]

    def add(self, content: Content) -> None:
        """The merging member's own result."""
        setting = self.setting
        offer = Offer(setting.index, setting.attempt, setting.life, content.meta, content.size, setting.node)
        self.spool.add(offer, content)
        self._listen(f"part {setting.index}")

    def wait(self, deadline: Deadline) -> None:
        """Wait for all results. Raises TargetError with the members that have not contributed."""
        with self._changed:
            while self.missing and not deadline.passed:
                self._changed.wait(min(1.0, deadline.left or 0.01))
        if self.missing:
            raise TargetError(describe_missing(self.missing, self.setting.size, deadline.seconds))

    def finish(self, outcome: Message, deadline: Deadline) -> bool:
        """Tell everybody the outcome; whether all have heard it when the deadline passes."""
        with self._changed:
            self._outcome = outcome
            self._changed.notify_all()
            while len(self._released) < self.setting.size and not deadline.passed:
                self._changed.wait(min(1.0, deadline.left or 0.01))
            return len(self._released) == self.setting.size

    def close(self) -> None:
        """Stop listening."""
        wire.close_server(self._server)

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, BrokenError), plain:
            wire.tune(plain)
            with self._context.wrap_socket(plain, server_side=True) as connection:
                try:
                    self._talk(connection)
                except SupersededError as error:
                    wire.send(connection, {"do": "wait", "why": error.message})
                except WrongChunkError as error:
                    self._listen(error.message)
                except CumuletError as error:
                    if not isinstance(error, BrokenError):
                        # A full disk, most likely: the member is to come again, and its log is to say why.
                        wire.send(connection, {"do": "wait", "why": error.message})
                        self._listen(error.message)

    def _talk(self, connection: ssl.SSLSocket) -> None:
        offer = read_offer(wire.receive(connection), self.setting, wire.find_member(connection))
        self.nodes[offer.index] = offer.node
        self._listen(f"offer {offer.index}")
        if self._outcome is None:
            incoming = self.spool.begin(offer)
            if incoming is not None:
                self._take(connection, incoming)
            wire.send(connection, {"do": "stored"})
        while True:
            with self._changed:
                if self._outcome is None:
                    self._changed.wait(BEAT_SECONDS)
                outcome = self._outcome
            wire.send(connection, outcome or {"do": "wait"})
            if outcome is not None and wire.receive(connection).get("do") == "bye":
                with self._changed:
                    self._released.add(offer.index)
                    self._changed.notify_all()
                self._listen(f"released {offer.index}")
                return

    def _take(self, connection: ssl.SSLSocket, incoming: Incoming) -> None:
        """Receive a part, from the first chunk on that differs from what is here already."""
        offer = incoming.offer
        wire.send(connection, {"do": "send", "have": [digest.hex() for digest in incoming.have]})
        start = wire.receive(connection).get("from")
        if not isinstance(start, int) or not 0 <= start <= len(incoming.have):
            raise BrokenError("an answer that makes no sense")
        incoming.resume(start)
        self._listen(f"receiving {offer.index} from {start}")
        buffer, digest = memoryview(bytearray(CHUNK)), memoryview(bytearray(wire.DIGEST))
        for position in range(start * CHUNK, offer.size, CHUNK):
            chunk = buffer[: min(CHUNK, offer.size - position)]
            wire.receive_into(connection, digest)
            wire.receive_into(connection, chunk)
            incoming.add(bytes(digest), chunk)
            self._listen(f"chunk {offer.index}")
        incoming.finish()
        with self._changed:
            self._changed.notify_all()
        self._listen(f"part {offer.index}")


def read_offer(message: Message, setting: Setting, certified: int) -> Offer:
    """The offer in a member's first message. Raises BrokenError for one that is not for us, or from somebody else."""
    try:
        offer = Offer(
            int(message["index"]),
            int(message["attempt"]),
            str(message["life"]),
            Meta.from_values(message["meta"]),
            int(message["size"]),
            str(message["node"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenError("an offer that makes no sense") from error
    if (message.get("version"), message.get("job")) != (wire.VERSION, setting.job):
        raise BrokenError(f"an offer of another version, or for another job than {setting.job}")
    if offer.index != certified or not 0 <= offer.index < setting.size or offer.size < 0:
        raise BrokenError(f"member {certified} makes an offer for member {offer.index}")
    return offer


def make_offer(setting: Setting, content: Content) -> Message:
    """A member's first message."""
    return {
        "version": wire.VERSION,
        "job": setting.job,
        "index": setting.index,
        "attempt": setting.attempt,
        "life": setting.life,
        "node": setting.node,
        "meta": content.meta.to_values(),
        "size": content.size,
    }


def describe_missing(missing: list[int], size: int, seconds: float) -> str:
    """Who has not contributed within the time that there was."""
    names = ", ".join(map(str, missing))
    which = f"member {names} of {size} has" if len(missing) == 1 else f"members {names} of {size} have"
    return f"{which} not contributed within {seconds:.0f} s"
