"""Reading a published folder for QEMU: what is found, and what is said when it is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cumulet.core.errors import UsageError
from cumulet_qemu.nodefile import load_document, make_document
from cumulet_qemu.published import Cluster, find_image, load_published, make_published, parse_size

QEMU = {"program": "qemu-system-aarch64", "machine": "virt", "cpu": "max", "console": "ttyAMA0", "memory": "1GiB"}
BOARD = {"version": 1, "board": "qemu-arm64", "architecture": "arm64", "qemu": QEMU}
IMAGE = {"version": 1, "image": "tiny", "test": ["base"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "tiny"
    folder.mkdir(parents=True)
    (folder / "board.json").write_text(json.dumps(BOARD))
    (folder / "image.json").write_text(json.dumps(IMAGE))
    (folder / "cmdline.txt").write_text(" root=PARTLABEL=root-a\n")
    for name in ("disk.img", "vmlinuz", "initrd.img"):
        (folder / name).touch()
    return folder


def test_folder_is_read(folder: Path) -> None:
    published = load_published(folder)
    assert (published.image, published.architecture, published.test) == ("tiny", "arm64", ("base",))
    assert published.command_line == "root=PARTLABEL=root-a"
    assert published.qemu.memory == 1 << 30
    assert published.kubernetes is None


@pytest.mark.parametrize("name", ["tiny", "tiny.yaml", "recipes/images/tiny.yaml"])
def test_image_or_recipe_name_is_looked_up_below_out(folder: Path, name: str) -> None:
    assert find_image(name, folder.parent) == folder


def test_folder_itself_is_taken(folder: Path, tmp_path: Path) -> None:
    assert find_image(str(folder), tmp_path) == folder


def test_unknown_image_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tiny: no such image folder") as caught:
        find_image("tiny", tmp_path)
    assert caught.value.hint == "cumulet build tiny"


def test_every_missing_file_is_named(folder: Path) -> None:
    (folder / "vmlinuz").unlink()
    (folder / "disk.img").unlink()
    with pytest.raises(UsageError, match=r"no disk\.img, vmlinuz"):
        load_published(folder)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such image folder"):
        load_published(tmp_path / "nothing")


def test_broken_document_is_named(folder: Path) -> None:
    (folder / "board.json").write_text("{")
    with pytest.raises(UsageError, match=r"board\.json: not JSON"):
        load_published(folder)


def test_board_that_qemu_cannot_play_is_refused() -> None:
    with pytest.raises(UsageError, match="board 'phone' has no 'qemu' section"):
        make_published(Path("/out/x"), {"board": "phone", "architecture": "arm64", "qemu": None}, IMAGE, "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "riscv64"}, "neither arm64 nor amd64"),
        ({"architecture": 7}, "architecture: not a text: 7"),
        ({"qemu": "virt"}, "qemu: not an object: 'virt'"),
        ({"qemu": {**QEMU, "disk": "a"}}, "disk: not a list of texts: 'a'"),
        ({"qemu": {**QEMU, "memory": "much"}}, "not a size: 'much'"),
    ],
)
def test_wrong_value_is_named_with_its_place(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        make_published(Path("/out/x"), {**BOARD, **change}, IMAGE, "")
    assert caught.value.message.startswith("/out/x/board.json: ")


def test_cluster_is_read() -> None:
    image = {**IMAGE, "kubernetes": {"distribution": "k3s", "version": "v1.36.2+k3s1", "addons": ["coredns"]}}
    published = make_published(Path("/out/x"), BOARD, image, "")
    assert published.kubernetes == Cluster("k3s", "v1.36.2+k3s1", ("coredns",))


@pytest.mark.parametrize(("text", "size"), [("3GiB", 3 << 30), ("512 MiB", 512 << 20), ("2GB", 2 * 10**9), (7, 7)])
def test_size(text: object, size: int) -> None:
    assert parse_size(text, "here") == size


@pytest.mark.parametrize("text", ["", "3 gigs", "-1GiB", None, True, "GiB"])
def test_wrong_size(text: object) -> None:
    with pytest.raises(UsageError, match="here: not a size"):
        parse_size(text, "here")


def test_node_document_makes_a_cluster_only_of_an_image_with_kubernetes() -> None:
    plain = make_published(Path("/out/x"), BOARD, IMAGE, "")
    image = {**IMAGE, "kubernetes": {"distribution": "k3s", "version": "1"}}
    cluster = make_published(Path("/out/x"), BOARD, image, "")
    assert yaml.safe_load(make_document(plain, [])) == {"version": 1, "role": "none"}
    assert yaml.safe_load(make_document(cluster, ["ssh-ed25519 A"], "box")) == {
        "version": 1,
        "role": "single",
        "hostname": "box",
        "ssh_authorized_keys": ["ssh-ed25519 A"],
    }


def test_user_document_reaches_the_guest_with_one_key_a_line(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("{version: 1, role: single, ssh_authorized_keys: [a b]} # mine\n")
    text = load_document(tmp_path / "node.yaml")
    assert text == "version: 1\nrole: single\nssh_authorized_keys:\n- a b\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("a: [", "not YAML"),
        ("role: single", "'version: 1' is missing"),
        ("- 1", "no node document"),
    ],
)
def test_wrong_user_document_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "node.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        load_document(path)
    assert caught.value.message.startswith(str(path))
