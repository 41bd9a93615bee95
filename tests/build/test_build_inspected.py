"""What was published, looked at with programs that had no part in making it."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet_builder.toolbox import Toolbox

pytestmark = pytest.mark.build

EVERYTHING = ("--set", "formats=[disk, blockmap, directory, tar, oci]")
TYPES = {"esp": "EF00", "root-a": "8304", "root-b": "8304", "data": "8300"}
MIB = 1 << 20


def told(*words: str | Path, code: int = 0) -> str:
    """What a program of this computer prints."""
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image(amd64, space):
    """The amd64 image in every format there is, in a cache that has all but its last stage."""
    folder = space / "formats"
    folder.mkdir()
    told("cp", "-al", amd64.cache, folder / "cache")
    made = replace(amd64, folder=folder)
    made.run("build", "base-amd64", *EVERYTHING)
    return made


@pytest.fixture(scope="module")
def folder(image) -> Path:
    """The published folder."""
    return image.out / "base-amd64"


@pytest.fixture(scope="module")
def parts(folder, space) -> dict[str, Path]:
    """Every partition of the disk as a file, cut out by what `sfdisk` says."""
    table = json.loads(told("sfdisk", "--json", folder / "disk.img"))["partitiontable"]
    found = {}
    for each in table["partitions"]:
        found[each["name"]] = space / f"part-{each['name']}"
        place = (f"skip={each['start'] // 2048}", f"count={each['size'] // 2048}")
        told("dd", f"if={folder}/disk.img", f"of={found[each['name']]}", "bs=1M", "conv=sparse", "status=none", *place)
    return found


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """Path -> type, permissions, owner, link target and content of everything in a folder."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        content = ""
        if kind == stat.S_IFREG:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif kind == stat.S_IFLNK:
            content = str(path.readlink())
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        found[str(path.relative_to(root))] = (kind, mode, status.st_uid, status.st_gid, content)
    return found


def test_the_partition_table_is_whole_and_as_promised(folder, need) -> None:
    need("sgdisk")
    need("sfdisk")
    assert "No errors detected" in told("sfdisk", "--verify", folder / "disk.img")
    assert "No problems found" in told("sgdisk", "--verify", folder / "disk.img")
    rows = [line.split() for line in told("sgdisk", "--print", folder / "disk.img").splitlines()]
    table = {row[6]: row[5] for row in rows if len(row) == 7 and row[0].isdigit()}
    assert table == TYPES
    sizes = {row[6]: float(row[3]) for row in rows if len(row) == 7 and row[0].isdigit()}
    assert sizes == {"esp": 160, "root-a": 100, "root-b": 100, "data": 64}


def test_every_file_system_passes_its_own_check(parts, need, amd64) -> None:
    need("fsck.vfat")
    told("fsck.vfat", "-n", "-v", parts["esp"])
    told("e2fsck", "-f", "-n", parts["data"])
    tools = Toolbox(amd64.stage("tools") / "tree")
    tools.run(["fsck.erofs", "--extract", parts["root-a"]], folders=[parts["root-a"].parent])
    assert parts["root-b"].stat().st_blocks == 0
    assert "data" in told("dumpe2fs", "-h", parts["data"])


def test_the_boot_partition_holds_what_starts_the_machine(parts, folder, tmp_path, need) -> None:
    need("mdir")
    names = told("mdir", "-b", "-s", "-i", parts["esp"], "::").split()
    files = {name.removeprefix("::").lower() for name in names if not name.endswith("/")}
    assert files == {
        "/efi/boot/bootx64.efi",
        "/loader/loader.conf",
        "/loader/entries/root-a.conf",
        "/root-a/vmlinuz",
        "/root-a/initrd.img",
    }
    for name in ("vmlinuz", "initrd.img"):
        told("mcopy", "-i", parts["esp"], f"::/root-a/{name}", tmp_path / name)
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    told("mcopy", "-i", parts["esp"], "::/EFI/BOOT/BOOTX64.EFI", tmp_path / "loader")
    assert b"systemd-boot" in (tmp_path / "loader").read_bytes()
    entry = told("mtype", "-i", parts["esp"], "::/loader/entries/root-a.conf")
    assert f"options {(folder / 'cmdline.txt').read_text().strip()}" in " ".join(entry.split())


@pytest.mark.parametrize("old", [b"\0", b"\xa5"], ids=["a new disk", "a disk with old content"])
def test_a_block_map_puts_the_image_on_a_disk(folder, parts, space, need, old: bytes) -> None:
    need("bmaptool")
    target = space / "flashed.img"
    size = (folder / "disk.img").stat().st_size
    with target.open("wb") as stream:
        for _ in range(size // MIB):
            stream.write(old * MIB)
    told("bmaptool", "copy", "--bmap", folder / "disk.bmap", folder / "disk.img", target)
    if old == b"\0":
        told("cmp", folder / "disk.img", target)
    assert "No problems found" in told("sgdisk", "--verify", target)
    table = json.loads(told("sfdisk", "--json", target))["partitiontable"]
    starts = {each["name"]: each["start"] // 2048 for each in table["partitions"]}
    checks = {"esp": ("fsck.vfat", "-n"), "data": ("e2fsck", "-f", "-n")}
    for name, check in checks.items():
        part = space / "flashed.part"
        words = (f"skip={starts[name]}", f"count={parts[name].stat().st_size // MIB}", "status=none")
        told("dd", f"if={target}", f"of={part}", "bs=1M", *words)
        told(*check, part)
        part.unlink()
    target.unlink()


def test_tar_folder_and_partition_hold_the_same_root(folder, parts, amd64, space, need, need_root) -> None:
    need("zstd")
    places = {name: space / f"root-from-{name}" for name in ("tar", "partition")}
    for place in places.values():
        place.mkdir()
    told("tar", "-x", "-p", "--zstd", "--numeric-owner", "-f", folder / "root.tar.zst", "-C", places["tar"])
    tools = Toolbox(amd64.stage("tools") / "tree")
    words = [f"--extract={places['partition']}", "--preserve", "--overwrite", parts["root-a"]]
    tools.run(["fsck.erofs", *words], folders=[space])
    wanted = listing(folder / "root")
    assert len(wanted) > 1000
    assert listing(places["tar"]) == wanted
    assert listing(places["partition"]) == wanted


def test_the_container_image_is_read_by_another_tool(folder, space, need) -> None:
    need("skopeo")
    archive = f"oci-archive:{folder}/root.oci.tar"
    seen = json.loads(told("skopeo", "inspect", archive))
    assert (seen["Os"], seen["Architecture"], len(seen["Layers"])) == ("linux", "amd64", 1)
    # Copying reads every blob and checks its digest.
    told("skopeo", "copy", "--quiet", archive, f"dir:{space}/oci")
    layer = space / "oci" / seen["Layers"][0].removeprefix("sha256:")
    assert layer.read_bytes() == (folder / "root.tar.zst").read_bytes()
    config = json.loads(told("skopeo", "inspect", "--config", archive))
    plain = subprocess.run(["zstd", "-d", "-c", layer], capture_output=True, check=True).stdout
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(plain).hexdigest()}"]
    assert config["config"]["Cmd"] == ["/sbin/init"]


def test_the_checksums_and_the_manifest_name_every_file(folder) -> None:
    checked = subprocess.run(["sha256sum", "-c", "sha256sums"], cwd=folder, capture_output=True, text=True, check=True)
    sums = {line.rpartition(": ")[0] for line in checked.stdout.splitlines()}
    files = {path.name for path in folder.iterdir() if path.is_file()}
    # Written after the manifest: the log and the record of this build, and the list of checksums itself.
    assert sums == files - {"sha256sums", "build.log", "build.json"}
    manifest = json.loads((folder / "manifest.json").read_text())
    outputs = {each["name"]: (each["sha256"], each["size"]) for each in manifest["outputs"]}
    assert set(outputs) == sums - {"manifest.json"}
    for name, (digest, size) in outputs.items():
        content = (folder / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size), name


def test_the_bill_of_materials_is_valid_and_names_every_package(folder) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (folder / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "base-amd64"
    lock = json.loads((folder / "lock.json").read_text())
    wanted = {(each["name"], each["version"]) for each in lock["packages"] if each["group"] in ("base", "boot")}
    named = {(each["name"], each["version"]): each for each in bill["components"] if "pkg:deb/" in each["purl"]}
    assert set(named) == wanted
    assert [name for name, each in named.items() if not each.get("licenses")] == []
    assert all({"name": "cumulet:licence_class", "value": "main"} in each["properties"] for each in named.values())
    status = (folder / "root/var/lib/dpkg/status").read_text()
    installed = {line.split()[1] for line in status.splitlines() if line.startswith("Package: ")}
    assert installed == {each["name"] for each in lock["packages"] if each["group"] == "base"}
