"""What both distributions put on a node, for every role, compared with files that a person has read.

After a wanted change, write them anew and look at the difference:

    CUMULET_WRITE_GOLDEN=1 pytest tests/golden/test_kubernetes_setups.py && git diff tests/golden
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cumulet.kubernetes import DISTRIBUTIONS, Cluster, Join, Node, Setup
from cumulet.kubernetes.kubeadm import BLANK
from cumulet.kubernetes.layout import FILL

DATA = Path(__file__).parent / "test_kubernetes_data"
LONE = Cluster()
SITE = Cluster(
    name="pier-7",
    addons=("coredns",),
    endpoint="127.0.0.1:7443",
    balanced=("10.0.0.12", "10.0.0.14"),
    masters_work=False,
)
P1, P2, P3 = Node("p1", "control", "10.0.0.11"), Node("p2", "master", "10.0.0.12"), Node("p3", "worker", "10.0.0.13")
JOINS = {
    "k3s": Join("10.0.0.11:6443", "K10abc::server:secret"),
    "kubeadm": Join("127.0.0.1:7443", "abcdef.0123456789abcdef", "CERTIFICATE"),
}
ROLES = {
    "single": (LONE, Node("lone", "single", "10.41.0.1"), False),
    "control": (SITE, P1, False),
    "control-joins": (SITE, P1, True),
    "master": (SITE, P2, True),
    "worker": (SITE, P3, True),
}


def expect(name: str, text: str) -> None:
    path = DATA / f"{name}.txt"
    if os.environ.get("CUMULET_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def make_text(setup: Setup) -> str:
    """Files with their permissions, links, and units that start at boot."""
    files = [f"== {path} {text.mode:o}\n{text.content}" for path, text in sorted(setup.files.items())]
    links = [f"== {path} -> {target}\n" for path, target in sorted(setup.links.items())]
    return "".join([*files, *links, *(f"== starts {unit}\n" for unit in setup.enable)])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_image(name: str) -> None:
    setup = DISTRIBUTIONS[name].make_image_setup(LONE)
    # The blanks of a lone node are the files of `single`, as the next test says.
    files = {path: text for path, text in setup.files.items() if not path.startswith(f"{FILL}/")}
    expect(f"{name}-image", make_text(Setup(files, setup.links, setup.enable)))


def test_blanks_in_the_image_are_the_files_of_a_lone_node() -> None:
    kubeadm = DISTRIBUTIONS["kubeadm"]
    blanks = kubeadm.make_node_setup(LONE, BLANK, [BLANK], None).files
    files = kubeadm.make_image_setup(LONE).files
    assert {path: text for path, text in files.items() if path.startswith(FILL)} == {
        FILL + path: text for path, text in blanks.items()
    }


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_role(name: str, role: str) -> None:
    cluster, node, joins = ROLES[role]
    distribution, join = DISTRIBUTIONS[name], JOINS[name] if joins else None
    members = [node] if node.role == "single" else [P1, P2]
    expect(f"{name}-{role}", make_text(distribution.make_node_setup(cluster, node, members, join)))


def test_the_token_is_in_no_trace() -> None:
    assert all(join.token not in repr(join) for join in JOINS.values())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_files_with_the_token_are_for_root_only(name: str) -> None:
    join = JOINS[name]
    for node in (P1, P2, P3):
        setup = DISTRIBUTIONS[name].make_node_setup(SITE, node, [P1, P2], join)
        holders = [text.mode for text in setup.files.values() if join.token in text.content]
        # A server of kubeadm's has the authority itself and needs no token.
        assert holders == ([] if name == "kubeadm" and node.keeps_etcd else [0o600])
