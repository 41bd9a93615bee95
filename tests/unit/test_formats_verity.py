"""dm-verity: what is told to veritysetup and to the kernel, and that the real program's tree proves the image."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder.engines.debian.resolve import make_request
from cumulet_builder.formats.verity import BLOCK, Verity, load_words, write_tree
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.toolbox import HostTools

ROOT = Path(__file__).parents[2]
UUID = "7f9c2ba4-e88f-427d-9616-0a1e3a7c3b1d"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "root.erofs"
    path.write_bytes(b"".join(bytes([number]) * BLOCK for number in range(200)))
    return path


def test_the_same_root_has_the_same_tree_and_a_changed_block_is_found(
    image: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("veritysetup")
    content = image.read_bytes()
    first = write_tree(image, "edge", UUID, HostTools(), io.StringIO())
    whole = image.read_bytes()
    assert whole.startswith(content)
    image.write_bytes(content)
    assert write_tree(image, "edge", UUID, HostTools(), io.StringIO()) == first
    assert image.read_bytes() == whole
    verify = ["veritysetup", "verify", image, image, first.root_hash, f"--hash-offset={len(content)}"]
    assert proc.run(verify, check=False).code == 0
    changed = bytearray(whole)
    changed[77 * BLOCK + 5] ^= 1
    image.write_bytes(changed)
    assert proc.run(verify, check=False).code != 0


def test_the_kernels_word_says_all_that_opens_the_root(image: Path, need: Callable[[str], str]) -> None:
    need("veritysetup")
    assert load_words(image.parent) == ()
    made = write_tree(image, "edge", UUID, HostTools(), io.StringIO())
    assert made.blocks == 200
    assert load_words(image.parent) == (f"cumulet.verity={made.root_hash}:200:{made.salt}",)
    # With the rest of it, Android's oldest boot image must hold the line: 512 bytes.
    assert len(Verity("f" * 64, 99999, "f" * 32).word) < 130


def test_an_image_of_half_a_block_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root.erofs").write_bytes(b"x" * 100)
    with pytest.raises(ToolError, match=r"root\.erofs: 100 bytes are not whole blocks of 4096"):
        write_tree(tmp_path / "root.erofs", "edge", UUID, HostTools(), io.StringIO())


def test_only_an_image_that_wants_it_brings_the_programs() -> None:
    path = ROOT / "recipes/images/base-arm64.yaml"
    plain = make_request(load_recipe(path), "amd64", ())
    proved = make_request(load_recipe(path, ["disk.verity=true"]), "amd64", ())
    assert set(proved.base) - set(plain.base) == {"dmsetup"}
    assert set(proved.tools) - set(plain.tools) == {"cryptsetup-bin"}
