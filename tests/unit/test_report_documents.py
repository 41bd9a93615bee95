"""Manifest, checksums, bill of materials and licence names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cumulet.core import proc
from cumulet_builder.kubernetes.inventory import Component
from cumulet_builder.report.collect import collect_outputs, probe_stored
from cumulet_builder.report.facts import Deb, Facts, Firmware, Kernel, Output, Wheel
from cumulet_builder.report.licences import licence_of_metadata, licences_of_copyright, make_spdx
from cumulet_builder.report.manifest import make_manifest, make_sha256sums
from cumulet_builder.report.sbom import make_sbom

GLIBC = Deb("libc6", "2.41-12", "arm64", "a" * 64, 2_800_000, "glibc", "libs", ("LGPL-2.1-or-later", "own words"))
BLOB = Deb("firmware-x", "2025", "all", "b" * 64, 9, "firmware-x", "non-free-firmware/kernel", ("proprietary",))
FACTS = Facts(
    image="edge",
    epoch=1_700_000_000,
    suite="trixie",
    architecture="arm64",
    builder="0.1.0",
    recipe={"image": "edge", "packages": ["chrony"]},
    lock_sha256="c" * 64,
    debs=(GLIBC, BLOB),
    tools=(Deb("erofs-utils", "1.8.6", "amd64", "d" * 64, 5, "erofs-utils", "utils"),),
    wheels=(Wheel("PyYAML", "6.0.3", "pyyaml-6.0.3-cp313.whl", "e" * 64, 7, "MIT"),),
    firmware=(Firmware("/usr/lib/firmware/qcom/a630.fw", "f" * 64, 9, "firmware-x"),),
    kernel=Kernel("linux-image-arm64", "6.12", "6.12.0-arm64", "1" * 64, 3),
    inventory=(
        Component("k8s.io/api", "v0.36.3", "go-module", "Apache-2.0"),
        Component("kube", "v1.36.3", "program", "Apache-2.0", "2" * 64),
        Component("pause", "v1", "image", "Apache-2.0", "3" * 64),
        Component("k8s.io/api", "v0.36.3", "go-module", "Apache-2.0"),
    ),
    stages={"base": "k1"},
    outputs=(Output("vmlinuz", "5" * 64, 2), Output("disk.img", "4" * 64, 1)),
)
MACHINE_READABLE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: thing

Files: *
Copyright: 2020 Somebody
License: GPL-2+ or Expat

Files: x
License: Apache-2
 On Debian systems see /usr/share/common-licenses/Apache-2.0

License: GPL-2+ or Expat
"""


def test_the_manifest_holds_everything_in_a_fixed_order() -> None:
    shuffled = replace(FACTS, debs=FACTS.debs[::-1], outputs=FACTS.outputs[::-1], inventory=FACTS.inventory[::-1])
    assert make_manifest(FACTS) == make_manifest(shuffled)
    document = json.loads(make_manifest(FACTS))
    assert [row["name"] for row in document["packages"]] == ["firmware-x", "libc6"]
    assert [row["licence_class"] for row in document["packages"]] == ["non-free-firmware", "main"]
    assert [row["name"] for row in document["outputs"]] == ["disk.img", "vmlinuz"]
    assert {row["name"] for row in document["kubernetes"]} == {"kube", "pause"}
    assert document["recipe"]["resolved"] == FACTS.recipe
    assert document["kernel"]["release"] == "6.12.0-arm64"
    assert document["tools"][0]["name"] == "erofs-utils"


def test_the_bill_of_materials_is_valid() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(make_sbom(FACTS)) is None


def test_the_bill_of_materials_names_every_part_by_package_url() -> None:
    parts = {part["purl"]: part for part in json.loads(make_sbom(FACTS))["components"]}
    assert set(parts) == {
        "pkg:deb/debian/libc6@2.41-12?arch=arm64&distro=trixie&upstream=glibc",
        "pkg:deb/debian/firmware-x@2025?arch=all&distro=trixie",
        "pkg:pypi/pyyaml@6.0.3?file_name=pyyaml-6.0.3-cp313.whl",
        "pkg:golang/k8s.io/api@v0.36.3",
        "pkg:generic/kubernetes/kube@v1.36.3",
        "pkg:generic/kubernetes/pause@v1",
        "pkg:generic/firmware/qcom/a630.fw",
    }
    firmware = parts["pkg:generic/firmware/qcom/a630.fw"]
    assert {"name": "cumulet:licence_class", "value": "non-free-firmware"} in firmware["properties"]
    libc = parts["pkg:deb/debian/libc6@2.41-12?arch=arm64&distro=trixie&upstream=glibc"]
    assert libc["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert libc["licenses"] == [{"license": {"id": "LGPL-2.1-or-later"}}, {"license": {"name": "own words"}}]


def test_the_bill_of_materials_is_the_same_for_the_same_facts() -> None:
    first = make_sbom(FACTS)
    assert first == make_sbom(replace(FACTS, outputs=()))
    assert json.loads(first)["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    other = json.loads(make_sbom(replace(FACTS, lock_sha256="9" * 64)))
    assert other["serialNumber"] != json.loads(first)["serialNumber"]


def test_sha256sum_checks_what_we_write(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"disk")
    (tmp_path / "a b").write_bytes(b"")
    sums = make_sha256sums(collect_outputs(tmp_path, ()))
    (tmp_path / "sha256sums").write_text(sums)
    done = check_sums(tmp_path)
    assert (done.code, done.out) == (0, "a b: OK\ndisk.img: OK\n")
    (tmp_path / "disk.img").write_bytes(b"disc")
    assert check_sums(tmp_path).code == 1


def check_sums(folder: Path) -> proc.Result:
    """What `sha256sum -c` says."""
    return proc.run(["sha256sum", "--strict", "-c", "sha256sums"], cwd=folder, check=False)


def test_a_recorded_digest_counts_only_for_a_file_of_its_size(tmp_path: Path) -> None:
    stage, folder = tmp_path / "stage", tmp_path / "out"
    stage.mkdir()
    folder.mkdir()
    record = {"files": {"disk.img": {"size": 4, "sha256": "7" * 64}, "vmlinuz": {"size": 4, "sha256": "8" * 64}}}
    (stage / "stage.json").write_text(json.dumps(record))
    (folder / "disk.img").write_bytes(b"four")
    (folder / "vmlinuz").write_bytes(b"other")
    found = {output.name: output for output in collect_outputs(folder, [stage])}
    assert found["disk.img"].sha256 == "7" * 64
    assert found["vmlinuz"].sha256 != "8" * 64
    assert found["vmlinuz"].size == 5


def test_holes_of_a_disk_are_not_stored(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(8 << 20)
        stream.seek(4 << 20)
        stream.write(b"x" * (1 << 20))
    assert probe_stored(image) == [(4 << 20, 5 << 20)]


def test_licences_of_a_machine_readable_copyright_file() -> None:
    assert licences_of_copyright(MACHINE_READABLE) == ("Apache-2.0", "GPL-2.0-or-later OR MIT")


def test_licences_of_a_free_form_copyright_file() -> None:
    text = "This is GPL, see /usr/share/common-licenses/GPL-2 and `/usr/share/common-licenses/Artistic'."
    assert licences_of_copyright(text) == ("Artistic-1.0-Perl", "GPL-2.0-only")
    assert licences_of_copyright("All rights reserved.") == ()


@pytest.mark.parametrize(
    ("debian", "spdx"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("Expat", "MIT"),
        ("BSD-3-clause and GPL-3+", "BSD-3-Clause AND GPL-3.0-or-later"),
        ("public-domain", "public-domain"),
    ],
)
def test_debian_names_become_spdx_names(debian: str, spdx: str) -> None:
    assert make_spdx(debian) == spdx


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("Name: a\nLicense-Expression: MIT\n\nLicense: no\n", "MIT"),
        ("Name: a\nLicense: BSD-3-Clause\n", "BSD-3-Clause"),
        ("Name: a\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("Name: a\n\nLicense: in the description\n", ""),
    ],
)
def test_licence_of_a_wheel(metadata: str, licence: str) -> None:
    assert licence_of_metadata(metadata) == licence
