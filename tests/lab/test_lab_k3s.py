"""The bring-up of a k3s site, from bare nodes of the lab, around a stand-in that answers as k3s does.

The stand-in keeps k3s's own rules: one learner at a time, no second member of the same
name, no settings that are not flags, nobody in without the token.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from k3s_cluster import FRESH, Cluster, Handler

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
    # A server that comes before the first one has begun is refused, ends itself, and is started again by its unit.
    early = "refused /join n2: etcd cluster join failed: context deadline exceeded"
    events = [each for each in cluster.events[begin:] if each != early]
    servers = [each for each in events if each.split()[0] in ("reset", "join", "promote", "refused")]
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
