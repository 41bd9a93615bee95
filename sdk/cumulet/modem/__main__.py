"""`python3 -m cumulet.modem`: the modem's state as JSON, waiting for a connection, changing settings.

For people on the device; programs use `cumulet.modem` itself.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, UsageError
from cumulet.modem import SETTINGS, Status, open_modem

USAGE = """usage: python3 -m cumulet.modem                  what the modem does now
       python3 -m cumulet.modem wait SECONDS     until it is connected
       python3 -m cumulet.modem set KEY=VALUE... change settings, also for later starts:
"""


def make_answer(status: Status) -> dict[str, Any]:
    """A status for people and programs: names for numbers."""
    plain = dataclasses.asdict(status)
    for name in ("state", "lock", "registration"):
        plain[name] = getattr(status, name).name.lower()
    return {**plain, "connected": status.connected}


def make_usage() -> str:
    """The help, with every setting."""
    return USAGE + "".join(f"         {key:<12} {words}\n" for key, words in SETTINGS.items())


async def run(words: Sequence[str]) -> dict[str, Any]:
    """Do what the words say. Raises UsageError if they say nothing that can be done."""
    async with open_modem() as modem:
        if not words:
            return make_answer(await modem.read())
        if words[0] == "wait" and len(words) == 2 and words[1].isdigit():
            deadline = Deadline.after(float(words[1]))
            return make_answer(await modem.wait(lambda status: status.connected, "connected", deadline))
        pairs = [word.partition("=") for word in words[1:]]
        if words[0] == "set" and pairs and all(equals for _, equals, _ in pairs):
            return dict(await modem.change(**{key: value for key, _, value in pairs}))
    raise UsageError(f"cannot be understood: {' '.join(words)}", hint="python3 -m cumulet.modem --help")


def main(words: Sequence[str]) -> int:
    """The exit code: 0, or that of the error's class."""
    if words[:1] in (["--help"], ["-h"]):
        sys.stdout.write(make_usage())
        return 0
    try:
        sys.stdout.write(json.dumps(asyncio.run(run(words)), indent=1) + "\n")
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
