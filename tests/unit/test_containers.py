"""Containers of the runtimes: what is asked for, what of the root goes in, and what is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.containers import build as module
from cumulet_builder.containers.model import find_container, find_pins_file, find_version, load_container, make_request
from cumulet_builder.containers.tree import STATUS, drop_paths, find_closure, make_base_tree
from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.kubernetes.oci import list_images, make_image, make_layer, verify_archive, write_archive
from cumulet_builder.tree import Tree, write_tar

ALL = sorted(path.stem for path in (find_assets("recipes") / "containers").glob("*.yaml"))
RECORDS = """\
Package: base-files
Status: install ok installed

Package: bash
Depends: base-files

Package: libc6

Package: python3
Depends: python3-real (= 3), awk, gone | libc6 (>= 2)
Pre-Depends: dash

Package: dash

Package: python3-real
Depends: libc6

Package: mawk
Provides: awk
"""


@pytest.mark.parametrize("architecture", ["arm64", "amd64"])
@pytest.mark.parametrize("name", ALL)
def test_every_document_can_be_asked_for(name: str, architecture: str) -> None:
    path = find_container(name)
    recipe = load_container(path)
    request = make_request(recipe, architecture, "amd64", find_pins_file(recipe, path))
    assert recipe.container == name
    assert all("==" in word for word in request.wheels)
    assert find_version(request.wheels, recipe.names_version)
    assert ("qemu-user" in request.tools) is (architecture == "arm64")
    assert request.boot == request.extra == ()


def test_old_apps_get_the_python_that_tflite_runtime_has() -> None:
    path = find_container("runtime-tflite")
    recipe = load_container(path)
    request = make_request(recipe, "arm64", "amd64", find_pins_file(recipe, path))
    assert request.suite == "bookworm"
    assert request.wheels == ("numpy==1.26.4", "tflite-runtime==2.14.0")


def test_an_unknown_container_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        find_container("runtime-nccn")
    assert caught.value.message == "unknown container 'runtime-nccn'"
    assert caught.value.hint == "did you mean 'runtime-ncnn'?"


def test_what_is_asked_for_brings_what_it_depends_on_and_nothing_else() -> None:
    assert find_closure(RECORDS, ["python3"]) == {"python3", "python3-real", "mawk", "libc6", "dash"}
    assert find_closure(RECORDS, ["bash", "no-such"]) == {"bash", "base-files"}


def test_files_of_other_packages_and_of_the_package_manager_stay_out() -> None:
    root = Tree()
    root.file(STATUS, RECORDS)
    for path in ("/usr/bin/python3", "/bin/bash", "/etc/passwd", "/usr/lib/x/test.so", "/usr/bin/dpkg"):
        root.file(path, path)
    root.folder("/usr/share/empty")
    root.folder("/tmp", 0o1777)
    owners = {"python3": ["/usr/bin/python3"], "bash": ["/bin/bash"], "libc6:arm64": ["/usr/lib/x/test.so"]}
    tree = make_base_tree(root, owners, ["python3"])
    assert [path for path, node in tree.walk() if node.kind == "file"] == [
        "/etc/passwd",
        "/usr/bin/python3",
        "/usr/lib/x/test.so",
    ]
    assert "/usr/share/empty" not in tree.nodes
    assert tree.nodes["/tmp"].mode == 0o1777
    assert set(drop_paths(tree, ["/usr/lib/*.so", "/etc/*"]).nodes) == {"/tmp", "/usr/bin/python3"}


def test_files_of_packages_that_name_them_by_the_old_folders_are_found() -> None:
    root = Tree()
    root.file(STATUS, RECORDS)
    root.link("/bin", "usr/bin")
    for path in ("/usr/bin/sh", "/usr/bin/bash"):
        root.file(path, path)
    tree = make_base_tree(root, {"dash": ["/bin/sh"], "bash": ["/bin/bash"]}, ["python3"])
    assert {path for path, node in tree.walk() if node.kind != "folder"} == {"/bin", "/usr/bin/sh"}


def test_the_archive_is_published_with_its_name_digest_and_lock(tmp_path: Path) -> None:
    path = find_container("runtime-tflite")
    recipe = load_container(path)
    request = make_request(recipe, "arm64", "amd64", find_pins_file(recipe, path))
    lock = Lock(image="x", epoch=1, request=request, packages=(), wheels=())
    content = Tree()
    content.file("/a", "a")
    tar = tmp_path / "layer.tar"
    with tar.open("wb") as stream:
        write_tar(content, stream, 1)
    stage = tmp_path / "stage"
    stage.mkdir()
    image = make_image("cumulet.dev/runtime-tflite:2.14.0", [make_layer(tar, tar, "")], "arm64", module.SETTINGS)
    with (stage / module.ARCHIVE).open("wb") as stream:
        write_archive([image], stream, 1)
    for _ in range(2):
        built = module.publish(stage, lock, tmp_path / "out/x")
    about = json.loads((built.folder / "container.json").read_text())
    assert (about["name"], about["digest"], about["architecture"]) == (built.name, built.digest, "arm64")
    assert list_images(built.folder / module.ARCHIVE) == {built.name: built.digest}
    assert verify_archive(built.folder / module.ARCHIVE) == []
    assert len((built.folder / "sha256sums").read_text().splitlines()) == 3
    stages = module.make_stages(recipe, lock)
    assert [each.name for each in stages] == ["tools", "base", "packages", "sdk", "container"]
    assert "cumulet" not in stages[3].inputs["wheels"]
