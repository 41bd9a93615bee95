"""k3s from its release, against a server on this machine with stand-in files; and the command that pins a release."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.cli import main
from cumulet_builder.kubernetes import make_stages
from cumulet_builder.kubernetes.inventory import Component, load_components
from cumulet_builder.kubernetes.k3s import check_sums, make_url, read_sums
from cumulet_builder.kubernetes.pins import K3sPin, load_pin
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Kubernetes
from cumulet_builder.tree import Tree, read_tar

Server = Any  # of conftest.py
RECIPES = Path(__file__).parents[2] / "recipes"
RELEASE = "v1.36.2+k3s1"
PATH = "/v1.36.2%2Bk3s1/"
BINARY, IMAGES, SUMS = "k3s-arm64", "k3s-airgap-images-arm64.tar.zst", "sha256sum-arm64.txt"
FILES = {BINARY: b"\x7fELF" + bytes(range(256)) * 1200, IMAGES: b"\x28\xb5\x2f\xfd" + b"images" * 5000}
OTHERS = {"k3s": b"amd64", "k3s-airgap-images-amd64.tar.zst": b"more images"}
EPOCH = 1_700_000_000


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def server(server: Any) -> Any:
    """The server of conftest.py with both architectures of a release."""
    files = FILES | OTHERS
    for sums, listed in ((SUMS, FILES), ("sha256sum-amd64.txt", OTHERS)):
        files[sums] = "".join(f"{sha256(data)}  {name}\n" for name, data in listed.items()).encode()
    server.files = {PATH + name: data for name, data in files.items()}
    return server


@pytest.fixture
def recipes(tmp_path: Path, server: Server) -> Path:
    """A folder of recipes with the bundled pin of k3s, its address that of the server."""
    folder = tmp_path / "recipes/kubernetes/k3s"
    folder.mkdir(parents=True)
    bundled = RECIPES / "kubernetes/k3s"
    document = yaml.safe_load((bundled / f"{RELEASE}.yaml").read_text())
    (folder / f"{RELEASE}.yaml").write_text(yaml.safe_dump({**document, "base": f"{server.url}/"}, sort_keys=False))
    (folder / document["flags"]).write_text((bundled / document["flags"]).read_text())
    return tmp_path / "recipes"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def write_digests(recipes: Path, **changes: str) -> None:
    """Pin the files of arm64."""
    path = recipes / "kubernetes/k3s" / f"{RELEASE}.yaml"
    document = yaml.safe_load(path.read_text())
    pinned = {"binary_sha256": sha256(FILES[BINARY]), "images_sha256": sha256(FILES[IMAGES])}
    document["assets"]["arm64"] |= pinned | changes
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def make_stage(recipes: Path, **settings: Any) -> Stage:
    recipe = load_recipe(RECIPES / "images/qemu-arm64-k3s.yaml")
    changed = recipe.model_copy(update={"kubernetes": Kubernetes(distribution="k3s", **settings)})
    (stage,) = make_stages(changed, Surroundings(recipes, lambda workshop: pytest.fail("no tools are wanted")))
    return stage


def run(stage: Stage, cache: Cache) -> Path:
    """Make a stage as a build does; its folder."""
    with cache.making(stage.name, "key", stage.inputs) as folder:
        stage.make(Workshop(folder, {}, cache, io.StringIO(), EPOCH))
    return cache.stage(stage.name, "key")


def images_of(tree: Tree) -> list[str]:
    return [path for path in tree.nodes if path.startswith("/usr/share/cumulet/images/")]


# A release becomes a layer of the image


def test_release_is_verified_and_becomes_a_layer(server: Server, recipes: Path, cache: Cache) -> None:
    write_digests(recipes)
    folder = run(make_stage(recipes, source="release"), cache)
    tree = read_tar(folder / "kubernetes.tar")
    program, archive = tree.nodes["/usr/bin/k3s"], f"/usr/share/cumulet/images/{sha256(FILES[IMAGES])[:16]}-{IMAGES}"
    assert (program.kind, program.mode, tree.read("/usr/bin/k3s")) == ("file", 0o755, FILES[BINARY])
    assert images_of(tree) == [archive]
    assert tree.read(archive) == FILES[IMAGES]
    assert tree.nodes["/usr/bin/kubectl"].target == "k3s"
    assert tree.nodes["/etc/systemd/system/multi-user.target.wants/k3s.service"].target == (
        "/usr/lib/systemd/system/k3s.service"
    )
    assert tree.nodes["/usr/lib/cumulet/kubernetes-setup"].mode == 0o755
    settings = yaml.safe_load(tree.read("/usr/share/cumulet/kubernetes/k3s-single.yaml"))
    assert (settings["cluster-init"], settings["cluster-cidr"]) == (True, "10.42.0.0/16")
    assert {"/var/lib/rancher", "/var/lib/kubelet"} <= {p for p, node in tree.nodes.items() if node.kind == "folder"}
    assert [*read_tar(folder / "data.tar").nodes] == ["/state", "/state/rancher"]
    assert load_components(folder / "inventory.json") == [
        Component(IMAGES, RELEASE, "file", "NOASSERTION", sha256(FILES[IMAGES])),
        Component("k3s", RELEASE, "program", "Apache-2.0", sha256(FILES[BINARY])),
    ]
    assert {path for path, _ in server.asked} == {PATH + name for name in (SUMS, BINARY, IMAGES)}


def test_second_run_asks_for_nothing_and_makes_the_same_bytes(server: Server, recipes: Path, cache: Cache) -> None:
    write_digests(recipes)
    stage = make_stage(recipes)
    first = {path.name: path.read_bytes() for path in run(stage, cache).iterdir()}
    asked = len(server.asked)
    assert {path.name: path.read_bytes() for path in run(stage, cache).iterdir()} == first
    assert len(server.asked) == asked


def test_a_list_of_checksums_that_differs_from_the_pin_stops_before_any_download(
    server: Server, recipes: Path, cache: Cache
) -> None:
    write_digests(recipes)
    server.files[PATH + SUMS] = f"{'0' * 64}  {BINARY}\n".encode()
    with pytest.raises(ToolError) as caught:
        run(make_stage(recipes), cache)
    assert caught.value.message == (
        f"{SUMS}: {BINARY}: the release says sha256 {'0' * 64}, the pin says {sha256(FILES[BINARY])}"
    )
    assert caught.value.hint == "do not trust this download; compare with the release page"
    assert [path for path, _ in server.asked] == [PATH + SUMS]


def test_wrong_bytes_are_removed_and_nothing_is_published(server: Server, recipes: Path, cache: Cache) -> None:
    write_digests(recipes)
    server.files[PATH + BINARY] = FILES[BINARY][:-1] + b"!"
    with pytest.raises(ToolError, match="wrong checksum: expected sha256") as caught:
        run(make_stage(recipes), cache)
    assert caught.value.hint == "the file was removed; run the same command again"
    digest = sha256(FILES[BINARY])
    assert not cache.have_file(digest)
    assert not (cache.root / "parts" / f"{digest}.part").exists()
    assert not cache.have_stage("kubernetes", "key")
    server.files[PATH + BINARY] = FILES[BINARY]
    assert (run(make_stage(recipes), cache) / "kubernetes.tar").is_file()


def test_a_download_that_was_cut_off_goes_on_where_it_stopped(server: Server, recipes: Path, cache: Cache) -> None:
    write_digests(recipes)
    server.breaks[PATH + BINARY] = 200_000
    with pytest.raises(ToolError, match="HTTP 404"):
        run(make_stage(recipes), cache)
    assert not cache.have_stage("kubernetes", "key")
    server.breaks.clear()
    server.asked.clear()
    assert (run(make_stage(recipes), cache) / "kubernetes.tar").is_file()
    (start,) = [int(wanted[6:-1]) for path, wanted in server.asked if path == PATH + BINARY]
    assert 100_000 < start <= 200_000


def test_a_release_that_is_not_there_is_one_line(server: Server, recipes: Path, cache: Cache) -> None:
    write_digests(recipes)
    server.files.clear()
    with pytest.raises(ToolError, match=rf"{server.url}{PATH}{SUMS}: cannot be read: HTTP 404"):
        run(make_stage(recipes), cache)


def test_everything_that_decides_the_result_is_in_its_key(recipes: Path) -> None:
    write_digests(recipes)
    first = make_stage(recipes).inputs
    assert {"code", "release", "setup", BINARY, IMAGES} == set(first)
    assert make_stage(recipes, pod_cidr="10.99.0.0/16").inputs["setup"] != first["setup"]
    write_digests(recipes, images_sha256="1" * 64)
    assert make_stage(recipes).inputs[IMAGES] == "1" * 64


# What is refused before anything runs


def test_the_hint_for_missing_checksums_works(
    recipes: Path, cache: Cache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as caught:
        make_stage(recipes)
    pin = recipes / f"kubernetes/k3s/{RELEASE}.yaml"
    assert caught.value.message == f"{pin}: no SHA-256 of {BINARY}, so a download could not be verified"
    command, _, setting = caught.value.hint.partition(", or ")
    assert (command, setting) == (f"cumulet pin k3s {RELEASE}", "kubernetes.source: file")
    monkeypatch.setattr("cumulet_builder.assets.find_assets", lambda name: recipes)
    assert main([*command.split()[1:], "--yes"]) == 0
    assert (run(make_stage(recipes), cache) / "kubernetes.tar").is_file()


def test_a_setting_without_a_flag_stops_the_build(recipes: Path) -> None:
    write_digests(recipes)
    path = recipes / "kubernetes/k3s/flags-v1.36.yaml"
    path.write_text(path.read_text().replace("  - node-name\n", "  - node-names\n"))
    with pytest.raises(UsageError, match="4 problems") as caught:
        make_stage(recipes)
    assert str(caught.value.problems[-1]) == (
        "k3s server (single): unknown setting 'node-name'\n  did you mean 'node-names'?"
    )


def test_a_pin_without_this_architecture_is_an_error_of_the_user(recipes: Path) -> None:
    path = recipes / f"kubernetes/k3s/{RELEASE}.yaml"
    document = yaml.safe_load(path.read_text())
    del document["assets"]["arm64"]
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(UsageError, match="names no files for arm64"):
        make_stage(recipes)


def test_k3s_does_not_come_from_modules(recipes: Path) -> None:
    with pytest.raises(UsageError, match="k3s cannot come from 'modules'") as caught:
        make_stage(recipes, source="modules")
    assert caught.value.hint == "set it to release or file"


# The same files from disk


def test_files_of_this_computer_become_the_same_layer(recipes: Path, cache: Cache, server: Server) -> None:
    write_digests(recipes)
    released = (run(make_stage(recipes), cache) / "kubernetes.tar").read_bytes()
    paths = {what: recipes.parent / name for what, name in (("binary", BINARY), ("images", IMAGES))}
    for path in paths.values():
        path.write_bytes(FILES[path.name])
    asked = len(server.asked)
    stage = make_stage(recipes, source="file", files={what: str(path) for what, path in paths.items()})
    assert (run(stage, cache) / "kubernetes.tar").read_bytes() == released
    assert len(server.asked) == asked
    renamed = paths["images"].rename(paths["images"].with_name("mine.tar"))
    other = make_stage(recipes, source="file", files={"binary": str(paths["binary"]), "images": str(renamed)})
    assert other.inputs != stage.inputs
    assert images_of(read_tar(run(other, cache) / "kubernetes.tar"))[0].endswith("-mine.tar")


def test_every_problem_with_the_files_is_named(recipes: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        make_stage(recipes, source="file", files={"binary": str(tmp_path / "none")})
    assert [each.file for each in caught.value.problems] == ["kubernetes.files.binary", "kubernetes.files.images"]
    odd = tmp_path / "images.zst"
    odd.write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        make_stage(recipes, source="file", files={"binary": str(odd), "images": str(odd)})
    assert caught.value.message == f"kubernetes.files.images: {odd}: k3s imports no file of this name"


# cumulet pin


def pin_with(recipes: Path, server: Server, *words: str, version: str = RELEASE) -> int:
    return main(["pin", "k3s", version, "--recipes", str(recipes), "--base", server.url, *words])


def test_pin_shows_the_checksums_and_writes_them(
    server: Server, recipes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipes / f"kubernetes/k3s/{RELEASE}.yaml"
    assert pin_with(recipes, server, "--yes") == 0
    shown = [f"{sha256(data)}  {name}" for name, data in (FILES | OTHERS).items()]
    assert capsys.readouterr().out.splitlines() == [*shown, f"{path}: written"]
    pin = load_pin(recipes, "k3s", RELEASE)
    assert isinstance(pin, K3sPin)
    assert pin.assets["arm64"].images_sha256 == sha256(FILES[IMAGES])
    assert pin.assets["amd64"].binary_sha256 == sha256(OTHERS["k3s"])
    assert pin.base == f"{server.url}/"
    before = path.stat().st_mtime_ns
    assert pin_with(recipes, server) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{path}: up to date"
    assert path.stat().st_mtime_ns == before


def test_pin_asks_first(server: Server, recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipes / f"kubernetes/k3s/{RELEASE}.yaml"
    before = path.read_text()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert pin_with(recipes, server) == 0
    assert path.read_text() == before
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert pin_with(recipes, server) == 0
    assert path.read_text().startswith(f"# A release of k3s. Its checksums were written by `cumulet pin k3s {RELEASE}`")


def test_pin_answers_in_json(server: Server, recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(recipes / f"kubernetes/k3s/{RELEASE}.yaml")
    files = {name: sha256(data) for name, data in (FILES | OTHERS).items()}
    for words, written in (((), False), (("--yes",), True), (("--yes",), False)):
        assert pin_with(recipes, server, "--json", *words) == 0
        assert json.loads(capsys.readouterr().out) == {"pin": path, "files": files, "written": written}


def test_pin_of_a_new_release_starts_from_the_newest(server: Server, recipes: Path) -> None:
    for path, data in [*server.files.items()]:
        server.files[path.replace("1.36.2", "1.36.9")] = data
    assert pin_with(recipes, server, "--yes", version="1.36.9+k3s1") == 0
    pin = load_pin(recipes, "k3s")
    assert isinstance(pin, K3sPin)
    assert (pin.release, pin.flags) == ("v1.36.9+k3s1", "flags-v1.36.yaml")
    assert make_stage(recipes).inputs["release"] == "v1.36.9+k3s1"


def test_pin_refuses_what_is_no_release(server: Server, recipes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("../../etc/passwd", "v1.36.2", "latest"):
        assert pin_with(recipes, server, "--yes", version=version) == 2
        assert "not a release of k3s" in capsys.readouterr().err
    assert server.asked == []
    server.files[PATH + SUMS] = b"<html>not  found</html>\n"
    assert pin_with(recipes, server, "--yes") == 3
    assert f"{SUMS}: no checksum of {BINARY}, {IMAGES}" in capsys.readouterr().err


def test_addresses_and_lists_are_read_as_the_release_writes_them() -> None:
    pin = load_pin(RECIPES, "k3s", RELEASE)
    assert isinstance(pin, K3sPin)
    assert make_url(pin, BINARY).endswith("/k3s-io/k3s/releases/download/v1.36.2%2Bk3s1/k3s-arm64")
    text = f"{'A' * 64}  one\n{'b' * 64} *two\n{'c' * 63}  short\n\n# {'d' * 64}  three\n"
    assert read_sums(text) == {"one": "a" * 64, "two": "b" * 64}
    check_sums(text, {"one": "a" * 64}, SUMS)
    with pytest.raises(ToolError, match="short: the release says sha256 nothing, the pin says"):
        check_sums(text, {"short": "c" * 64}, SUMS)
