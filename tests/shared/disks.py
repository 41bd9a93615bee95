"""What the boot tests look up on a finished disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path


def find_partition(disk: Path, name: str) -> int:
    """Where the partition of this name begins, in bytes."""
    table = json.loads(subprocess.run(["sfdisk", "--json", disk], capture_output=True, text=True, check=True).stdout)
    start = next(each["start"] for each in table["partitiontable"]["partitions"] if each.get("name") == name)
    return int(start) * 512
