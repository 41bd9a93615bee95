"""site.yaml: every mistake at once, each with its place, and what a site knows of its nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet.site.model import load_site, parse_seconds, parse_site, parse_size

GOOD = """\
version: 1
site: pier-7
distribution: kubeadm
nodes:
  - {name: p1, address: 10.0.0.11, role: control}
  - {name: p3, address: 10.0.0.13, role: master}
  - {name: p2, address: 10.0.0.12, role: master}
  - {name: p4, address: 10.0.0.14, role: worker}
"""
NODES = GOOD.partition("nodes:\n")[2]


def problems_of(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse_site(text, "site.yaml")
    return [str(each) for each in caught.value.problems]


def test_servers_are_in_the_order_in_which_they_join() -> None:
    site = parse_site(GOOD, "site.yaml")
    assert [node.name for node in site.servers] == ["p1", "p3", "p2"]
    assert [node.name for node in site.masters] == ["p3", "p2"]
    assert site.control.name == "p1"
    assert site.node("p9") is None


def test_every_mistake_is_shown_at_once_with_its_place() -> None:
    text = """\
version: 1
site: Pier 7
distribtuion: k3s
nodes:
  - {name: p1, address: 10.0.0, role: contrl}
  - {name: p2, role: master, port: 0}
minimum: {memory: 512MB, clock: soon}
network: {pod_cidr: 10.42.0.1/16}
ssh: {usr: admin}
at_once: 51
"""
    assert problems_of(text) == [
        "site.yaml:2:7: site: 'Pier 7' is not a name: use lower-case letters, digits and '-'",
        "site.yaml:3:1: unknown key 'distribtuion' in site\n  did you mean 'distribution'?",
        "site.yaml:5:25: nodes[0].address: '10.0.0' is not an address; write it like 10.0.0.11",
        "site.yaml:5:39: nodes[0].role: must be one of single, control, master, worker, got 'contrl'\n"
        "  did you mean 'control'?",
        "site.yaml:6:5: missing key 'address' in nodes[1]",
        "site.yaml:6:36: nodes[1].port: must be at least 1, got 0",
        "site.yaml:7:19: minimum.memory: not a size: '512MB'; write it like 512MiB",
        "site.yaml:7:33: minimum.clock: not a time: 'soon'; write it like 30m",
        "site.yaml:8:21: network.pod_cidr: '10.42.0.1/16' is not a network; write it like 10.42.0.0/16",
        "site.yaml:9:7: unknown key 'usr' in ssh\n  did you mean 'user'?",
        "site.yaml:10:10: at_once: must be at most 50, got 51",
    ]


def test_roles_must_make_three_votes() -> None:
    text = GOOD.replace("role: control", "role: worker").replace(
        "p3, address: 10.0.0.13, role: master", "p3, address: 10.0.0.13, role: worker"
    )
    assert problems_of(text) == [
        "site.yaml:4:1: needs one node with role control, has none\n"
        "  it is the third vote beside the two masters, and the place that the site is looked after from",
        "site.yaml:4:1: needs two nodes with role master, has 1\n"
        "  two masters and the control node are three votes: any one of them may be lost",
    ]


def test_names_and_addresses_are_used_once_and_lie_outside_the_cluster() -> None:
    text = GOOD.replace("p4, address: 10.0.0.14", "p1, address: 10.0.0.13").replace("10.0.0.12", "10.42.0.12")
    assert problems_of(text) == [
        "site.yaml:7:25: address 10.42.0.12 lies in network.pod_cidr 10.42.0.0/16",
        "site.yaml:8:12: name 'p1' is used twice, first on line 5",
        "site.yaml:8:25: address '10.0.0.13' is used twice, first on line 6",
    ]


def test_networks_of_the_cluster_do_not_overlap() -> None:
    text = GOOD + "network: {pod_cidr: 10.42.0.0/15, service_cidr: 10.43.0.0/16}\n"
    assert problems_of(text) == ["site.yaml:9:10: pod_cidr and service_cidr overlap"]


@pytest.mark.parametrize(("count", "words"), [(0, "none"), (51, "51")])
def test_a_site_has_one_to_fifty_nodes(count: int, words: str) -> None:
    nodes = [f"{{name: n{n}, address: 10.0.0.{n}, role: worker}}" for n in range(1, count + 1)]
    text = f"version: 1\nsite: a\nnodes: [{', '.join(nodes)}]\n"
    assert problems_of(text) == [f"site.yaml:3:8: nodes: a site has 1 to 50 nodes, this one has {words}"]


def test_a_script_is_there_once() -> None:
    text = GOOD + "scripts:\n  - {name: leds, run: a.sh}\n  - {name: leds, run: b.sh}\n"
    assert problems_of(text) == ["site.yaml:11:12: script 'leds' is there twice"]


def test_a_single_node_is_a_site_of_its_own() -> None:
    lone = parse_site("version: 1\nsite: a\nnodes: [{name: n, address: 10.0.0.1, role: single}]\n", "s")
    assert ([n.name for n in lone.servers], lone.control.name, lone.cluster.masters_work) == (["n"], "n", True)
    more = "version: 1\nsite: a\nnodes:\n- {name: n, address: 10.0.0.1, role: single}\n"
    more += "- {name: m, address: 10.0.0.2, role: worker}\n"
    assert problems_of(more) == [
        "site.yaml:3:1: role single is for a site of one node, this one has 2\n"
        "  one node with role single is a site of its own; otherwise use control, master and worker"
    ]


@pytest.mark.parametrize("key", ["ssh-rsa nothing", "SHA256:", "secret"])
def test_a_host_key_is_a_line_or_a_fingerprint(key: str) -> None:
    text = GOOD.replace("role: control}", f"role: control, host_key: '{key}'}}")
    assert problems_of(text) == [
        "site.yaml:5:61: nodes[0].host_key: not a host key; write the server's .pub line, or its fingerprint SHA256:..."
    ]


def test_masters_take_work_where_nobody_else_does_or_all_shall() -> None:
    assert not parse_site(GOOD, "s").cluster.masters_work
    assert parse_site(GOOD + "workers: all\n", "s").cluster.masters_work
    assert parse_site(GOOD.replace("  - {name: p4, address: 10.0.0.14, role: worker}\n", ""), "s").cluster.masters_work


def test_devices_find_an_api_server_at_their_own_balancer() -> None:
    cluster = parse_site(GOOD, "s").cluster
    assert (cluster.endpoint, cluster.balanced) == ("127.0.0.1:7443", ("10.0.0.13", "10.0.0.12"))
    k3s = parse_site(GOOD.replace("kubeadm", "k3s"), "s").cluster
    assert (k3s.endpoint, k3s.balanced) == ("", ())


def test_sizes_and_times_are_read() -> None:
    assert (parse_size("3KiB"), parse_size("512MiB"), parse_size("2GiB")) == (3072, 512 << 20, 2 << 30)
    assert (parse_seconds("90s"), parse_seconds("30m"), parse_seconds("2h")) == (90, 1800, 7200)


def test_a_file_is_named_as_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    with pytest.raises(UsageError, match="no such file"):
        load_site(path)
    path.write_text("version: 2\n")
    with pytest.raises(UsageError, match="site version 2 needs a newer cumulet"):
        load_site(path)
    path.write_text(GOOD)
    assert load_site(path).site == "pier-7"
