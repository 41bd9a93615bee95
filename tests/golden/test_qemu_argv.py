"""QEMU's command line for every way to boot, compared with files that a person has read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_qemu.machine import DEFAULT_PIN, Firmware, Options, Wiring, choose_pin, make_argv
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
PORTS = {"modem": "pci-serial,chardev=modem,addr=0x10", "gnss": "pci-serial,chardev=gnss,addr=0x11"}
AMD64 = {**ARM64, "program": "qemu-system-x86_64", "machine": "q35", "cpu": "max", "console": "ttyS0"}


def make_image(architecture: str, **more: object) -> Published:
    qemu = {**(ARM64 if architecture == "arm64" else AMD64), "ports": PORTS}
    board = {"version": 1, "board": f"qemu-{architecture}", "architecture": architecture, "qemu": qemu}
    folder = Path("/out") / f"qemu-{architecture}"
    return make_published(
        folder, board, {"image": folder.name, "test": ["base"], **more}, "root=PARTLABEL=root-a quiet"
    )


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


def test_only_what_an_image_uses_is_simulated() -> None:
    image = make_image("arm64", modem={"apn": "cmnet", "pin": {"from": "env"}}, gnss=None)
    assert image.simulated == ("modem",)
    assert make_image("arm64").simulated == ()
    wiring = replace(WIRING, ports={"modem": RUN / "modem.sock"}, modem_pin=RUN / "modem-pin")
    text = make_text(make_argv(image, Options(), wiring))
    assert "-chardev socket,id=modem,server=on,wait=off,path=/run/vm/modem.sock\n" in text
    assert f"-device {PORTS['modem']}\n" in text
    # The PIN is in a file that only its owner may read, not among the words that everybody sees.
    assert "-fw_cfg name=opt/cumulet/modem-pin,file=/run/vm/modem-pin\n" in text
    assert Options().modem_pin not in text


@pytest.mark.parametrize(
    ("pin", "place"),
    [
        ({"from": "env", "name": None}, "CUMULET_MODEM_PIN"),
        ({"from": "env", "name": "SIM"}, "SIM"),
        ({"from": "file", "path": None}, "/etc/cumulet/modem.pin"),
        (None, ""),
    ],
)
def test_the_pin_is_found_by_its_name(pin: object, place: str) -> None:
    image = make_image("arm64", modem={"apn": None, "pin": pin})
    assert image.modem is not None
    assert image.modem.pin == place
    assert choose_pin(image, {"SIM": "2580"}) == ("2580" if place == "SIM" else DEFAULT_PIN)


def test_a_pin_that_is_none_is_refused_without_telling_it() -> None:
    image = make_image("arm64", modem={"apn": None, "pin": {"from": "env"}})
    with pytest.raises(UsageError, match="CUMULET_MODEM_PIN: the PIN of a SIM is four to eight digits") as caught:
        choose_pin(image, {"CUMULET_MODEM_PIN": "12x4"})
    assert "12x4" not in str(caught.value)


def test_machine_starts_paused_and_takes_nothing_from_the_user() -> None:
    argv = make_argv(make_image("arm64"), Options(), WIRING)
    assert {"-S", "-nodefaults", "-no-user-config"} <= set(argv)


def test_comma_in_a_path_is_not_an_option() -> None:
    wiring = replace(WIRING, disk=Path("/a,b/disk.qcow2"))
    argv = make_argv(make_image("arm64"), Options(), wiring)
    assert any(word.endswith("file=/a,,b/disk.qcow2") for word in argv)
