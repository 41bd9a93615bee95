"""`python3 -m cumulet.spool`: one tier's results, taken in and sent up, until SIGTERM; or how they are."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from cumulet.core.errors import CumuletError, UsageError
from cumulet.core.lifetime import run_until_told
from cumulet.spool.look import FOLDER, look_at
from cumulet.spool.node import Gather, NodeSettings, run_node


def make_parser() -> argparse.ArgumentParser:
    """The words that it understands."""
    parser = argparse.ArgumentParser("cumulet.spool", description="Results of a tier: taken in, kept, sent up.")
    parser.add_argument("verb", choices=["run", "show"])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="[%(default)s]")
    parser.add_argument("--file", type=Path, help="spool.yaml, in place of all other words of `run`")
    parser.add_argument("--name", default="", help="the cluster's name")
    parser.add_argument("--listen", default="127.0.0.1", help="address of the entry [%(default)s]")
    parser.add_argument("--port", type=int, default=8444, help="its port; 0: nothing comes from below [%(default)s]")
    parser.add_argument("--budget", type=int, default=1024, metavar="MIB", help="room on disk, twice [%(default)s]")
    parser.add_argument("--up", action="append", default=[], metavar="URL", help="the tier above; several: in order")
    parser.add_argument("--authority", type=Path, help="certificates of this authority are let in, and checked")
    parser.add_argument("--certificate", type=Path, help="of this tier")
    parser.add_argument("--key", type=Path, help="of this tier")
    parser.add_argument("--trusted", action="append", default=[], metavar="NAME", help="a hub below; may be repeated")
    parser.add_argument("--up-authority", type=Path, metavar="FILE", help="of the tier above, if it has another one")
    parser.add_argument("--up-certificate", type=Path, metavar="FILE", help="shown to the tier above, if another one")
    parser.add_argument("--up-key", type=Path, metavar="FILE", help="of that certificate")
    parser.add_argument("--reader", action="append", default=[], metavar="NAME", help="who may fetch what has arrived")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="what tasks leave there goes up")
    parser.add_argument("--node", default="", help="this device's name, for what it collects")
    parser.add_argument("--mark", type=int, default=0, help="firewall mark of what goes up: 7103 with cumulet.uplink")
    parser.add_argument("--reports", type=Path, help="folder of the recorder's reports, which go up as well")
    return parser


def make_settings(given: argparse.Namespace) -> tuple[NodeSettings, Path | None]:
    """What a command line says, or the document that it names: settings, folder of reports. Raises UsageError."""
    if given.file is not None:
        from cumulet.spool.document import load_spool  # noqa: PLC0415  (reads documents, slow to import)

        return load_spool(given.file)
    if not given.name:
        raise UsageError("which cluster is this?", hint="--name NAME")
    words = {each.name: getattr(given, each.name) for each in fields(NodeSettings) if hasattr(given, each.name)}
    words |= {"budget": given.budget << 20, "up": tuple(given.up), "trusted": frozenset(given.trusted)}
    words["readers"] = frozenset(given.reader)
    return NodeSettings(**words), given.reports


def make_gather(folder: Path | None) -> Gather:
    """What brings the reports of a folder; nothing without one."""
    if folder is None:
        return lambda take: 0
    from cumulet.monitor import Reports  # noqa: PLC0415  (slow to import)

    return Reports(folder).hand_on


async def serve(settings: NodeSettings, reports: Path | None) -> None:
    """Run until SIGTERM or SIGINT. Raises CumuletError."""
    from cumulet.uplink import is_open  # noqa: PLC0415  (reads documents, which the show has no use for)

    await run_until_told(run_node(settings, is_open, make_gather(reports)))


def show(folder: Path) -> dict[str, int]:
    """What waits in a tier's folder: entries and bytes."""
    found = asdict(look_at(folder))
    return {name: found[name] for name in ("waiting", "waiting_bytes", "arrived", "broken")}


def main(words: Sequence[str] | None = None) -> int:
    """Do what the words say; the exit code is that of the error."""
    given = make_parser().parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        if given.verb == "show":
            sys.stdout.write(json.dumps(show(given.folder)) + "\n")
        else:
            asyncio.run(serve(*make_settings(given)))
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
