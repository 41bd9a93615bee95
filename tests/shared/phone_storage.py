"""A phone's storage for QEMU: partitions in sectors of 4 KiB, one of them with an image's disk in it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cumulet_builder.cache import default_root
from cumulet_builder.formats.disk import copy_ranges
from cumulet_builder.report.collect import probe_stored
from cumulet_builder.toolbox import Toolbox

SECTOR = 4096
MIB = 1 << 20
# Of every partition but the last one, userdata, which is larger than the image that was written over it.
SIZE = 64 * MIB
USERDATA = 4096 * MIB


def put_into_userdata(folder: Path, target: Path, others: Mapping[str, Path]) -> None:
    """A folder as `folder`, whose disk is a storage with the image's disk in the partition userdata.

    `others` are the partitions before it, by name, with the file that is written into each.
    """
    shutil.copytree(folder, target, copy_function=os.link)
    storage, disk = target / "storage.img", folder / "disk.img"
    places = {name: MIB + SIZE * index for index, name in enumerate([*others, "userdata"])}
    storage.touch()
    os.truncate(storage, places["userdata"] + USERDATA + MIB)
    script = "label: gpt\n" + "".join(
        f'start={start // SECTOR}, size={(USERDATA if name == "userdata" else SIZE) // SECTOR}, name="{name}"\n'
        for name, start in places.items()
    )
    key = json.loads((folder / "build.json").read_text())["stages"]["tools"]
    tools = Toolbox(default_root() / "stages/tools" / key / "tree")
    words = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--sector-size", str(SECTOR), storage]
    tools.run(words, folders=[target], input=script)
    with storage.open("r+b") as stream:
        for name, path in others.items():
            copy_ranges(path, stream.fileno(), places[name], [(0, path.stat().st_size)])
        copy_ranges(disk, stream.fileno(), places["userdata"], probe_stored(disk))
    # QEMU makes the disk longer again; the checks hold its growth against the size of the published file.
    os.truncate(storage, places["userdata"] + disk.stat().st_size)
    (target / "disk.img").unlink()
    storage.rename(target / "disk.img")


def make_fat(path: Path, files: Mapping[str, bytes]) -> Path:
    """A FAT file system of 16 MiB in sectors of 4 KiB; a name that ends with a slash is an empty folder."""
    path.touch()
    os.truncate(path, 16 * MIB)
    _told("mkfs.vfat", "-S", str(SECTOR), str(path))
    folders = {str(parent) for name in files for parent in Path(name).parents} | {
        n.rstrip("/") for n in files if n[-1] == "/"
    }
    for folder in sorted(folders - {"."}):
        _told("mmd", "-i", str(path), f"::{folder}")
    for name, data in files.items():
        if name[-1] != "/":
            source = path.with_suffix(".part")
            source.write_bytes(data)
            _told("mcopy", "-i", str(path), str(source), f"::{name}")
    return path


def make_split(name: str) -> dict[str, bytes]:
    """A firmware file as Qualcomm's phones hold it: headers in NAME.mdt, each segment in a file of its own."""
    data = b"segment!" * 64
    hashes = struct.pack("<8I", 0, 0, 0, 0, 52 + 64, 0, 7 << 24, 0)
    code = struct.pack("<8I", 1, 0x1000, 0x8000, 0x8000, len(data), len(data), 7, 4096)
    start = b"\x7fELF\1\1\1" + b"\0" * 9 + struct.pack("<2H5I6H", 2, 164, 1, 0x8000, 52, 0, 0, 52, 32, 2, 0, 0, 0)
    head = start + hashes + code
    return {f"{name}.mdt": head, f"{name}.b00": head, f"{name}.b01": data}


def _told(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
