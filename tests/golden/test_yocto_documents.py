"""kas documents and what is handed over beside them, as people would review them; kas itself accepts every one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet_builder.assets import find_assets
from cumulet_builder.engines.yocto.computer import make_computer_document
from cumulet_builder.engines.yocto.document import Images, Setting, make_document, make_text
from cumulet_builder.engines.yocto.handover import make_handover
from cumulet_builder.engines.yocto.machines import Machine
from cumulet_builder.engines.yocto.repositories import LayerLock, LockedRepository
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.tree import Node
from cumulet_builder.user_config import YoctoConfig

DATA = Path(__file__).with_name("test_yocto_data")
LAYERS = Path("/layers")
IMAGES = Images("https://example.org/v1/images.tar.zst", "ab" * 32, "abababababababab-images.tar.zst")
MACHINES = {
    "base": Machine("cumulet-qemuarm64", "qemu-arm64", "efi"),
    "k3s": Machine("cumulet-qemuarm64", "qemu-arm64", "efi"),
    "phone": Machine("oneplus-enchilada", "oneplus-enchilada", "phone"),
}


def make_lock(*names: str) -> LayerLock:
    fixed = {
        "bitbake": {".": "disabled"},
        "openembedded-core": {"meta": None},
        "meta-openembedded": {"meta-oe": None, "meta-python": None},
    }
    repositories = [
        LockedRepository(name=name, url=f"https://example.org/{name}", branch="wrynose", commit="0" * 40, layers=layers)
        for name, layers in {**fixed, **{name: {} for name in names}}.items()
    ]
    return LayerLock(image="edge", epoch=1767225600, repositories=tuple(repositories))


def make_recipe(name: str) -> Recipe:
    board: dict[str, Any] = {
        "board": MACHINES[name].board,
        "title": "a board",
        "architecture": "arm64",
        "kernel": {"package": "linux-image-arm64", "modules": ["virtio_net"], "command_line": ["console=ttyAMA0"]},
    }
    recipe: dict[str, Any] = {
        "version": 1,
        "image": f"edge-{name}",
        "board": board,
        "engine": "yocto",
        "yocto": {"packages": ["packagegroup-cumulet-base"]},
    }
    if name == "k3s":
        recipe |= {
            "kubernetes": {"distribution": "k3s"},
            "sdk": True,
            "modules": ["overlay", "nft_*"],
            "trim": {"drop": ["/usr/share/games/*"], "keep": ["/usr/share/games/chess"]},
            "node": {"role": "single"},
            "disk": {"root": "700MiB", "compression": "zstd"},
        }
    if name == "phone":
        board["kernel"] |= {
            "device_trees": ["qcom/sdm845-oneplus-enchilada"],
            "command_line": ["console=ttyMSM0,115200"],
        }
        board |= {"boot": {"method": "android"}, "storage": {"sector_size": 4096, "inside": "userdata"}}
        recipe |= {"ssh": {"enabled": False}, "files": [{"path": "/etc/motd", "content": "Hello\n"}]}
    return Recipe.model_validate(recipe)


def make_setting(name: str) -> Setting:
    lock = make_lock("meta-virtualization") if name == "k3s" else make_lock()
    return Setting(MACHINES[name], lock, LAYERS, IMAGES if name == "k3s" else None)


def want_listed(archive: str, path: str, node: Node) -> bool:
    """Not every module of the SDK, nor every unit that no node starts: their lists are tested elsewhere."""
    if archive == "sdk.tar":
        return path in ("/cumulet", "/site/cumulet/__init__.py")
    return node.target != "/dev/null" or "ssh" in path


@pytest.mark.parametrize("name", MACHINES)
def test_the_document_of_a_recipe(name: str) -> None:
    assert make_text(make_document(make_recipe(name), make_setting(name))) == (DATA / f"{name}.yaml").read_text()


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_handed_over_beside_it(name: str) -> None:
    lines = []
    for archive, tree in make_handover(make_recipe(name), ("console=ttyAMA0", "quiet")).items():
        for path, node in tree.walk():
            if want_listed(archive, path, node):
                target = f" -> {node.target}" if node.target else ""
                lines.append(f"{archive}: {node.mode:04o} {path}{target}")
    assert "\n".join(lines) + "\n" == (DATA / f"{name}.txt").read_text()


def test_how_this_computer_builds_is_a_second_document() -> None:
    config = YoctoConfig(
        downloads="/shared/downloads",
        sstate="/shared/sstate",
        sstate_mirrors=("https://example.org/sstate/", "file:///mnt/sstate"),
        hash_server="hash.example.org:8687",
        source_mirror="https://example.org/sources",
        clones="/shared/clones",
        offline=True,
        threads=4,
    )
    document = make_computer_document(config, make_lock(), Path("/cache/yocto"))
    assert make_text(document) == (DATA / "computer.yaml").read_text()


def test_kas_accepts_every_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from kas import kas

    monkeypatch.setenv("KAS_WORK_DIR", str(tmp_path))
    for folder in ("layers", "clones/bitbake", "clones/openembedded-core", "clones/meta-openembedded"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "clones/meta-virtualization").mkdir()
    config = YoctoConfig(clones=str(tmp_path / "clones"))
    for name, machine in MACHINES.items():
        setting = make_setting(name)
        document = (DATA / f"{name}.yaml").read_text().replace("/layers", str(tmp_path / "layers"))
        (tmp_path / "kas.yaml").write_text(document)
        (tmp_path / "computer.yaml").write_text(make_text(make_computer_document(config, setting.lock, tmp_path)))
        kas.kas(["dump", f"{tmp_path}/kas.yaml:{tmp_path}/computer.yaml"])
        dumped = yaml.safe_load(capsys.readouterr().out)
        assert dumped["machine"] == machine.name
        assert {each.get("url") for each in dumped["repos"].values()} == {None}
        assert f'CUMULET_IMAGE = "edge-{name}"' in dumped["local_conf_header"]["cumulet"]


def test_the_committed_fragments_and_their_lock_are_documents_of_kas() -> None:
    from jsonschema import Draft202012Validator
    from kas.configschema import CONFIGSCHEMA

    schema = Draft202012Validator(CONFIGSCHEMA)
    for path in sorted((find_assets("recipes") / "kas").glob("*.yaml")):
        assert [error.message for error in schema.iter_errors(yaml.safe_load(path.read_text()))] == [], path.name


def test_both_engines_lay_the_same_bytes_over_their_packages() -> None:
    from cumulet_builder.system import make_system_tree

    recipe = make_recipe("k3s")
    theirs, ours = make_system_tree(recipe, ""), make_handover(recipe, ())
    units = "/usr/lib/systemd/system"
    for path in ("/usr/lib/cumulet/node-config", f"{units}/cumulet-node.service", "/etc/cumulet/node.yaml"):
        assert ours["system.tar"].read(path) == theirs.read(path)
        assert re.match(r"#!|\[Unit\]|# What", ours["system.tar"].read(path).decode())
