"""Boards' own kernel, initramfs and root in QEMU.

A phone's disk lies inside a partition of a storage with large sectors; a board's is started by U-Boot. What their chips
do is not proved by it; that the way from there to a running system is whole, is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from phone_storage import make_fat, make_split, put_into_userdata

pytestmark = [pytest.mark.boot, pytest.mark.timeout(3600)]
MIB = 1 << 20
Build = Callable[..., Path]
Run = Callable[..., str]
Need = Callable[[str], Path]


def test_a_phones_root_boots_out_of_the_partition_userdata(build: Build, cumulet: Run, tmp_path: Path) -> None:
    folder = build("base-phone", "base-phone")
    boot = folder / "boot.img"
    put_into_userdata(folder, tmp_path / "phone", {"boot_a": boot, "boot_b": boot})
    cumulet("test", tmp_path / "phone", "--junit", tmp_path / "junit.xml", "--logs", tmp_path / "logs")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) >= 20
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["0", "0", "0"]
    console = (tmp_path / "logs/console.log").read_text(errors="replace")
    assert "cumulet: root mounted" in console
    assert "NOTHING IS KEPT" not in console


TRY = """version: 1
image: base-firmware
board: oneplus-enchilada
features: [base]
enable: [try-firmware.service]
files:
  - path: /usr/lib/systemd/system/try-firmware.service
    content: |
      [Service]
      Type=oneshot
      ExecStartPre=/usr/bin/udevadm settle
      ExecStartPre=/usr/sbin/modprobe vfat
      ExecStartPre=/usr/bin/mkdir -p /data/firmware /var/lib/droid-juicer
      ExecStart=/usr/bin/droid-juicer -d oneplus,enchilada
      ExecStartPost=/bin/sh -c 'cd /lib/firmware/updates && find . -type f -printf "taken %%P\\n" > /dev/ttyAMA0'
"""
JSON = ("adspr", "adspua", "cdspr", "modemr", "modemuw", "slpir", "slpius")


def make_partitions(folder: Path) -> dict[str, Path]:
    """What an OnePlus 6 has of its maker, with content of ours."""
    split = {name: make_split(name) for name in ("adsp", "cdsp", "modem", "slpi", "venus", "a630_zap", "ipa_fws")}
    modem = {"mba.mbn": b"mba", "wlanmdsp.mbn": b"wlan"} | {f"{name}.jsn": b"{}" for name in JSON}
    for name in ("adsp", "cdsp", "modem", "slpi", "venus"):
        modem |= split[name]
    content = {
        "vendor_a": {f"firmware/{name}": data for name, data in (split["a630_zap"] | split["ipa_fws"]).items()}
        | dict.fromkeys(("dsp/", "etc/acdbdata/", "etc/sensors/"), b""),
        "modem_a": {f"image/{name}": data for name, data in modem.items()},
        "bluetooth_a": {"image/crnv21.bin": b"nv", "image/crbtfw21.tlv": b"tlv"},
        "dsp_a": dict.fromkeys(("adsp/", "cdsp/", "sdsp/"), b""),
        "persist": {"sensors/registry/registry/": b""},
    }
    return {name: make_fat(folder / f"{name}.img", files) for name, files in content.items()}


def test_firmware_is_taken_from_the_phones_own_partitions(
    cumulet: Run, out: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    """What the build says will be taken is what droid-juicer takes, into the data partition of a read-only system."""
    need("mkfs.vfat")
    (tmp_path / "r.yaml").write_text(TRY)
    cumulet("build", tmp_path / "r.yaml", "--out", out)
    put_into_userdata(out / "base-firmware", tmp_path / "phone", make_partitions(tmp_path))
    cumulet("boot", tmp_path / "phone", "--until", "running", "--logs", tmp_path / "logs")
    console = (tmp_path / "logs/console.log").read_text(errors="replace")
    taken = set(re.findall(r"taken (\S+)", console))
    found = json.loads((out / "base-firmware/hardware.json").read_text())["firmware"]
    promised = {each["name"] for each in found if each["state"] == "from the board"}
    assert len(promised) >= 9
    assert promised <= taken


def test_u_boot_starts_a_board_by_its_menu(cumulet: Run, out: Path, tmp_path: Path, need_file: Need) -> None:
    """U-Boot for QEMU stands in for the PinePhone's: it finds the partition, reads the menu, loads what that names."""
    u_boot = need_file("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
    code, store = tmp_path / "code.bin", tmp_path / "store.bin"
    shutil.copyfile(u_boot, code)
    store.touch()
    for path in (code, store):
        os.truncate(path, 64 * MIB)  # as large as the flash of QEMU's machine
    changes = (
        *("board=pinephone", "image=base-u-boot", "board.kernel.command_line=[console=ttyAMA0]"),
        *(f"board.qemu.firmware=[{code}]", f"board.qemu.firmware_vars=[{store}]"),
    )
    cumulet("build", "base-phone", "--out", out, *(word for change in changes for word in ("--set", change)))
    cumulet("boot", "base-u-boot", "--firmware", "--until", "running", "--out", out, "--logs", tmp_path / "logs")
    console = (tmp_path / "logs/console.log").read_text(errors="replace")
    assert "U-Boot" in console
    assert "Found /extlinux/extlinux.conf" in console
    assert "cumulet: root mounted" in console
