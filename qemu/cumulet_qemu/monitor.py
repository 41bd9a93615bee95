"""QEMU's control socket (QMP): commands, and the events seen so far.

The protocol library is asynchronous; its loop runs in a thread of its own so
that events are taken in all the time and callers stay plain functions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError

if TYPE_CHECKING:
    from qemu.qmp import Message, QMPClient

T = TypeVar("T")
ANSWER_SECONDS = 30.0


class Monitor:
    """A connection to the control socket at `path`. Close it in the end."""

    def __init__(self, path: Path) -> None:
        from qemu.qmp import EventListener, QMPClient  # noqa: PLC0415 - 60 ms that only a started machine needs

        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._events: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._client: QMPClient = QMPClient("cumulet")
        # A broken connection is how an ended QEMU shows; the caller says so in better words.
        self._client.logger.setLevel(logging.CRITICAL)
        self._client.register_listener(EventListener(event_filter=self._note))
        try:
            self._call(self._client.connect(str(path)))
        except BaseException:
            self._stop_loop()
            raise

    def execute(self, command: str) -> object:
        """Run one command and return its answer. Raises TargetError if QEMU refuses or is gone."""
        from qemu.qmp import QMPError  # noqa: PLC0415 - see above

        try:
            return self._call(self._client.execute(command))
        except (QMPError, EOFError, OSError, concurrent.futures.TimeoutError) as error:
            reason = str(error) or type(error).__name__
            raise TargetError(f"QEMU: command {command} failed: {reason}") from error

    def count(self, event: str) -> int:
        """How often an event, such as RESET or SHUTDOWN, was seen."""
        with self._changed:
            return self._events[event]

    def wait_event(self, event: str, seen: int, deadline: Deadline, seconds: float = 1.0) -> bool:
        """Wait at most `seconds` until the event was seen more than `seen` times."""
        with self._changed:
            return self._changed.wait_for(lambda: self._events[event] > seen, min(seconds, deadline.left))

    def close(self) -> None:
        """End the connection; errors of a connection that is already broken do not matter."""
        from qemu.qmp import QMPError  # noqa: PLC0415 - see above

        try:
            self._call(self._client.disconnect())
        except (QMPError, EOFError, OSError, concurrent.futures.TimeoutError):
            pass
        finally:
            self._stop_loop()

    def _note(self, message: Message) -> bool:
        """Count an event. The answer no keeps the listener's own queue empty."""
        with self._changed:
            self._events[str(message["event"])] += 1
            self._changed.notify_all()
        return False

    def _call(self, work: Coroutine[object, object, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(ANSWER_SECONDS)
        except BaseException:
            future.cancel()
            raise

    def _stop_loop(self) -> None:
        self._call(_cancel_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_SECONDS)
        self._loop.close()


async def _cancel_tasks() -> None:
    """End what a broken connection left waiting, so that nothing is dropped in the middle."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
