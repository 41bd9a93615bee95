"""The command `cumulet` of the build tool: its table of commands, and those of the SDK."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from cumulet import __version__
from cumulet.cli import SDK_COMMANDS, Entry, LazyGroup, Program, run_program

# Nothing here is imported before it is called, so that --help is fast.
COMMANDS = {
    "build": Entry("cumulet_builder.commands.build:build", "Build the image of a recipe."),
    "plan": Entry("cumulet_builder.commands.build:plan", "Show which stages a build would run, and why."),
    "lock": Entry("cumulet_builder.commands.build:lock", "Write a lock, so that every later build is identical."),
    "vendor": Entry("cumulet_builder.commands.build:vendor", "Keep everything that a lock names in a local store."),
    "boot": Entry("cumulet_builder.commands.boot:command", "Start an image in QEMU."),
    "test": Entry("cumulet_builder.commands.test:command", "Boot an image in QEMU and check what its recipe promises."),
    "flash": Entry("cumulet_builder.commands.flash:command", "Write an image to a device, checked before and after."),
    **SDK_COMMANDS,
    "lab": Entry("cumulet_builder.commands.lab:lab", "Nodes as system containers on this computer."),
    "hub": Entry("cumulet_builder.commands.hub:hub", "The place that sites register at."),
    "agent": Entry("cumulet_builder.commands.agent:agent", "What a cluster runs to be under a hub."),
    "deploy": Entry("cumulet_builder.commands.deploy:deploy", "Tasks from the centre to its sites, and their results."),
    "container": Entry("cumulet_builder.commands.container:container", "Container images of the AI runtimes."),
    "package": Entry("cumulet_builder.commands.package:package", "Publish packages for sites, signed."),
    "show": Entry("cumulet_builder.commands.show:command", "Print a recipe with everything merged and filled in."),
    "why": Entry("cumulet_builder.commands.why:command", "Tell why a file, package or kernel module is in an image."),
    "kas": Entry("cumulet_builder.commands.kas:command", "Print the kas document of a recipe, for Yocto."),
    "parity": Entry("cumulet_builder.commands.parity:command", "Tell which engine builds which feature."),
    "new": Entry("cumulet_builder.commands.new:command", "Start a recipe of your own."),
    "boards": Entry("cumulet_builder.commands.boards:boards", "List the boards, and what is known about them."),
    "board": Entry("cumulet_builder.commands.boards:board", "Look at one board."),
    "recipes": Entry("cumulet_builder.commands.recipes:command", "List bundled boards, images and features."),
    "doctor": Entry("cumulet_builder.commands.doctor:command", "Tell what this computer lacks, and what fixes it."),
    "pin": Entry("cumulet_builder.commands.pin:pin", "Write the checksums of a release of k3s into its pin."),
    "schema": Entry("cumulet_builder.commands.schema:command", "Print the JSON Schema of recipe files, for editors."),
}


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="cumulet %(version)s")
def cumulet() -> None:
    """Build, check and boot Linux images for phone-class boards.

    Start with: cumulet build qemu-arm64
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return run_program(Program(cumulet, COMMANDS, _find_logs), argv)


def _find_logs() -> Path:
    from cumulet_builder.cache import default_root  # noqa: PLC0415  (--help has no use for it)

    return default_root() / "logs"


if __name__ == "__main__":
    sys.exit(main())
