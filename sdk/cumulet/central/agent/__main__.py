"""`python3 -m cumulet.central.agent run|status|key [agent.yaml]`: the agent on a device that has the SDK only."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from cumulet.central.agent.config import DEFAULT, load_config
from cumulet.central.agent.process import run_agent
from cumulet.central.agent.vault import Vault
from cumulet.core.errors import CumuletError, UsageError
from cumulet.core.lifetime import run_until_told


def run(path: Path) -> None:
    """Work until SIGTERM or SIGINT."""
    config = load_config(path)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(run_until_told(run_agent(config)))


def status(path: Path) -> None:
    """How the agent is, as JSON. Raises UsageError if it has never run."""
    config = load_config(path)
    found = Vault(config.state).load_status()
    if found is None:
        raise UsageError(f"{config.state}: no agent has run here", hint="cumulet agent run")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def key(path: Path) -> None:
    """The fingerprint of the device's key, which is made if there is none."""
    sys.stdout.write(asyncio.run(Vault(load_config(path).state).get_key()) + "\n")


VERBS = {"run": run, "status": status, "key": key}


def main() -> int:
    """Do what the command line says; the exit code is that of the error."""
    words = sys.argv[1:]
    try:
        if not words or words[0] not in VERBS or len(words) > 2:
            raise UsageError(f"which of {', '.join(VERBS)}?", hint="python3 -m cumulet.central.agent run [agent.yaml]")
        VERBS[words[0]](Path(words[1]) if len(words) > 1 else DEFAULT)
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
