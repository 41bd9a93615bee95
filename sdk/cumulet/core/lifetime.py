"""How long a service of ours lives: until its work is over, or somebody says that it is enough."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any


async def run_until_told(work: Coroutine[Any, Any, object]) -> None:
    """Run to the end, or until this process is asked to end (SIGTERM, SIGINT), which is no error."""
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
