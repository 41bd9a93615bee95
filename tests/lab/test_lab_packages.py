"""Packages on real nodes: broken off at random bytes, tampered with, handed on, and proved by digest everywhere.

Only the phases that deal with packages are carried out: no Kubernetes is needed for them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from sites import ready_nodes, until, up, write_site

from cumulet.core.errors import TargetError
from cumulet.packages import Label, Package, add_package, make_key, push_store
from cumulet.site import Site
from cumulet_builder.kubernetes import oci
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
Figure = Callable[[str, object], None]
Shop = Any  # of tests/conftest.py
MakeShop = Callable[..., Shop]
NODES = ("n1", "n2", "n3")
MIB = 1 << 20
BIG = 200 * MIB + 12345
CHUNK = 4 * MIB
HOME = "/var/lib/cumulet"
IMAGE = "registry.example/edge/app:1"
STATE = f"find {HOME}/packages {HOME}/models 2>/dev/null; ctr -n k8s.io images ls -q | grep example; true"
CLEAR = (
    f"rm -rf {HOME}/blobs {HOME}/proofs {HOME}/packages {HOME}/models; "
    "ctr -n k8s.io images ls -q | grep example | xargs -r ctr -n k8s.io images rm --sync >/dev/null; true"
)
# The phases of a bring-up that deal with packages, as `cumulet site up` carries them out.
TRANSFER = """
import asyncio, json, sys
from cumulet.site import Site
from cumulet.site.act import carry_out
from cumulet.site.keeper import hold
from cumulet.site.plan import make_plan

PHASES = {"packages", "distribute", "install", "images", "models", "models-distribute", "models-install"}

async def transfer(path, listen=lambda event: None):
    site = Site.load(path)
    async with site.connected() as hosts, hold(hosts[site.document.control.name]) as keeper:
        plan = make_plan(site.document, await site.survey(hosts), site.sources)
        crew = site.make_crew(hosts, keeper, listen)
        await carry_out(tuple(phase for phase in plan if phase.name in PHASES), crew)
    return [f"{each['step']}@{each['host']}" for each in crew.record]
"""
exec(compile(TRANSFER, "transfer", "exec"))


@pytest.fixture(scope="module")
def three(lab: MakeLab) -> Iterator[Lab]:
    """Three running nodes."""
    with lab("pk", 3, "10.52.0.0/24") as found:
        yield found


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model of 200 MB."""
    path = tmp_path_factory.mktemp("big") / "big.onnx"
    path.write_bytes(random.Random(4).randbytes(BIG))
    yield path
    path.unlink()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Keep a figure in the report of the run (--junit-xml)."""
    return lambda name, value: request.node.user_properties.append((name, str(value)))


@pytest.fixture
def nodes(three: Lab) -> Iterator[Lab]:
    """Three nodes that have no package."""
    for each in three.nodes:
        three.plug(each.node.name)
        each.run("sh", "-c", CLEAR)
    yield three


class Publisher:
    """Somebody who publishes, a web server with what was published, and a site that fetches it."""

    def __init__(self, lab: Lab, folder: Path, make_shop: MakeShop) -> None:
        self.lab, self.folder = lab, folder
        self.store = folder / "store"
        self.store.mkdir()
        make_key(folder / "key.pem")
        self.shop = make_shop(self.store, lab.wiring.gateway)
        self.site = self.write_site(self.shop.url)

    def write_site(self, source: str) -> Path:
        """site.yaml that takes its packages from there."""
        return write_site(self.lab, self.folder, 3, f"packages: {{source: '{source}', key: key.pem.pub}}\n")

    def add(self, file: Path, name: str, kind: str) -> Package:
        label = Label(name, "1", kind)  # type: ignore[arg-type]
        return add_package(self.store, file, label, self.folder / "key.pem")

    def transfer(self, listen: Callable[..., None] = lambda event: None) -> list[str]:
        """Bring the packages into the site; returns the steps that were done."""
        steps: list[str] = asyncio.run(transfer(self.site, listen))  # type: ignore[name-defined] # noqa: F821 - see TRANSFER
        return steps

    def state(self) -> dict[str, str]:
        """What is installed on every node."""
        return {name: self.lab.node(name).run("sh", "-c", STATE).out for name in NODES}

    def digests(self, path: str) -> set[str]:
        """The digests of a file on all nodes."""
        return {self.lab.node(name).run("sha256sum", path).out.split()[0] for name in NODES}

    def images(self) -> set[str]:
        """The digest of the image on all nodes, as containerd says."""
        lines = (self.lab.node(name).run("ctr", "-n", "k8s.io", "images", "check").out.splitlines() for name in NODES)
        found = [next(line.split() for line in each if line.startswith(IMAGE)) for each in lines]
        assert {words[3] for words in found} == {"complete"}
        return {words[2] for words in found}


@pytest.fixture
def publisher(nodes: Lab, tmp_path: Path, shop: MakeShop) -> Publisher:
    return Publisher(nodes, tmp_path, shop)


def write_tar(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("bin/tool")
        info.size, info.mode = len(content), 0o755
        archive.addfile(info, BytesIO(content))
    return path


def write_image(folder: Path) -> Path:
    """An archive with one image of one layer."""
    layer = write_tar(folder / "layer.tar", os.urandom(3 * MIB))
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    image = oci.make_image(IMAGE, [oci.make_layer(layer, layer, "")], architecture, {"Cmd": ["/bin/tool"]})
    with (folder / "image.tar").open("wb") as stream:
        oci.write_archive([image], stream, 0)
    return folder / "image.tar"


def test_every_node_has_all_of_it_by_digest_the_uplink_carried_it_once_and_a_second_run_does_nothing(
    publisher: Publisher, tmp_path: Path, figure: Figure
) -> None:
    tool = os.urandom(7 * MIB)
    subprocess.run(["zstd", "-q", write_tar(tmp_path / "tool.tar", tool)], check=True)
    (tmp_path / "model").write_bytes(os.urandom(9 * MIB))
    made = [
        publisher.add(tmp_path / "tool.tar.zst", "tool", "files"),
        publisher.add(write_image(tmp_path), "app", "image"),
        publisher.add(tmp_path / "model", "model", "model"),
    ]
    steps = publisher.transfer()
    assert steps[:2] == ["packages.index@n1", "packages.fetch@n1"]
    assert publisher.digests(f"{HOME}/packages/tool/current/bin/tool") == {hashlib.sha256(tool).hexdigest()}
    assert publisher.digests(f"{HOME}/models/model/current") == {made[2].sha256}
    assert publisher.images() == {made[1].images[0].digest}
    assert publisher.shop.sent == sum(each.size for each in made)
    left = {name: publisher.lab.node(name).run("ls", f"{HOME}/blobs").out.split() for name in NODES}
    assert left["n2"] == left["n3"] == ["lock"]
    before, asked = publisher.state(), len(publisher.shop.asked)
    begin = time.monotonic()
    assert publisher.transfer() == []
    figure("second run, s", round(time.monotonic() - begin, 1))
    assert publisher.state() == before
    assert len(publisher.shop.asked) == asked + 2  # the index and its signature
    listening = publisher.lab.node("n1").run("cat", "/proc/net/tcp").out
    assert f":{7480:04X} 00000000:0000 0A" not in listening


def test_an_uplink_that_breaks_at_three_random_bytes_sends_no_byte_twice(
    publisher: Publisher, big: Path, figure: Figure
) -> None:
    package = publisher.add(big, "big", "model")
    breaks = sorted(random.SystemRandom().sample(range(1, BIG), 3))
    publisher.shop.at.update(dict.fromkeys(breaks, lambda: True))
    begin = time.monotonic()
    publisher.transfer()
    figure("broken at", f"{breaks}: {publisher.shop.sent} of {BIG} bytes sent, {time.monotonic() - begin:.1f} s")
    assert publisher.digests(f"{HOME}/models/big/current") == {package.sha256}
    assert publisher.shop.sent == BIG
    starts = [start for path, start in publisher.shop.asked if "/blobs/" in path]
    assert starts == [0, *breaks]


def test_a_control_node_whose_cable_is_pulled_goes_on_where_it_was(
    publisher: Publisher, big: Path, figure: Figure
) -> None:
    package = publisher.add(big, "big", "model")
    cut = random.SystemRandom().randrange(BIG // 4, BIG // 2)
    publisher.shop.at[cut] = lambda: bool(publisher.lab.cut("n1"))  # type: ignore[func-returns-value]
    with pytest.raises(TargetError, match=r"n1: the connection broke|the site's lock is lost"):
        publisher.transfer()
    assert publisher.lab.node("n2").run("sh", "-c", STATE).out == ""
    publisher.lab.plug("n1")
    until("the lock of who was cut off is let go, and all is there", lambda: publisher.transfer() is not None, 120)
    assert publisher.digests(f"{HOME}/models/big/current") == {package.sha256}
    figure("cable pulled at", f"{cut}: {publisher.shop.sent - BIG} bytes sent twice")
    assert publisher.shop.sent <= BIG + CHUNK


def test_a_node_whose_cable_is_pulled_stops_no_other_and_costs_the_uplink_nothing(
    publisher: Publisher, big: Path
) -> None:
    package = publisher.add(big, "big", "model")

    def listen(event: Any) -> None:
        if event.state == "start" and event.step.id == "models-distribute.take@n3":
            publisher.lab.cut("n3")

    with pytest.raises(TargetError, match="n3: the connection broke"):
        publisher.transfer(listen)
    have = publisher.lab.node("n2").run("ls", f"{HOME}/blobs").out.split()
    assert package.sha256 in have
    publisher.lab.plug("n3")
    steps = publisher.transfer()
    assert "models-distribute.take@n3" in steps and "models-distribute.take@n2" not in steps
    assert publisher.digests(f"{HOME}/models/big/current") == {package.sha256}
    assert publisher.shop.sent == BIG


def test_an_installer_that_is_killed_leaves_no_server_and_the_next_one_goes_on(
    publisher: Publisher, big: Path, figure: Figure
) -> None:
    package = publisher.add(big, "big", "model")
    program = (
        "listen = lambda event: print(event.state, event.step.id, flush=True)\n"
        "asyncio.run(transfer(sys.argv[1], listen))\n"
    )
    for stop in ("models.fetch@n1", "models-distribute.take@n2"):
        process = subprocess.Popen(
            [sys.executable, "-c", TRANSFER + program, publisher.site], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.split() == ["start", stop]:
                time.sleep(0.7)
                process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        for name in NODES:
            node = publisher.lab.node(name)
            until(
                f"nothing runs on {name}",
                lambda node=node: "-I -c" not in node.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").out,  # type: ignore[misc]
                20,
            )
    publisher.transfer()
    assert publisher.digests(f"{HOME}/models/big/current") == {package.sha256}
    figure("installer killed", f"{publisher.shop.sent - BIG} bytes sent twice")
    assert publisher.shop.sent <= BIG + CHUNK


def test_a_package_that_was_tampered_with_is_one_error_and_nothing_is_installed_anywhere(
    publisher: Publisher, tmp_path: Path
) -> None:
    good = write_tar(tmp_path / "good.tar", os.urandom(2 * MIB))
    publisher.add(good, "a-good", "files")
    bad = publisher.add(write_tar(tmp_path / "bad.tar", os.urandom(9 * MIB)), "bad", "files")
    blob = publisher.store / "blobs/sha256" / bad.sha256
    data = bytearray(blob.read_bytes())
    data[5 * MIB] ^= 1
    blob.write_bytes(data)
    with pytest.raises(TargetError) as raised:
        publisher.transfer()
    message = "n1: bad 1: chunk 2 of 3 is not what the signed index says; it came from http://10.52.0.1:"
    assert raised.value.message.startswith(message)
    assert set(publisher.state().values()) == {""}


def test_an_index_that_was_tampered_with_is_one_error_and_nothing_is_fetched(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.add(write_tar(tmp_path / "good.tar", os.urandom(2 * MIB)), "good", "files")
    values = json.loads((publisher.store / "index.json").read_text())
    values["packages"][0]["sha256"] = "0" * 64
    (publisher.store / "index.json").write_text(json.dumps(values))
    with pytest.raises(TargetError, match="the index is not signed by the key of this site"):
        publisher.transfer()
    assert publisher.shop.sent == 0
    assert set(publisher.state().values()) == {""}
    assert not publisher.lab.node("n1").run("ls", f"{HOME}/blobs", check=False).out


def test_a_tree_that_somebody_has_changed_is_put_right(publisher: Publisher, tmp_path: Path) -> None:
    tool = os.urandom(2 * MIB)
    publisher.add(write_tar(tmp_path / "tool.tar", tool), "tool", "files")
    publisher.transfer()
    publisher.lab.node("n3").run("sh", "-c", f"echo x >{HOME}/packages/tool/current/bin/tool")
    assert "install.files@n3" in publisher.transfer()
    assert publisher.digests(f"{HOME}/packages/tool/current/bin/tool") == {hashlib.sha256(tool).hexdigest()}
    assert publisher.transfer() == []


def test_an_index_that_cannot_be_reached_any_more_does_not_stop_a_site_that_has_everything(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.add(write_tar(tmp_path / "tool.tar", b"tool"), "tool", "files")
    publisher.transfer()
    publisher.write_site("http://10.52.0.1:9/")
    assert publisher.transfer() == []


@pytest.mark.timeout(2400)
def test_a_site_comes_up_with_packages_from_a_registry_and_a_second_run_does_nothing(
    publisher: Publisher, tmp_path: Path, registries: Callable[..., str], figure: Figure
) -> None:
    tool = os.urandom(3 * MIB)
    (tmp_path / "model").write_bytes(os.urandom(9 * MIB))
    publisher.add(write_tar(tmp_path / "tool.tar", tool), "tool", "files")
    image = publisher.add(write_image(tmp_path), "app", "image")
    model = publisher.add(tmp_path / "model", "model", "model")
    repository = f"oci+http://{registries(publisher.lab.wiring.gateway)}/edge/packages"
    push_store(publisher.store, repository, tmp_path / "key.pem.pub", "", lambda title: None)
    path = publisher.write_site(repository)
    done = Site.load(path).up()
    phases = list(dict.fromkeys(str(step["phase"]) for step in done.steps))
    assert phases[:4] == ["packages", "distribute", "install", "system"]
    assert phases[-3:] == ["models", "models-distribute", "models-install"]
    assert publisher.digests(f"{HOME}/packages/tool/current/bin/tool") == {hashlib.sha256(tool).hexdigest()}
    assert publisher.digests(f"{HOME}/models/model/current") == {model.sha256}
    assert publisher.images() == {image.images[0].digest}
    assert ready_nodes(publisher.lab) == set(NODES)
    begin = time.monotonic()
    assert up(path) == []
    figure("bring-up with packages, s", round(done.seconds, 1))
    figure("second bring-up, s", round(time.monotonic() - begin, 1))
