"""Configuring: what runs in which order, what is covered meanwhile, and that nothing of it stays."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder import sandbox
from cumulet_builder.engines.debian.configure import AID, Mixture, configure, find_failure

Fake = Callable[[str, str], Path]
NATIVE, TARGET = b"\x7fELF native", b"\x7fELF target"
EPOCH = 1_700_000_000
# Notes what is called, and which stand-in scripts are there meanwhile.
CHROOT = """
root=$1; shift
echo "$*" >> {calls}
echo "$DEBIAN_FRONTEND $PATH $SOURCE_DATE_EPOCH $DPKG_MAINTSCRIPT_PACKAGE $DPKG_MAINTSCRIPT_NAME" >> {environment}
cat "$root{aid}/dpkg.sh" > {dpkg} 2>/dev/null
echo "output of $1"
case "$*" in *{broken}*) echo "went wrong" >&2; exit 7;; esac
"""


@dataclass
class Computer:
    """A root and a tools tree; mounts are only written down."""

    root: Path
    tools: Path
    fake: Fake
    mounted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    systems: list[str] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)

    def mount(self, source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
        self.mounted.append(target.removeprefix(str(self.root)))

    def unmount(self, target: str) -> None:
        self.gone.append(target.removeprefix(str(self.root)))
        if target.endswith(AID):
            shutil.rmtree(target)
            Path(target).mkdir()

    def script(self, package: str) -> None:
        path = self.root / f"var/lib/dpkg/info/{package}.preinst"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def run(self, *packages: str, target: str = "arm64", host: str = "amd64", broken: str = "nothing") -> list[str]:
        """Configure; returns the commands that ran inside the root."""
        base = self.root.parent
        names = {"calls": base / "calls", "environment": base / "environment", "dpkg": base / "dpkg", "aid": AID}
        self.fake("chroot", CHROOT.format(broken=broken, **names))
        configure(Mixture(self.root, self.tools, target, host), packages, EPOCH, self.log)
        return (base / "calls").read_text().splitlines()

    def text(self, name: str) -> str:
        return (self.root.parent / name).read_text()


@pytest.fixture
def computer(tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Computer:
    made = Computer(tmp_path / "root", tmp_path / "tools", fake)
    common = ("usr/bin/dpkg", "usr/bin/bash", "usr/sbin/ldconfig", "usr/sbin/start-stop-daemon", "usr/lib/x/helper")
    native = ("usr/bin/qemu-aarch64", "usr/bin/new", "usr/lib64/ld.so", "usr/lib/x86_64-linux-gnu/libc.so.6")
    for path in [*(made.root / name for name in common), *(made.tools / name for name in (*common, *native))]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(TARGET if path.is_relative_to(made.root) else NATIVE)
    for folder in (made.root, made.tools):
        (folder / "usr/bin/script").write_text("#!/bin/sh\n")
        (folder / "usr/bin/sh").symlink_to("bash")
    monkeypatch.setattr(sandbox, "mount", made.mount)
    monkeypatch.setattr(sandbox, "unmount", made.unmount)
    monkeypatch.setattr(sandbox, "mount_system", made.systems.append)
    monkeypatch.setattr(sandbox, "unmount_system", made.systems.remove)
    (made.root / "run").mkdir()
    return made


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_preinst_scripts_come_first_then_dpkg_then_ldconfig(computer: Computer) -> None:
    for name in ("bash", "libc6:arm64"):
        computer.script(name)
    assert computer.run("bash", "libc6:arm64", "no-script") == [
        "/var/lib/dpkg/info/bash.preinst install",
        "/var/lib/dpkg/info/libc6:arm64.preinst install",
        f"{AID}/emulator -0 /usr/bin/dpkg {AID}/dpkg --configure --pending --force-confold",
        f"{AID}/emulator {AID}/ldconfig",
    ]
    environment = computer.text("environment").splitlines()
    assert environment[0] == "noninteractive /usr/sbin:/usr/bin  bash preinst"
    assert environment[1] == "noninteractive /usr/sbin:/usr/bin  libc6 preinst"
    assert environment[2] == f"noninteractive /usr/sbin:/usr/bin {EPOCH}  "
    assert "+ /var/lib/dpkg/info/bash.preinst install\noutput of" in computer.log.getvalue()


def test_a_native_image_needs_no_emulator(computer: Computer) -> None:
    assert computer.run(target="amd64") == ["/usr/bin/dpkg --configure --pending --force-confold", "/usr/sbin/ldconfig"]
    assert computer.mounted == [AID, "/usr/sbin/start-stop-daemon"]


def test_programs_that_both_trees_have_are_covered_and_nothing_else(computer: Computer) -> None:
    computer.run()
    covered = {target for target in computer.mounted if not target.startswith(AID)}
    assert covered == {
        "/usr/bin/bash",
        "/usr/bin/dpkg",
        "/usr/lib/x/helper",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/sbin/ldconfig",
        "/usr/sbin/start-stop-daemon",
    }
    assert len(computer.mounted) == len(set(computer.mounted))


def test_dpkg_says_that_it_is_on_the_target(computer: Computer) -> None:
    computer.run()
    assert "--print-architecture) echo arm64 ;;" in computer.text("dpkg")
    assert {f"{AID}/dpkg", f"{AID}/dpkg-native", f"{AID}/ldconfig", f"{AID}/emulator"} <= set(computer.mounted)


def test_everything_is_uncovered_in_reverse_and_no_file_is_left(computer: Computer) -> None:
    before = listing(computer.root)
    computer.run()
    assert computer.gone == list(reversed(computer.mounted))
    assert computer.systems == []
    assert listing(computer.root) == before


def test_a_script_that_fails_is_named_with_its_last_lines_and_all_is_uncovered(computer: Computer) -> None:
    before = listing(computer.root)
    computer.script("bash")
    with pytest.raises(ToolError) as caught:
        computer.run("bash", broken="bash.preinst")
    assert caught.value.message == (
        "bash.preinst exited with code 7\noutput of /var/lib/dpkg/info/bash.preinst\nwent wrong"
    )
    assert computer.gone == list(reversed(computer.mounted))
    assert listing(computer.root) - before == {
        "var", "var/lib", "var/lib/dpkg", "var/lib/dpkg/info", "var/lib/dpkg/info/bash.preinst"
    }  # fmt: skip


def test_dpkg_is_named_and_not_the_emulator_that_runs_it(computer: Computer) -> None:
    with pytest.raises(ToolError, match=r"^dpkg exited with code 7\n"):
        computer.run(broken="--configure")


def test_the_first_package_that_failed_is_shown_and_not_those_that_depend_on_it() -> None:
    first = [
        "no such user: x",
        "dpkg: error processing package one (--configure):",
        " installed one package post-installation script subprocess returned error exit status 1",
    ]
    rest = [f"dpkg: error processing package two{n} (--configure):\n dependency problems" for n in range(60)]
    assert find_failure("Setting up one ...", "\n".join([*first, *rest])) == "\n".join(first)
    assert find_failure("one\ntwo\n", "three\n") == "one\ntwo\nthree"
