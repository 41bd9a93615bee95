"""Publishing: what the index says of a file, who has signed it, and what a second publishing changes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.packages import Index, Label, Package, add_package, load_public, make_key, parse_index, verify
from cumulet.packages.index import make_index_text
from cumulet.packages.store import find_blob

MIB = 1 << 20


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "publisher.pem")
    return tmp_path / "publisher.pem"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def write_tar(path: Path, members: dict[str, bytes | str], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755 if "bin/" in name else 0o644
                archive.addfile(info, io.BytesIO(content))
    return path


def load(store: Path, key: Path) -> Index:
    data = (store / "index.json").read_bytes()
    verify(data, (store / "index.json.sig").read_bytes(), load_public(Path(f"{key}.pub")), "store")
    return parse_index(data, "store")


def model(tmp_path: Path, size: int = 3 * MIB + 5) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(bytes(number % 253 for number in range(1000)) * (size // 1000) + bytes(size % 1000))
    return path


def test_the_index_says_the_size_and_the_digests_of_all_and_of_every_chunk(
    tmp_path: Path, store: Path, key: Path
) -> None:
    file = model(tmp_path)
    add_package(store, file, Label("yolo", "8.1", "model", chunk=MIB), key)
    package = load(store, key).packages[0]
    data = file.read_bytes()
    assert (package.name, package.version, package.kind, package.late) == ("yolo", "8.1", "model", True)
    assert (package.size, package.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert list(package.chunks) == [hashlib.sha256(data[at : at + MIB]).hexdigest() for at in range(0, len(data), MIB)]
    assert find_blob(store, package).read_bytes() == data


def test_the_private_key_is_for_its_owner_only(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="is there already"):
        make_key(key)


def test_a_second_publishing_changes_nothing(tmp_path: Path, store: Path, key: Path) -> None:
    file, label = model(tmp_path), Label("yolo", "8.1", "model")
    add_package(store, file, label, key)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.rglob("*") if path.is_file()}
    add_package(store, file, label, key)
    lock = store / ".lock"
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in store.rglob("*") if path.is_file()}
    assert {**before, lock: None} == {**after, lock: None}


def test_a_version_is_one_content_for_ever_and_a_new_one_takes_its_place(
    tmp_path: Path, store: Path, key: Path
) -> None:
    add_package(store, model(tmp_path), Label("yolo", "8.1", "model"), key)
    with pytest.raises(UsageError, match=r"yolo 8\.1: is in the store already"):
        add_package(store, model(tmp_path, MIB), Label("yolo", "8.1", "model"), key)
    add_package(store, model(tmp_path, MIB), Label("yolo", "8.2", "model"), key)
    index = load(store, key)
    assert ([each.version for each in index.packages], index.serial) == (["8.2"], 2)


def test_between_the_two_files_of_a_change_the_old_index_still_holds(tmp_path: Path, store: Path, key: Path) -> None:
    add_package(store, model(tmp_path), Label("yolo", "8.1", "model"), key)
    old = (store / "index.json").read_bytes()
    add_package(store, model(tmp_path, MIB), Label("yolo", "8.2", "model"), key)
    verify(old, (store / "index.json.sig").read_bytes(), load_public(Path(f"{key}.pub")), "store")


@pytest.mark.parametrize("change", [lambda text: text.replace(b"8.1", b"8.2"), lambda text: text + b"\n", bytes.upper])
def test_a_changed_index_is_refused(tmp_path: Path, store: Path, key: Path, change: Callable[[bytes], bytes]) -> None:
    add_package(store, model(tmp_path), Label("yolo", "8.1", "model"), key)
    (store / "index.json").write_bytes(change((store / "index.json").read_bytes()))
    with pytest.raises(TargetError, match="not signed by the key of this site"):
        load(store, key)


def test_an_index_signed_by_somebody_else_is_refused(tmp_path: Path, store: Path, key: Path) -> None:
    add_package(store, model(tmp_path), Label("yolo", "8.1", "model"), key)
    other = tmp_path / "other.pem"
    make_key(other)
    with pytest.raises(TargetError, match="not signed by the key of this site"):
        load(store, other)
    with pytest.raises(TargetError, match="not signed by the key"):
        add_package(store, model(tmp_path), Label("more", "1", "model"), other)


@pytest.mark.parametrize("lines", [b"", b"ed25519 x y\n", b"\xff\xfe", b"ed25519 " + b"0" * 64 + b" AAAA\n"])
def test_a_damaged_signature_is_refused(tmp_path: Path, store: Path, key: Path, lines: bytes) -> None:
    add_package(store, model(tmp_path), Label("yolo", "8.1", "model"), key)
    (store / "index.json.sig").write_bytes(lines)
    with pytest.raises(TargetError, match="not signed by the key of this site"):
        load(store, key)


def test_a_key_that_is_none_is_named(tmp_path: Path, store: Path) -> None:
    (tmp_path / "text").write_text("no key")
    with pytest.raises(UsageError, match="no private key"):
        add_package(store, model(tmp_path), Label("a", "1", "model"), tmp_path / "text")
    with pytest.raises(UsageError, match="no public key"):
        load_public(tmp_path / "text")


def test_a_newer_index_says_which_cumulet_to_take() -> None:
    with pytest.raises(TargetError, match="an index of version 2") as raised:
        parse_index(b'{"version": 2}', "store")
    assert "pip install" in raised.value.hint


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"more": 1}, "more"),
        ({"chunks": []}, "0 chunks"),
        ({"sha256": "x"}, "not a SHA-256"),
        ({"chunk": 12}, "chunk"),
        ({"name": "../x"}, "not a name"),
        ({"images": [{"name": "a/b:1", "digest": "sha256:" + "0" * 64}]}, "has images"),
    ],
)
def test_an_index_that_does_not_fit_together_is_refused(change: dict[str, Any], reason: str) -> None:
    sha = "0" * 64
    values = {"name": "a", "version": "1", "kind": "model", "size": 5, "sha256": sha, "tree": sha, "chunks": [sha]}
    Index.model_validate({"packages": [values]})
    with pytest.raises(TargetError, match=reason):
        parse_index(json.dumps({"packages": [values | change]}).encode(), "store")


def test_a_device_gets_what_is_made_for_its_architecture_before_what_is_made_for_all() -> None:
    sha = "0" * 64
    one = Package(name="a", version="1", kind="model", size=5, sha256=sha, tree=sha, chunks=(sha,))
    index = Index(packages=(one, one.model_copy(update={"architecture": "arm64"})))
    found = index.find("a", "arm64"), index.find("a", "amd64"), index.find("b", "arm64")
    assert [each.architecture if each else None for each in found] == ["arm64", "", None]
    assert parse_index(make_index_text(index), "store") == index


def test_a_file_that_is_empty_or_no_archive_is_refused(tmp_path: Path, store: Path, key: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("text" * 1000)
    with pytest.raises(UsageError, match="is empty"):
        add_package(store, tmp_path / "empty", Label("a", "1", "model"), key)
    with pytest.raises(UsageError, match="no such file"):
        add_package(store, tmp_path / "nothing", Label("a", "1", "model"), key)
    with pytest.raises(TargetError, match="cannot be unpacked"):
        add_package(store, tmp_path / "text", Label("a", "1", "files"), key)
    with pytest.raises(UsageError, match="no archive of images"):
        add_package(store, tmp_path / "text", Label("a", "1", "image"), key)
    assert not (store / "index.json").exists()
    assert [path for path in store.iterdir() if path.name != ".lock"] == []


def write_docker_archive(path: Path, layer: bytes) -> Path:
    config = json.dumps({"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    manifest = [
        {"Config": "c.json", "RepoTags": ["registry.example/a:1", "registry.example/a:2"], "Layers": ["l/layer.tar"]}
    ]
    return write_tar(
        path, {"c.json": config, "l/layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}, "w:"
    )


def test_a_docker_archive_becomes_one_whose_digests_are_known_before_a_device_sees_it(
    tmp_path: Path, store: Path, key: Path
) -> None:
    file = write_docker_archive(tmp_path / "docker.tar", b"layer" * 1000)
    package = add_package(store, file, Label("runtime", "1", "image"), key)
    assert (package.architecture, package.late) == ("arm64", False)
    assert [each.name for each in package.images] == ["registry.example/a:1", "registry.example/a:2"]
    with tarfile.open(find_blob(store, package)) as archive:
        stream = archive.extractfile(f"blobs/{package.images[0].digest.replace(':', '/')}")
        assert stream is not None
        manifest = stream.read()
        layer = archive.extractfile(f"blobs/{json.loads(manifest)['layers'][0]['digest'].replace(':', '/')}")
        assert layer is not None and layer.read() == b"layer" * 1000
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == package.images[0].digest
