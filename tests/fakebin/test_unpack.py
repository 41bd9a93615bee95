"""Package files onto a folder: what lands where, and dpkg's database beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from debian.deb822 import Deb822

from cumulet_builder.engines.debian.trim import want_unpacked
from cumulet_builder.engines.debian.unpack import unpack, unpack_all, write_database

Deb = Callable[..., Path]
WANT = partial(want_unpacked, documentation=True, locales=True)


def want_all(path: str) -> bool:
    return True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_files_folders_and_links_land_in_the_root(make_deb: Deb, root: Path) -> None:
    deb = make_deb(
        "tool",
        {"usr": None, "usr/bin": None, "usr/bin/tool": b"tool", "usr/bin/t": "-> tool", "usr/bin/u": "= usr/bin/tool"},
    )
    done = unpack(deb, root, want_all)
    assert done.name == "tool"
    assert done.paths == ("/usr", "/usr/bin", "/usr/bin/tool", "/usr/bin/t", "/usr/bin/u")
    assert (root / "usr/bin/tool").read_bytes() == b"tool"
    assert str((root / "usr/bin/t").readlink()) == "tool"
    assert (root / "usr/bin/u").samefile(root / "usr/bin/tool")
    assert not done.needs_configuring


def test_documentation_is_refused_and_the_licence_stays(make_deb: Deb, root: Path) -> None:
    files = {
        "usr/share/doc/tool": None,
        "usr/share/doc/tool/README": b"long",
        "usr/share/doc/tool/copyright": b"MIT",
        "usr/share/man/man1/tool.1": b"manual",
    }
    done = unpack(make_deb("tool", files), root, WANT)
    assert [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()] == [
        "usr/share/doc/tool/copyright"
    ]
    assert done.paths == ("/usr/share/doc/tool/copyright",)


def test_a_hard_link_to_something_refused_is_the_file_itself(make_deb: Deb, root: Path) -> None:
    links = {"usr/bin/b": "= usr/share/man/a", "usr/bin/c": "= usr/share/man/a"}
    files = {"usr/share/man/a": b"text", "usr/bin": None, **links}
    done = unpack(make_deb("tool", files), root, WANT)
    assert done.paths == ("/usr/bin", "/usr/bin/b", "/usr/bin/c")
    assert [(root / f"usr/bin/{name}").read_bytes() for name in "bc"] == [b"text", b"text"]
    assert not (root / "usr/share").exists()


def test_a_later_package_overwrites_a_path_and_not_what_was_linked_to_it(make_deb: Deb, root: Path) -> None:
    unpack(make_deb("one", {"a": b"old", "b": "= a", "link": "-> a"}), root, want_all)
    unpack(make_deb("two", {"a": b"new", "link": b"a file now"}), root, want_all)
    assert (root / "a").read_bytes() == b"new"
    assert (root / "b").read_bytes() == b"old"
    assert (root / "link").read_bytes() == b"a file now"
    assert not (root / "link").is_symlink()


def test_what_is_linked_to_the_same_file_elsewhere_is_not_written_through(make_deb: Deb, root: Path) -> None:
    """The tools tree is a copy of links: its files are those of the cache."""
    kept = root.parent / "kept"
    kept.write_bytes(b"kept")
    (root / "usr/bin").mkdir(parents=True)
    for name in ("a", "b"):
        (root / f"usr/bin/{name}").hardlink_to(kept)
    unpack(
        make_deb("tool", {"usr/share/man/x": b"new", "usr/bin/a": "= usr/share/man/x", "usr/bin/b": b"new"}), root, WANT
    )
    assert [(root / f"usr/bin/{name}").read_bytes() for name in "ab"] == [b"new", b"new"]
    assert kept.read_bytes() == b"kept"


def test_unpacking_again_changes_nothing(make_deb: Deb, root: Path) -> None:
    deb = make_deb("tool", {"usr": None, "usr/a": b"a", "usr/b": "= usr/a", "usr/c": "-> a"})
    first = unpack(deb, root, want_all)
    assert unpack(deb, root, want_all) == first
    assert (root / "usr/b").samefile(root / "usr/a")


@pytest.mark.parametrize("target", ["usr/bin", "/usr/bin", "../../../../usr/bin"])
def test_links_on_the_way_lead_to_places_of_the_root(make_deb: Deb, root: Path, target: str) -> None:
    unpack(make_deb("base-files", {"usr/bin": None, "bin": f"-> {target}"}), root, want_all)
    done = unpack(make_deb("tool", {"bin": None, "bin/x": b"x", "bin/y": "= bin/x"}), root, want_all)
    assert (root / "usr/bin/x").read_bytes() == b"x"
    assert (root / "usr/bin/y").samefile(root / "usr/bin/x")
    assert str((root / "bin").readlink()) == target
    assert done.paths == ("/bin", "/bin/x", "/bin/y")


def test_nothing_is_written_outside_of_the_root(make_deb: Deb, root: Path) -> None:
    outside = root.parent / "outside"
    outside.mkdir(mode=0o700)
    unpack(make_deb("base-files", {"var/run": f"-> {outside}"}), root, want_all)
    unpack(make_deb("tool", {"var/run": None, "var/run/x": b"x", "var/run/deep/y": b"y"}), root, want_all)
    assert list(outside.iterdir()) == []
    assert outside.stat().st_mode & 0o777 == 0o700
    assert (root / str(outside)[1:] / "deep/y").read_bytes() == b"y"


def test_a_link_to_a_folder_that_comes_later_is_followed_too(make_deb: Deb, root: Path) -> None:
    unpack(make_deb("base-files", {"var/run": "-> /no-such-folder-here"}), root, want_all)
    done = unpack(make_deb("tool", {"var/run": None, "var/run/x": b"x"}), root, want_all)
    assert (root / "no-such-folder-here/x").read_bytes() == b"x"
    assert (root / "var/run").is_symlink()
    assert done.paths == ("/var/run", "/var/run/x")


# All packages.


def test_the_package_with_the_top_links_is_first_and_the_result_is_sorted(make_deb: Deb, root: Path) -> None:
    debs = [
        make_deb("zsh", {"bin/zsh": b"z"}),
        make_deb("apt", {"bin/apt": b"a"}),
        make_deb("base-files", {"usr/bin": None, "bin": "-> usr/bin"}),
    ]
    done = unpack_all(debs, root, want_all, jobs=2)
    assert [each.name for each in done] == ["apt", "base-files", "zsh"]
    assert sorted(path.name for path in (root / "usr/bin").iterdir()) == ["apt", "zsh"]


@pytest.mark.parametrize(("architecture", "more"), [("arm64", set()), ("amd64", {"lib64"})])
def test_links_that_a_release_does_not_bring_are_made(
    architecture: str, more: set[str], make_deb: Deb, root: Path
) -> None:
    folders = {"bin": None, "sbin": None, "lib": None, "usr": None, "usr/bin": None}
    debs = [
        make_deb("zsh", {"bin": None, "bin/zsh": b"z", "lib": None, "lib/z.so": b"s"}),
        make_deb("base-files", folders, fields=f"Architecture: {architecture}\n"),
    ]
    done = unpack_all(debs, root, want_all, jobs=1)
    links = {path.name: str(path.readlink()) for path in root.iterdir() if path.is_symlink()}
    assert links == {name: f"usr/{name}" for name in {"bin", "sbin", "lib"} | more}
    assert (root / "usr/bin/zsh").read_bytes() == b"z"
    assert (root / "usr/lib/z.so").read_bytes() == b"s"
    # dpkg's own lists say what the packages say.
    assert "/bin/zsh" in done[1].paths


def test_no_packages_are_no_work(root: Path) -> None:
    assert unpack_all([], root, want_all, jobs=1) == []


# dpkg's database.


def test_the_database_says_what_is_left_to_configure(make_deb: Deb, root: Path) -> None:
    done = [
        unpack(make_deb("plain", {"a": b""}), root, want_all),
        unpack(
            make_deb(
                "scripted",
                {"b": b"", "usr/share/doc/x": b""},
                control={"postinst": "#!/bin/sh\n", "conffiles": "/b\n", "strange": "x"},
                fields="Architecture: arm64\nMulti-Arch: same\n",
            ),
            root,
            WANT,
        ),
    ]
    write_database(done, root)
    base = root / "var/lib/dpkg"
    plain, scripted = Deb822.iter_paragraphs((base / "status").read_text(), use_apt_pkg=False)
    assert (plain["Status"], scripted["Status"]) == ("install ok installed", "install ok unpacked")
    assert scripted["Architecture"] == "arm64"
    assert plain["Description"] == "x\n more"
    assert {path.name for path in (base / "info").iterdir()} == {
        "format", "plain.list", "scripted:arm64.list", "scripted:arm64.postinst", "scripted:arm64.conffiles"
    }  # fmt: skip
    assert (base / "info/scripted:arm64.list").read_text() == "/.\n/b\n"
    assert (base / "info/scripted:arm64.postinst").stat().st_mode & 0o777 == 0o755
    assert (base / "info/scripted:arm64.conffiles").stat().st_mode & 0o777 == 0o644
    assert (base / "info/format").read_text() == "1\n"


def test_a_second_write_goes_on_where_the_first_stopped(make_deb: Deb, root: Path) -> None:
    for name in ("one", "two"):
        write_database([unpack(make_deb(name, {name: b""}), root, want_all)], root)
    stanzas = Deb822.iter_paragraphs((root / "var/lib/dpkg/status").read_text(), use_apt_pkg=False)
    assert [each["Package"] for each in stanzas] == ["one", "two"]


def test_dpkg_itself_reads_the_database(make_deb: Deb, root: Path, need: Callable[[str], str]) -> None:
    from cumulet.core import proc

    done = [unpack(make_deb("tool", {"usr": None, "usr/a": b""}), root, want_all)]
    write_database(done, root)
    listed = proc.run([need("dpkg"), f"--admindir={root}/var/lib/dpkg", "-L", "tool"])
    assert listed.out.split() == ["/.", "/usr", "/usr/a"]
    query = [need("dpkg-query"), f"--admindir={root}/var/lib/dpkg", "-W", "-f", "${Package} ${Version} ${Status}"]
    assert proc.run(query).out == "tool 1 install ok installed"
