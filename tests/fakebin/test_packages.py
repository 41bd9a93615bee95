"""The stages of packages: tools, base and what the recipe adds, with a fake namespace around the assembling."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian.lock import Group, Lock, LockedPackage, Request
from cumulet_builder.engines.debian.packages import jobs, make_package_stages, make_tools_stage
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Recipe

Fake = Callable[[str, str], Path]
Deb = Callable[..., Path]
Write = Callable[[str, str], Path]
EPOCH = 1_700_000_000
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
# Keeps the spec, and leaves what assembling leaves.
ASSEMBLE = """
for last; do :; done
work=${{last%/spec.json}}
cp "$last" {spec}
echo "unpack 1 packages"
echo tar > "$work/root.tar"
echo '{{}}' > "$work/owners.json"
mkdir "$work/root"
"""


def package(deb: Path, group: Group, cache: Cache) -> LockedPackage:
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    name = deb.name.split("_")[0]
    fields = {"name": name, "version": "1", "architecture": "all", "sha256": digest, "size": 1, "source": name}
    cache.add_file(deb, digest)
    return LockedPackage.model_validate({**fields, "section": "x", "path": f"pool/{deb.name}", "group": group})


def make_lock(*packages: LockedPackage) -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = {"suite": "trixie", "architecture": "arm64", "host_architecture": "amd64"}
    return Lock(image="edge", epoch=EPOCH, request=Request.model_validate({**nothing, **text}), packages=packages)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def recipe(write: Write) -> Recipe:
    return load_recipe(write("r.yaml", HEAD))


def run(stage: Stage, cache: Cache, **needs: Path) -> tuple[Path, str]:
    """The folder that a stage filled, and what it logged."""
    folder = cache.root.parent / f"made-{stage.name}"
    folder.mkdir()
    log = io.StringIO()
    stage.make(Workshop(folder, needs, cache, log, EPOCH))
    return folder, log.getvalue()


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_tools_tree_is_unpacked_and_nothing_else_is_left(make_deb: Deb, cache: Cache) -> None:
    debs = [make_deb("base-files", {"usr/bin": None}), make_deb("tool", {"usr/bin/tool": b"t", "usr/share/man/x": b""})]
    stage = make_tools_stage(make_lock(*(package(deb, "tools", cache) for deb in debs)))
    folder, _ = run(stage, cache)
    assert listing(folder) == {"tree"}
    assert (folder / "tree/usr/bin/tool").read_bytes() == b"t"
    assert not (folder / "tree/usr/share").exists()
    assert len(stage.files) == 2


def test_the_base_is_assembled_from_its_packages(
    make_deb: Deb, cache: Cache, recipe: Recipe, fake: Fake, tmp_path: Path
) -> None:
    fake("setpriv", ASSEMBLE.format(spec=tmp_path / "spec"))
    lock = make_lock(
        package(make_deb("bash", {"a": b""}), "base", cache),
        package(make_deb("vim", {"b": b""}), "extra", cache),
        package(make_deb("vim-twin", {"c": b""}), "twins", cache),
    )
    base, packages = make_package_stages(recipe.trim, lock)
    assert (base.name, base.needs, packages.name, packages.needs) == (
        "base", ("tools",), "packages", ("tools", "base")
    )  # fmt: skip
    folder, log = run(base, cache, tools=tmp_path / "tools")
    assert listing(folder) == {"root.tar", "owners.json"}
    assert "unpack 1 packages\n" in log
    spec = json.loads((tmp_path / "spec").read_text())
    assert [Path(deb).name for deb in spec["debs"]] == ["bash_1_all.deb"]
    assert (spec["twins"], spec["start"], spec["tools"]) == ([], "", str(tmp_path / "tools/tree"))
    assert (spec["target"], spec["host"], spec["epoch"]) == ("arm64", "amd64", EPOCH)
    run(packages, cache, tools=tmp_path / "tools", base=folder)
    spec = json.loads((tmp_path / "spec").read_text())
    assert [Path(deb).name for deb in (*spec["debs"], *spec["twins"])] == ["vim_1_all.deb", "vim-twin_1_all.deb"]
    assert spec["start"] == str(folder)
    assert list((cache.root / "tmp").iterdir()) == []


def test_without_more_packages_the_base_is_the_result(cache: Cache, recipe: Recipe, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("root.tar", "owners.json"):
        (base / name).write_text(name)
    _, packages = make_package_stages(recipe.trim, make_lock())
    folder, _ = run(packages, cache, base=base)
    assert {name: (folder / name).read_text() for name in listing(folder)} == {
        "root.tar": "root.tar", "owners.json": "owners.json"
    }  # fmt: skip


def test_stages_know_what_decides_them(make_deb: Deb, cache: Cache, recipe: Recipe, write: Write) -> None:
    one, other = (package(make_deb(name, {"a": name.encode()}), "base", cache) for name in ("one", "other"))
    base, packages = make_package_stages(recipe.trim, make_lock(one))
    changed, untouched = make_package_stages(recipe.trim, make_lock(other))
    assert base.files == (one.sha256,)
    assert {name for name in base.inputs if base.inputs[name] != changed.inputs[name]} == {"packages"}
    assert packages.inputs == untouched.inputs
    with_documentation = load_recipe(write("d.yaml", f"{HEAD}trim: {{documentation: false}}\n"))
    other_base, _ = make_package_stages(with_documentation.trim, make_lock(one))
    assert {name for name in base.inputs if base.inputs[name] != other_base.inputs[name]} == {"documentation"}
    later = make_lock(one).model_copy(update={"epoch": EPOCH + 1})
    assert make_package_stages(recipe.trim, later)[0].inputs["epoch"] != base.inputs["epoch"]


@pytest.mark.parametrize(
    ("script", "message", "hint"),
    [
        (
            'echo \'{"message": "bash.postinst exited with code 1", "hint": ""}\' >&2; exit 3',
            "bash.postinst exited with code 1",
            "the whole output is in the build log",
        ),
        ('echo \'{"message": "x", "hint": "do y"}\' >&2; exit 2', "x", "do y"),
        (
            'echo noise >&2; echo \'{"message": "/w: x", "hint": "", "errno": 28}\' >&2; exit 3',
            "no space left on this disk",
            "free some space, or name another folder: --cache, --out",
        ),
        ("echo 'unshare: no permission' >&2; exit 1", "unshare: no permission", "its whole output is in the build log"),
        ("exit 1", "assembling exited with code 1", "its whole output is in the build log"),
    ],
)
def test_errors_of_assembling_are_told_as_they_are(
    cache: Cache, recipe: Recipe, fake: Fake, tmp_path: Path, script: str, message: str, hint: str
) -> None:
    fake("setpriv", f"echo output; {script}")
    base, _ = make_package_stages(recipe.trim, make_lock())
    log = io.StringIO()
    (tmp_path / "made").mkdir()
    with pytest.raises(ToolError) as caught:
        base.make(Workshop(tmp_path / "made", {"tools": tmp_path}, cache, log, EPOCH))
    assert message in caught.value.message
    assert caught.value.hint == hint
    assert "output\n" in log.getvalue()
    assert listing(tmp_path / "made") == set()
    assert list((cache.root / "tmp").iterdir()) == []


def test_there_is_always_somebody_to_unpack() -> None:
    assert jobs() >= 1
