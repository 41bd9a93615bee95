"""The system bus: calls that answer with plain values or a named error, and signals as events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from cumulet.core.errors import TargetError, ToolError

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

PROPERTIES = "org.freedesktop.DBus.Properties"
CALL_SECONDS = 120.0


class RefusedError(TargetError):
    """A service answered with an error; `name` is the error's own name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Bus:
    """An open connection. `changed` is set whenever a signal arrives that was asked for with `listen`."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self.changed = asyncio.Event()
        self.signals: asyncio.Queue[tuple[str, str, list[Any]]] = asyncio.Queue()

    async def call(self, target: tuple[str, str, str], member: str, signature: str = "", *body: Any) -> Any:
        """Call a method; `target` is service, path and interface. Its value, or the list of them if there are several.

        Raises RefusedError.
        """
        from dbus_fast import Message, MessageType  # noqa: PLC0415 - an optional dependency

        service, path, interface = target
        message = Message(
            destination=service, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        try:
            reply = await asyncio.wait_for(self._bus.call(message), CALL_SECONDS)
        except TimeoutError as error:
            raise TargetError(f"{service}: {member}: no answer within {CALL_SECONDS:.0f} s") from error
        assert reply is not None  # noqa: S101 - only calls that want no reply have none
        if reply.message_type is MessageType.ERROR:
            words = str(reply.body[0]) if reply.body else "no reason given"
            raise RefusedError(str(reply.error_name), f"{service}: {member}: {words}")
        values = [make_plain(value) for value in reply.body]
        return values[0] if len(values) == 1 else values

    async def get(self, service: str, path: str, name: str) -> Any:
        """A property; `name` is its interface and its own name."""
        interface, _, member = name.rpartition(".")
        return await self.call((service, path, PROPERTIES), "Get", "ss", interface, member)

    async def listen(self, sender: str, interface: str, member: str) -> None:
        """Ask for a signal."""
        rule = f"type='signal',sender='{sender}',interface='{interface}',member='{member}'"
        await self.call(
            ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"), "AddMatch", "s", rule
        )

    def take(self, message: Message) -> None:
        """Note a signal that arrived."""
        from dbus_fast import MessageType  # noqa: PLC0415 - an optional dependency

        if message.message_type is MessageType.SIGNAL:
            self.signals.put_nowait(
                (str(message.path), str(message.member), [make_plain(each) for each in message.body])
            )
            self.changed.set()


@contextlib.asynccontextmanager
async def open_bus(address: str | None = None) -> AsyncIterator[Bus]:
    """The system bus, or the one at `address`. Raises ToolError without dbus-fast or bus."""
    try:
        from dbus_fast import BusType  # noqa: PLC0415 - an optional dependency
        from dbus_fast.aio import MessageBus  # noqa: PLC0415
    except ImportError as error:
        raise ToolError("dbus-fast: not installed", hint="pip install 'cumulet-board[modem]'") from error
    try:
        connection = await MessageBus(bus_address=address, bus_type=BusType.SYSTEM).connect()
    except (OSError, EOFError) as error:
        raise ToolError(f"the system bus: {error}", hint="is this a node? systemctl status dbus") from error
    bus = Bus(connection)
    connection.add_message_handler(bus.take)
    try:
        yield bus
    finally:
        connection.disconnect()


def make_plain(value: Any) -> Any:
    """A value without D-Bus's variants."""
    from dbus_fast import Variant  # noqa: PLC0415 - an optional dependency

    if isinstance(value, Variant):
        return make_plain(value.value)
    if isinstance(value, dict):
        return {key: make_plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [make_plain(each) for each in value]
    return value
