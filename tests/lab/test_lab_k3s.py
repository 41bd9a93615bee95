"""The bring-up of a k3s site, from bare nodes of the lab, around a stand-in that answers as k3s does.

The stand-in keeps k3s's own rules: one learner at a time, no second member of the same
name, no settings that are not flags, nobody in without the token.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet.core.errors import TargetError, UsageError
from cumulet.site import Outcome, Site
from cumulet.site.membership import promote, remove
from cumulet_qemu.lab.container import Container
from cumulet_qemu.lab.lab import Lab, clear_lab
from cumulet_qemu.lab.store import make_lab
from cumulet_qemu.lab.wiring import make_wiring

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(2400),
    # A node outlives the call that starts it; it is found again by its control group.
    pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning"),
]
ROOT = Path(__file__).parents[2]
NAME, SUBNET, PORT = "ks", "10.53.0.0/24", 8053
ROLES = {"n1": "control", "n2": "master", "n3": "master", "n4": "worker", "n5": "worker"}
# Only leads to the stand-in, which lies in /etc: the image is the same whatever the stand-in does.
SHIM = '#!/bin/sh\nexec /etc/cumulet/stand-in/k3s "$@"\n'
LEARNS, FRESH = 1.0, 5.0
"""Seconds until a learner is promoted; seconds after which a silent program counts as dead."""


@dataclass
class Member:
    """A member of etcd. One that is stuck never catches up."""

    id: str
    name: str
    since: float
    voter: bool
    stuck: bool = False


@dataclass
class Cluster:
    """What k3s's servers know together; `events` says what happened, in order."""

    members: dict[str, Member] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    beats: dict[str, tuple[float, bool]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    stuck: str = ""
    """Learners of this name that join now never catch up."""
    token: str = "K10" + "0" * 64 + "::server:stand-in"
    lock: threading.Lock = field(default_factory=threading.Lock)
    ids: Iterator[int] = field(default_factory=itertools.count)

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self._progress()
            handler = getattr(self, f"answer_{path.strip('/')}")
            answer: dict[str, Any] = handler(**body)
            if "fatal" in answer:
                self.events.append(f"refused {path} {body.get('name')}: {answer['fatal']}")
            return answer

    def answer_init(self, name: str, address: str) -> dict[str, Any]:
        return self._add(name, "init", voter=True)

    def answer_join(self, name: str, address: str, server: str, token: str) -> dict[str, Any]:
        if token != self.token:
            return {"fatal": "failed to validate token"}
        if any(each.name == name for each in self.members.values()):
            return {"fatal": "duplicate node name found, please use a unique name for this node"}
        if not all(each.voter for each in self.members.values()):
            return {"fatal": "etcdserver: too many learner members in cluster"}
        if not self._has_quorum():
            return {"fatal": "etcd cluster join failed: context deadline exceeded"}
        return self._add(name, "join", voter=False)

    def answer_agent(self, name: str, address: str, server: str, token: str) -> dict[str, Any]:
        if token != self.token:
            return {"fatal": "failed to validate token"}
        self.events.append(f"agent {name}")
        return {}

    def answer_snapshot(self, name: str) -> dict[str, Any]:
        self.events.append(f"snapshot {name}")
        return {"state": sorted(self.nodes)}

    def answer_reset(self, name: str, token: str, state: list[str]) -> dict[str, Any]:
        if token != self.token:
            return {"fatal": "bootstrap data already found and encrypted with different token"}
        self.members, self.beats = {}, {}
        self.nodes = {each: self.nodes[each] for each in state}
        return self._add(name, "reset", voter=True)

    def answer_rotate(self, name: str) -> dict[str, Any]:
        self.events.append(f"rotate {name}")
        return {}

    def answer_beat(self, name: str, address: str, api: bool, member: str, boot: str, version: str) -> dict[str, Any]:
        if member and member not in self.members:
            return {"fatal": "this server has been removed from the cluster"}
        self.beats[name] = (time.monotonic(), api)
        if any(self._serves(each) for each in self.beats) and name not in self.nodes:
            self.nodes[name] = {"address": address, "since": time.monotonic(), "annotations": {}}
            self.events.append(f"known {name}")
        if name in self.nodes:
            self.nodes[name] |= {"boot": boot, "version": version}
        return {"known": name in self.nodes, "serves": self._serves(name)}

    def answer_kubectl(self, host: str, words: list[str]) -> dict[str, Any]:
        if not (self._serves(host) if host else any(map(self._serves, self.beats))):
            return {"code": 1, "out": "", "err": "The connection to the server 127.0.0.1:6443 was refused"}
        out, err = "", ""
        match words:
            case ["get", "nodes" | "csr,nodes", "-o", "json"]:
                out = json.dumps({"items": [self._describe(name) for name in self.nodes]})
            case ["-n", "kube-system", "get", "--ignore-not-found", "configmap" | "secrets", *_]:
                pass
            case ["get", "node", name, "-o", path] if name in self.nodes and "EtcdIsVoter" in path:
                out = {True: "True", False: "False", None: ""}[self._is_voter(name)]
            case ["get", "node", name, "-o", path] if name in self.nodes and "removed-node-name" in path:
                out = self.nodes[name]["annotations"].get("removed-node-name", "")
            case ["get", "node", name, "-o", path] if name in self.nodes and "bootID" in path:
                ready = self._describe(name)["status"]["conditions"][0]["status"]
                out = f"{self.nodes[name]['boot']} {ready}"
            case ["get", "node", name, "-o", path] if name in self.nodes and "kubeletVersion" in path:
                out = self.nodes[name]["version"]
            case ["drain", name, *_] if name in self.nodes:
                self.events.append(f"drain {name}")
            case ["uncordon", name] if name in self.nodes:
                self.events.append(f"uncordon {name}")
            case ["get", "--raw=/readyz"]:
                out = "ok"
            case ["annotate", "--overwrite", "node", name, "etcd.k3s.cattle.io/remove=true"] if name in self.nodes:
                self.nodes[name]["annotations"]["remove"] = str(time.monotonic())
            case ["delete", "node", name, *_] if name in self.nodes:
                del self.nodes[name]
                self.events.append(f"delete {name}")
            case _:
                err = f"not understood: {words}"
                self.events.append(err)
        return {"code": 1 if err else 0, "out": out, "err": err}

    def _add(self, name: str, event: str, voter: bool) -> dict[str, Any]:
        member = Member(f"{next(self.ids):x}", name, time.monotonic(), voter, stuck=name == self.stuck)
        self.members[member.id] = member
        self.events.append(f"{event} {name}")
        return {"id": member.id, "token": self.token}

    def _progress(self) -> None:
        now = time.monotonic()
        for member in list(self.members.values()):
            if not member.voter and not member.stuck and now > member.since + LEARNS and self._lives(member.name):
                member.voter = True
                self.events.append(f"promote {member.name}")
            notes = self.nodes.get(member.name, {}).get("annotations", {})
            if "remove" in notes and now > float(notes["remove"]) + 0.3:
                del self.members[member.id]
                notes["removed-node-name"] = f"{member.name}-{member.id}"
                self.events.append(f"remove {member.name}")

    def _lives(self, name: str) -> bool:
        return name in self.beats and time.monotonic() < self.beats[name][0] + FRESH

    def _has_quorum(self) -> bool:
        voters = [each.name for each in self.members.values() if each.voter]
        return sum(map(self._lives, voters)) * 2 > len(voters)

    def _is_voter(self, name: str) -> bool | None:
        return next((each.voter for each in self.members.values() if each.name == name), None)

    def _serves(self, name: str) -> bool:
        """Whether an API server answers on a node; one on a learner does not."""
        return self._lives(name) and self.beats[name][1] and bool(self._is_voter(name)) and self._has_quorum()

    def _describe(self, name: str) -> dict[str, Any]:
        node, voter = self.nodes[name], self._is_voter(name)
        ready = self._lives(name) and voter is not False and time.monotonic() > node["since"] + 0.5
        conditions = [{"type": "Ready", "status": str(ready)}]
        if voter is not None:
            conditions.append({"type": "EtcdIsVoter", "status": str(voter)})
        return {
            "kind": "Node",
            "metadata": {"name": name, "annotations": node["annotations"]},
            "status": {
                "conditions": conditions,
                "addresses": [{"type": "InternalIP", "address": node["address"]}],
                "nodeInfo": {"kubeletVersion": node.get("version", "")},
            },
        }


class Handler(BaseHTTPRequestHandler):
    """Hands a node's question to the cluster."""

    cluster: Cluster

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        data = json.dumps(self.cluster.answer(self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        # Nodes lose their power in the middle of a question.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For the image and the lab; not in pytest's own folder, which is kept."""
    path = Path(tempfile.mkdtemp(prefix="cumulet-lab-k3s-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    """Five bare nodes with an image for k3s."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    binary, images = folder / "k3s", folder / "k3s-airgap-images-amd64.tar.zst"
    binary.write_text(SHIM)
    images.write_bytes(b"the airgap images")
    options = ["image=lab-k3s", "kubernetes.distribution=k3s", "kubernetes.source=file"]
    options += [f"kubernetes.files.binary={binary}", f"kubernetes.files.images={images}"]
    words = [word for option in options for word in ("--set", option)]
    command = [sys.executable, "-m", "cumulet_builder.cli", "build", "lab-node", "--out", folder, *words]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True)
    wiring = make_wiring(NAME, SUBNET)
    clear_lab(wiring, folder / "labs" / NAME)
    made = Lab(make_lab(NAME, SUBNET, folder / "lab-k3s", folder / "labs"))
    try:
        made.up(len(ROLES))
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Cluster]:
    """The stand-in on every node, and what its instances share."""
    made = Cluster()
    server = ThreadingHTTPServer((lab.wiring.gateway, PORT), type("Bound", (Handler,), {"cluster": made}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lists = yaml.safe_load((ROOT / "recipes/kubernetes/k3s/flags-v1.36.yaml").read_text())
    flags = {mode: [*lists["both"], *lists[mode]] for mode in ("server", "agent")}
    files = {"cluster": f"{lab.wiring.gateway} {PORT}\n", "flags.json": json.dumps(flags)}
    files["k3s"] = Path(__file__).with_name("stand_in_k3s.py").read_text()
    for node in lab.nodes:
        for name, text in files.items():
            script = f"mkdir -p /etc/cumulet/stand-in && cat >/etc/cumulet/stand-in/{name}"
            node.run("sh", "-c", f"{script} && chmod 755 /etc/cumulet/stand-in/{name}", input=text)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(lab: Lab, cluster: Cluster, folder: Path) -> Site:
    """A site.yaml of all nodes."""
    document = {
        "version": 1,
        "site": "pier-7",
        "distribution": "k3s",
        "ssh": {"key": str(lab.key), "known_hosts": str(lab.known_hosts)},
        "nodes": [{"name": n.node.name, "address": n.node.host, "role": ROLES[n.node.name]} for n in lab.nodes],
    }
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(document))
    return Site.load(path)


def steps_of(outcome: Outcome) -> list[str]:
    return [f"{step['step']}@{step['host']}" for step in outcome.steps]


def at_rest(cluster: Cluster) -> dict[str, bool]:
    return {each.name: each.voter for each in cluster.members.values()}


WHOLE = {"n1": True, "n2": True, "n3": True}


def test_bare_nodes_become_a_site_with_one_server_after_the_other(site: Site, cluster: Cluster) -> None:
    assert site.up().changed
    servers = [each for each in cluster.events if each.split()[0] in ("init", "join", "promote")]
    assert servers == ["init n1", "join n2", "promote n2", "join n3", "promote n3"]
    agents = [each for each in cluster.events if each.startswith("agent")]
    assert sorted(agents) == ["agent n4", "agent n5"]
    assert cluster.events.index("promote n3") < min(map(cluster.events.index, agents))
    assert sorted(cluster.nodes) == sorted(ROLES)
    assert at_rest(cluster) == WHOLE
    assert not [each for each in cluster.events if each.startswith(("refused", "not understood"))]


def test_a_second_run_changes_nothing(site: Site, cluster: Cluster) -> None:
    before = list(cluster.events)
    outcome = site.up()
    assert (outcome.changed, outcome.steps) == (False, ())
    assert cluster.events == before


def test_the_token_is_on_the_nodes_that_join_and_in_no_settings(site: Site, lab: Lab, cluster: Cluster) -> None:
    for node in lab.nodes:
        holders = node.run("grep", "-rlF", cluster.token, "/etc", "/var/lib", check=False).out.split()
        own = ["/var/lib/rancher/k3s/server/token"] if ROLES[node.node.name] != "worker" else []
        joined = ["/etc/rancher/k3s/token"] if node.node.name != "n1" else []
        assert sorted(holders) == sorted([*own, *joined]), node.node.name
    assert cluster.token not in site.record_path.read_text()


def test_a_setting_that_was_changed_by_hand_is_put_back(site: Site, lab: Lab, cluster: Cluster) -> None:
    agent = "/etc/rancher/k3s/agent.yaml"
    lab.node("n4").run("sh", "-c", f"echo 'node-label: [a=b]' >>{agent}")
    assert steps_of(site.up())[-2:] == ["kubernetes.token@n1", "workers.settings@n4"]
    assert "node-label" not in lab.node("n4").run("cat", agent).out
    assert not site.up().changed


def lose_disk(node: Container) -> None:
    """A new disk: nothing of k3s is left, neither settings nor data."""
    node.kill()
    shutil.rmtree(node.folder / "data/state/rancher")
    shutil.rmtree(node.overlay / "etc/rancher")


def test_a_master_cut_off_half_way_leaves_etcd_before_its_disk_is_cleared(
    site: Site, lab: Lab, cluster: Cluster
) -> None:
    lose_disk(lab.node("n3"))
    lab.start([lab.node("n3")])
    cluster.stuck = "n3"
    begin = len(cluster.events)
    failed: list[TargetError] = []

    def bring_up() -> None:
        try:
            site.up()
        except TargetError as error:
            failed.append(error)

    thread = threading.Thread(target=bring_up)
    thread.start()
    until = time.monotonic() + 60
    while "known n3" not in cluster.events[begin:] and time.monotonic() < until:
        time.sleep(0.1)
    lab.node("n3").kill()
    thread.join(60)
    (error,) = failed
    assert error.message.startswith("n3: the connection broke")
    assert cluster.events[begin:] == ["remove n3", "delete n3", "join n3", "known n3"]
    assert at_rest(cluster) == {**WHOLE, "n3": False}

    cluster.stuck = ""
    lab.start([lab.node("n3")])
    begin = len(cluster.events)
    steps = steps_of(site.up())
    order = ["masters.stop@n3", "masters.forget@n2", "masters.wipe@n3", "masters.join@n3"]
    assert [each for each in steps if each.startswith("masters")] == order
    servers = [each for each in cluster.events[begin:] if not each.startswith("known")]
    assert servers == ["remove n3", "delete n3", "join n3", "promote n3"]
    assert at_rest(cluster) == WHOLE
    assert not site.up().changed


def test_a_control_node_that_has_lost_its_disk_joins_the_masters(site: Site, lab: Lab, cluster: Cluster) -> None:
    lose_disk(lab.node("n1"))
    lab.start([lab.node("n1")])
    begin = len(cluster.events)
    site.up()
    servers = [each for each in cluster.events[begin:] if not each.startswith("known")]
    assert servers == ["remove n1", "delete n1", "join n1", "promote n1"]
    assert at_rest(cluster) == WHOLE
    assert not site.up().changed


def test_a_worker_that_has_lost_its_disk_joins_again(site: Site, lab: Lab, cluster: Cluster) -> None:
    lose_disk(lab.node("n5"))
    lab.start([lab.node("n5")])
    begin = len(cluster.events)
    site.up()
    assert cluster.events[begin:] == ["delete n5", "agent n5", "known n5"]
    assert not site.up().changed


def test_a_site_that_lost_all_power_comes_back_by_itself(site: Site, lab: Lab, cluster: Cluster) -> None:
    for node in lab.nodes:
        node.kill()
    time.sleep(FRESH)
    lab.start(lab.nodes)
    begin = len(cluster.events)
    site.up()
    assert [each for each in cluster.events[begin:] if not each.startswith("agent")] == []
    assert at_rest(cluster) == WHOLE


def test_another_k3s_server_by_server_then_agents(site: Site, lab: Lab, cluster: Cluster, tmp_path: Path) -> None:
    new = tmp_path / "k3s"
    new.write_text(SHIM.replace("exec ", "STAND_IN_VERSION=v1.36.3+k3s1 exec "))
    begin = len(cluster.events)
    site.upgrade(tmp_path)
    order = [f"{what} {name}" for name in ("n2", "n3", "n1", "n4", "n5") for what in ("drain", "uncordon")]
    assert [each for each in cluster.events[begin:] if not each.startswith("agent")] == order
    assert {node["version"] for node in cluster.nodes.values()} == {"v1.36.3+k3s1"}
    assert at_rest(cluster) == WHOLE
    # Also after a start from nothing, and only once.
    lab.node("n4").kill()
    lab.start([lab.node("n4")])
    assert "v1.36.3+k3s1" in lab.node("n4").run("k3s", "--version").out
    begin = len(cluster.events)
    site.up()
    assert [each for each in steps_of(site.upgrade(tmp_path)) if "switch" in each] == []
    assert [each for each in cluster.events[begin:] if each.startswith("drain")] == []


def test_programs_of_another_distribution_are_refused(site: Site, tmp_path: Path) -> None:
    (tmp_path / "kube").write_text("")
    with pytest.raises(UsageError, match="has no program of k3s"):
        site.upgrade(tmp_path)


def test_a_snapshot_brings_back_what_was_there_and_servers_join_one_at_a_time(
    site: Site, cluster: Cluster, tmp_path: Path
) -> None:
    target = tmp_path / "snapshot"
    site.snapshot(target)
    with cluster.lock:
        cluster.nodes["stranger"] = {"address": "10.53.0.99", "since": 0.0, "annotations": {}}
    begin = len(cluster.events)
    site.restore(target)
    servers = [each for each in cluster.events[begin:] if each.split()[0] in ("reset", "join", "promote", "refused")]
    assert servers == ["reset n1", "join n2", "promote n2", "join n3", "promote n3"]
    assert sorted(cluster.nodes) == sorted(ROLES)
    assert at_rest(cluster) == WHOLE
    assert not site.up().changed


def test_new_certificates_one_server_after_the_other(site: Site, cluster: Cluster) -> None:
    begin = len(cluster.events)
    site.rotate()
    assert [each for each in cluster.events[begin:] if each.startswith("rotate")] == [f"rotate n{i}" for i in (1, 2, 3)]
    assert at_rest(cluster) == WHOLE
    assert not site.up().changed


def test_a_master_that_is_gone_for_good_is_replaced(site: Site, lab: Lab, cluster: Cluster, folder: Path) -> None:
    path = folder / "site.yaml"
    lab.node("n3").kill()
    time.sleep(FRESH)
    begin = len(cluster.events)
    promote(path)
    servers = [each for each in cluster.events[begin:] if each.split()[0] in ("remove", "join", "promote", "refused")]
    assert servers == ["remove n3", "join n5", "promote n5"]
    roles = {node.name: node.role for node in Site.load(path).document.nodes}
    assert roles == {"n1": "master", "n2": "master", "n4": "worker", "n5": "control"}
    assert at_rest(cluster) == {"n1": True, "n2": True, "n5": True}
    assert cluster.beats["n1"][1] and not cluster.beats["n5"][1]
    assert lab.node("n5").run("systemctl", "is-active", "k3s-agent", check=False).out.strip() == "inactive"
    assert not Site.load(path).up().changed


def test_a_worker_leaves_and_all_are_reset(lab: Lab, cluster: Cluster, folder: Path) -> None:
    path = folder / "site.yaml"
    begin = len(cluster.events)
    remove(path, "n4")
    assert cluster.events[begin:] == ["drain n4", "delete n4"]
    assert lab.node("n4").run("sh", "-c", "ls /etc/rancher/k3s /var/lib/rancher/k3s/server 2>/dev/null; true").out == ""
    site = Site.load(path)
    site.reset()
    for name in ("n1", "n2", "n5"):
        state = lab.node(name).run("systemctl", "is-active", "k3s", check=False).out.strip()
        assert (name, state) == (name, "inactive")
    assert all(node.state == "not in" for node in site.status().nodes)
