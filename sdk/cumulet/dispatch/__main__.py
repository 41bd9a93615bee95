"""The dispatcher as a service: `python3 -m cumulet.dispatch --kubeconfig FILE --site NAME`; it talks to the journal."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from cumulet.core.errors import CumuletError
from cumulet.core.lifetime import run_until_told
from cumulet.dispatch.process import OUT, PAUSE, Dispatcher


def main() -> int:
    """Dispatch until somebody says that it is enough; 0, or the code of the error that kept it from starting."""
    words = argparse.ArgumentParser(prog="cumulet.dispatch", description="Makes the centre's tasks run at a site.")
    words.add_argument("--kubeconfig", type=Path, required=True)
    words.add_argument("--site", required=True)
    words.add_argument("--out", type=Path, default=OUT, help="where results are put [%(default)s]")
    words.add_argument("--every", type=float, default=PAUSE, help="seconds between two looks [%(default)s]")
    given = words.parse_args()
    try:
        asyncio.run(dispatch(given.kubeconfig, given.site, given.out, given.every))
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0


async def dispatch(kubeconfig: Path, site: str, out: Path, every: float) -> None:
    """Look after the tasks until this process is asked to end."""
    from cumulet.central import Kube, load_access  # noqa: PLC0415 - slow to import

    kube = Kube(load_access(kubeconfig), agent="cumulet-dispatch", links=2)
    try:
        await run_until_told(Dispatcher(kube, site, _say, out=out).run(every))
    finally:
        kube.close()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
