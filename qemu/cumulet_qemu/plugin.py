# ruff: noqa: PLC0415 - every pytest run on this computer loads this file, only boot checks need the rest
"""pytest plugin: a published image as a running machine.

Fixtures: `image` (what was published), `patience` (deadlines), `ssh_key`, `vm`
(the machine, one per session) and `node` (a root shell in it). It is loaded
into every pytest run on a computer where Cumulet is installed, so it imports
nothing heavy until a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cumulet_qemu.guest import Guest, Patience
    from cumulet_qemu.published import Published
    from cumulet_qemu.ssh import Key
    from cumulet_qemu.vm import VirtualMachine

MACHINE: pytest.StashKey[VirtualMachine] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the boot checks; `cumulet test` sets them."""
    group = parser.getgroup("cumulet", "boot checks of a published image")
    group.addoption("--cumulet-image", metavar="DIR", help="published image folder to boot")
    group.addoption("--cumulet-firmware", action="store_true", help="boot through UEFI firmware")
    group.addoption("--cumulet-memory", metavar="SIZE", help="memory of the machine, such as 3GiB")
    group.addoption("--cumulet-cpus", metavar="N", type=int, help="processors of the machine")
    group.addoption("--cumulet-accel", choices=["tcg", "kvm"], default="tcg", help="how code is run")
    group.addoption("--cumulet-logs", metavar="DIR", help="folder for the console transcripts")
    group.addoption("--time-scale", metavar="X", type=float, default=1.0, help="multiplies every deadline")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the console's last lines below a failed check."""
    report = yield
    machine = item.config.stash.get(MACHINE, None)
    if report.failed and machine is not None:
        report.sections.append(("last lines of the boot console", "\n".join(machine.console.tail())))
    return report


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Published:
    """The published image named by --cumulet-image. Without it: skipped, but a failure where CI is set."""
    from cumulet_qemu.published import load_published

    folder: str | None = request.config.getoption("--cumulet-image")
    if folder is None:
        reason = "no image to boot: give --cumulet-image DIR"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return load_published(Path(folder))


@pytest.fixture(scope="session")
def patience(request: pytest.FixtureRequest) -> Patience:
    """Makes deadlines that follow --time-scale."""
    from cumulet_qemu.guest import Patience

    return Patience(request.config.getoption("--time-scale"))


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A key pair made for this session, which the machine is told to let in."""
    from cumulet_qemu.ssh import make_key

    return make_key(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="session")
def vm(
    request: pytest.FixtureRequest, image: Published, ssh_key: Key, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VirtualMachine]:
    """The machine, started once per session on a fresh disk."""
    from cumulet_qemu.machine import Options, choose_pin
    from cumulet_qemu.nodefile import HOSTNAME, make_document
    from cumulet_qemu.published import parse_size
    from cumulet_qemu.vm import VirtualMachine

    config = request.config
    memory: str | None = config.getoption("--cumulet-memory")
    options = Options(
        firmware=config.getoption("--cumulet-firmware"),
        memory=parse_size(memory, "--cumulet-memory") if memory else None,
        cpus=config.getoption("--cumulet-cpus"),
        accel=config.getoption("--cumulet-accel"),
        node=make_document(image, [ssh_key.public], HOSTNAME),
        modem_pin=choose_pin(image, os.environ),
    )
    logs = Path(config.getoption("--cumulet-logs") or tmp_path_factory.mktemp("logs"))
    with VirtualMachine(image, options, logs) as machine:
        config.stash[MACHINE] = machine
        yield machine
        del config.stash[MACHINE]


@pytest.fixture(scope="session")
def node(vm: VirtualMachine, patience: Patience) -> Guest:
    """Commands as root in the machine."""
    from cumulet_qemu.guest import Guest

    return Guest(vm, patience)
