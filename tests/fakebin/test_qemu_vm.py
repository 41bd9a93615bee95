"""A machine's life with a stand-in for QEMU on PATH: no emulation, real sockets, real processes."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cumulet.core import files
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet_qemu.machine import Options
from cumulet_qemu.published import Published, load_published
from cumulet_qemu.rundir import open_run, problems
from cumulet_qemu.vm import VirtualMachine

FAKE = Path(__file__).parent / "test_qemu_data" / "qemu"
GUEST_PROGRAMS = ("sh", "cat", "date", "seq")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins that comes first on PATH."""
    folder = tmp_path / "bin"
    (folder / "guest").mkdir(parents=True)
    (folder / "qemu-system-aarch64").write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    for name in GUEST_PROGRAMS:
        (folder / "guest" / name).symlink_to(str(shutil.which(name)))
    script = '#!/bin/sh\necho "$*" >> "$0.log"\nfor word; do case "$word" in *disk.part) : > "$word";; esac; done\n'
    (folder / "qemu-img").write_text(script)
    for program in folder.glob("qemu*"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def published(tmp_path: Path) -> Published:
    """A published folder with files of one line."""
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    qemu = {"program": "qemu-system-aarch64", "machine": "virt", "cpu": "cortex-a72", "console": "ttyAMA0"}
    board = {"version": 1, "board": "qemu-arm64", "architecture": "arm64", "qemu": qemu}
    cluster = {"distribution": "kubeadm", "version": "v1.36.3", "addons": ["coredns"]}
    image = {"version": 1, "image": "tiny", "test": ["base"], "ssh": True, "kubernetes": cluster}
    (folder / "board.json").write_text(json.dumps(board))
    (folder / "image.json").write_text(json.dumps(image))
    for name in ("disk.img", "vmlinuz", "initrd.img"):
        (folder / name).write_text(name)
    (folder / "cmdline.txt").write_text("root=PARTLABEL=root-a\n")
    return load_published(folder)


@pytest.fixture
def soon() -> Deadline:
    """Long enough for everything that a stand-in does."""
    return Deadline.after(20)


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run folders are made in a folder of the test, which must be empty in the end."""
    folder = Path(os.path.realpath("/tmp")) / f"cumulet-{os.getpid()}"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


@pytest.mark.usefixtures("programs")
def test_guest_reports_its_uptimes(published: Published, soon: Deadline, tmp_path: Path) -> None:
    with VirtualMachine(published, Options(), tmp_path / "logs") as vm:
        assert vm.wait_state("running", soon) == 12.5
        assert vm.wait_state("ready", soon) == 34.25
        assert vm.uptime("running") == 12.5
    assert not vm.alive
    lines = (tmp_path / "logs" / "console.log").read_text().splitlines()
    assert [line.partition("] ")[2] for line in lines][:2] == ["Linux starts", "cumulet: running 12.5"]


@pytest.mark.usefixtures("programs")
def test_shell_tells_output_and_exit_code_apart(published: Published, soon: Deadline) -> None:
    with VirtualMachine(published, Options()) as vm:
        shell = vm.open_shell(soon)
        outcome = shell.run("echo one; echo 'two \"2\"' >&2; cat; exit 7", soon)
        assert (outcome.code, outcome.output) == (7, 'one\ntwo "2"\n')
        assert len(shell.check_run("seq 20000", soon).splitlines()) == 20000
        assert shell.run("exit 0", soon).output == ""
        with pytest.raises(TargetError, match="exited with code 3"):
            shell.check_run("exit 3", soon)


@pytest.mark.usefixtures("programs")
def test_reboot_waits_for_the_reset_and_forgets_what_was_said_before(published: Published, soon: Deadline) -> None:
    with VirtualMachine(published, Options()) as vm:
        vm.wait_state("ready", soon)
        vm.reboot(vm.open_shell(soon), soon)
        assert vm.resets() == 1
        assert vm.wait_state("ready", soon) == 34.25


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fake.die", "QEMU exited with code 7"),
        ("fake.off", "the machine switched itself off"),
        ("fake.panic", "Kernel panic - not syncing: no root"),
        ("fake.fail", "cumulet: failed unit broken.service"),
    ],
)
def test_failure_is_noticed_at_once_and_shows_the_console(
    published: Published, soon: Deadline, word: str, message: str
) -> None:
    vm = VirtualMachine(published, Options(arguments=(word, "fake.mute")))
    with vm, pytest.raises(TargetError, match=message) as caught:
        vm.wait_state("ready", soon)
    assert "Linux starts" in caught.value.message or word == "fake.off"
    assert soon.left > 10


@pytest.mark.usefixtures("programs")
def test_an_emulator_that_crashes_before_the_guest_runs_is_started_once_more(
    published: Published, soon: Deadline, tmp_path: Path
) -> None:
    for options in (
        Options(arguments=("fake.crash-once",)),
        Options(arguments=("fake.crash-once",), keep=tmp_path / "k"),
    ):
        with VirtualMachine(published, options) as vm:
            assert vm.wait_state("running", soon) == 12.5
            assert vm.crashes == 1
        (tmp_path / "bin" / "qemu-system-aarch64.crashed").unlink()


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fake.crash", "QEMU was killed by SIGSEGV, for the 2. time"),
        ("fake.crash-late", "QEMU was killed by SIGSEGV\n"),
    ],
)
def test_an_emulator_that_crashes_again_or_later_is_an_error(
    published: Published, soon: Deadline, word: str, message: str
) -> None:
    with VirtualMachine(published, Options(arguments=(word,))) as vm, pytest.raises(TargetError, match=message):
        vm.wait_state("running", soon)


@pytest.mark.usefixtures("programs")
def test_system_with_failed_units_does_not_count_as_running(published: Published, soon: Deadline) -> None:
    vm = VirtualMachine(published, Options(arguments=("fake.degraded",)))
    with vm, pytest.raises(TargetError, match="systemd is degraded, not running"):
        vm.wait_state("running", soon)
    assert vm.uptime("running") is None


@pytest.mark.usefixtures("programs")
def test_last_words_without_a_line_end_are_shown(published: Published, soon: Deadline) -> None:
    vm = VirtualMachine(published, Options(arguments=("fake.die",)))
    with vm, pytest.raises(TargetError, match="last words"):
        vm.wait_state("ready", soon)


@pytest.mark.usefixtures("programs")
def test_silent_guest_ends_at_the_deadline(published: Published) -> None:
    with VirtualMachine(published, Options(arguments=("fake.mute",))) as vm:
        with pytest.raises(TargetError, match="'cumulet: ready': not within 0 s"):
            vm.wait_state("ready", Deadline.after(0.3))
        with pytest.raises(TargetError, match="still on after 0 s"):
            vm.powerdown(Deadline.after(0.3))


@pytest.mark.usefixtures("programs")
def test_guest_without_a_shell_is_named(published: Published) -> None:
    vm = VirtualMachine(published, Options(arguments=("fake.no-shell",)))
    with vm, pytest.raises(TargetError, match="no root shell answered") as caught:
        vm.open_shell(Deadline.after(0.3))
    assert "cumulet.console=hvc0" in caught.value.hint


@pytest.mark.usefixtures("programs")
def test_powerdown_waits_until_the_guest_is_off(published: Published, soon: Deadline) -> None:
    with VirtualMachine(published, Options()) as vm:
        vm.powerdown(soon)
        assert not vm.alive


@pytest.mark.usefixtures("programs")
def test_qemu_that_does_not_start_shows_its_own_words(published: Published) -> None:
    with pytest.raises(ToolError, match="unsupported machine type") as caught:
        VirtualMachine(published, Options(arguments=("fake.refuse",))).__enter__()
    assert caught.value.hint.startswith("the command was: qemu-system-aarch64")


@pytest.mark.usefixtures("programs")
def test_qemu_is_ended_when_the_caller_fails(published: Published) -> None:
    def work(vm: VirtualMachine) -> None:
        with vm:
            raise KeyboardInterrupt

    vm = VirtualMachine(published, Options())
    with pytest.raises(KeyboardInterrupt):
        work(vm)
    assert not vm.alive


def test_missing_qemu_names_the_package(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cumulet.core.proc.find", lambda _: None)
    found = problems(published, Options(firmware=True, accel="kvm"))
    assert [problem.message.partition(":")[0] for problem in found][:3] == [
        "qemu-system-aarch64",
        "qemu-img",
        "qemu-arm64",
    ]
    assert found[0].hint == "apt-get install qemu-system-arm"
    with pytest.raises(ToolError, match="no QEMU on this computer"):
        VirtualMachine(published, Options()).__enter__()


def test_disk_of_a_run_leaves_the_image_alone(published: Published, programs: Path) -> None:
    with open_run(published, Options(disk_size=5 << 30)) as run:
        assert run.wiring.disk.parent == run.folder
    log = (programs / "qemu-img.log").read_text()
    assert f"-F raw -b {published.file('disk.img')}" in log
    assert log.split()[-1] == str(5 << 30)


def test_kept_machine_uses_its_disk_again(published: Published, programs: Path, tmp_path: Path) -> None:
    options = Options(keep=tmp_path / "kept")
    for _ in range(2):
        with open_run(published, options) as run:
            assert run.wiring.disk == tmp_path / "kept" / "disk.qcow2"
    assert (programs / "qemu-img.log").read_text().count("create") == 1
    assert (tmp_path / "kept" / "disk.qcow2").exists()


@pytest.mark.usefixtures("programs")
def test_kept_machine_refuses_another_image(published: Published, tmp_path: Path) -> None:
    options = Options(keep=tmp_path / "kept")
    with open_run(published, options):
        pass
    published.file("disk.img").write_text("another build")
    with pytest.raises(UsageError, match="another build of image 'tiny'") as caught, open_run(published, options):
        pass
    assert "--keep" in caught.value.hint


@pytest.mark.usefixtures("programs")
def test_kept_machine_runs_once_at_a_time(published: Published, tmp_path: Path) -> None:
    options = Options(keep=tmp_path / "kept")
    lock = files.locked(tmp_path / "kept" / "lock", "test")
    with lock, pytest.raises(ToolError, match="in use by process"), open_run(published, options):
        pass


@pytest.mark.usefixtures("programs")
def test_firmware_gets_a_private_variable_store(published: Published, tmp_path: Path) -> None:
    code, variables = tmp_path / "code.fd", tmp_path / "vars.fd"
    code.write_text("code")
    variables.write_text("empty")
    board = json.loads(published.file("board.json").read_text())
    board["qemu"] |= {"firmware": ["/nowhere", str(code)], "firmware_vars": ["/nowhere", str(variables)]}
    published.file("board.json").write_text(json.dumps(board))
    with open_run(load_published(published.folder), Options(firmware=True)) as run:
        assert run.wiring.firmware is not None
        assert run.wiring.firmware.code == code
        run.wiring.firmware.variables.write_text("changed")
    assert variables.read_text() == "empty"


@pytest.mark.usefixtures("programs")
def test_node_document_is_readable_by_its_owner_only(published: Published) -> None:
    with open_run(published, Options(node="version: 1\n")) as run:
        assert run.wiring.node is not None
        assert run.wiring.node.read_text() == "version: 1\n"
        assert run.wiring.node.stat().st_mode & 0o777 == 0o600
