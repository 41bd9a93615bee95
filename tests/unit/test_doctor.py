"""`cumulet doctor`: findings from what a computer has, pure; and the command around them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder import doctor
from cumulet_builder.commands.doctor import command
from cumulet_builder.doctor import Computer, Finding, evaluate, install, make_fix, missing

GOOD = Computer(
    python=(3, 11, 2),
    root=True,
    user="root",
    programs=frozenset(program.name for program in doctor.PROGRAMS),
    modules=frozenset(name for name, _ in doctor.MODULES),
    files=frozenset(name for names, *_ in doctor.FIRMWARE for name in names),
    keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
    namespace_error="",
    subordinate_ids=True,
    go="/usr/bin/go 1.26.8",
    go_error="",
    cache="/root/.cache/cumulet",
    disk_free=50 << 30,
    shm_free=1 << 30,
    emulators=(),
)


def finding(computer: Computer, name: str, *purposes: doctor.Purpose) -> Finding:
    """The finding of this name."""
    return next(each for each in evaluate(computer, purposes or doctor.PURPOSES) if each.name == name)


def test_a_good_computer_lacks_nothing() -> None:
    findings = evaluate(GOOD)
    assert missing(findings) == []
    assert make_fix(findings) == ""
    assert {each.state for each in findings} == {"fine"}


@pytest.mark.parametrize("program", doctor.PROGRAMS, ids=lambda program: program.name)
def test_a_missing_program_is_one_package_away(program: doctor.Program) -> None:
    found = finding(replace(GOOD, programs=GOOD.programs - {program.name}), program.name)
    assert found.state == "missing"
    assert found.fix == f"apt-get install --no-install-recommends {program.package}"


def test_only_what_the_purpose_needs_is_looked_for() -> None:
    bare = replace(GOOD, programs=GOOD.programs - {"qemu-system-aarch64"}, go="", go_error="there is none")
    assert [each.name for each in missing(evaluate(bare, ["build"]))] == ["go"]
    assert [each.name for each in missing(evaluate(bare, ["boot"]))] == ["qemu-system-aarch64"]


def test_an_ordinary_user_needs_subordinate_ids() -> None:
    user = replace(GOOD, root=False, user="ann", programs=GOOD.programs - {"newuidmap"}, subordinate_ids=False)
    lacking = {each.name: each for each in missing(evaluate(replace(user, namespace_error="no"), ["build"]))}
    assert set(lacking) == {"newuidmap", "subordinate ids"}
    assert lacking["newuidmap"].packages == ("uidmap",)
    assert lacking["subordinate ids"].fix.endswith(" ann")


def test_the_tests_need_what_looks_at_a_finished_image() -> None:
    bare = replace(GOOD, programs=GOOD.programs - {"sgdisk", "bmaptool", "newuidmap"})
    assert [each.name for each in missing(evaluate(bare, ["check"]))] == ["newuidmap", "sgdisk", "bmaptool"]
    assert missing(evaluate(bare, ["build", "boot"])) == []


def test_what_is_missing_for_two_reasons_is_said_once() -> None:
    user = replace(GOOD, root=False, programs=GOOD.programs - {"newuidmap"}, namespace_error="no")
    assert [each.name for each in missing(evaluate(user))] == ["newuidmap"]


def test_namespaces_that_are_forbidden() -> None:
    found = finding(replace(GOOD, namespace_error="unshare failed: Operation not permitted"), "namespaces")
    assert (found.state, found.message) == ("missing", "unshare failed: Operation not permitted")


def test_a_small_disk_is_a_note() -> None:
    assert finding(replace(GOOD, disk_free=1 << 30), "disk").state == "note"


def test_missing_firmware_is_a_note_until_it_is_checked() -> None:
    without = replace(GOOD, files=frozenset())
    assert finding(without, "UEFI arm64", "boot").state == "note"
    assert finding(without, "UEFI arm64", "check").state == "missing"


def test_other_things_that_are_missing() -> None:
    computer = replace(GOOD, python=(3, 9, 1), keyring="", shm_free=0, modules=frozenset())
    names = {each.name for each in missing(evaluate(computer))}
    assert names == {"python", "keyring", "/dev/shm", "pexpect", "pytest", "qemu.qmp"}


def test_one_command_fixes_all_packages() -> None:
    computer = replace(
        GOOD, programs=frozenset(["unshare", "setpriv", "apt-get", "apt-cache", "gpgv", "ssh", "ssh-keygen"])
    )
    assert make_fix(evaluate(computer, ["boot"])) == (
        "apt-get install --no-install-recommends qemu-system-arm qemu-utils"
    )


def test_probing_this_computer_answers_every_question(tmp_path: Path) -> None:
    computer = doctor.probe(tmp_path / "not" / "there")
    assert computer.python >= (3, 11, 0)
    assert computer.disk_free > 0
    assert computer.go or computer.go_error


def test_nothing_is_installed_when_nothing_is_missing() -> None:
    assert install(evaluate(GOOD)) == ()


def test_installing_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ToolError) as caught:
        install([Finding("gpgv", "missing", "no", packages=("gpgv",))])
    assert caught.value.hint == "sudo apt-get install --no-install-recommends gpgv"


def test_fix_installs_and_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"computer": replace(GOOD, programs=GOOD.programs - {"qemu-img", "setpriv"})}
    calls: list[list[str]] = []

    def run(argv: list[str], **_: object) -> proc.Result:
        calls.append(argv)
        state["computer"] = GOOD
        return proc.Result(tuple(argv), 0, "", "")

    monkeypatch.setattr(doctor, "probe", lambda _: state["computer"])
    monkeypatch.setattr(proc, "run", run)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    done = CliRunner().invoke(command, ["--fix", "--for", "boot"])
    assert done.exit_code == 0
    assert calls[-1][:2] == ["apt-get", "install"]
    assert calls[-1][-2:] == ["qemu-utils", "util-linux"]
    again = CliRunner().invoke(command, ["--fix", "--for", "boot"])
    assert (again.exit_code, len(calls)) == (0, 2)


def test_the_command_raises_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probe", lambda _: replace(GOOD, programs=GOOD.programs - {"qemu-img"}))
    done = CliRunner().invoke(command, ["--json", "--for", "boot"])
    assert isinstance(done.exception, ToolError)
    assert done.exception.exit_code == 3
    assert done.exception.message == "this computer lacks: qemu-img"
    answer = json.loads(done.stdout)
    assert answer["fine"] is False
    assert [each["name"] for each in answer["findings"] if each["state"] == "missing"] == ["qemu-img"]
