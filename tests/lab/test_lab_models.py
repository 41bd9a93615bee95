"""Models in a real container runtime: imported as a bring-up does, pinned, mounted, checked, removed."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sites import until

from cumulet.core.errors import TargetError
from cumulet.models import PREFIX, Release, build_model, check_files, prune_models
from cumulet.packages import load_public, make_key
from cumulet.site.parts import read_script

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
# Nothing of Kubernetes; the snapshots are plain folders, so that no kernel stands in the way.
SETTINGS = """\
version = 3
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"]
[grpc]
address = "{folder}/socket"
"""
Run = Callable[..., str]


@pytest.fixture(scope="module")
def runtime(lab_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """`runtime(script, *words)`: run a script where `ctr` is that of a containerd of the test's own."""
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "bin").mkdir()
    words = ["tar", "--zstd", "-xf", str(lab_image / "root.tar.zst"), "-C", str(folder / "bin"), "--strip-components=2"]
    subprocess.run([*words, "usr/bin/containerd"], check=True)
    (folder / "bin/ctr").symlink_to("containerd")
    (folder / "config.toml").write_text(SETTINGS.format(folder=folder))
    with (folder / "log").open("wb") as log:
        argv = [str(folder / "bin/containerd"), "-c", str(folder / "config.toml")]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def run(script: str, *words: str) -> str:
        text = script.replace("export PATH=", f"export PATH={folder}/bin:")
        known = {
            "CONTAINERD_ADDRESS": f"{folder}/socket",
            "CONTAINERD_SNAPSHOTTER": "native",
            "PATH": os.environ["PATH"],
        }
        known |= {"CUMULET_STORE": str(folder / "store")}
        done = subprocess.run(
            ["sh", "-s", "--", *words], input=text, env=known, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise TargetError(done.stderr.strip())
        return done.stdout

    try:
        until("containerd answers", lambda: "REF" in run("export PATH=\nctr images ls"), 60)
        yield run
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, tuple[Release, Path]]:
    """Two versions of a model, with a big file that they share."""
    make_key(tmp_path / "key.pem")
    made = {}
    for revision in ("1", "2"):
        folder = tmp_path / revision
        (folder / "check").mkdir(parents=True)
        (folder / "weights.bin").write_bytes(bytes(range(256)) * 8192)
        (folder / "check/labels.txt").write_text(revision)
        archive = tmp_path / f"{revision}.oci"
        made[revision] = (build_model(folder, archive, "yolo", revision, tmp_path / "key.pem"), archive)
    return made


def bring(runtime: Run, release: Release, archive: Path) -> None:
    """Import it as `site up` does."""
    names = (release.reference, f"{PREFIX}yolo:{release.revision}")
    runtime(read_script("images.sh"), "import", str(archive), *(f"{name}={release.digest}" for name in names))


def test_a_model_is_imported_mounted_checked_and_removed(
    runtime: Run, releases: dict[str, tuple[Release, Path]], tmp_path: Path
) -> None:
    for release, archive in releases.values():
        bring(runtime, release, archive)
    (first, _), (second, _) = releases["1"], releases["2"]
    listed = runtime("export PATH=\nctr -n k8s.io images ls")
    assert listed.count("io.cri-containerd.pinned=pinned") == 4
    target = tmp_path / "mounted"
    target.mkdir()
    runtime(f"export PATH=\nctr -n k8s.io images mount {second.reference} {target}")
    try:
        card = check_files(target, load_public(tmp_path / "key.pem.pub"))
        assert (card.revision, (target / "check/labels.txt").read_text()) == ("2", "2")
    finally:
        runtime(f"export PATH=\nctr -n k8s.io images unmount --rm {target}")

    async def run(script: str, words: Sequence[str]) -> str:
        return runtime(script, *words)

    before = runtime("export PATH=\nctr -n k8s.io content ls -q").split()
    going, staying = asyncio.run(prune_models({"here": run}, {second.reference}))
    assert [each.reference for each in going] == [first.reference]
    assert [each.reference for each in staying] == [second.reference]
    after = set(runtime("export PATH=\nctr -n k8s.io content ls -q").split())
    # What both have is still there, what only the old one had is not.
    mine, theirs = ({f"sha256:{blob.sha256}" for blob in each.blobs} for each in (first, second))
    assert mine & theirs <= after
    assert not after & (mine - theirs)
    assert len(before) > len(after)
    assert asyncio.run(prune_models({"here": run}, set()))[1] == []


def test_an_archive_of_something_else_is_not_taken_for_the_model(
    runtime: Run, releases: dict[str, tuple[Release, Path]]
) -> None:
    (first, _), (_, archive) = releases["1"], releases["2"]
    with pytest.raises(TargetError, match="did not come out of it"):
        runtime(read_script("images.sh"), "import", str(archive), f"{first.reference}={first.digest}")
