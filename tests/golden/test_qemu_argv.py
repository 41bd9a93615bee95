"""QEMU's command line for every way to boot, compared with files that a person has read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cumulet_qemu.machine import Firmware, Options, Wiring, make_argv
from cumulet_qemu.published import Published, make_published

DATA = Path(__file__).parent / "test_qemu_data"
RUN = Path("/run/vm")
WIRING = Wiring(
    qmp=RUN / "qmp.sock",
    console=RUN / "console.sock",
    shell=RUN / "shell.sock",
    disk=RUN / "disk.qcow2",
    ssh_port=40022,
)
ARM64 = {
    "program": "qemu-system-aarch64",
    "machine": "virt,gic-version=3",
    "cpu": "cortex-a72",
    "memory": "3GiB",
    "cpus": 2,
    "console": "ttyAMA0",
    "disk": ["virtio-blk-pci,drive=disk"],
    "network": ["virtio-net-pci,netdev=net"],
    "devices": ["virtio-rng-pci"],
    "firmware": ["/usr/share/AAVMF/AAVMF_CODE.fd"],
    "firmware_vars": ["/usr/share/AAVMF/AAVMF_VARS.fd"],
}
AMD64 = {**ARM64, "program": "qemu-system-x86_64", "machine": "q35", "cpu": "max", "console": "ttyS0"}


def make_image(architecture: str) -> Published:
    qemu = ARM64 if architecture == "arm64" else AMD64
    board = {"version": 1, "board": f"qemu-{architecture}", "architecture": architecture, "qemu": qemu}
    folder = Path("/out") / f"qemu-{architecture}"
    return make_published(folder, board, {"image": folder.name, "test": ["base"]}, "root=PARTLABEL=root-a quiet")


NODE = replace(WIRING, node=RUN / "node.yaml")
UEFI = replace(WIRING, firmware=Firmware(Path("/usr/share/AAVMF/AAVMF_CODE.fd"), RUN / "variables.fd"))
CASES = {
    "arm64-direct": ("arm64", Options(node="version: 1"), NODE),
    "arm64-firmware": ("arm64", Options(firmware=True, memory=1 << 30, cpus=4), UEFI),
    "amd64-direct": ("amd64", Options(arguments=("debug",)), WIRING),
    "amd64-kvm-kept": ("amd64", Options(accel="kvm", keep=Path("/keep"), shell=False), WIRING),
}


def make_text(argv: list[str]) -> str:
    """One option with its value per line."""
    return " ".join(argv).replace(" -", "\n-") + "\n"


@pytest.mark.parametrize("name", CASES)
def test_command_line(name: str) -> None:
    architecture, options, wiring = CASES[name]
    assert make_text(make_argv(make_image(architecture), options, wiring)) == (DATA / f"{name}.txt").read_text()


def test_machine_starts_paused_and_takes_nothing_from_the_user() -> None:
    argv = make_argv(make_image("arm64"), Options(), WIRING)
    assert {"-S", "-nodefaults", "-no-user-config"} <= set(argv)


def test_comma_in_a_path_is_not_an_option() -> None:
    wiring = replace(WIRING, disk=Path("/a,b/disk.qcow2"))
    argv = make_argv(make_image("arm64"), Options(), wiring)
    assert any(word.endswith("file=/a,,b/disk.qcow2") for word in argv)
