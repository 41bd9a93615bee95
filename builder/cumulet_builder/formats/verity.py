"""dm-verity: a tree of hashes behind the root file system, whose top stands on the kernel's command line.

Every block that the kernel reads of the root is proved by it. Whoever can trust the command line (a boot image
or boot entry that the boot loader has checked) can trust the whole root. Salt and UUID come from the image's
seed, so that the same root has the same hash.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cumulet.core.errors import ToolError
from cumulet.core.files import sha256_text
from cumulet_builder.toolbox import Toolbox

TOOL_PACKAGES = ("cryptsetup-bin",)
# What opens the root at boot.
PACKAGES = ("dmsetup",)
PROGRAM = "/usr/sbin/dmsetup"
MODULES = ("dm_mod", "dm_verity", "sha256_generic")
RECORD = "verity.json"
BLOCK = 4096
ROOT_HASH = re.compile(r"^Root hash:\s*([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verity:
    """What the kernel must be told: top of the tree, blocks of content (the tree lies behind them), salt."""

    root_hash: str
    blocks: int
    salt: str

    @property
    def word(self) -> str:
        """The word of the kernel's command line that the initramfs reads."""
        return f"cumulet.verity={self.root_hash}:{self.blocks}:{self.salt}"


def make_arguments(image: Path, size: int, salt: str, identifier: str) -> list[str]:
    """The command that writes the tree behind a file system of `size` bytes, into the same file."""
    return [
        "veritysetup", "format", "--hash=sha256", f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}",
        f"--data-blocks={size // BLOCK}", f"--hash-offset={size}", f"--salt={salt}", f"--uuid={identifier}",
        str(image), str(image),
    ]  # fmt: skip


def write_tree(image: Path, seed: str, identifier: str, toolbox: Toolbox, log: IO[str]) -> Verity:
    """Add the tree to a root image, and `verity.json` beside it. Raises ToolError if the image has no whole blocks."""
    size = image.stat().st_size
    if size % BLOCK:
        raise ToolError(f"{image.name}: {size} bytes are not whole blocks of {BLOCK}")
    salt = sha256_text(f"{seed}/verity")[:32]
    result = toolbox.run(make_arguments(image, size, salt, identifier), folders=[image.parent], log=log)
    found = ROOT_HASH.search(result.out)
    if found is None:
        raise ToolError(f"veritysetup: no root hash in what it said: {result.out.strip()[-200:]}")
    verity = Verity(found[1], size // BLOCK, salt)
    image.with_name(RECORD).write_text(json.dumps(asdict(verity), indent=1) + "\n")
    return verity


def load_words(folder: Path) -> tuple[str, ...]:
    """The kernel's words for the root in a stage's folder; none where it has no tree."""
    path = folder / RECORD
    return (Verity(**json.loads(path.read_text())).word,) if path.is_file() else ()
