"""Engine `dask`: the scheduler on the merging member, a worker on each of the others. Needs the extra `dask`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from cumulet.core.errors import TargetError, UsageError
from cumulet.supercontainer.inside.setting import Listener, Setting

if TYPE_CHECKING:
    from distributed import Client

NEXT_PORT: Final = 2
"""Dask's scheduler listens so many ports above its member."""
AGAIN_SECONDS: Final = 0.5


def run_client(setting: Setting, function: Callable[[Client], Any], listen: Listener) -> Any:
    """Run a function with a Client, once all workers are there. Raises TargetError if they do not come in time."""
    dask = load_dask()
    security = make_security(setting)
    options = {"host": setting.listen or "0.0.0.0", "port": find_port(setting), "protocol": "tls"}  # noqa: S104 - TLS
    scheduler = {"cls": dask.Scheduler, "options": {**options, "security": security, "dashboard": False}}
    with dask.SpecCluster(workers={}, scheduler=scheduler, security=security, silence_logs=False) as cluster:
        listen("scheduler")
        with dask.Client(cluster, security=security) as client:
            try:
                client.wait_for_workers(max(1, setting.size - 1), timeout=setting.seconds)
            except TimeoutError as error:
                here = len(client.scheduler_info()["workers"])
                message = f"{here} of {setting.size - 1} workers have come within {setting.seconds:.0f} s"
                raise TargetError(message) from error
            listen("workers")
            return function(client)


@contextlib.contextmanager
def working(setting: Setting, listen: Listener) -> Iterator[None]:
    """A worker until the end of the block, which looks for the scheduler again whenever it has gone."""
    load_dask()
    loop = asyncio.new_event_loop()
    task = loop.create_task(_work(setting, listen))

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)
        if not thread.is_alive():
            loop.close()


def find_port(setting: Setting) -> int:
    """Where the scheduler listens."""
    return setting.address(setting.merging)[1] + NEXT_PORT


def make_security(setting: Setting) -> Any:
    """The job's own certificates, for every role; nothing is said in the clear."""
    names = {}
    for role in ("scheduler", "worker", "client"):
        names[f"tls_{role}_cert"] = str(setting.trust / "tls.crt")
        names[f"tls_{role}_key"] = str(setting.trust / "tls.key")
    return load_dask().Security(tls_ca_file=str(setting.trust / "ca.crt"), require_encryption=True, **names)


async def _work(setting: Setting, listen: Listener) -> None:
    dask = load_dask()
    host, _ = setting.address(setting.merging)
    address = f"tls://{host}:{find_port(setting)}"
    while True:
        try:
            # One worker at a time may hold an index's name: a replacement's has the start in it.
            async with dask.Worker(
                address,
                name=f"{setting.index}-{setting.life}",
                nthreads=os.cpu_count() or 1,
                security=make_security(setting),
                local_directory=str(setting.spool),
                dashboard=False,
                death_timeout=30,
            ) as worker:
                listen("worker")
                await worker.finished()
        except (OSError, TimeoutError, RuntimeError) as error:
            listen(f"no scheduler at {address}: {error}")
        await asyncio.sleep(AGAIN_SECONDS)


def load_dask() -> Any:
    """The package `distributed`. Raises UsageError if it is not there."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        hint = "the extra: cumulet-board[dask]"
        raise UsageError("the engine dask needs the package distributed", hint=hint) from error
