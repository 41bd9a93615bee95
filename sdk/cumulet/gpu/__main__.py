"""`python -m cumulet.gpu`: the device plugin, until it is told to end."""

from __future__ import annotations

import signal
import sys
import threading

from cumulet.gpu.busy import Teller
from cumulet.gpu.process import Places, Process


def say(text: str) -> None:
    """A line for the journal."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> int:
    """Run until SIGTERM or Ctrl-C."""
    process = Process(Places(), say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.over.set())
    # By itself: a cluster that is slow to answer must not keep the kubelet waiting.
    threading.Thread(target=Teller(say).run, args=(process.over,), daemon=True).start()
    process.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
