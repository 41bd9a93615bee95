"""The private apt root: what it knows of this computer, how apt's answers are read, how its errors are told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.engines.debian import apt
from cumulet_builder.engines.debian.apt import AptRoot, open_apt
from cumulet_builder.engines.debian.mirror import HINT, Mirror

Fake = Callable[[str, str], Path]
MIRROR = Mirror("http://127.0.0.1/debian", "http://127.0.0.1/security", "/keys")
HOST = r"""
Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://127.0.0.1:3142";
Acquire::https::CAInfo "/etc/ssl/own.pem";
Acquire::Languages "de";
APT::Install-Recommends "true";
APT::Default-Release "sid";
Dir::Etc::sourcelist "/etc/apt/sources.list";
DPkg::Post-Invoke:: "rm -rf /";
"""
BASH = """Package: bash
Source: bash-src (5.2-1)
Version: 5.2-1+b1
Architecture: arm64
Section: shells
Filename: pool/main/b/bash/bash_5.2-1+b1_arm64.deb
Size: 123
SHA256: aaaa
Depends: libc6 (>= 2.38),
 base-files
"""
TZDATA = """Package: tzdata
Version: 2025b
Architecture: all
Filename: pool/updates/main/t/tzdata/tzdata_2025b_all.deb
Size: 7
SHA256: bbbb
"""


@pytest.fixture
def root(fake: Fake, tmp_path: Path) -> AptRoot:
    fake("apt-config", f"cat <<'END'{HOST}END")
    fake("apt-get", "exit 0")
    return open_apt(tmp_path / "apt", MIRROR, "trixie", ("main", "contrib"))


def script(out: str = "", err: str = "", code: int = 0, keep: Path | None = None) -> str:
    """The text of a program that prints, and leaves its words and its configuration in a file."""
    save = f'printf "%s\\n" "$APT_CONFIG" "$@" > {keep}\n' if keep else ""
    return f"{save}cat <<'END'\n{out}\nEND\ncat >&2 <<'END'\n{err}\nEND\nexit {code}"


# The root.


def test_nothing_of_this_computer_is_kept_but_its_way_to_the_network(root: AptRoot) -> None:
    lines = (root.folder / "apt.conf").read_text().splitlines()
    assert lines[:2] == ['Acquire::http::Proxy "http://127.0.0.1:3142";', 'Acquire::https::CAInfo "/etc/ssl/own.pem";']
    own = dict(line.rstrip(";").split(" ", 1) for line in lines[2:])
    assert not [key for key in own if key.startswith(("APT::Install", "APT::Default", "DPkg", "Acquire::http"))]
    inside = f'"{root.folder}/'
    assert {key: value for key, value in own.items() if key.startswith("Dir") and not value.startswith(inside)} == {
        "Dir::Etc::main": '"/dev/null"',
        "Dir::Etc::parts": '"/dev/null"',
        "Dir::Etc::sourceparts": '"/dev/null"',
        "Dir::Etc::preferencesparts": '"/dev/null"',
    }
    assert own["Acquire::Languages"] == '"none"'


def test_the_list_of_sources_is_the_mirrors(root: AptRoot) -> None:
    assert (root.folder / "sources.list").read_text() == MIRROR.sources("trixie", ("main", "contrib"))
    assert (root.folder / "status").read_text() == ""
    assert (root.folder / "lists/partial").is_dir()


def test_opening_it_again_keeps_the_package_lists(root: AptRoot) -> None:
    (root.folder / "lists/kept").touch()
    open_apt(root.folder, MIRROR, "trixie", ("main",))
    assert (root.folder / "lists/kept").exists()


def test_without_apt_there_is_one_line_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt.proc, "find", lambda name: None)
    with pytest.raises(ToolError) as caught:
        open_apt(tmp_path / "apt", MIRROR, "trixie", ("main",))
    assert (caught.value.message, caught.value.hint) == (
        "this computer has no apt", "use a Debian computer or container"
    )  # fmt: skip


def test_pins_prefer_the_versions_of_the_last_lock(root: AptRoot) -> None:
    root.pin({"bash": "5.2-1", "tzdata": "2025b"})
    assert (root.folder / "preferences").read_text() == (
        "Package: bash\nPin: version 5.2-1\nPin-Priority: 1001\n\n"
        "Package: tzdata\nPin: version 2025b\nPin-Priority: 1001\n"
    )
    root.pin({})
    assert (root.folder / "preferences").read_text() == ""


# Package lists.


def test_lists_are_fetched_for_every_architecture_with_the_private_configuration(
    root: AptRoot, fake: Fake, tmp_path: Path
) -> None:
    fake("apt-get", script(keep=tmp_path / "words"))
    root.update(["amd64", "arm64"])
    assert (tmp_path / "words").read_text().splitlines() == [
        f"{root.folder}/apt.conf",
        "-oAPT::Architecture=amd64",
        "-oAPT::Architectures::=amd64",
        "-oAPT::Architectures::=arm64",
        "update",
        "-o",
        "APT::Update::Error-Mode=any",
    ]


def test_lists_of_less_than_an_hour_ago_are_good_enough(root: AptRoot) -> None:
    assert not root.have_lists(["arm64"])
    root.update(["amd64", "arm64"])
    assert root.have_lists(["arm64"])
    assert not root.have_lists(["arm64", "riscv64"])
    old = (root.folder / "updated").stat().st_mtime - 3601
    os.utime(root.folder / "updated", (old, old))
    assert not root.have_lists(["arm64"])


def test_lists_that_cannot_be_fetched_are_an_error_with_the_first_reason(root: AptRoot, fake: Fake) -> None:
    err = "W: a warning\nE: Failed to fetch http://127.0.0.1/x  Could not connect\nE: Some index files failed"
    fake("apt-get", script(err=err, code=100))
    with pytest.raises(ToolError) as caught:
        root.update(["arm64"])
    assert caught.value.message == "package lists of trixie: Failed to fetch http://127.0.0.1/x  Could not connect"
    assert caught.value.hint == f"is the mirror reachable and does it carry trixie? {HINT}"
    assert not root.have_lists(["arm64"])


def test_the_date_is_the_newest_of_the_signed_files(root: AptRoot) -> None:
    with pytest.raises(ToolError, match="no release file has a date"):
        root.epoch()
    for name, date in (
        ("a_InRelease", "Sat, 06 Sep 2025 10:00:00 UTC"),
        ("b_Release", "Fri, 05 Sep 2025 10:00:00 UTC"),
    ):
        (root.folder / "lists" / name).write_text(f"Origin: Debian\nDate: {date}\nValid-Until: never\n")
    assert root.epoch() == 1757152800


# Answers.


def test_what_would_be_installed_is_read_in_its_order(root: AptRoot, fake: Fake, tmp_path: Path) -> None:
    out = """NOTE: This is only a simulation!
Inst libc6 (2.41-12 Debian:13.0/stable [arm64]) []
Inst bash (5.2.37-2+b5 Debian:13.0/stable, Debian-Security:13/stable [arm64])
Conf libc6 (2.41-12 Debian:13.0/stable [arm64])
Inst libstdc++6 (14.2.0-19 Debian:13.0/stable [arm64])"""
    fake("apt-get", script(out, keep=tmp_path / "words"))
    assert root.resolve(["bash", "?essential"], "arm64") == [
        ("libc6", "2.41-12"), ("bash", "5.2.37-2+b5"), ("libstdc++6", "14.2.0-19")
    ]  # fmt: skip
    words = (tmp_path / "words").read_text().splitlines()
    assert words[-6:] == ["install", "--simulate", "--no-install-recommends", "--yes", "bash", "?essential"]


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("", "E: Unable to locate package vmi", "Unable to locate package vmi"),
        (
            " a : Depends: b (>= 2) but it is not going to be installed\n x : Conflicts: y\n c : Depends: d",
            "E: Unable to correct problems, you have held broken packages.",
            "a : Depends: b (>= 2) but it is not going to be installed; x : Conflicts: y; c : Depends: d",
        ),
        ("", "dpkg: something\nbroke", "broke"),
        ("", "", "exited with code 100"),
    ],
)
def test_what_cannot_be_installed_is_an_error_of_the_recipe(
    root: AptRoot, fake: Fake, out: str, err: str, words: str
) -> None:
    fake("apt-get", script(out, err, 100))
    with pytest.raises(UsageError) as caught:
        root.resolve(["vmi"], "arm64")
    assert caught.value.message == f"packages for arm64: {words}"
    assert caught.value.hint == "looked for in trixie main contrib; check the names in the recipe"


def test_packages_go_into_a_lock_with_all_that_is_known(root: AptRoot, fake: Fake, tmp_path: Path) -> None:
    fake("apt-cache", script(f"{TZDATA}\n{BASH}", keep=tmp_path / "words"))
    bash, tzdata = root.lock([("bash", "5.2-1+b1"), ("tzdata:all", "2025b")], "arm64", "base")
    assert (tmp_path / "words").read_text().splitlines()[-4:] == [
        "show", "--no-all-versions", "bash=5.2-1+b1", "tzdata:all=2025b"
    ]  # fmt: skip
    assert bash.model_dump() == {
        "name": "bash",
        "version": "5.2-1+b1",
        "architecture": "arm64",
        "sha256": "aaaa",
        "size": 123,
        "source": "bash-src 5.2-1",
        "section": "shells",
        "path": "pool/main/b/bash/bash_5.2-1+b1_arm64.deb",
        "security": False,
        "group": "base",
    }
    assert (tzdata.source, tzdata.section, tzdata.security) == ("tzdata 2025b", "misc", True)


def test_a_package_without_a_record_is_named(root: AptRoot, fake: Fake) -> None:
    fake("apt-cache", script(BASH))
    with pytest.raises(ToolError, match=r"^package lists: no record of tzdata, vim$"):
        root.lock([("bash", "5.2-1+b1"), ("tzdata", "2025b"), ("vim", "9")], "arm64", "base")
    fake("apt-cache", script(err="E: No packages found", code=100))
    with pytest.raises(UsageError, match=r"^packages for arm64: No packages found$"):
        root.show(["vim"], "arm64")
    assert root.show([], "arm64") == []


def test_names_are_those_of_one_architecture(root: AptRoot, fake: Fake) -> None:
    fake("apt-cache", '[ "$1 $3" = "-oAPT::Architecture=amd64 pkgnames" ] && printf "bash\\nvim\\n"')
    assert root.names("amd64") == {"bash", "vim"}
