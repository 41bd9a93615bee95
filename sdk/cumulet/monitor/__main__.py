"""The recorder as a service: `python3 -m cumulet.monitor --kubeconfig FILE --site NAME`; it talks to the journal."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from cumulet.core.errors import CumuletError
from cumulet.core.lifetime import run_until_told
from cumulet.monitor.recorder import EVERY, FOLDER, RUN, Recorder


def main() -> int:
    """Record until somebody says that it is enough; 0, or the code of the error that kept it from starting."""
    words = argparse.ArgumentParser(prog="cumulet.monitor", description="Records the load of a site.")
    words.add_argument("--kubeconfig", type=Path, required=True)
    words.add_argument("--site", required=True)
    words.add_argument("--folder", type=Path, default=FOLDER)
    words.add_argument("--every", type=float, default=EVERY, help="seconds between two samples")
    words.add_argument("--run", type=Path, default=RUN, help="where the pulse and the status are published")
    given = words.parse_args()
    try:
        asyncio.run(record(given))
    except CumuletError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


async def record(given: argparse.Namespace) -> None:
    """Take samples until this process is asked to end."""
    from cumulet.central import Kube, load_access  # noqa: PLC0415 - slow to import

    kube = Kube(load_access(given.kubeconfig), agent="cumulet-monitor", links=2)
    recorder = Recorder(kube, given.site, given.folder, given.run)
    try:
        await run_until_told(recorder.run(_say, given.every))
    finally:
        recorder.close()
        kube.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
