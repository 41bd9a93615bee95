"""`cumulet boot` and `cumulet test` as a user runs them, with a stand-in for QEMU on PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

FAKE = Path(__file__).parent / "test_qemu_data" / "qemu"
RUN = """
import sys, click
from cumulet.core.errors import CumuletError
from cumulet_builder.commands import boot, test
try:
    click.Group("cumulet", commands=[boot.command, test.command])(standalone_mode=False)
except CumuletError as error:
    sys.exit((print("error:", error.message, "| hint:", error.hint, file=sys.stderr), error.exit_code)[1])
"""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with the published image `tiny`."""
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    qemu = {"program": "qemu-system-aarch64", "machine": "virt", "cpu": "cortex-a72", "console": "ttyAMA0"}
    (folder / "board.json").write_text(json.dumps({"board": "b", "architecture": "arm64", "qemu": qemu}))
    cluster = {"distribution": "kubeadm", "version": "v1.36.3", "addons": []}
    (folder / "image.json").write_text(json.dumps({"image": "tiny", "test": ["base"], "kubernetes": cluster}))
    for name in ("disk.img", "vmlinuz", "initrd.img", "cmdline.txt"):
        (folder / name).touch()
    return folder.parent


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH begins with the stand-ins."""
    folder = tmp_path / "bin"
    (folder / "guest").mkdir(parents=True)
    (folder / "qemu-system-aarch64").write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    (folder / "qemu-img").write_text('#!/bin/sh\nfor word; do case "$word" in *disk.part) : > "$word";; esac; done\n')
    for program in folder.glob("qemu*"):
        program.chmod(0o755)
    for name in ("sh", "date"):
        (folder / "guest" / name).symlink_to(str(shutil.which(name)))
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(tmp_path)}


def run(environment: dict[str, str], *words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", RUN, *map(str, words)]
    return subprocess.run(
        argv,
        env=environment,
        cwd=environment["HOME"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def break_image(out: Path, word: str) -> None:
    (out / "tiny" / "cmdline.txt").write_text(word)


@pytest.fixture
def radio(out: Path) -> Path:
    """The image `tiny` with modem and receiver, simulated on its board."""
    for name, more in (
        ("board.json", {"ports": {"modem": "pci-serial,chardev=modem", "gnss": "pci-serial,chardev=gnss"}}),
        (
            "image.json",
            {"modem": {"apn": "cmnet", "pin": {"from": "env"}}, "gnss": {"constellations": ["beidou"], "wait": 1}},
        ),
    ):
        path = out / "tiny" / name
        document = json.loads(path.read_text())
        (document["qemu"] if name == "board.json" else document).update(more)
        path.write_text(json.dumps(document))
    return out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fake.blind", "gnss: beidou: asked for, not seen within 1 s; seen: gps"),
        ("", "gnss: what the receiver sees is not said yet; it is within 1 s"),
    ],
)
def test_a_boot_says_what_of_the_sky_is_not_seen(
    environment: dict[str, str], radio: Path, tmp_path: Path, words: str, said: str
) -> None:
    (radio / "tiny/cmdline.txt").write_text(words)
    logs = tmp_path / "logs"
    done = run(environment, "boot", "tiny", "--out", radio, "--until", "running", "--logs", logs)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == said
    assert (logs / "modem.log").exists()


def test_a_pin_of_this_computer_that_is_none_ends_a_boot_before_it_starts(
    environment: dict[str, str], radio: Path
) -> None:
    done = run({**environment, "CUMULET_MODEM_PIN": "12x4"}, "boot", "tiny", "--out", radio, "--until", "running")
    assert done.returncode == 2
    assert "12x4" not in done.stderr


def test_boot_until_ready_tells_the_guests_own_times(out: Path, environment: dict[str, str]) -> None:
    done = run(environment, "boot", "tiny", "--until", "ready", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [(each["state"], each["uptime"]) for each in result["reached"]] == [("running", 12.5), ("ready", 34.25)]
    assert f"ssh -p {result['ssh_port']} root@127.0.0.1" in done.stderr


def test_boot_takes_folder_recipe_and_out(out: Path, environment: dict[str, str]) -> None:
    assert run(environment, "boot", out / "tiny").returncode == 0
    assert run(environment, "boot", "recipes/images/tiny.yaml", "--out", out).returncode == 0


def test_boot_of_a_guest_that_fails_is_an_error_of_the_target(out: Path, environment: dict[str, str]) -> None:
    break_image(out, "fake.die")
    done = run(environment, "boot", "tiny", "--logs", out / "logs")
    assert done.returncode == 4
    assert "QEMU exited with code 7" in done.stderr
    assert "last words" in done.stderr
    assert f"the whole console: {out / 'logs' / 'console.log'}" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["boot", "other"], 2, "other: no such image folder, and no image of this name in out | hint: cumulet build"),
        (["boot", "tiny", "--memory", "3 gigs"], 2, "--memory: not a size: '3 gigs'"),
        (["boot", "tiny", "--node", "none.yaml"], 2, "none.yaml: No such file or directory"),
        (["boot", "tiny", "--console"], 2, "--console: this is not a terminal"),
        (["boot", "tiny", "--firmware"], 3, "no UEFI firmware on this computer"),
        (["test", "other"], 2, "other: no such image folder"),
        (["test", "tiny", "--select", "nosuch"], 2, "--select nosuch: matches no check of tiny"),
        (["test", "tiny", "--firmware"], 3, "no UEFI firmware on this computer"),
    ],
)
@pytest.mark.usefixtures("out")
def test_wrong_request_is_one_line_with_a_hint(
    environment: dict[str, str], words: list[str], code: int, message: str
) -> None:
    done = run(environment, *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["boot", "test"])
def test_no_qemu_is_named_with_its_package(out: Path, environment: dict[str, str], command: str) -> None:
    board = json.loads((out / "tiny" / "board.json").read_text())
    board["qemu"]["program"] = "qemu-system-nowhere"
    (out / "tiny" / "board.json").write_text(json.dumps(board))
    done = run(environment, command, "tiny")
    assert done.returncode == 3
    assert "qemu-system-nowhere: no QEMU on this computer | hint: apt-get install qemu-system-arm" in done.stderr


def test_kept_machine_is_switched_off_by_its_button(out: Path, environment: dict[str, str]) -> None:
    done = run(environment, "boot", "tiny", "--keep", out / "kept")
    assert done.returncode == 0, done.stderr
    assert "reboot: Power down" in (out / "kept" / "console.log").read_text()


def test_checks_that_pass_are_told_and_written(out: Path, environment: dict[str, str]) -> None:
    done = run(environment, "test", "tiny", "--select", "clock", "--junit", out / "junit.xml", "--json")
    assert done.returncode == 0, done.stderr
    assert "passed   clock agrees with this computer" in done.stderr
    assert json.loads(done.stdout)["passed"] == 1
    assert 'failures="0"' in (out / "junit.xml").read_text()
    assert (out / "logs" / "tiny" / "shell.log").is_file()


def test_checks_that_fail_are_an_error_of_the_target(out: Path, environment: dict[str, str]) -> None:
    done = run(environment, "test", "tiny", "--select", "hostname", "--junit", out / "junit.xml")
    assert done.returncode == 4
    assert "tiny: 1 of 1 boot checks failed: hostname comes from the node document" in done.stderr
    assert "cumulet: running 12.5" in done.stderr
    assert 'failures="1"' in (out / "junit.xml").read_text()


def test_configuration_where_the_user_stands_changes_nothing(out: Path, environment: dict[str, str]) -> None:
    (out.parent / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    assert run(environment, "test", "tiny", "--select", "clock").returncode == 0


@pytest.mark.usefixtures("out")
def test_terminal_reaches_the_shell_and_leaves_with_its_key(environment: dict[str, str]) -> None:
    argv = ["-c", RUN, "boot", "tiny"]
    terminal = pexpect.spawn(sys.executable, argv, env=environment, cwd=environment["HOME"], timeout=20)
    terminal.expect("cumulet: ready")
    terminal.send("\x1d")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
