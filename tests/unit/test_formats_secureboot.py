"""Secure Boot: what is asked of the tools, what lies on the boot partition, which recipes are refused.

That firmware takes the result, and nothing else, is in tests/boot.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from disk_inputs import make_disk_inputs

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.engines.debian.resolve import make_request
from cumulet_builder.formats import check, esp, secureboot
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import SecureBoot
from cumulet_builder.tree import Tree

BASE = "version: 1\nimage: edge\nboard: {board}\nfeatures: [base]\n"
SIGNER = "secure_boot: {key: keys/owner.pem, certificate: keys/owner.crt}\n"


class FakeToolbox:
    """Remembers commands; `sbsign` makes what it is asked for, or fails with `words`."""

    def __init__(self, words: str = "") -> None:
        self.words = words
        self.commands: list[list[str]] = []

    def run(self, argv: Sequence[str | Path], **more: Any) -> proc.Result:
        """Play one command."""
        command = [str(each) for each in argv]
        self.commands.append(command)
        if "sbsign" in command:
            if self.words:
                return proc.Result(tuple(command), 1, "", f"{self.words}\n")
            Path(command[command.index("--output") + 1]).write_bytes(b"signed " + Path(command[-1]).read_bytes())
        else:
            output = next(word for word in command if word.startswith("--output="))
            line = next(word for word in command if word.startswith("--cmdline=@"))
            Path(output.partition("=")[2]).write_bytes(Path(line.partition("@")[2]).read_bytes())
        return proc.Result(tuple(command), 0, "", "")


@pytest.fixture
def inputs(tmp_path: Path) -> DiskInputs:
    """The parts of a small signed image."""
    for name in ("stub.efi", "key", "crt"):
        (tmp_path / name).write_bytes(name.encode())
    return make_disk_inputs(
        tmp_path,
        command_line=("quiet", "cumulet.verity=00:1:ab"),
        secure_boot=SecureBoot(key=str(tmp_path / "key"), certificate=str(tmp_path / "crt")),
        stub=tmp_path / "stub.efi",
    )


def make_bench(folder: Path, toolbox: FakeToolbox | None) -> Bench:
    work = folder / "work"
    work.mkdir()
    return Bench(cast("Any", None), work, io.StringIO(), cast("Any", toolbox))


def test_the_signed_partition_has_two_programs_and_no_other_way_to_start(inputs: DiskInputs, tmp_path: Path) -> None:
    toolbox = FakeToolbox()
    signed = esp.sign(inputs, Tree(), make_bench(tmp_path, toolbox))
    content = esp.make_esp(inputs, Tree(), signed=signed)
    assert list(content) == [
        "/EFI/BOOT/BOOTAA64.EFI", "/loader/loader.conf", "/root-a/linux.efi", "/loader/entries/root-a.conf",
    ]  # fmt: skip
    assert content["/EFI/BOOT/BOOTAA64.EFI"] == b"signed loader.efi"
    assert content["/root-a/linux.efi"] == b"signed root=PARTLABEL=root-a ro quiet cumulet.verity=00:1:ab"
    entry = cast("bytes", content["/loader/entries/root-a.conf"]).decode()
    assert entry.splitlines()[-1] == "efi /root-a/linux.efi"
    assert "options" not in entry
    files = {path: entry if path.endswith("root-a.conf") else "" for path in content}
    assert check.problems_of_esp(files, ("root-a",)) == []
    del files["/root-a/linux.efi"]
    assert check.problems_of_esp(files, ("root-a",)) == [
        "partition esp: /loader/entries/root-a.conf: efi names /root-a/linux.efi, which is not there"
    ]
    # The key was only where the tool worked.
    assert list((tmp_path / "work").iterdir()) == []


def test_the_signature_has_the_images_time_and_no_key_is_named_outside_its_folder(
    inputs: DiskInputs, tmp_path: Path
) -> None:
    toolbox = FakeToolbox()
    esp.sign(inputs, Tree(), make_bench(tmp_path, toolbox))
    link, *signs = toolbox.commands
    assert link[:3] == ["python3", "/usr/bin/ukify", "build"]
    assert "--efi-arch=aa64" in link and "--uname=6.12" in link
    assert not [word for word in link if "devicetree" in word]
    assert [words[:4] for words in signs] == [["faketime", "-f", "2023-11-14 22:13:20", "sbsign"]] * 2
    assert all(str(tmp_path / "work") in word for words in signs for word in words if word.endswith(".pem"))


def test_the_only_device_tree_is_signed_with_the_kernel(inputs: DiskInputs, tmp_path: Path) -> None:
    toolbox = FakeToolbox()
    tree = Tree()
    tree.file("/qcom/board.dtb", "tree")
    esp.sign(inputs, tree, make_bench(tmp_path, toolbox))
    assert [word.rpartition("/")[2] for word in toolbox.commands[0] if "devicetree" in word] == ["board.dtb"]


def test_a_key_that_signs_nothing_is_named_with_the_tools_words(inputs: DiskInputs, tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FakeToolbox("Can't load key from file"))
    with pytest.raises(UsageError, match="sign nothing: Can't load key") as caught:
        esp.sign(inputs, Tree(), bench)
    assert str(tmp_path / "key") in caught.value.message


def test_an_engine_without_the_tools_says_so(inputs: DiskInputs, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no tools for it"):
        secureboot.write_signed(inputs, "", [], make_bench(tmp_path, None))


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text)
    return path


def test_a_recipe_names_files_beside_it_and_brings_the_tools(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, BASE.format(board="qemu-arm64") + SIGNER + "disk: {verity: true}\n"))
    assert recipe.secure_boot == SecureBoot(
        key=str(tmp_path / "keys/owner.pem"), certificate=str(tmp_path / "keys/owner.crt")
    )
    assert make_request(recipe, "amd64", ()).formats == secureboot.TOOL_PACKAGES
    plain = load_recipe(write(tmp_path, BASE.format(board="qemu-arm64")))
    assert make_request(plain, "amd64", ()).formats == ()


@pytest.mark.parametrize(
    ("board", "more", "message"),
    [
        ("qemu-arm64", "", "secure_boot: proves the root only together with disk.verity"),
        (
            "oneplus-enchilada",
            "disk: {verity: true}\n",
            "secure_boot: the boot loader of oneplus-enchilada (android) checks no signature of yours",
        ),
        (
            "pinephone",
            "disk: {verity: true}\n",
            "secure_boot: the boot loader of pinephone (extlinux) checks no signature of yours",
        ),
    ],
)
def test_what_a_signature_would_not_protect_is_refused(tmp_path: Path, board: str, more: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, BASE.format(board=board) + SIGNER + more))
    assert message in [each.message for each in caught.value.problems]
