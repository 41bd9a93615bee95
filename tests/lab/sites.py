"""What the tests of sites share: documents for a lab, questions to its cluster, waiting."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cumulet.site import Site
from cumulet.site.parts import read_script
from cumulet_qemu.checks import dns
from cumulet_qemu.lab.lab import Lab
from cumulet_qemu.lab.store import make_lab

ROLES = ("control", "master", "master")
SERVERS = ["n1", "n2", "n3"]
DNS = "10.43.0.10"
ASK = """
import socket, sys
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
asked.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 53))
print(asked.recv(512).hex())
"""


def bring_file(lab: Lab, source: Path, target: str) -> None:
    """A file, or a folder with all in it, onto every node of a lab."""
    for each in lab.nodes:
        place = Path(f"/proc/{each.init()}/root/{target}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(source, place)


def bring_image(lab: Lab, archive: Path, names: dict[str, str]) -> None:
    """The images of an OCI archive onto every node, as a bring-up does it; name -> digest."""
    bring_file(lab, archive, "/var/tmp/image.oci")
    words = ["import", "/var/tmp/image.oci", *(f"{name}={digest}" for name, digest in names.items())]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: each.run("sh", "-s", "--", *words, input=read_script("images.sh")), lab.nodes))
    for each in lab.nodes:
        each.run("rm", "/var/tmp/image.oci")


@contextmanager
def running_lab(image: Path, labs: Path, name: str, nodes: int, subnet: str) -> Iterator[Lab]:
    """Running nodes of an image, kept below `labs` and taken away at the end whatever happens."""
    made = Lab(make_lab(name, subnet, image, labs))
    try:
        made.up(nodes)
        yield made
    finally:
        made.down()


def write_site(lab: Lab, folder: Path, nodes: int, extra: str = "", distribution: str = "kubeadm") -> Path:
    """site.yaml for the first `nodes` nodes of a lab: control, two masters, workers."""
    roles = [*ROLES, *["worker"] * (nodes - len(ROLES))]
    lines = ["version: 1", "site: pier-7", f"distribution: {distribution}", "nodes:"]
    for each, role in zip(lab.nodes, roles, strict=False):
        lines.append(f"  - {{name: {each.node.name}, address: {each.node.host}, role: {role}}}")
    lines.append(f"ssh: {{key: {lab.key}, known_hosts: {lab.known_hosts}}}")
    path = folder / "site.yaml"
    path.write_text("\n".join(lines) + "\n" + extra)
    return path


def kubectl(lab: Lab, *words: str, on: str = "n2") -> str:
    """Ask the cluster, on a node that has the rights."""
    return lab.node(on).run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words).out


def get(lab: Lab, *words: str, on: str = "n2") -> Any:
    """The same as JSON."""
    return json.loads(kubectl(lab, "get", *words, "-o", "json", on=on))


def ready_nodes(lab: Lab, on: str = "n2") -> set[str]:
    """The names of the nodes that are Ready."""
    path = "{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=='Ready')].status} {end}"
    words = kubectl(lab, "get", "nodes", "-o", f"jsonpath={path}", on=on).split()
    return {word.removesuffix("=True") for word in words if word.endswith("=True")}


def members(lab: Lab, on: str) -> set[str]:
    """The names of the voting members of etcd; one that is not whole is named as its line."""
    pki = "/etc/kubernetes/pki/etcd"
    words = [f"--cacert={pki}/ca.crt", f"--cert={pki}/healthcheck-client.crt", f"--key={pki}/healthcheck-client.key"]
    lines = lab.node(on).run("etcdctl", *words, "member", "list").out.splitlines()
    split = [line.split(", ") for line in lines]
    return {words[2] if words[1] == "started" and words[5] == "false" else ", ".join(words) for words in split}


def authority(lab: Lab, *names: str) -> set[str]:
    """The digests of the cluster's authority on some nodes: one, if they agree."""
    return {lab.node(name).run("sha256sum", "/etc/kubernetes/pki/ca.crt").out.split()[0] for name in names}


def ask_dns(lab: Lab, on: str, name: str = "kubernetes.default.svc.cluster.local") -> list[str]:
    """The addresses that the cluster's DNS has for a name, asked on a node."""
    answer = lab.node(on).run("python3", "-c", ASK, DNS, dns.make_query(name).hex()).out
    return dns.parse_addresses(bytes.fromhex(answer.strip()))


def until(what: str, check: Callable[[], bool], seconds: float) -> float:
    """Wait until a check is true; returns the seconds that it took."""
    begin = time.monotonic()
    while True:
        try:
            if check():
                return time.monotonic() - begin
        except Exception as error:
            last: object = error
        else:
            last = "no"
        assert time.monotonic() < begin + seconds, f"not within {seconds:.0f} s: {what}: {last}"
        time.sleep(0.25)


def assert_whole(lab: Lab, names: Sequence[str], servers: Sequence[str]) -> None:
    """Every node Ready, exactly these members, one authority, no token left, DNS answers on every node."""
    on = servers[-1]
    assert ready_nodes(lab, on) == set(names)
    assert members(lab, on) == set(servers)
    assert len(authority(lab, *servers)) == 1
    secrets = kubectl(lab, "-n", "kube-system", "get", "secrets", "-o", "jsonpath={.items[*].type}", on=on)
    assert "bootstrap.kubernetes.io/token" not in secrets
    # Where the device that DNS ran on has left, its pods are given up after a minute and start elsewhere.
    for name in names:
        until(f"DNS answers on {name}", lambda name=name: ask_dns(lab, name) == ["10.43.0.1"], 180)  # type: ignore[misc]


def up(path: Path) -> list[str]:
    """Bring a site up; returns the steps that were done."""
    outcome = Site.load(path).up()
    return [f"{step['step']}@{step['host']}" for step in outcome.steps]


def answers(lab: Lab, on: str = "n4") -> bool:
    """Whether an API server answers on a node, by the node's own balancer and with its kubelet's rights."""
    ask = ["kubectl", "--kubeconfig=/etc/kubernetes/kubelet.conf", "--request-timeout=3s", "version"]
    return lab.node(on).run(*ask, check=False).code == 0


def write(lab: Lab, name: str, on: str) -> bool:
    """Make an object; whether it could be made."""
    return bool(kubectl(lab, "create", "configmap", name, on=on))


def whole(lab: Lab, on: str) -> bool:
    """Whether etcd has all its members."""
    return members(lab, on) == set(SERVERS)


def pause_image(lab: Lab) -> str:
    """The name of the pause image that every node has."""
    names = lab.node("n4").run("ctr", "-n", "k8s.io", "images", "list", "-q").out.split()
    return next(name for name in names if "pause" in name and "@" not in name)
