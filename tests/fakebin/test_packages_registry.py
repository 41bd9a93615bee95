"""Packages in a real registry: pushed once, read at any byte, and by the commands that a publisher types."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cumulet.core.errors import TargetError
from cumulet.packages import Index, load_public, parse_index, verify
from cumulet.packages.device.chunks import Blob, Part
from cumulet.packages.device.client import Client
from cumulet.packages.device.pull import Effort, pull
from cumulet.packages.device.sources import open_source
from cumulet_builder.commands.package import package

Run = Callable[..., str]
BODY = random.Random(2).randbytes((9 << 20) + 77)


@pytest.fixture
def registry(registries: Callable[[], str]) -> str:
    """A repository of a registry on this computer."""
    return f"oci+http://{registries()}/edge/packages"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*words: str | Path) -> str:
        result = CliRunner().invoke(package, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return call


@pytest.fixture
def store(tmp_path: Path, run: Run) -> Path:
    """A store with one model, made by the commands."""
    (tmp_path / "yolo.onnx").write_bytes(BODY)
    run("new-key", tmp_path / "key.pem")
    words = ("--name", "yolo", "--version", "8.1", "--kind", "model", "--key", tmp_path / "key.pem")
    shown = json.loads(run("add", tmp_path / "store", tmp_path / "yolo.onnx", *words, "--json"))
    assert (shown["size"], shown["kind"], shown["late"]) == (len(BODY), "model", True)
    return tmp_path / "store"


def read_index(url: str, public: Path) -> Index:
    data, signature = open_source(url, Client(seconds=5)).read_index()
    verify(data, signature, load_public(public), url)
    return parse_index(data, url)


def test_packages_are_pushed_once_and_read_from_any_byte(tmp_path: Path, store: Path, registry: str, run: Run) -> None:
    public = tmp_path / "key.pem.pub"
    assert "4 blobs sent" in run("push", store, registry, "--key", public)
    assert "up to date" in run("push", store, registry, "--key", public)
    found = read_index(registry, public).packages[0]
    blob = Blob.from_values(found.model_dump())
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / f"{found.sha256}.part").write_bytes(BODY[:5_000_001])
    part = Part(tmp_path / "here", blob)
    source = open_source(registry, Client(seconds=5))
    # The registry itself says from where it sends, and sends no more than was asked for.
    assert b"".join(source.read_blob(found.sha256, 5_000_001)) == BODY[5_000_001:]
    pull(part, [source], Effort(5, 0.1), lambda _: None)
    assert part.publish().read_bytes() == BODY
    part.close()


def test_a_new_version_is_pushed_beside_the_old_one(tmp_path: Path, store: Path, registry: str, run: Run) -> None:
    key, public = tmp_path / "key.pem", tmp_path / "key.pem.pub"
    run("push", store, registry, "--key", public)
    (tmp_path / "yolo.onnx").write_bytes(BODY[::-1])
    words = ("--name", "yolo", "--version", "8.2", "--kind", "model", "--key", key)
    run("add", store, tmp_path / "yolo.onnx", *words)
    assert "3 blobs sent" in run("push", store, registry, "--key", public)
    assert [each.version for each in read_index(registry, public).packages] == ["8.2"]


def test_a_repository_without_packages_is_one_error(registry: str) -> None:
    with pytest.raises(TargetError, match="404"):
        open_source(registry, Client(seconds=5)).read_index()


def test_what_the_key_has_not_signed_is_not_pushed(tmp_path: Path, store: Path, registry: str, run: Run) -> None:
    run("new-key", tmp_path / "other.pem")
    with pytest.raises(TargetError, match="not signed by the key"):
        run("push", store, registry, "--key", tmp_path / "other.pem.pub")
