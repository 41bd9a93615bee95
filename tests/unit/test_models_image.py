"""A model as an image: the same bytes every time, a layer for each big file, nothing believed that is not signed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.models.check import check_archive, check_files
from cumulet.models.documents import Release
from cumulet.models.image import BIG, build_model, release_paths
from cumulet.packages import load_public, make_key
from cumulet.packages.archive import read_images

WEIGHTS = random.Random(3).randbytes(BIG + 4097)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_name("key.pem.pub")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "yolo"
    (made / "check").mkdir(parents=True)
    (made / "weights.bin").write_bytes(WEIGHTS)
    (made / "more.bin").write_bytes(WEIGHTS[::-1])
    (made / "labels.txt").write_text("cat\ndog\n")
    (made / "check/first.json").write_text("{}")
    return made


@pytest.fixture
def archive(tmp_path: Path, folder: Path, key: Path) -> Path:
    build_model(folder, tmp_path / "yolo.oci", "yolo", "8.1", key)
    return tmp_path / "yolo.oci"


def read(archive: Path, name: str) -> Any:
    with tarfile.open(archive) as members:
        stream = members.extractfile(name)
        assert stream is not None
        return json.loads(stream.read())


def unpack(archive: Path, target: Path, architecture: str = "arm64") -> Path:
    """The files of an image for one architecture, as containerd would show them."""
    top = read(archive, "index.json")["manifests"][0]["digest"]
    index = read(archive, f"blobs/sha256/{top[7:]}")
    manifest = next(each for each in index["manifests"] if each["platform"]["architecture"] == architecture)
    layers = read(archive, f"blobs/sha256/{manifest['digest'][7:]}")["layers"]
    with tarfile.open(archive) as members:
        for layer in layers:
            stream = members.extractfile(f"blobs/sha256/{layer['digest'][7:]}")
            with tarfile.open(fileobj=stream) as files:
                files.extractall(target, filter="data")
    return target


def test_an_image_is_the_same_every_time_and_has_a_layer_for_each_big_file(
    tmp_path: Path, folder: Path, key: Path, archive: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    again = build_model(tmp_path / "copy", tmp_path / "again.oci", "yolo", "8.1", key)
    assert (tmp_path / "again.oci").read_bytes() == archive.read_bytes()
    sizes = [blob.size for blob in again.blobs]
    # Two big files, the small ones together, config and manifest for two architectures, the index.
    assert len([size for size in sizes if size > BIG]) == 2
    assert len(sizes) == 8
    arm, amd = (unpack(archive, tmp_path / name, name) for name in ("arm64", "amd64"))
    assert (arm / "weights.bin").read_bytes() == (amd / "weights.bin").read_bytes() == WEIGHTS
    assert (arm / "check/first.json").read_text() == "{}"


def test_a_changed_file_changes_its_layer_only(tmp_path: Path, folder: Path, key: Path, archive: Path) -> None:
    first = Release.model_validate_json(release_paths(archive)[0].read_bytes())
    (folder / "more.bin").write_bytes(b"x" * (BIG + 1))
    second = build_model(folder, tmp_path / "new.oci", "yolo", "8.2", key)
    assert second.digest != first.digest
    kept = {blob.sha256 for blob in first.blobs} & {blob.sha256 for blob in second.blobs}
    assert len([blob for blob in second.blobs if blob.sha256 in kept and blob.size > BIG]) == 1


def test_the_image_has_its_digest_as_a_name_so_that_a_pod_can_ask_for_exactly_it(archive: Path, public: Path) -> None:
    release = check_archive(archive, public)
    assert release.reference == f"cumulet.dev/models/yolo@{release.digest}"
    images, architecture = read_images(archive)
    assert architecture == ""
    assert {(each.name, each.digest) for each in images} == {
        (release.reference, release.digest),
        ("cumulet.dev/models/yolo:8.1", release.digest),
    }
    with tarfile.open(archive) as members:
        stream = members.extractfile(f"blobs/sha256/{release.digest[7:]}")
        assert stream is not None
        assert hashlib.sha256(stream.read()).hexdigest() == release.digest[7:]


def test_an_archive_that_was_changed_is_not_believed(archive: Path, public: Path, tmp_path: Path) -> None:
    good = archive.read_bytes()
    place = good.index(WEIGHTS[:64])
    archive.write_bytes(good[: place + 5] + b"\0\1" + good[place + 7 :])
    with pytest.raises(TargetError, match=r"yolo\.oci: blobs/sha256/[0-9a-f]{64}: is not what was signed"):
        check_archive(archive, public)
    archive.write_bytes(good[: len(good) // 2])
    with pytest.raises(TargetError, match=r"cannot be read|is missing|is not what was signed"):
        check_archive(archive, public)
    archive.write_bytes(good)
    make_key(tmp_path / "other.pem")
    with pytest.raises(TargetError, match="not signed by this key: changed on the way, or made by somebody else"):
        check_archive(archive, tmp_path / "other.pem.pub")
    document = release_paths(archive)[0]
    document.write_text(document.read_text().replace("8.1", "8.2"))
    with pytest.raises(TargetError, match="not signed by this key"):
        check_archive(archive, public)
    document.unlink()
    with pytest.raises(UsageError, match=r"release\.json: No such file"):
        check_archive(archive, public)


def test_files_are_checked_before_they_are_loaded(archive: Path, public: Path, tmp_path: Path) -> None:
    mounted = unpack(archive, tmp_path / "mounted")
    card = check_files(mounted, load_public(public))
    assert (card.model, card.revision, len(card.files)) == ("yolo", "8.1", 4)
    assert card.size == 2 * len(WEIGHTS) + 8 + 2
    (mounted / "extra.bin").write_text("x")
    with pytest.raises(TargetError, match=r"extra\.bin: was not signed"):
        check_files(mounted, load_public(public))
    (mounted / "extra.bin").unlink()
    (mounted / "labels.txt").write_text("cat\ncow\n")
    with pytest.raises(TargetError, match=r"labels\.txt: is not what was signed"):
        check_files(mounted, load_public(public))
    (mounted / "labels.txt").unlink()
    with pytest.raises(TargetError, match=r"labels\.txt: No such file"):
        check_files(mounted, load_public(public))
    with pytest.raises(TargetError, match=r"no model of ours: cumulet-model\.json: No such file"):
        check_files(tmp_path, load_public(public))


def test_what_cannot_be_a_model_is_said(folder: Path, key: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.oci"
    with pytest.raises(UsageError, match=r"nothing: no such folder"):
        build_model(tmp_path / "nothing", target, "yolo", "1", key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: has no files"):
        build_model(tmp_path / "empty", target, "yolo", "1", key)
    (folder / "link").symlink_to("labels.txt")
    with pytest.raises(UsageError, match=r"link: a model has files only, no links"):
        build_model(folder, target, "yolo", "1", key)
    (folder / "link").unlink()
    with pytest.raises(UsageError, match="'Yolo 8' is not a name"):
        build_model(folder, target, "Yolo 8", "1", key)
    assert not target.exists()
