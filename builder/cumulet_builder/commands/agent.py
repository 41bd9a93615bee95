"""`cumulet agent`: what a cluster runs to be under a hub."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

file_option = click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=Path("/etc/cumulet/agent.yaml"),
    help="The document. [default: /etc/cumulet/agent.yaml]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group("agent")
def agent() -> None:
    """What a cluster runs to be under a hub: it registers, reports, and does what the hub wants.

    \b
    cumulet agent key      the fingerprint that the hub's people compare
    cumulet agent run      run it; a device has it as the service cumulet-agent
    cumulet agent status   how it is
    """


@agent.command()
@file_option
def run(path: Path) -> None:
    """Run the agent until interrupted."""
    from cumulet.central.agent.__main__ import run as run_agent

    run_agent(path)


@agent.command()
@file_option
def key(path: Path) -> None:
    """Print the fingerprint of the device's key, which is made if there is none."""
    import asyncio

    from cumulet.central.agent.config import load_config
    from cumulet.central.agent.vault import Vault

    click.echo(asyncio.run(Vault(load_config(path).state).get_key()))


@agent.command()
@file_option
@json_option
def status(path: Path, as_json: bool) -> None:
    """Show how the agent is. Ends with code 4 if it is not in touch with its hub."""
    from cumulet.central.agent.config import load_config
    from cumulet.central.agent.vault import Vault
    from cumulet.core.errors import TargetError, UsageError

    config = load_config(path)
    found = Vault(config.state).load_status()
    if found is None:
        raise UsageError(f"{config.state}: no agent has run here", hint="cumulet agent run")
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(make_lines(found)))
    if found["state"] != "in touch" or time.time() - found["written"] > 120:
        word = "does not run" if time.time() - found["written"] > 120 else found["state"]
        raise TargetError(f"{found['cluster']}: {word}", hint=found["trouble"])


def make_lines(found: dict[str, Any]) -> list[str]:
    """The status for people."""
    lines = [f"{found['cluster']} under {found['hub']}: {found['state']}, {found['works']} works"]
    if found["certificate_until"]:
        lines.append(f"certificate until {time.strftime('%Y-%m-%d', time.gmtime(found['certificate_until']))}")
    if found["clock_behind"] is not None and abs(found["clock_behind"]) > 60:
        lines.append(f"this device's clock is {found['clock_behind']:.0f} s behind the hub's")
    lines.append(f"{found['sent']} bytes sent, {found['received']} received since the agent began")
    return lines
