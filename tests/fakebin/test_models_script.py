"""The script that lists and removes models on a node, with a container runtime that is played."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cumulet.models.prune import SCRIPT, parse_held

CTR = """\
#!/bin/sh
printf "%s\\n" "$*" >>"$CALLS"
[ "$4" = list ] || exit 0
cat <<END
REF                                      TYPE                                    DIGEST     SIZE     PLATFORMS    LABELS
cumulet.dev/models/yolo:8.1              application/vnd.oci.image.index.v1+json sha256:{a}  9.5 MiB  linux/amd64  x=y
cumulet.dev/models/yolo@sha256:{a}       application/vnd.oci.image.index.v1+json sha256:{a}  9.5 MiB  linux/amd64  x=y
cumulet.dev/pause:1.36.3                 application/vnd.oci.image.index.v1+json sha256:{b}  1.0 MiB  linux/amd64  -
END
""".replace("{a}", "a" * 64).replace("{b}", "b" * 64)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ctr").write_text(CTR)
    (tmp_path / "bin/ctr").chmod(0o755)
    folder = tmp_path / "store/cards" / ("c" * 64)
    folder.mkdir(parents=True)
    (folder / "cumulet-model.json").write_text("{}")
    (folder / "weights.bin").write_bytes(bytes(5 << 20))
    (tmp_path / "store/tools" / ("d" * 64)).mkdir(parents=True)
    return tmp_path


def run(node: Path, *words: str) -> subprocess.CompletedProcess[str]:
    # The script sets its own path; the played program must come before it.
    text = SCRIPT.read_text().replace("export PATH=", f"export PATH={node}/bin:")
    environment = {"CALLS": str(node / "calls"), "CUMULET_STORE": str(node / "store"), "PATH": os.environ["PATH"]}
    argv = ["sh", "-s", "--", *words]
    return subprocess.run(argv, input=text, env=environment, capture_output=True, text=True, check=False)


def test_models_are_listed_as_images_and_as_folders_of_the_store(node: Path) -> None:
    held = parse_held("p1", run(node, "list").stdout)
    assert [(each.reference[:24], len(each.names)) for each in held] == [
        ("cumulet.dev/models/cards", 1),
        ("cumulet.dev/models/yolo@", 2),
    ]
    assert held[0].size >= 5 << 20
    assert held[1].size == int(9.5 * (1 << 20))


def test_models_are_removed_and_nothing_else_is(node: Path) -> None:
    name = f"cumulet.dev/models/yolo@sha256:{'a' * 64}"
    assert run(node, "remove", name, f"cards/{'c' * 64}").returncode == 0
    assert (node / "calls").read_text() == f"-n k8s.io images remove --sync {name}\n"
    assert list((node / "store/cards").iterdir()) == []
    for wrong in (f"tools/{'d' * 64}", "cumulet.dev/pause:1.36.3", "../../etc", "tools/../cards", "x"):
        done = run(node, "remove", wrong)
        assert (done.returncode, done.stderr) == (2, f"models.sh: {wrong}: is no model\n")
    assert (node / "store/tools" / ("d" * 64)).is_dir()
