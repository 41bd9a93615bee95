"""The root file system as one tar archive, compressed with zstd."""

from __future__ import annotations

from pathlib import Path

from cumulet_builder.formats.inputs import Bench, DiskInputs

TOOL_PACKAGES = ("zstd",)
NAME = "root.tar.zst"
LEVEL = "-6"


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `root.tar.zst`."""
    compress(inputs.root_tree, bench.folder / NAME, bench)


def compress(source: Path, target: Path, bench: Bench) -> None:
    """Compress a file; the bytes do not depend on the number of processors."""
    bench.toolbox.run(
        ["zstd", "-q", LEVEL, "-T0", source, "-o", target], folders=[target.parent, source.parent], log=bench.log
    )
