"""The root file system as a plain folder."""

from __future__ import annotations

from cumulet_builder.formats.inputs import Bench, DiskInputs

TOOL_PACKAGES = ("tar",)
NAME = "root"


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Unpack the root into the folder `root`.

    Owners are kept; for an ordinary user they are those of the user's range of ids.
    """
    target = bench.folder / NAME
    target.mkdir()
    bench.toolbox.run(
        ["tar", "-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-f", inputs.root_tree, "-C", target],
        folders=[bench.folder, inputs.root_tree.parent],
        log=bench.log,
    )
