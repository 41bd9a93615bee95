"""`python3 -m cumulet.uplink`: run the service, or tell what it has chosen."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from cumulet.core.errors import CumuletError, TargetError
from cumulet.uplink import STATE_FILE, Beacon, Terminal, Uplink, keep_terminal, load_uplink
from cumulet.uplink.beacon import KEY_FILE

FILE = Path("/etc/cumulet/uplink.yaml")


def run(file: Path, state: Path) -> None:
    """Run the service until SIGTERM. Raises CumuletError."""
    document, stop = load_uplink(file), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    radio = next((link for link in document.links if link.kind == "beidou"), None)
    terminal = Terminal(radio.dialect, radio.address) if radio is not None else None
    with contextlib.ExitStack() as stack:
        beacon = None
        if radio is not None and terminal is not None:
            key = KEY_FILE.read_bytes().strip() if KEY_FILE.exists() else b""
            beacon = Beacon(radio, key=key)
            thread = threading.Thread(target=keep_terminal, args=(terminal, Path(radio.device), stop))
            thread.start()
            stack.callback(thread.join)
            stack.callback(stop.set)
        Uplink(document, terminal=terminal, beacon=beacon, state=state).run(stop, tell)


def tell(line: str) -> None:
    """Say what changed, for the journal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def show(state: Path) -> None:
    """Print what the service has chosen, and why. Raises TargetError if there is no service."""
    try:
        found = json.loads(state.read_text())
    except (OSError, ValueError) as error:
        raise TargetError(f"{state}: the uplink does not run here", hint="systemctl status cumulet-uplink") from error
    for name, link in found["classes"].items():
        others = "; ".join(f"{other} {reason}" for other, reason in found["reasons"][name].items())
        sys.stdout.write(f"{name:<8} {link or 'none':<10} {others}\n")


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit code is that of the error."""
    parser = argparse.ArgumentParser("cumulet.uplink", description="Which link carries what.")
    parser.add_argument("verb", choices=["run", "show"], nargs="?", default="show")
    parser.add_argument("--file", type=Path, default=FILE, help="the document [default: %(default)s]")
    parser.add_argument("--state", type=Path, default=STATE_FILE, help="where it is published [default: %(default)s]")
    given = parser.parse_args(words)
    try:
        run(given.file, given.state) if given.verb == "run" else show(given.state)
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
