"""Secure Boot: firmware that knows a certificate starts the image that its key has signed, and no other one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from disks import find_partition

from cumulet.core.deadline import Deadline
from cumulet_qemu.machine import Options
from cumulet_qemu.nodefile import make_document
from cumulet_qemu.published import Published, load_published
from cumulet_qemu.vm import VirtualMachine

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1800)]
SECONDS = 900.0
# Debian's firmware for tests: variables that know just this key, whose password is published with it.
VARIABLES = "/usr/share/AAVMF/AAVMF_VARS.snakeoil.fd"
KEY, CERTIFICATE = (f"/usr/share/qemu-efi-aarch64/PkKek-1-snakeoil.{kind}" for kind in ("key", "pem"))
PASSWORD = b"snakeoil"
STATE = "tail -c 1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c | od -An -tu1"


def strict(image: Path) -> Published:
    """The image on a machine whose firmware checks signatures."""
    found = load_published(image)
    qemu = replace(found.qemu, firmware=("/usr/share/AAVMF/AAVMF_CODE.fd",), firmware_vars=(VARIABLES,))
    return replace(found, qemu=qemu)


@pytest.fixture
def signed(build: Callable[..., Path], tmp_path: Path, need_file: Callable[[str], Path]) -> Path:
    """The smallest image for ARM, proved and signed."""
    need_file(VARIABLES)
    key = load_pem_private_key(Path(KEY).read_bytes(), PASSWORD)
    path = tmp_path / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings = ["image=base-signed", "disk.verity=true"]
    settings += [f"secure_boot.key={path}", f"secure_boot.certificate={CERTIFICATE}"]
    return build("base-arm64", "base-signed", *(word for each in settings for word in ("--set", each)))


def test_firmware_that_knows_the_certificate_starts_what_is_signed(
    signed: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    published = strict(signed)
    options = Options(firmware=True, node=make_document(published, []))
    with VirtualMachine(published, options) as vm:
        vm.wait_state("running", Deadline.after(SECONDS))
        shell = vm.open_shell(Deadline.after(SECONDS))
        assert shell.check_run(STATE, Deadline.after(60)).strip() == "1"
        # The command line that was signed, with the root's hash in it.
        line = shell.check_run("cat /proc/cmdline", Deadline.after(60))
        assert published.command_line.strip() in line
        assert shell.check_run("dmsetup table root", Deadline.after(60)).split()[2] == "verity"
    # Another program than ours and the firmware finds the same, for boot loader and kernel.
    start = find_partition(published.file("disk.img"), "esp")
    for path in ("/EFI/BOOT/BOOTAA64.EFI", "/root-a/linux.efi"):
        file = tmp_path / Path(path).name
        words = [need("mcopy"), "-n", "-i", f"{published.file('disk.img')}@@{start}", f"::{path}", str(file)]
        subprocess.run(words, check=True)
        verify = [need("sbverify"), "--cert", CERTIFICATE, str(file)]
        assert subprocess.run(verify, check=False).returncode == 0


def test_it_starts_nothing_that_is_not_signed(build: Callable[..., Path], need_file: Callable[[str], Path]) -> None:
    need_file(VARIABLES)
    published = strict(build("base-arm64", "base-arm64"))
    with VirtualMachine(published, Options(firmware=True)) as vm:
        assert vm.wait_line(re.compile("Access Denied|Security Violation"), "the refusal", Deadline.after(SECONDS))
