"""A root from package files, with everything but the packages' own scripts for real."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.engines.debian import assemble
from cumulet_builder.engines.debian.assemble import Assembly, write_spec
from cumulet_builder.engines.debian.configure import Mixture
from cumulet_builder.tree import Tree, read_tar

Deb = Callable[..., Path]
EPOCH = 1_700_000_000


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Mixture, list[str]]]:
    """What was configured; instead of scripts, one thing is left behind that must not be packed."""
    seen: list[tuple[Mixture, list[str]]] = []

    def configure(mixture: Mixture, names: Sequence[str], epoch: int, log: IO[str]) -> None:
        assert epoch == EPOCH
        seen.append((mixture, list(names)))
        (mixture.root / "etc").mkdir(exist_ok=True)
        (mixture.root / "etc/machine-id").write_text(os.urandom(8).hex())
        (mixture.root / f"etc/made-{len(seen)}").write_text("by a script")

    monkeypatch.setattr(assemble, "configure", configure)
    return seen


@pytest.fixture
def spec(tmp_path: Path, make_deb: Deb) -> Assembly:
    (tmp_path / "tools/usr/bin").mkdir(parents=True)
    (tmp_path / "tools/usr/bin/tool").write_text("of the tools")
    debs = [
        make_deb("zlib", {"usr": None, "usr/lib": None, "usr/lib/z": b"z"}, control={"preinst": "#!/bin/sh\n"}),
        make_deb("bash", {"usr/bin": None, "usr/bin/bash": b"b"}, control={"preinst": "#!/bin/sh\n"}),
        make_deb("base-files", {"usr/bin": None, "bin": "-> usr/bin", "tmp": None}),
        make_deb("doc", {"usr/share/doc/doc/copyright": b"MIT", "usr/share/doc/doc/README": b"x"}),
    ]
    (tmp_path / "work").mkdir()
    return Assembly(
        work=str(tmp_path / "work"),
        debs=tuple(map(str, debs)),
        start="",
        twins=(),
        tools=str(tmp_path / "tools"),
        target="arm64",
        host="amd64",
        epoch=EPOCH,
        documentation=True,
        locales=True,
        jobs=1,
    )


def run(spec: Assembly) -> Tree:
    Path(spec.work).mkdir(exist_ok=True)
    assemble.assemble(spec, io.StringIO())
    return read_tar(Path(spec.work, "root.tar"))


Configured = list[tuple[Mixture, list[str]]]


def test_packages_become_a_tree_with_owners(spec: Assembly, configured: Configured) -> None:
    tree = run(spec)
    assert tree.read("/usr/bin/bash") == b"b"
    assert tree.read("/etc/made-1") == b"by a script"
    assert "/etc/machine-id" not in tree.nodes
    assert "Package: zlib" in tree.read("/var/lib/dpkg/status").decode()
    owners = json.loads(Path(spec.work, "owners.json").read_text())
    assert owners["bash"] == ["/usr/bin", "/usr/bin/bash"]
    assert owners["doc"] == ["/usr/share/doc/doc/copyright"]


def test_preinst_scripts_run_in_the_order_of_the_packages_names(spec: Assembly, configured: Configured) -> None:
    run(spec)
    mixture, names = configured[0]
    assert names == ["bash", "zlib"]
    assert (mixture.target, mixture.host, mixture.tools) == ("arm64", "amd64", Path(spec.tools))


def test_the_same_packages_make_the_same_bytes_in_any_order(spec: Assembly, configured: Configured) -> None:
    run(spec)
    other = replace(spec, work=f"{spec.work}-2", debs=tuple(reversed(spec.debs)), jobs=2)
    configured.clear()
    run(other)
    for name in ("root.tar", "owners.json"):
        assert Path(spec.work, name).read_bytes() == Path(other.work, name).read_bytes()


def test_more_packages_go_on_top_of_an_earlier_root(spec: Assembly, configured: Configured, make_deb: Deb) -> None:
    run(spec)
    vim = make_deb("vim", {"usr/bin": None, "usr/bin/vim": b"v"}, control={"preinst": "#!/bin/sh\n"})
    tree = run(replace(spec, work=f"{spec.work}-2", debs=(str(vim),), start=spec.work))
    assert tree.read("/usr/bin/bash") == b"b"
    assert tree.read("/usr/bin/vim") == b"v"
    assert tree.nodes["/bin"].kind == "link"
    assert configured[1][1] == ["vim"]
    status = tree.read("/var/lib/dpkg/status").decode()
    assert [status.count(f"Package: {name}\n") for name in ("bash", "vim")] == [1, 1]
    owners = json.loads(Path(f"{spec.work}-2", "owners.json").read_text())
    assert {"bash", "vim"} <= set(owners)


def test_native_twins_go_into_a_copy_of_the_tools(spec: Assembly, configured: Configured, make_deb: Deb) -> None:
    twin = make_deb("twin", {"usr/bin/twin": b"t", "usr/bin/tool": b"other"})
    run(replace(spec, twins=(str(twin),)))
    tools = configured[0][0].tools
    assert tools == Path(spec.work, "tools")
    assert (tools / "usr/bin/twin").read_bytes() == b"t"
    assert (tools / "usr/bin/tool").read_bytes() == b"other"
    assert (Path(spec.tools) / "usr/bin/tool").read_text() == "of the tools"
    assert not (Path(spec.tools) / "usr/bin/twin").exists()


# As a program.


@pytest.fixture
def umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The umask of a careful user; namespaces and signals of this process are left alone."""
    monkeypatch.setattr(assemble.sandbox, "make_private", lambda: None)
    monkeypatch.setattr(assemble.sandbox, "end_at_sigterm", lambda: None)
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_no_mode_depends_on_the_umask_of_who_builds(spec: Assembly, configured: Configured, umask: None) -> None:
    write_spec(spec, Path(spec.work, "spec.json"))
    assert assemble.main([f"{spec.work}/spec.json"]) == 0
    tree = read_tar(Path(spec.work, "root.tar"))
    modes = {path: stat.S_IMODE(tree.nodes[path].mode) for path in ("/usr/share/doc", "/var/lib/dpkg", "/etc/made-1")}
    assert modes == {"/usr/share/doc": 0o755, "/var/lib/dpkg": 0o755, "/etc/made-1": 0o644}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ToolError("postinst exited with code 1", hint="x"), {"message": "postinst exited with code 1", "hint": "x"}),
        (
            OSError(28, "No space left on device", "/w"),
            {"message": "/w: No space left on device", "hint": "", "errno": 28},
        ),
        (OSError("strange"), {"message": "strange", "hint": "", "errno": None}),
    ],
)
def test_errors_leave_as_one_line_that_a_program_can_read(
    spec: Assembly,
    umask: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: object,
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr(assemble, "configure", breaks)
    write_spec(spec, Path(spec.work, "spec.json"))
    assert assemble.main([f"{spec.work}/spec.json"]) == 3
    assert json.loads(capsys.readouterr().err) == told
