"""UEFI Secure Boot: kernel, initramfs and command line as one signed program, and a signed boot loader.

Firmware that knows the certificate starts nothing else. As the root's hash is part of the command line, all of the
root is proved with it (see `verity`). The signatures carry the image's time, so that the same key makes the same bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.recipe.model import Architecture

TOOL_PACKAGES = ("faketime", "sbsigntool", "systemd-ukify")
# Package file of the program that the others are put behind.
STUBS: dict[Architecture, str] = {
    "arm64": "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
    "amd64": "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
}
EFI_NAMES: dict[Architecture, str] = {"arm64": "aa64", "amd64": "x64"}
NAME = "linux.efi"


@dataclass(frozen=True, slots=True)
class SignedBoot:
    """The content of the two signed programs: the boot loader, and a slot's kernel with all that it is started with."""

    loader: bytes
    linux: bytes


def write_signed(
    inputs: DiskInputs, command_line: str, device_trees: Sequence[tuple[str, bytes]], bench: Bench
) -> SignedBoot:
    """Sign the boot loader and one slot's kernel. Raises UsageError for a key that is not usable."""
    signer = inputs.secure_boot
    if signer is None or bench.formats is None or inputs.stub is None:
        raise ToolError("secure_boot: this engine has no tools for it", hint="engine: debian")
    with tempfile.TemporaryDirectory(prefix=".signed-", dir=bench.folder) as name:
        work = Path(name)
        keys = work / "key.pem", work / "certificate.pem"
        for source, target in zip((signer.key, signer.certificate), keys, strict=True):
            target.touch(mode=0o600)
            target.write_bytes(Path(source).read_bytes())
        (work / "cmdline").write_text(command_line)
        for each in (inputs.kernel, inputs.initramfs, inputs.stub, inputs.boot_loader):
            shutil.copyfile(each, work / each.name)
        trees = [work / "board.dtb"] if len(device_trees) == 1 else []
        for path in trees:
            path.write_bytes(device_trees[0][1])
        bench.formats.run(make_link_arguments(inputs, work, trees), folders=[work], log=bench.log)
        found = []
        for program in (inputs.boot_loader.name, NAME):
            signed = work / f"{program}.signed"
            argv = make_sign_arguments(keys, work / program, signed, inputs.epoch)
            done = bench.formats.run(argv, folders=[work], log=bench.log, check=False)
            if done.code != 0 or not signed.is_file():
                text = (done.err.strip() or "no reason given").splitlines()[-1]
                raise UsageError(
                    f"secure_boot: {signer.key} and {signer.certificate} sign nothing: {text}",
                    hint="a PEM key without a password, and the certificate of just this key",
                )
            found.append(signed.read_bytes())
    return SignedBoot(*found)


def make_link_arguments(inputs: DiskInputs, work: Path, device_trees: Sequence[Path]) -> list[str]:
    """The command that puts the parts behind the stub, all of them in the folder `work`."""
    stub = inputs.stub.name if inputs.stub else ""
    return [
        "python3", "/usr/bin/ukify", "build",
        f"--linux={work / inputs.kernel.name}", f"--initrd={work / inputs.initramfs.name}",
        f"--cmdline=@{work / 'cmdline'}", f"--uname={inputs.version}", f"--stub={work / stub}",
        f'--os-release=ID=cumulet\nVERSION_ID={inputs.version}\nPRETTY_NAME="Cumulet {inputs.image}"\n',
        f"--efi-arch={EFI_NAMES[inputs.architecture]}", *(f"--devicetree={each}" for each in device_trees),
        f"--output={work / NAME}",
    ]  # fmt: skip


def make_sign_arguments(keys: tuple[Path, Path], program: Path, target: Path, epoch: int) -> list[str]:
    """The command that signs a program at the image's time."""
    moment = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%d %H:%M:%S")
    words = ["sbsign", "--key", str(keys[0]), "--cert", str(keys[1]), "--output", str(target), str(program)]
    return ["faketime", "-f", moment, *words]
