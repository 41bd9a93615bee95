"""From bare nodes to a whole site: ours, the same by hand, and what more workers cost. All in one run.

`bench/site.py --image out/lab-node` (build it first: cumulet build lab-node): as root, on the lab. By hand means what
somebody writes who knows kubeadm: the same programs and settings, one command after the other, waiting where
kubeadm's manual says to wait. It runs inside the nodes without ssh, which is an advantage of about a second.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cumulet.kubernetes import Cluster, Join, Node
from cumulet.kubernetes import kubeadm as nodes
from cumulet.kubernetes.addons import make_addons
from cumulet.kubernetes.layout import CONFIG, MADE, PKI
from cumulet.site import Site
from cumulet.site.kubeadm_nodes import API_UNITS, AUTHORITY, NODE_UNITS
from cumulet_qemu.lab.container import Container
from cumulet_qemu.lab.lab import Lab
from cumulet_qemu.lab.store import make_lab

ROLES = ("control", "master", "master")
KUBECTL = ("kubectl", "--kubeconfig=/etc/kubernetes/super-admin.conf", "--server=https://127.0.0.1:6443")
ETCDCTL = (
    "etcdctl", f"--cacert={PKI}/etcd/ca.crt", f"--cert={PKI}/etcd/healthcheck-client.crt",
    f"--key={PKI}/etcd/healthcheck-client.key",
)  # fmt: skip
ENDPOINT = "127.0.0.1:7443"


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", type=Path, default=Path("out/lab-node"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        labs = Path(folder)
        five, again = ours(arguments.image, labs, 5)
        show("cumulet", "5 nodes", five)
        show("cumulet", "5 nodes, second time", again, "at most 10")
        with lab(arguments.image, labs, 5) as found:
            for each in found.nodes:
                # It opens for a site's own roles, which nobody gives these devices.
                each.run("nft", "delete", "table", "inet", "cumulet_firewall")
            begin = time.monotonic()
            by_hand(found)
            hand = time.monotonic() - begin
        show("by hand", "5 nodes", hand)
        print(f"{'ratio':<10} {'5 nodes':<24} {five / hand:8.2f}    (at most 1.2)")
        three, _ = ours(arguments.image, labs, 3)
        show("cumulet", "3 nodes", three)
        ten, _ = ours(arguments.image, labs, 10)
        show("cumulet", "10 nodes", ten)
        print(f"{'ratio':<10} {'10 nodes to 3 nodes':<24} {ten / three:8.2f}    (less than 1.5)")
    return 0


def show(way: str, what: str, seconds: float, limit: str = "") -> None:
    """One figure as a line."""
    print(f"{way:<10} {what:<24} {seconds:8.1f} s  {f'({limit})' if limit else ''}".rstrip(), flush=True)


@contextlib.contextmanager
def lab(image: Path, labs: Path, count: int) -> Iterator[Lab]:
    """Bare nodes, running and idle."""
    found = Lab(make_lab("bench", "10.69.0.0/24", image, labs))
    try:
        found.up(count)
        for each in found.nodes:
            each.run("systemctl", "is-system-running", "--wait", check=False)
        yield found
    finally:
        found.down()


def ours(image: Path, labs: Path, count: int) -> tuple[float, float]:
    """Seconds of `Site.up` from bare nodes, and of a second one."""
    with lab(image, labs, count) as found, tempfile.TemporaryDirectory() as folder:
        roles = [*ROLES, *["worker"] * (count - len(ROLES))]
        lines = [
            f"  - {{name: {each.node.name}, address: {each.node.host}, role: {role}}}"
            for each, role in zip(found.nodes, roles, strict=True)
        ]
        ssh = f"ssh: {{key: {found.key}, known_hosts: {found.known_hosts}}}"
        path = Path(folder) / "site.yaml"
        path.write_text("\n".join(["version: 1", "site: bench", "distribution: kubeadm", "nodes:", *lines, ssh]) + "\n")
        first = Site.load(path).up()
        second = Site.load(path).up()
        assert first.changed and not second.changed, "the second time is to change nothing"
        return first.seconds, second.seconds


def by_hand(found: Lab) -> None:
    """The same cluster, one command after the other."""
    roles = [*ROLES, *["worker"] * (len(found.nodes) - len(ROLES))]
    made = [
        Node(each.node.name, role, each.node.host, 1 if found.cgroups.version == "v1" else 2, restricted=True)
        for each, role in zip(found.nodes, roles, strict=True)
    ]
    servers, workers = made[:3], made[3:]
    cluster = Cluster(
        "bench", endpoint=ENDPOINT, balanced=tuple(each.address for each in servers[1:]), masters_work=False
    )
    for index, node in enumerate(servers):
        start_server(found, cluster, servers[: index + 1])
        if node.role == "master" and index == 1:
            prepare_cluster(found.node(node.name), cluster)
            start(found.node(servers[0].name), *NODE_UNITS)
    wait_ready(found.node("n2"), [node.name for node in servers])
    for node in workers:
        join_worker(found, cluster, node)
    wait_ready(found.node("n2"), [node.name for node in made])


def start_server(found: Lab, cluster: Cluster, members: list[Node]) -> None:
    """A control node or master: certificates, etcd, API server."""
    node, first = members[-1], found.node(members[0].name)
    here = found.node(node.name)
    if len(members) > 1:
        for name, mode in AUTHORITY.items():
            put(here, f"{PKI}/{name}", first.run("cat", f"{PKI}/{name}").out, mode)
    write(here, cluster, node, members, None)
    here.run("kubeadm", "init", "--config", f"{CONFIG}/init.yaml")
    here.run("sed", "-i", f"s|server: https://.*|server: https://{ENDPOINT}|", "/etc/kubernetes/kubelet.conf")
    make_clients(first, here)
    if len(members) > 1:
        first.run(*ETCDCTL, "member", "add", node.name, "--learner", f"--peer-urls=https://{node.address}:2380")
    here.run("touch", MADE)
    start(here, "cumulet-network", "cumulet-balancer", "etcd")
    if len(members) > 1:
        lines = first.run(*ETCDCTL, "member", "list").out.splitlines()
        number = next(line.split(",")[0] for line in lines if f"//{node.address}:" in line)
        until(first, *ETCDCTL, "member", "promote", number)
    until(here, *ETCDCTL, "endpoint", "health")
    if node.role == "master":
        start(here, *API_UNITS)
        until(here, *KUBECTL, "get", "--raw=/readyz")
        start(here, *NODE_UNITS)


def prepare_cluster(master: Container, cluster: Cluster) -> None:
    """Rights, addons, and what kubeadm needs for joins."""
    text = "---\n".join(each.content for each in make_addons(cluster).values())
    master.run(*KUBECTL, "apply", "--server-side", "-f", "-", input=text)
    for phase in (("upload-config", "all"), ("bootstrap-token",)):
        master.run("kubeadm", "init", "phase", *phase, "--config", f"{CONFIG}/init.yaml")


def join_worker(found: Lab, cluster: Cluster, node: Node) -> None:
    """A worker: a token, kubeadm join, and its kubelet's certificate."""
    master, here = found.node("n2"), found.node(node.name)
    token = master.run("kubeadm", "token", "create", "--kubeconfig=/etc/kubernetes/admin.conf").out.strip()
    join = Join(ENDPOINT, token, master.run("cat", f"{PKI}/ca.crt").out)
    write(here, cluster, node, [], join)
    make_clients(master, here)
    here.run("systemctl", "restart", "cumulet-network.service", "cumulet-balancer.service")
    here.run("kubeadm", "join", "--config", f"{CONFIG}/join.yaml")
    here.run("touch", MADE)
    start(here, *NODE_UNITS)
    wait_ready(master, [node.name])
    pending = master.run(*KUBECTL, "get", "csr", "-o", "name").out.split()
    master.run(*KUBECTL, "certificate", "approve", *(name.partition("/")[2] for name in pending))


def write(here: Container, cluster: Cluster, node: Node, members: list[Node], join: Join | None) -> None:
    """The files of a node, and the container runtime with them."""
    for path, text in nodes.make_node_setup(cluster, node, members, join).files.items():
        put(here, path, text.content, text.mode)
    here.run("systemctl", "restart", "containerd.service")


def put(here: Container, path: str, content: str, mode: int) -> None:
    """Write a file inside a node."""
    script = f'mkdir -p "$(dirname {path})" && cat >{path} && chmod {mode:o} {path}'
    here.run("sh", "-c", script, input=content)


def make_clients(server: Container, here: Container) -> None:
    """The kubeconfigs of kube-proxy and flannel."""
    for name, who in (("kube-proxy", "system:kube-proxy"), ("flannel", "cumulet:flannel")):
        words = ("kubeadm", "kubeconfig", "user", "--config", f"{CONFIG}/init.yaml", f"--client-name={who}")
        put(here, f"/etc/kubernetes/{name}.conf", server.run(*words).out, 0o600)


def start(here: Container, *units: str) -> None:
    """Start units without waiting."""
    here.run("systemctl", "start", "--no-block", *(f"{unit}.service" for unit in units))


def until(here: Container, *words: str) -> None:
    """Ask once a second, as scripts do, until the answer is yes."""
    while here.run(*words, check=False).code != 0:
        time.sleep(1)


def wait_ready(master: Container, names: list[str]) -> None:
    """kubectl's own wait, once the nodes are known."""
    for name in names:
        until(master, *KUBECTL, "get", "node", name)
    master.run(*KUBECTL, "wait", "--for=condition=Ready", "--timeout=300s", *(f"node/{name}" for name in names))


if __name__ == "__main__":
    sys.exit(main())
