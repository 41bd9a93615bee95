"""The files of one run: a disk on top of the image's own, UEFI variables, the node document, sockets, logs.

The published image is only read. Without a folder to keep, everything is in a
temporary folder that goes away with the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core import files, proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_qemu.machine import Firmware, Options, Wiring, make_candidates, make_disk_size
from cumulet_qemu.published import Published

EMULATORS = {"arm64": "qemu-system-arm", "amd64": "qemu-system-x86"}
FIRMWARE = {"arm64": "qemu-efi-aarch64", "amd64": "ovmf"}
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
KVM = Path("/dev/kvm")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a run's files are: `wiring` names them, `logs` is where its transcripts go."""

    folder: Path
    logs: Path
    wiring: Wiring


def problems(published: Published, options: Options) -> list[ToolError]:
    """What this computer lacks to run the image, each with the command that helps."""
    found = []
    package = EMULATORS[published.architecture]
    for program, home in ((published.qemu.program, package), ("qemu-img", "qemu-utils")):
        if proc.find(program) is None:
            found.append(ToolError(f"{program}: no QEMU on this computer", hint=f"apt-get install {home}"))
    if options.firmware and probe_firmware(published) is None:
        tried = ", ".join(published.qemu.firmware) or "none named by the board"
        hint = f"apt-get install {FIRMWARE[published.architecture]}"
        found.append(ToolError(f"{published.board}: no UEFI firmware on this computer (tried {tried})", hint=hint))
    if options.accel == "kvm" and not have_kvm(published):
        message = f"{KVM}: cannot run {published.architecture} code on this computer"
        found.append(ToolError(message, hint="--accel tcg"))
    return found


def probe_firmware(published: Published) -> tuple[Path, Path] | None:
    """The first of the board's UEFI code files that is here with its variable template, or None."""
    pairs = make_candidates(published.qemu.firmware, published.qemu.firmware_vars)
    return next((pair for pair in pairs if pair[0].is_file() and pair[1].is_file()), None)


def have_kvm(published: Published) -> bool:
    """Whether KVM could run this image: same architecture, and the device may be opened."""
    return os.uname().machine == MACHINES[published.architecture] and os.access(KVM, os.R_OK | os.W_OK)


@contextlib.contextmanager
def open_run(published: Published, options: Options, logs: Path | None = None) -> Iterator[RunFolder]:
    """Prepare the files of a run; temporary ones are removed at the end.

    Raises ToolError if this computer lacks something, UsageError if the kept
    folder belongs to another image.
    """
    for problem in problems(published, options):
        raise problem
    # Sockets have paths of at most 107 bytes, so they are never below a folder that the user names.
    folder = Path(tempfile.mkdtemp(prefix="cumulet-vm-"))
    try:
        with contextlib.ExitStack() as stack:
            home = folder
            if options.keep is not None:
                home = options.keep.resolve()
                stack.enter_context(files.locked(home / "lock", f"{home}: the kept machine"))
                _check_base(home, published)
            wiring = _make_files(folder, home, published, options)
            log_folder = logs or home
            log_folder.mkdir(parents=True, exist_ok=True)
            yield RunFolder(folder, log_folder, wiring)
    except OSError as error:
        files.raise_os_error(error, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def probe_free_port() -> int:
    """A TCP port on this computer that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_files(folder: Path, home: Path, published: Published, options: Options) -> Wiring:
    firmware = probe_firmware(published) if options.firmware else None
    wants_pin = published.modem is not None and bool(published.modem.pin) and "modem" in published.simulated
    return Wiring(
        qmp=folder / "qmp.sock",
        console=folder / "console.sock",
        shell=folder / "shell.sock",
        disk=_make_disk(home, published, options),
        ssh_port=options.ssh_port or probe_free_port(),
        node=_write_private(folder / "node.yaml", options.node),
        firmware=Firmware(firmware[0], _copy_variables(home, firmware[1])) if firmware else None,
        ports={name: folder / f"{name}.sock" for name in published.simulated},
        modem_pin=_write_private(folder / "modem-pin", options.modem_pin if wants_pin else None),
    )


def _write_private(path: Path, text: str | None) -> Path | None:
    """A file of the run that only its user may read; none without a text."""
    if text is None:
        return None
    path.touch(0o600)
    path.write_text(text)
    return path


def _make_disk(home: Path, published: Published, options: Options) -> Path:
    """The disk of this run; made anew unless the folder has one, which may only grow."""
    disk, image = home / "disk.qcow2", published.file("disk.img")
    if not disk.exists():
        size = make_disk_size(image.stat().st_size, options)
        partial = disk.with_suffix(".part")
        proc.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, partial, str(size)])
        partial.replace(disk)
    elif options.disk_size is not None:
        proc.run(["qemu-img", "resize", "-q", disk, str(options.disk_size)])
    return disk


def _copy_variables(home: Path, template: Path) -> Path:
    variables = home / "variables.fd"
    if not variables.exists():
        with files.writing(variables) as stream:
            stream.write(template.read_bytes())
    return variables


def _check_base(home: Path, published: Published) -> None:
    """A kept disk stores only what changed, so it is worth nothing on top of another image."""
    record, digest = home / "base.json", probe_disk_digest(published)
    if not record.exists():
        files.write_text(record, json.dumps({"version": 1, "image": published.image, "disk_sha256": digest}))
        return
    known = json.loads(record.read_text())
    if known.get("disk_sha256") != digest:
        raise UsageError(
            f"{home}: was made from another build of image '{known.get('image')}' than {published.folder}",
            hint=f"name another folder: --keep, or start over: rm -r {home}",
        )


def probe_disk_digest(published: Published) -> str:
    """SHA-256 of the disk as the build recorded it, or computed if there is no record."""
    record = published.file("sha256sums")
    for line in record.read_text().splitlines() if record.is_file() else []:
        digest, _, name = line.partition(" ")
        if name.strip().lstrip("*") == "disk.img":
            return digest
    return files.sha256_file(published.file("disk.img"))
