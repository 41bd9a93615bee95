"""The boot checks' own parts: which run and in which order, what they ask, how they are told."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet_qemu.boot import check_goal, describe
from cumulet_qemu.checking import Check, Request, Tally, check_tally, make_arguments, make_check
from cumulet_qemu.checks import CHECKS, FOLDER, dns, make_files
from cumulet_qemu.machine import Options
from cumulet_qemu.published import Published, make_published
from cumulet_qemu.ssh import Key, make_argv, make_known_hosts


@pytest.fixture
def published() -> Published:
    qemu = {"program": "qemu-system-aarch64", "machine": "virt,x=y", "cpu": "max", "console": "ttyAMA0"}
    board = {"board": "qemu-arm64", "architecture": "arm64", "qemu": qemu}
    return make_published(Path("/out/tiny"), board, {"image": "tiny", "test": ["base"], "ssh": False}, "")


def test_reboot_comes_last_and_each_file_once() -> None:
    names = [path.name for path in make_files(["k3s", "kubernetes", "base"])]
    assert names == [
        "test_base.py",
        "test_kubernetes.py",
        "test_k3s.py",
        "test_reboot.py",
        "test_reboot_kubernetes.py",
    ]


def test_every_named_file_is_shipped() -> None:
    assert all(path.is_file() for path in make_files(list(CHECKS)))
    assert (FOLDER / "pytest.ini").is_file()


def test_unknown_check_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown boot checks: gpu"):
        make_files(["base", "gpu"])


def test_every_shipped_check_can_be_collected() -> None:
    argv = [sys.executable, "-m", "pytest", "-c", str(FOLDER / "pytest.ini"), "--rootdir", str(FOLDER)]
    found = subprocess.run(
        [*argv, "--collect-only", "-q", *map(str, make_files(list(CHECKS)))],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert found.returncode == 0, found.stdout
    assert found.stdout.count("::test_") >= 30


def test_arguments_carry_every_choice(published: Published) -> None:
    options = Options(firmware=True, memory=2 << 30, cpus=3)
    request = Request(published, options, Path("/logs"), Path("/junit.xml"), "root", 2.5)
    words = " ".join(make_arguments(request))
    for part in (
        "--cumulet-image /out/tiny",
        "--cumulet-logs /logs",
        "--cumulet-firmware",
        "--cumulet-memory 2048MiB",
        "--cumulet-cpus 3",
        "--time-scale 2.5",
        "--junit-xml /junit.xml",
        "-k root",
    ):
        assert part in words


def make_report(outcome: str, longrepr: object = None, when: str = "call") -> pytest.TestReport:
    return pytest.TestReport(
        nodeid="test_base.py::test_root_refuses_a_write",
        location=("test_base.py", 1, "x"),
        keywords={},
        outcome=outcome,  # type: ignore[arg-type]
        longrepr=longrepr,  # type: ignore[arg-type]
        when=when,  # type: ignore[arg-type]
        duration=1.25,
        sections=[("boot console", "last line")],
    )


def test_check_is_told_in_words() -> None:
    assert make_check(make_report("passed"), 3.14) == Check("root refuses a write", "passed", 3.1)


def test_failed_check_shows_reason_and_console() -> None:
    details = make_check(make_report("failed", "assert 1 == 2"), 1).details
    assert details == "assert 1 == 2\n--- boot console\nlast line"


def test_skipped_check_shows_its_reason() -> None:
    assert make_check(make_report("skipped", ("file", 1, "Skipped: no ssh")), 1).details == "no ssh"


def test_tally_counts_a_check_once_with_the_time_of_its_setup(published: Published) -> None:
    told: list[Check] = []
    tally = Tally(told.append)
    for when in ("setup", "call", "teardown"):
        tally.pytest_runtest_logreport(make_report("passed", when=when))
    tally.pytest_runtest_logreport(make_report("failed", "broken", when="setup"))
    assert [(check.outcome, check.seconds) for check in told] == [("passed", 2.5), ("failed", 1.2)]
    assert (tally.count("passed"), tally.count("failed")) == (1, 1)
    with pytest.raises(TargetError, match="tiny: 1 of 2 boot checks failed: root refuses a write"):
        check_tally(Request(published, Options(), Path("/logs")), tally)


def test_goal_that_cannot_be_reached_is_refused(published: Published) -> None:
    with pytest.raises(UsageError, match="has no Kubernetes"):
        check_goal(published, "ready")
    with pytest.raises(UsageError, match="has no ssh"):
        check_goal(published, "login")
    assert describe(published, Options(memory=1 << 30)) == (
        "tiny on qemu-system-aarch64 (virt, max, 2 processors, 1024 MiB), direct kernel boot"
    )


def make_answer(flags: int = 0x8180) -> bytes:
    question = dns.make_query("kubernetes.default.svc.cluster.local")[12:]
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + bytes([10, 43, 0, 1])
    alias = b"\x01a\x00" + struct.pack(">HHIH", 5, 1, 5, 2) + b"\xc0\x0c"
    return struct.pack(">HHHHHH", dns.NUMBER, flags, 1, 2, 0, 0) + question + alias + record


def test_dns_question_is_what_the_format_says() -> None:
    assert dns.make_query("a.bc") == b"\x43\x55\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01"


def test_dns_answer_yields_its_addresses() -> None:
    assert dns.parse_addresses(make_answer()) == ["10.43.0.1"]


@pytest.mark.parametrize("message", [b"", make_answer(0x8183), make_answer(0x0100), b"\0\0" + make_answer()[2:]])
def test_dns_message_that_is_no_good_answer_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match="no"):
        dns.parse_addresses(message)


def test_ssh_always_checks_the_host_key() -> None:
    argv = make_argv(Key(Path("/k"), "ssh-ed25519 A"), 40022, Path("/known"), "true")
    assert "StrictHostKeyChecking=yes" in argv
    assert argv[:3] == ["ssh", "-F", "/dev/null"]
    assert make_known_hosts(40022, "ssh-ed25519 AAAA root@box") == "[127.0.0.1]:40022 ssh-ed25519 AAAA\n"
