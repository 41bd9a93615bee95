"""An image with Kubernetes: containers run, the node is Ready, pods of preloaded images run and answer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from cumulet_qemu.checks import dns
from cumulet_qemu.checks.facts import READY_CONDITIONS, READY_SECONDS, Kubernetes
from cumulet_qemu.guest import Guest, Patience
from cumulet_qemu.vm import VirtualMachine

POD_SECONDS = 900.0
HEALTH_PORT = 8181
COREFILE = f".:1053 {{\n health :{HEALTH_PORT}\n whoami\n}}\n"


def test_node_becomes_ready(vm: VirtualMachine, cluster: Kubernetes, patience: Patience) -> None:
    assert vm.wait_state("ready", patience(READY_SECONDS)) > 0
    conditions = cluster.get(READY_CONDITIONS)
    assert conditions == "True"


def test_node_runs_the_version_of_the_recipe(node: Guest, cluster: Kubernetes) -> None:
    version = cluster.get("get nodes -o jsonpath='{.items[*].status.nodeInfo.kubeletVersion}'")
    assert version == (cluster.facts.version or node.output("kubelet --version").split()[-1])


def test_container_runtime_runs_a_container(node: Guest, cluster: Kubernetes) -> None:
    ctr = f"{cluster.ctr} -n k8s.io"
    images = node.output(f"{ctr} images list -q").split()
    pause = next(name for name in images if "pause" in name and "@" not in name)
    node.output(f"{ctr} run -d {pause} cumulet-check", POD_SECONDS)
    try:
        tasks = [line.split() for line in node.output(f"{ctr} tasks list").splitlines()]
        assert ["cumulet-check", "RUNNING"] in [[line[0], line[2]] for line in tasks]
    finally:
        node.run(f"{ctr} tasks kill -s SIGKILL cumulet-check; sleep 2; {ctr} tasks delete -f cumulet-check")
        node.run(f"{ctr} containers delete cumulet-check")


def test_every_system_pod_is_ready(node: Guest, cluster: Kubernetes) -> None:
    selector = "--field-selector=status.phase!=Succeeded"
    wait = f"{cluster.kubectl} -n kube-system wait --for=condition=Ready pods --all {selector} --timeout=60s"
    node.until(wait, POD_SECONDS)
    names = cluster.get(f"-n kube-system get pods {selector} -o jsonpath='{{.items[*].metadata.name}}'").split()
    for addon in cluster.facts.addons:
        assert any(name.startswith(addon) for name in names), names


def test_cluster_dns_answers_at_its_service_address(node: Guest, cluster: Kubernetes) -> None:
    server = cluster.get("-n kube-system get service kube-dns -o jsonpath='{.spec.clusterIP}'")
    expected = cluster.get("get service kubernetes -o jsonpath='{.spec.clusterIP}'")
    query = "".join(f"\\x{byte:02x}" for byte in dns.make_query("kubernetes.default.svc.cluster.local"))
    # A datagram is one write and one read; printf alone would write after each newline, which is also a label's length.
    whole = "dd bs=512 iflag=fullblock status=none"
    send = f"set -o pipefail; exec 3<>/dev/udp/{server}/53; printf '{query}' | {whole} >&3"
    receive = "timeout 20 dd bs=512 count=1 status=none <&3 | od -An -v -tx1"
    answer = node.until(f"bash -c {shlex.quote(f'{send}; {receive}')}", 300)
    assert dns.parse_addresses(bytes.fromhex(answer)) == [expected]


@pytest.fixture(scope="module")
def pod(node: Guest, cluster: Kubernetes) -> Iterator[str]:
    """A pod of our own, made from an image that is in the machine already; left there for the reboot."""
    image = cluster.get("-n kube-system get deployment coredns -o jsonpath='{.spec.template.spec.containers[0].image}'")
    documents = {"apiVersion": "v1", "kind": "List", "items": make_pod("cumulet-check", image)}
    node.until(f"printf %s {shlex.quote(json.dumps(documents))} | {cluster.kubectl} apply -f -", 300)
    yield "cumulet-check"


def test_pod_of_a_preloaded_image_runs_and_answers(node: Guest, cluster: Kubernetes, pod: str) -> None:
    node.until(f"{cluster.kubectl} wait --for=condition=Ready pod/{pod} --timeout=60s", POD_SECONDS)
    path = f"/api/v1/namespaces/default/pods/{pod}:{HEALTH_PORT}/proxy/health"
    assert cluster.get(f"get --raw {path}") == "OK"


def test_logs_of_the_pod_can_be_read(cluster: Kubernetes, pod: str) -> None:
    assert "CoreDNS" in cluster.get(f"logs {pod}")


def test_metrics_server_knows_the_load_of_the_node(node: Guest, cluster: Kubernetes) -> None:
    if "metrics-server" not in cluster.facts.addons:
        pytest.skip("the recipe leaves metrics-server out of this image")
    lines = node.until(f"{cluster.kubectl} top node --no-headers", POD_SECONDS).splitlines()
    assert len(lines) == 1
    assert lines[0].split()[1].endswith("m")


def make_pod(name: str, image: str) -> list[dict[str, object]]:
    """A pod that serves its health by HTTP, and the configuration it mounts."""
    volume = {"name": "config", "configMap": {"name": name}}
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/check/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/etc/check"}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": HEALTH_PORT}, "timeoutSeconds": 20},
    }
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 5},
        },
    ]
