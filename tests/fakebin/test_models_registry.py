"""Models in a real registry: pushed once, pulled by digest or version, gone on with where a pull was cut off."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.models import registry
from cumulet.models.documents import Release
from cumulet.models.image import build_model, release_paths
from cumulet.models.registry import parse_address, pull_model, push_model
from cumulet.packages import BrokenError, Registry, make_key

WEIGHTS = random.Random(9).randbytes((9 << 20) + 5)


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
    made.mkdir()
    (made / "weights.bin").write_bytes(WEIGHTS)
    (made / "labels.txt").write_text("cat\n")
    return made


@pytest.fixture
def archive(tmp_path: Path, folder: Path, key: Path) -> Path:
    build_model(folder, tmp_path / "yolo.oci", "yolo", "8.1", key)
    return tmp_path / "yolo.oci"


@pytest.fixture
def target(registries: Callable[[], str]) -> str:
    return f"oci+http://{registries()}/models/yolo"


def ignore(text: str) -> None:
    """Nobody listens."""


def test_a_model_goes_to_a_registry_once_and_comes_back_the_same(
    tmp_path: Path, archive: Path, public: Path, target: str
) -> None:
    told: list[str] = []
    release = push_model(archive, target, public, "", told.append)
    assert "yolo 8.1: 9451520 bytes" in told
    told.clear()
    push_model(archive, target, public, "", told.append)
    assert told == ["0 blobs sent"]
    for number, source in enumerate((f"{target}@{release.digest}", f"{target}:8.1")):
        back = tmp_path / f"back{number}.oci"
        assert pull_model(source, back, public, "", ignore) == release
        assert back.read_bytes() == archive.read_bytes()
        assert [path.read_bytes() for path in release_paths(back)] == [
            path.read_bytes() for path in release_paths(archive)
        ]
    assert [path for path in tmp_path.iterdir() if path.name.endswith(".parts")] == []


def test_a_pull_that_was_cut_off_goes_on_where_it_was(
    tmp_path: Path, archive: Path, public: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = push_model(archive, target, public, "", ignore)
    begun: list[int] = []
    read_blob = Registry.read_blob

    def cut(self: Registry, sha256: str, start: int):  # type: ignore[no-untyped-def]
        begun.append(start)
        for count, data in enumerate(read_blob(self, sha256, start)):
            if len(begun) == 1 and count == 80:
                raise KeyboardInterrupt
            if len(begun) == 2 and count == 10:
                raise BrokenError("cable pulled")
            yield data

    monkeypatch.setattr(Registry, "read_blob", cut)
    back = tmp_path / "back.oci"
    big = max(release.blobs, key=lambda blob: blob.size)
    release = release.model_copy(update={"blobs": (big,)})
    monkeypatch.setattr(registry, "fetch_release", lambda *_: (release, b"", b""))
    monkeypatch.setattr(registry, "check_archive", lambda *_: release)
    with pytest.raises(KeyboardInterrupt):
        pull_model(f"{target}:8.1", back, public, "", ignore)
    pull_model(f"{target}:8.1", back, public, "", ignore)
    assert begun[0] == 0
    assert 0 < begun[1] < begun[2] < big.size
    assert WEIGHTS in back.read_bytes()


def test_what_was_not_signed_is_neither_pushed_nor_pulled(
    tmp_path: Path, archive: Path, folder: Path, public: Path, target: str
) -> None:
    make_key(tmp_path / "other.pem")
    other = tmp_path / "other.pem.pub"
    with pytest.raises(TargetError, match="not signed by this key"):
        push_model(archive, target, other, "", ignore)
    release = push_model(archive, target, public, "", ignore)
    with pytest.raises(TargetError, match=r"models/yolo:8\.1: not signed by this key"):
        pull_model(f"{target}:8.1", tmp_path / "back.oci", other, "", ignore)
    # Somebody puts the release of one model in the place of another's.
    foreign = build_model(folder, tmp_path / "b.oci", "yolo", "9", tmp_path / "other.pem")
    push_model(tmp_path / "b.oci", target, other, "", ignore)
    base = target.replace("oci+", "").replace("/models/", "/v2/models/")
    manifest = httpx.get(f"{base}/manifests/release-{release.digest[7:]}", headers={"Accept": registry.MANIFEST})
    httpx.put(
        f"{base}/manifests/release-{foreign.digest[7:]}", content=manifest.content,
        headers={"Content-Type": registry.MANIFEST},
    ).raise_for_status()  # fmt: skip
    with pytest.raises(TargetError, match=f"the release is of {release.digest}"):
        pull_model(f"{target}@{foreign.digest}", tmp_path / "back.oci", public, "", ignore)
    assert not (tmp_path / "back.oci").exists()


def test_what_is_not_there_is_named(tmp_path: Path, archive: Path, public: Path, target: str) -> None:
    with pytest.raises(TargetError, match=r"models/yolo:8\.1: has no signed model: .*404"):
        pull_model(f"{target}:8.1", tmp_path / "back.oci", public, "", ignore)
    with pytest.raises(ToolError, match="does not take the model"):
        push_model(archive, "oci+http://127.0.0.1:9/models/yolo", public, "", ignore)
    with pytest.raises(UsageError, match="'sha256:12' is not a digest"):
        parse_address(f"{target}@sha256:12")
    with pytest.raises(UsageError, match="is no place of packages"):
        parse_address("yolo:8")
    assert isinstance(Release.model_validate_json(release_paths(archive)[0].read_bytes()), Release)
