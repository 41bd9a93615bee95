"""The root file system as a container image: one archive in the OCI image layout."""

from __future__ import annotations

import datetime
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cumulet.core.files import sha256_file, writing
from cumulet_builder.formats import tar
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.tree import Tree, write_tar

NAME = "root.oci.tar"
MEDIA = "application/vnd.oci.image"


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `root.oci.tar`: one layer, compressed with zstd."""
    with tempfile.TemporaryDirectory(prefix=".oci-", dir=bench.folder) as name:
        layer = Path(name) / "layer.tar.zst"
        tar.compress(inputs.root_tree, layer, bench)
        archive = make_archive(inputs, layer, sha256_file(inputs.root_tree))
        with writing(bench.folder / NAME) as stream:
            write_tar(archive, stream, inputs.epoch)


def make_archive(inputs: DiskInputs, layer: Path, plain_digest: str) -> Tree:
    """The content of the archive; `plain_digest` is the SHA-256 of the layer before compression."""
    created = datetime.datetime.fromtimestamp(inputs.epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = {
        "architecture": inputs.architecture,
        "os": "linux",
        "created": created,
        "config": {"Cmd": ["/sbin/init"], "StopSignal": "SIGRTMIN+3"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{plain_digest}"]},
        "history": [{"created": created, "created_by": "cumulet build"}],
    }
    tree = Tree()
    layer_digest = sha256_file(layer)
    tree.file(f"/blobs/sha256/{layer_digest}", layer)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": _add(tree, config, f"{MEDIA}.config.v1+json"),
        "layers": [
            {
                "mediaType": f"{MEDIA}.layer.v1.tar+zstd",
                "digest": f"sha256:{layer_digest}",
                "size": layer.stat().st_size,
            }
        ],
    }
    entry = _add(tree, manifest, f"{MEDIA}.manifest.v1+json") | {
        "platform": {"architecture": inputs.architecture, "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": inputs.image},
    }
    index = {"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": [entry]}
    tree.file("/index.json", json.dumps(index, sort_keys=True))
    tree.file("/oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}))
    return tree


def _add(tree: Tree, document: Mapping[str, object], media: str) -> dict[str, object]:
    body = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(body).hexdigest()
    tree.file(f"/blobs/sha256/{digest}", body)
    return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(body)}
