"""The first-boot scripts of both distributions, run in a folder that stands for the root, with fake programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from cumulet.kubernetes import DISTRIBUTIONS, Cluster
from cumulet.kubernetes import k3s as k3s_settings
from cumulet.kubernetes.layout import CONFIG, FILL, MADE, NETWORK, PREPARE, SETUP

TOP = re.compile(r'(?<![\w@}.$"-])/(?=(?:etc|run|usr|proc|var)\b|\s|$)', re.MULTILINE)
FAKE = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\n'
NODE = "/run/cumulet/node.env"


@dataclass
class Root:
    """A folder that stands for the root file system of a node."""

    folder: Path

    def at(self, path: str) -> Path:
        return self.folder / path.lstrip("/")

    def read(self, path: str) -> str:
        return self.at(path).read_text()

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        target = self.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        return target

    def fake(self, name: str, body: str = "") -> None:
        """A program that notes how it was called."""
        self.write(f"/fake/{name}", FAKE + body, 0o755)

    def run(self, path: str, code: int = 0) -> list[str]:
        """Run a script of the root; returns what it said, then what it called."""
        calls = self.folder / "calls"
        calls.write_text("")
        env = {"PATH": f"{self.folder}/fake:{os.environ['PATH']}", "CALLS": str(calls), "LANG": "C.UTF-8"}
        words = ["/bin/sh", str(self.at(path))]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == code, done.stderr
        return [*done.stdout.splitlines(), *calls.read_text().splitlines()]

    def state(self) -> dict[str, tuple[int, bytes]]:
        """Every file with its time and content."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and path.name != "calls"]
        return {str(path): (path.lstat().st_mtime_ns, path.read_bytes()) for path in files}


def make_root(folder: Path, distribution: str) -> Root:
    """What the image has, every absolute path in its scripts below `folder`."""
    root = Root(folder)
    for path, text in DISTRIBUTIONS[distribution].make_image_setup(Cluster()).files.items():
        script = text.content.startswith("#!/bin/sh\n")
        below = TOP.sub(lambda match: f"{folder}/", text.content.removeprefix("#!/bin/sh\n"))
        root.write(path, below if script else text.content, text.mode)
    root.write("/proc/sys/kernel/hostname", "from-kernel\n")
    root.write("/proc/sys/kernel/random/boot_id", "boot-2\n")
    root.write("/proc/uptime", "12.34 50.00\n")
    root.fake("sync")
    return root


@pytest.fixture
def k3s(tmp_path: Path) -> Root:
    return make_root(tmp_path, "k3s")


@pytest.fixture
def kubeadm(tmp_path: Path) -> Root:
    root = make_root(tmp_path, "kubeadm")
    root.fake("nft")
    root.fake("ip")
    root.fake("kubeadm", f'mkdir -p "{tmp_path}/etc/kubernetes" && : >"{tmp_path}/etc/kubernetes/admin.conf"\n')
    return root


# k3s: settings of a lone node


def test_k3s_settings_are_written_once(k3s: Root) -> None:
    k3s.write(NODE, "CUMULET_ROLE=single\nCUMULET_HOSTNAME=p1\nCUMULET_ADDRESS=10.0.0.11\n")
    assert k3s.run(k3s_settings.PREPARE) == [f"sync -f {k3s.folder}/etc"]
    config = yaml.safe_load(k3s.read(k3s_settings.CONFIG))
    assert (config["node-name"], config["node-ip"], config["cluster-init"]) == ("p1", "10.0.0.11", True)
    assert yaml.safe_load(k3s.read(k3s_settings.REGISTRIES)) == {"mirrors": {"*": {}}}
    assert k3s.at(k3s_settings.CONFIG).stat().st_mode & 0o777 == 0o600
    assert not list(k3s.at("/etc/rancher/k3s").glob("*.new"))
    before = k3s.state()
    k3s.write(NODE, "CUMULET_ROLE=single\nCUMULET_HOSTNAME=other\n")
    before |= {str(k3s.at(NODE)): k3s.state()[str(k3s.at(NODE))]}
    assert k3s.run(k3s_settings.PREPARE) == []
    assert k3s.state() == before


def test_k3s_settings_of_a_node_that_was_told_nothing_but_its_role(k3s: Root) -> None:
    k3s.write(NODE, "CUMULET_ROLE=single\n")
    k3s.run(k3s_settings.PREPARE)
    config = yaml.safe_load(k3s.read(k3s_settings.CONFIG))
    assert config["node-name"] == "from-kernel"
    assert "node-ip" not in config
    assert "@" not in k3s.read(k3s_settings.CONFIG)


def test_k3s_settings_after_a_run_that_was_cut_off_are_whole(k3s: Root) -> None:
    k3s.write(NODE, "CUMULET_ROLE=single\nCUMULET_HOSTNAME=123\n")
    k3s.fake("sync", "exit 1\n")
    k3s.run(k3s_settings.PREPARE, code=1)
    assert not k3s.at(k3s_settings.CONFIG).exists()
    k3s.write(f"{k3s_settings.CONFIG}.new", "half a li")
    k3s.fake("sync")
    k3s.run(k3s_settings.PREPARE)
    assert yaml.safe_load(k3s.read(k3s_settings.CONFIG))["node-name"] == "123"


@pytest.mark.parametrize("role", ["none", "control", "master", "worker", None])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_other_roles_wait_until_they_are_joined(tmp_path: Path, distribution: str, role: str | None) -> None:
    root = make_root(tmp_path, distribution)
    if role is not None:
        root.write(NODE, f"CUMULET_ROLE={role}\nCUMULET_HOSTNAME=p1\n")
    before = root.state()
    assert root.run(SETUP) == []
    assert root.state() == before


# k3s: images and readiness


def test_k3s_sees_the_images_of_the_root(k3s: Root) -> None:
    names = ["0123-k3s-airgap-images-arm64.tar.zst", "4567-more.tgz"]
    for name in names:
        k3s.write(f"{k3s_settings.IMAGES}/{name}", name)
    k3s.run("/usr/lib/cumulet/k3s-images")
    seen = k3s.at(k3s_settings.IMAGES_SEEN)
    assert sorted(path.name for path in seen.iterdir()) == [".cache.json", *names]
    assert all((seen / name).readlink() == k3s.at(k3s_settings.IMAGES) / name for name in names)


def test_k3s_keeps_its_list_of_imported_images_and_forgets_those_of_an_older_root(k3s: Root) -> None:
    k3s.write(f"{k3s_settings.IMAGES}/0123-old.tar.zst", "old")
    k3s.run("/usr/lib/cumulet/k3s-images")
    k3s.write(f"{k3s_settings.IMAGES_SEEN}/.cache.json", '{"seen": 1}')
    k3s.write(f"{k3s_settings.IMAGES_SEEN}/mine.tar", "put here by somebody")
    k3s.run("/usr/lib/cumulet/k3s-images")
    assert k3s.read(f"{k3s_settings.IMAGES_SEEN}/.cache.json") == '{"seen": 1}'
    k3s.at(f"{k3s_settings.IMAGES}/0123-old.tar.zst").unlink()
    k3s.write(f"{k3s_settings.IMAGES}/4567-new.tar.zst", "new")
    k3s.run("/usr/lib/cumulet/k3s-images")
    seen = sorted(path.name for path in k3s.at(k3s_settings.IMAGES_SEEN).iterdir())
    assert seen == [".cache.json", "4567-new.tar.zst", "mine.tar"]
    k3s.at(f"{k3s_settings.IMAGES}/4567-new.tar.zst").unlink()
    k3s.run("/usr/lib/cumulet/k3s-images")
    assert not list(k3s.at(k3s_settings.IMAGES_SEEN).glob("*new*"))


@pytest.mark.parametrize("settings", [k3s_settings.CONFIG, k3s_settings.AGENT_CONFIG])
@pytest.mark.parametrize("name", ["p1", "'123'", '"p-1"'])
def test_k3s_says_once_that_its_node_is_ready(k3s: Root, settings: str, name: str) -> None:
    k3s.write(settings, f"node-ip: 10.0.0.11\nnode-name: {name}\n")
    # Ready since the last boot; then of this boot, but not yet; then ready.
    k3s.fake(
        "k3s", 'case $(wc -l <"$CALLS") in 1) echo boot-1 True ;; 3) echo boot-2 False ;; *) echo boot-2 True ;; esac'
    )
    k3s.fake("sleep")
    said, *calls = k3s.run("/usr/lib/cumulet/k3s-ready")
    assert said == "cumulet: ready 12.34"
    assert [call.partition(" ")[0] for call in calls] == ["k3s", "sleep", "k3s", "sleep", "k3s"]
    words = f"k3s kubectl --kubeconfig={k3s.folder}{k3s_settings.KUBELET} get node {name.strip(chr(34) + chr(39))} -o"
    assert calls[0].startswith(f"{words} jsonpath=")


# kubeadm: a cluster of one node


def test_kubeadm_makes_a_cluster_once(kubeadm: Root) -> None:
    kubeadm.write(NODE, "CUMULET_ROLE=single\nCUMULET_HOSTNAME=p1\nCUMULET_ADDRESS=10.0.0.11\n")
    top = kubeadm.folder
    assert kubeadm.run(SETUP) == [
        f"nft -f {top}{CONFIG}/masquerade.nft",
        f"kubeadm init --config {top}{CONFIG}/init.yaml",
        f"sync -f {top}/etc",
        f"sync -f {top}{MADE}",
    ]
    assert kubeadm.read(f"{CONFIG}/kubelet.env") == 'ARGS="--hostname-override=p1 --node-ip=10.0.0.11"\n'
    assert kubeadm.read(f"{CONFIG}/network.env") == "ADDRESS=10.0.0.11\nLOOPBACK=no\n"
    first, _ = yaml.safe_load_all(kubeadm.read(f"{CONFIG}/init.yaml"))
    assert (first["nodeRegistration"]["name"], first["localAPIEndpoint"]["advertiseAddress"]) == ("p1", "10.0.0.11")
    filled = [path for path in kubeadm.at("/etc").rglob("*") if path.is_file()]
    assert len(filled) > len(list(kubeadm.at(FILL).rglob("*.*"))) > 0
    assert [path for path in filled if "@" in path.read_text()] == []
    before = kubeadm.state()
    assert kubeadm.run(SETUP) == []
    assert kubeadm.state() == before


def test_kubeadm_gives_a_node_without_an_address_its_own(kubeadm: Root) -> None:
    kubeadm.write(NODE, "CUMULET_ROLE=single\n")
    calls = kubeadm.run(SETUP)
    assert calls[0] == "ip address replace 10.41.0.1/32 dev lo"
    assert kubeadm.read(f"{CONFIG}/network.env") == "ADDRESS=10.41.0.1\nLOOPBACK=yes\n"
    assert kubeadm.read(f"{CONFIG}/kubelet.env") == 'ARGS="--hostname-override=from-kernel --node-ip=10.41.0.1"\n'
    assert "10.41.0.1" in kubeadm.read(f"{CONFIG}/kube-apiserver.env")


def test_kubeadm_starts_afresh_after_a_run_that_was_cut_off(kubeadm: Root) -> None:
    kubeadm.write(NODE, "CUMULET_ROLE=single\nCUMULET_HOSTNAME=p1\n")
    kubeadm.fake("kubeadm", "exit 1\n")
    kubeadm.run(SETUP, code=1)
    assert not kubeadm.at(MADE).exists()
    kubeadm.write("/etc/kubernetes/pki/ca.crt", "half a certi")
    kubeadm.write(f"{CONFIG}/left.over", "x")
    kubeadm.fake("kubeadm")
    kubeadm.run(SETUP)
    assert kubeadm.at(MADE).exists()
    assert not kubeadm.at("/etc/kubernetes/pki").exists()
    assert not kubeadm.at(f"{CONFIG}/left.over").exists()


def test_network_of_kubeadm_is_made_again_at_every_boot(kubeadm: Root) -> None:
    for loopback, ip in (("no", []), ("yes", ["ip address replace 10.0.0.11/32 dev lo"])):
        kubeadm.write(f"{CONFIG}/network.env", f"ADDRESS=10.0.0.11\nLOOPBACK={loopback}\n")
        for _ in range(2):
            assert kubeadm.run(NETWORK) == [*ip, f"nft -f {kubeadm.folder}{CONFIG}/masquerade.nft"]


def test_pods_get_the_servers_that_the_node_asks(kubeadm: Root) -> None:
    resolv = kubeadm.at("/run/cumulet/resolv.conf")
    kubeadm.run(PREPARE)
    assert resolv.read_text() == ""
    kubeadm.write("/etc/resolv.conf", "nameserver 10.0.0.1\n")
    kubeadm.run(PREPARE)
    assert resolv.readlink() == kubeadm.at("/etc/resolv.conf")
    kubeadm.write("/run/systemd/resolve/resolv.conf", "nameserver 10.0.0.2\n")
    for _ in range(2):
        kubeadm.run(PREPARE)
        assert resolv.readlink() == kubeadm.at("/run/systemd/resolve/resolv.conf")
    kubeadm.at("/etc/resolv.conf").unlink()
    shutil.rmtree(kubeadm.at("/run/systemd"))
    kubeadm.run(PREPARE)
    assert (resolv.is_symlink(), resolv.read_text()) == (False, "")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_scripts_are_plain_shell(distribution: str) -> None:
    scripts = {
        path: text.content
        for path, text in DISTRIBUTIONS[distribution].make_image_setup(Cluster()).files.items()
        if text.content.startswith("#!")
    }
    assert SETUP in scripts
    for path, text in scripts.items():
        done = subprocess.run(["/bin/sh", "-n"], input=text, capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path
        assert text.startswith("#!/bin/sh\n# "), path
