"""Settings of every role: names that the programs know, values they can read, paths that are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cumulet.core.documents import make_error
from cumulet.kubernetes import DISTRIBUTIONS, ROLES, Cluster, Join, Node, Role, Setup
from cumulet.kubernetes import k3s as k3s_settings
from cumulet.kubernetes import kubeadm_services as services
from cumulet.kubernetes.layout import ADMIN, CONFIG, MADE, PKI, VERSIONS
from cumulet.site.kubeadm_nodes import CLIENTS
from cumulet_builder.kubernetes.k3s import check_settings, unknown_keys
from cumulet_builder.kubernetes.pins import load_flags, load_pin

RECIPES = Path(__file__).parents[2] / "recipes"
FLAGS = RECIPES / "kubernetes/k3s/flags-v1.36.yaml"
JOIN = Join("10.0.0.10:6443", "abcdef.0123456789abcdef", "sha256:0")
SITE = Cluster(name="pier-7", endpoint="10.0.0.10:6443")
SERVERS = ("single", "control", "master")
UNITS = "/usr/lib/systemd/system/"
# What `kubeadm init phase certs all` and `kubeconfig all` make, as kubeadm documents it.
CERTIFICATES = {
    "ca", "apiserver", "apiserver-kubelet-client", "front-proxy-ca", "front-proxy-client", "etcd/ca", "etcd/server",
    "etcd/peer", "etcd/healthcheck-client", "apiserver-etcd-client",
}  # fmt: skip
MADE_BY_KUBEADM = {
    *(f"{PKI}/{name}.{end}" for name in CERTIFICATES for end in ("crt", "key")), f"{PKI}/sa.pub", f"{PKI}/sa.key",
    *(f"/etc/kubernetes/{name}.conf" for name in ("admin", "super-admin", "kubelet", "scheduler")),
    "/etc/kubernetes/controller-manager.conf",
}  # fmt: skip


def make_configs() -> Iterator[tuple[str, Role, dict[str, Any]]]:
    """Every config.yaml that there can be: mode of k3s, role, settings."""
    for role in ROLES[1:]:
        for cluster in (Cluster(), replace(SITE, addons=(), masters_work=False)):
            for join in (None, JOIN) if role != "worker" else (JOIN,):
                mode = "server" if role in SERVERS else "agent"
                yield mode, role, k3s_settings.make_config(cluster, Node("p1", role, "10.0.0.11"), join)


def units_of(setup: Setup) -> dict[str, str]:
    return {path.removeprefix(UNITS): text.content for path, text in setup.files.items() if path.startswith(UNITS)}


def lines_of(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


# k3s


def test_every_setting_of_every_role_is_a_flag_of_the_pinned_version() -> None:
    flags = load_flags(FLAGS)
    assert [(role, unknown_keys(config, flags[mode])) for mode, role, config in make_configs()] == [
        (role, []) for _, role, _ in make_configs()
    ]
    assert check_settings(flags, Cluster()) == []


def test_a_worker_has_no_setting_of_a_server() -> None:
    flags = load_flags(FLAGS)
    assert {"cluster-init", "disable", "etcd-arg", "embedded-registry"} <= flags["server"] - flags["agent"]
    assert flags["agent"] - flags["server"] == {"disable-apiserver-lb"}
    for mode, _, config in make_configs():
        if mode == "agent":
            assert set(config) == {"node-name", "node-ip", "server", "token-file"}


def test_list_of_flags_is_sorted_and_says_each_once() -> None:
    document = yaml.safe_load(FLAGS.read_text())
    lists = [document[name] for name in ("both", "agent", "server")]
    assert all(names == sorted(set(names)) for names in lists)
    assert sum(map(len, lists)) == len({name for names in lists for name in names})


def test_a_setting_that_is_no_flag_is_named_with_the_nearest_one() -> None:
    flags = load_flags(FLAGS)
    flags["server"] = flags["server"] - {"secrets-encryption"} | {"secret-encryption"}
    error = make_error(check_settings(flags, Cluster()))
    assert error.message == "3 problems"
    assert [str(each) for each in error.problems] == [
        f"k3s server ({role}): unknown setting 'secrets-encryption'\n  did you mean 'secret-encryption'?"
        for role in sorted(SERVERS)
    ]


def test_a_setting_that_adds_to_a_list_is_the_flag_of_the_list() -> None:
    assert unknown_keys({"disable+": ["x"], "disabel+": ["x"]}, {"disable"}) == ["disabel+"]


def test_units_of_k3s_start_it_with_its_own_flags() -> None:
    flags = load_flags(FLAGS)
    for name, mode in (("k3s.service", "server"), ("k3s-agent.service", "agent")):
        (start,) = lines_of(units_of(k3s_settings.make_image_setup(SITE))[name], "ExecStart")
        program, command, *words = start.split()
        assert (program, command) == ("/usr/bin/k3s", mode)
        assert {word.removeprefix("--").partition("=")[0] for word in words} <= flags[mode]


def test_servers_agree_on_everything_that_they_must_agree_on() -> None:
    """k3s refuses a server that joins with another value of one of these, named as flags."""
    critical = {
        "cluster-cidr", "cluster-dns", "cluster-domain", "disable-cloud-controller", "disable-helm-controller",
        "disable-network-policy", "egress-selector-mode", "embedded-registry", "flannel-backend",
        "flannel-external-ip", "flannel-ipv6-masq", "secrets-encryption", "secrets-encryption-provider",
        "service-cidr", "supervisor-metrics", "agent-token", "disable",
    }  # fmt: skip
    assert critical <= load_flags(FLAGS)["server"]
    nodes = [Node(f"p{n}", role, f"10.0.0.{n}") for n, role in ((1, "control"), (2, "master"), (3, "master"))]
    configs = [k3s_settings.make_config(SITE, node, JOIN if node.role == "master" else None) for node in nodes]
    shared = [{key: value for key, value in config.items() if key in critical} for config in configs]
    assert shared[0] == shared[1] == shared[2]


def test_a_control_node_is_a_witness_and_keeps_its_agent() -> None:
    config = k3s_settings.make_config(SITE, Node("p1", "control", "10.0.0.11"), None)
    off = {key for key, value in config.items() if key.startswith("disable-") and value is True}
    assert {"disable-apiserver", "disable-controller-manager", "disable-scheduler"} <= off
    assert not {"disable-etcd", "disable-agent", "disable-kube-proxy"} & off
    assert config["cluster-init"] is True


def test_k3s_runs_the_pause_image_that_its_own_archive_brings() -> None:
    assert [config for _, _, config in make_configs() if "pause-image" in config] == []


# kubeadm


@pytest.mark.parametrize("role", ["single", "master"])
def test_arguments_of_the_control_plane_can_be_read_by_systemd(role: Role) -> None:
    setup = DISTRIBUTIONS["kubeadm"].make_node_setup(SITE, Node("p1", role, "10.0.0.11"), [], None)
    files = {path: text.content for path, text in setup.files.items() if path.endswith(".env") and "kube" in path}
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"):
        match = re.fullmatch(r'ARGS="([^"\\$%\n]*)"\n', files[f"{CONFIG}/{name}.env"])
        assert match, name
        words = match[1].split(" ")
        assert all(re.fullmatch(r"--[a-z][a-z-]+=[^\s'=]+(,[^\s']+)*", word) for word in words), words
        assert len({word.partition("=")[0] for word in words}) == len(words)


@pytest.mark.parametrize("role", ["single", "master"])
def test_files_of_the_control_plane_are_made_by_kubeadm(role: Role) -> None:
    setup = DISTRIBUTIONS["kubeadm"].make_node_setup(SITE, Node("p1", role, "10.0.0.11"), [], None)
    text = "\n".join(each.content for each in setup.files.values())
    named = set(re.findall(rf"{PKI}/[\w/.-]+\.(?:crt|key|pub)|/etc/kubernetes/[\w.-]+\.conf", text))
    assert named - MADE_BY_KUBEADM == {services.PROXY_CONFIG}
    assert ADMIN in MADE_BY_KUBEADM


def test_units_of_kubeadm_start_programs_that_are_in_the_image() -> None:
    setup = DISTRIBUTIONS["kubeadm"].make_image_setup(SITE)
    pin = load_pin(RECIPES, "kubeadm")
    assert pin.distribution == "kubeadm"
    there = {each.path for each in pin.programs.values()} | set(setup.links) | set(setup.files)
    debian = {"/bin/sh", "/bin/touch", "/bin/mkdir", "/usr/sbin/haproxy"}
    for name, unit in units_of(setup).items():
        for line in lines_of(unit, "ExecStart") + lines_of(unit, "ExecStartPre"):
            assert line.split()[0] in there | debian, f"{name}: {line}"


def test_what_units_wait_for_is_made_by_somebody() -> None:
    setup = DISTRIBUTIONS["kubeadm"].make_image_setup(SITE)
    made = set(MADE_BY_KUBEADM)
    for node in (Node("p1", "single", "10.0.0.11"), Node("p2", "master", "10.0.0.12")):
        cluster = replace(SITE, balanced=("10.0.0.12",))
        made |= set(DISTRIBUTIONS["kubeadm"].make_node_setup(cluster, node, [node], None).files)
    made |= {*CLIENTS, MADE, services.ADDONS_DONE, services.PROXY_CONFIG, "/etc/kubernetes/bootstrap-kubelet.conf"}
    for name, unit in units_of(setup).items():
        paths = [path.lstrip("!|") for path in lines_of(unit, "ConditionPathExists")] + lines_of(
            unit, "EnvironmentFile"
        )
        assert [path for path in paths if path not in made] == [], name


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_units_know_each_other(name: str) -> None:
    setup = DISTRIBUTIONS[name].make_image_setup(SITE)
    units = units_of(setup)
    others = {
        "multi-user.target", "network-online.target", "time-set.target", "shutdown.target", "cumulet-node.service",
        "systemd-resolved.service",
    }  # fmt: skip
    for unit, text in units.items():
        for key in ("After", "Before", "Wants", "Requires", "WantedBy"):
            named = {word for line in lines_of(text, key) for word in line.split()}
            assert named <= units.keys() | others, f"{unit}: {key}"
    assert set(setup.enable) <= units.keys()
    assert all(lines_of(units[each], "WantedBy") for each in setup.enable)


def test_addresses_follow_the_networks() -> None:
    cluster = Cluster(pod_cidr="10.99.0.0/20", service_cidr="10.98.0.0/24")
    assert (cluster.dns_address, cluster.first_pod_subnet) == ("10.98.0.10", "10.99.0.0/24")
    assert Cluster(pod_cidr="10.99.0.128/25").first_pod_subnet == "10.99.0.128/25"


def test_addons_are_those_of_the_cluster() -> None:
    for addons in ((), ("coredns",), ("coredns", "metrics-server")):
        files = DISTRIBUTIONS["kubeadm"].make_image_setup(Cluster(addons=addons)).files
        manifests = {path.rpartition("/10-")[2]: text.content for path, text in files.items() if "/addons/10-" in path}
        assert manifests.keys() == {f"{name}.yaml" for name in addons}
        for name in addons:
            kinds = [each["kind"] for each in yaml.safe_load_all(manifests[f"{name}.yaml"])]
            assert {"Deployment", "Service", "ServiceAccount"} <= set(kinds)
            assert f"image: cumulet.dev/{name}:{VERSIONS[name]}" in manifests[f"{name}.yaml"]
        disabled = k3s_settings.make_config(Cluster(addons=addons), Node("n", "single", "a"), None)["disable"]
        assert {"coredns", "metrics-server"} - set(disabled) == set(addons)


def test_versions_of_our_images_are_those_of_the_go_module() -> None:
    go_mod = (RECIPES / "kubernetes/kubeadm/go/go.mod").read_text()
    wanted = dict(re.findall(r"^(?:require )?\s*([^\s/]+/\S+) v(\S+)", go_mod, re.MULTILINE))
    modules = {
        "kubernetes": "k8s.io/kubernetes",
        "coredns": "github.com/coredns/coredns",
        "metrics-server": "sigs.k8s.io/metrics-server",
        "etcd": "go.etcd.io/etcd/server/v3",
    }
    assert {name: wanted[path] for name, path in modules.items()} == {name: VERSIONS[name] for name in modules}
    assert load_pin(RECIPES, "kubeadm").release == f"v{VERSIONS['kubernetes']}"
