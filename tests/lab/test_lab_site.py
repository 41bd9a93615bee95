"""A site of upstream Kubernetes from bare nodes, its bring-up cut off everywhere, and its life afterwards.

The tests of this file go on from each other: one site, in the order of the file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from sites import (
    answers,
    ask_dns,
    assert_whole,
    authority,
    get,
    kubectl,
    pause_image,
    ready_nodes,
    until,
    up,
    whole,
    write,
    write_site,
)

from cumulet.core.errors import CumuletError, TargetError, UsageError
from cumulet.site import Site
from cumulet.site.act import Event
from cumulet.site.membership import add, promote, remove
from cumulet.site.model import SiteNode
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
NODES = ["n1", "n2", "n3", "n4", "n5"]
SERVERS = ["n1", "n2", "n3"]
STEPS = {
    "system.identity", "containers.settings", "kubernetes.control", "masters.authority", "masters.prepare",
    "masters.add", "masters.etcd", "masters.promote", "masters.serve", "masters.addons", "workers.join",
}  # fmt: skip
STATE = "sha256sum /etc/cumulet/site.json /etc/hosts /etc/containerd/config.toml 2>&1; ls /etc/kubernetes 2>&1; true"
# Brings a site up and kills itself in the middle of the first step that it has not been killed in before.
KILLED = """
import os, signal, sys, threading
from cumulet.site import Site

chosen = []

def listen(event):
    seen = open(sys.argv[2]).read().split()
    if event.state == "start" and event.step.id not in seen and not chosen:
        chosen.append(event.step.id)
        with open(sys.argv[2], "a") as stream:
            stream.write(event.step.id + " ")
        threading.Timer(len(seen) % 5 * 0.08, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

Site.load(sys.argv[1]).up(listen)
"""


@pytest.fixture(scope="module")
def five(lab: MakeLab) -> Iterator[Lab]:
    """Five running nodes."""
    with lab("ts", 5, "10.65.0.0/24") as found:
        yield found


@pytest.fixture(scope="module")
def path(five: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """site.yaml: control, two masters, two workers."""
    return write_site(five, tmp_path_factory.mktemp("site"), 5)


@pytest.fixture
def bare(five: Lab) -> Iterator[None]:
    """The test must leave every node as it found it."""
    before = {node.node.name: node.run("sh", "-c", STATE).out for node in five.nodes}
    yield
    assert {node.node.name: node.run("sh", "-c", STATE).out for node in five.nodes} == before


def refused(path: Path) -> CumuletError:
    """The error that keeps a site from coming up."""
    with pytest.raises(CumuletError) as caught:
        Site.load(path).up()
    return caught.value


@pytest.mark.usefixtures("bare")
def test_a_wrong_host_key_stops_everything(five: Lab, tmp_path: Path) -> None:
    path = write_site(five, tmp_path, 5)
    known = five.known_hosts.read_text().splitlines()
    swapped = [f"{known[1].split()[0]} {' '.join(known[0].split()[1:])}", *known[:1], *known[2:]]
    (tmp_path / "known_hosts").write_text("\n".join(swapped) + "\n")
    path.write_text(path.read_text().replace(str(five.known_hosts), "known_hosts"))
    error = refused(path)
    assert error.message.startswith("n2 (10.65.0.12): its host key SHA256:")
    assert error.message.endswith("is not the known one")
    (tmp_path / "known_hosts").write_text("\n".join(known[1:]) + "\n")
    error = refused(path)
    assert error.message.startswith("n1 (10.65.0.11): its host key SHA256:")
    assert error.message.endswith("is not known")
    assert error.hint == "cumulet site trust n1"


@pytest.mark.usefixtures("bare")
def test_a_clock_a_small_link_and_little_memory(five: Lab, path: Path, tmp_path: Path) -> None:
    wrong = (
        '#!/bin/sh\ncase "$*" in +%s.%N) echo "$(($(/data/date +%s) - 86400)).0" ;; *) exec /data/date "$@" ;; esac\n'
    )
    n3, n4 = five.node("n3"), five.node("n4")
    n3.run("cp", "/usr/bin/date", "/data/date")
    n3.run("sh", "-c", "cat >/data/wrong && chmod 755 /data/wrong", input=wrong)
    n3.run("mount", "--bind", "/data/wrong", "/usr/bin/date")
    n4.run("ip", "link", "set", "eth0", "mtu", "1280")
    small = tmp_path / "site.yaml"
    small.write_text(path.read_text() + "minimum: {memory: 900GiB, disk: 90000GiB}\n")
    try:
        error = refused(path)
        assert "2 devices failed" in error.message
        assert "n3: its clock is 1 day behind" in error.message
        assert "n4: packets on its link have at most 1280 bytes (MTU), on the others 1500" in error.message
        text = refused(small).message
        assert "n1: memory: has" in text
        assert "needs 921600 MiB" in text
        assert "n1: free space in /var/lib: has" in text
    finally:
        n3.run("umount", "/usr/bin/date")
        n4.run("ip", "link", "set", "eth0", "mtu", "1500")


@pytest.mark.usefixtures("bare")
def test_a_device_that_is_off_is_named(five: Lab, path: Path) -> None:
    five.cut("n5")
    try:
        error = refused(path)
    finally:
        five.plug("n5")
    assert error.message.startswith("n5 (10.65.0.15): cannot be reached: ")
    assert error.hint == "is it on, and plugged in?"
    until("n5 is back", lambda: Site.load(path).status().nodes[4].state == "not in", 30)


@pytest.mark.usefixtures("bare")
def test_a_full_disk_is_one_error(five: Lab, path: Path) -> None:
    n4 = five.node("n4")
    n4.run("mkdir", "-p", "/etc/cumulet/kubernetes")
    n4.run("mount", "-t", "tmpfs", "-o", "size=4k", "full", "/etc/cumulet")
    n4.run("sh", "-c", "head -c 100k /dev/zero >/etc/cumulet/fill 2>/dev/null; true")
    try:
        with pytest.raises(TargetError, match=r"n4: /etc/cumulet/site\.json: No space left on device"):
            Site.load(path).up()
    finally:
        n4.run("umount", "/etc/cumulet")
        n4.run("rmdir", "/etc/cumulet/kubernetes")
        for node in five.nodes:
            node.run("sh", "-c", "rm -f /etc/cumulet/site.json; echo '127.0.0.1 localhost\n::1 localhost' >/etc/hosts")


def test_a_bring_up_that_is_killed_in_every_step_ends_well(five: Lab, path: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.write_text("")
    first: set[str] = set()
    killed = 0
    while True:
        done = subprocess.run([sys.executable, "-c", KILLED, path, seen], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9, f"after {seen.read_text().split()[-1:]}\n{done.stdout}{done.stderr}"
        killed += 1
        assert killed < 80
        if not first and five.node("n1").run("test", "-s", "/etc/kubernetes/pki/ca.crt", check=False).code == 0:
            first = authority(five, "n1")
    names = {step.partition("@")[0] for step in seen.read_text().split()}
    assert killed == len(seen.read_text().split())
    assert names >= STEPS, STEPS - names
    assert_whole(five, NODES, SERVERS)
    assert authority(five, *SERVERS) == first


def test_a_second_bring_up_does_nothing_within_ten_seconds(five: Lab, path: Path) -> None:
    begin = time.monotonic()
    assert up(path) == []
    assert time.monotonic() - begin < 10


def test_journal_on_control_and_on_each_node(five: Lab) -> None:
    lines = five.node("n1").run("cat", "/var/lib/cumulet/site/journal.jsonl").out.splitlines()
    entries = [json.loads(line) for line in lines]
    done = [entry["step"] for entry in entries if entry["state"] == "done"]
    assert "kubernetes.control@n1" in done
    assert "workers.join@n4" in done
    text = five.node("n4").run("cat", "/var/lib/cumulet/site/journal").out
    assert "workers.join done" in text
    assert five.node("n4").run("test", "-e", "/var/lib/cumulet/site/installing", check=False).code == 1


def test_no_secret_is_left_in_a_journal_or_a_record(five: Lab, path: Path) -> None:
    key = five.node("n1").run("cat", "/etc/kubernetes/pki/ca.key").out.splitlines()[1]
    texts = [node.run("sh", "-c", "cat /var/lib/cumulet/site/journal*").out for node in five.nodes]
    texts += [Site.load(path).record_path.read_text()]
    assert all(key not in text and "BEGIN" not in text for text in texts)
    assert five.node("n4").run("ls", "/etc/cumulet/kubernetes").out.split().count("join.yaml") == 0


def test_a_second_installer_is_refused(five: Lab, path: Path) -> None:
    holder = threading.Event()
    release = threading.Event()

    async def hold() -> None:
        import asyncio

        from cumulet.site.keeper import hold as hold_lock

        site = Site.load(path)
        async with site.connected([site.document.control]) as hosts, hold_lock(hosts["n1"]):
            holder.set()
            while not release.is_set():
                await asyncio.sleep(0.05)

    import asyncio

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert holder.wait(20)
        error = refused(path)
    finally:
        release.set()
        thread.join()
    assert error.message.startswith("n1: the site is being worked on by ")
    assert "process" in error.message
    assert up(path) == []


def test_any_server_may_lose_its_power(five: Lab, path: Path) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stays"},
        "spec": {
            "nodeName": "n4",
            "containers": [{"name": "pause", "image": pause_image(five), "imagePullPolicy": "Never"}],
        },
    }
    five.node("n2").run("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "apply", "-f", "-", input=json.dumps(pod))
    until("the pod runs", lambda: get(five, "pod", "stays")["status"]["phase"] == "Running", 60)
    container = get(five, "pod", "stays")["status"]["containerStatuses"][0]["containerID"]
    for name in SERVERS:
        five.node(name).kill()
        other = next(each for each in ("n2", "n3") if each != name)
        # Asked on a worker, through its own balancer, as its kubelet does.
        until(f"the API answers without {name}", lambda: answers(five), 30)
        # The next leader of etcd is elected within seconds; each balancer leads to some API server all the time.
        assert answers(five, other)
        until(f"without {name} something can be written", partial(write, five, f"without-{name}", other), 15)
        status = Site.load(path).status()
        assert (status.api, status.spare) == (True, 0)
        five.start([five.node(name)])
        until(f"{name} is back by itself", partial(whole, five, other), 60)
        until("all are Ready", lambda: Site.load(path).status().healthy, 120)
    state = get(five, "pod", "stays")["status"]["containerStatuses"][0]
    assert (state["containerID"], state["restartCount"]) == (container, 0)


def test_snapshot_and_restore(five: Lab, path: Path, tmp_path: Path) -> None:
    site = Site.load(path)
    kubectl(five, "create", "configmap", "kept")
    target = tmp_path / "snapshot"
    site.snapshot(target)
    assert target.stat().st_mode & 0o777 == 0o600
    kubectl(five, "create", "configmap", "lost")
    site.restore(target)
    assert up(path) == []
    names = [item["metadata"]["name"] for item in get(five, "configmaps")["items"]]
    assert "kept" in names
    assert "lost" not in names
    until("all are Ready", lambda: ready_nodes(five) == set(NODES), 120)
    assert_whole(five, NODES, SERVERS)
    target.write_bytes(target.read_bytes()[:-4096])
    broken = bytearray(target.read_bytes())
    broken[len(broken) // 2] ^= 1
    target.write_bytes(bytes(broken))
    with pytest.raises(UsageError, match="no whole snapshot"):
        site.restore(target)


def test_new_certificates(five: Lab, path: Path) -> None:
    ask = "sha256sum /etc/kubernetes/pki/apiserver.crt /etc/kubernetes/pki/etcd/peer.crt /etc/kubernetes/flannel.conf"
    before = [five.node(name).run("sh", "-c", ask).out.splitlines() for name in SERVERS]
    old = authority(five, *SERVERS)
    Site.load(path).rotate()
    after = [five.node(name).run("sh", "-c", ask).out.splitlines() for name in SERVERS]
    assert all(line not in fresh for stale, fresh in zip(before, after, strict=True) for line in stale)
    assert authority(five, *SERVERS) == old
    until("all are Ready", lambda: ready_nodes(five) == set(NODES), 120)
    assert up(path) == []


def test_other_programs_device_by_device(five: Lab, path: Path, tmp_path: Path) -> None:
    kube = (five.root / "usr/bin/kube").read_bytes()
    old = five.node("n1").run("kubelet", "--version").out.split()[-1]
    new = f"{old[:-1]}{(int(old[-1]) + 1) % 10}"
    (tmp_path / "kube").write_bytes(kube.replace(old.encode(), new.encode()))
    (tmp_path / "kube").chmod(0o755)
    order: list[str] = []

    def listen(event: Event) -> None:
        if event.state == "done" and event.step.name == "upgrade.switch":
            order.append(event.step.host)

    Site.load(path).upgrade(tmp_path, 2, listen)
    assert order == ["n2", "n3", "n1", "n4", "n5"]
    versions = {item["status"]["nodeInfo"]["kubeletVersion"] for item in get(five, "nodes")["items"]}
    assert versions == {new}
    assert not any(item["spec"].get("unschedulable") for item in get(five, "nodes")["items"])
    assert_whole(five, NODES, SERVERS)
    # Also after a start from nothing, and only once.
    five.node("n4").kill()
    five.start([five.node("n4")])
    assert five.node("n4").run("kubelet", "--version").out.split()[-1] == new
    until("all are Ready", lambda: Site.load(path).status().healthy, 120)
    assert [step["step"] for step in Site.load(path).upgrade(tmp_path, 2).steps if "switch" in str(step["step"])] == []


def test_a_master_is_gone_for_good(five: Lab, path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to be promoted: every server answers"):
        promote(path)
    five.node("n3").kill()
    promote(path)
    assert "{name: n1, address: 10.65.0.11, role: master}" in path.read_text()
    assert "{name: n5, address: 10.65.0.15, role: control}" in path.read_text()
    assert "n3" not in path.read_text()
    assert_whole(five, ["n1", "n2", "n4", "n5"], ["n5", "n1", "n2"])
    assert up(path) == []


def test_a_device_comes_and_goes(five: Lab, path: Path) -> None:
    with pytest.raises(UsageError, match="n2: is a master"):
        remove(path, "n2")
    five.start([five.node("n3")])
    n3 = five.node("n3")
    # What it was is still on its disk; a device that comes is a cleared one.
    n3.run("sh", "-s", input=(Path(__file__).parents[2] / "sdk/cumulet/site/scripts/reset.sh").read_text())
    add(path, SiteNode(name="n3", address="10.65.0.13", role="worker"))
    assert_whole(five, ["n1", "n2", "n3", "n4", "n5"], ["n5", "n1", "n2"])
    remove(path, "n4")
    assert "n4" not in path.read_text()
    assert_whole(five, ["n1", "n2", "n3", "n5"], ["n5", "n1", "n2"])
    assert five.node("n4").run("ls", "/var/lib/kubelet").out == ""
    assert ask_dns(five, "n3") == ["10.43.0.1"]


def test_reset_and_a_master_that_is_cut_off_while_it_joins(five: Lab, path: Path, tmp_path: Path) -> None:
    site = Site.load(path)
    site.reset()
    assert all(node.state == "not in" for node in site.status().nodes)
    five.node("n4").run("sh", "-s", input=(Path(__file__).parents[2] / "sdk/cumulet/site/scripts/reset.sh").read_text())
    fresh = write_site(five, tmp_path, 5, "token_life: 1s\n")

    def cut(event: Event) -> None:
        if event.state == "start" and event.step.id == "masters.etcd@n3":
            five.cut("n3")

    with pytest.raises(TargetError, match="n3: "):
        Site.load(fresh).up(cut)
    five.plug("n3")
    until("n3 is back", lambda: Site.load(fresh).status().nodes[2].state != "unreachable", 60)

    def dawdle(event: Event) -> None:
        if event.state == "done" and event.step.name == "admission.token":
            time.sleep(3)

    with pytest.raises(TargetError, match="n4: the token that lets it in has expired"):
        Site.load(fresh).up(dawdle)
    fresh.write_text(fresh.read_text().replace("token_life: 1s\n", ""))
    up(fresh)
    assert_whole(five, NODES, SERVERS)
