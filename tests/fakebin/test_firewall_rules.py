"""The rulesets in force: two network namespaces on one cable, one of them behind the real nft's rules."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet_builder.firewall import ROLES, make_ruleset
from cumulet_builder.recipe.model import Board, Kernel, Recipe

LISTEN = """
import socket, time
held = []
for port in (22, 6443, 2379, 2380, 7480, 8080, 9999, 10250):
    held.append(socket.create_server(("0.0.0.0", port)))
print("ready", flush=True)
time.sleep(60)
"""
TRY = """
import socket, threading
open_ports = []
def attempt(port):
    try:
        socket.create_connection(("10.77.0.1", port), timeout=0.7).close()
    except TimeoutError:
        return
    open_ports.append(port)
threads = [threading.Thread(target=attempt, args=(port,)) for port in (22, 6443, 2379, 2380, 7480, 8080, 9999, 10250)]
[each.start() for each in threads]
[each.join() for each in threads]
print(*sorted(open_ports))
"""


def make_recipe(**values: object) -> Recipe:
    board = Board(board="qemu-arm64", title="t", architecture="arm64", kernel=Kernel(package="linux-image-arm64"))
    return Recipe.model_validate(
        {"version": 1, "image": "try", "board": board, "kubernetes": {"distribution": "kubeadm"}, **values}
    )


@dataclass(frozen=True)
class Pair:
    """A node that listens on many ports, and somebody who tries them."""

    node: str
    other: str

    def load(self, folder: Path, text: str) -> None:
        path = folder / "rules.nft"
        path.write_text(text)
        proc.run(["ip", "netns", "exec", self.node, "nft", "-f", path])

    def open_ports(self) -> list[int]:
        words = ["ip", "netns", "exec", self.other, sys.executable, "-c", TRY]
        return [int(word) for word in proc.run(words, timeout=30).out.split()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    if os.geteuid() != 0 or any(proc.find(name) is None for name in ("ip", "nft")):
        pytest.skip("network namespaces need root, ip and nft")
    found = Pair(f"fw{os.getpid()}n", f"fw{os.getpid()}o")
    log = tmp_path_factory.mktemp("firewall") / "log"
    try:
        for name in (found.node, found.other):
            proc.run(["ip", "netns", "add", name])
        one, two = ["ip", "-n", found.node], ["ip", "-n", found.other]
        proc.run([*one, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", found.other])
        for words, address in ((one, "10.77.0.1/24"), (two, "10.77.0.2/24")):
            proc.run([*words, "address", "add", address, "dev", "eth0"])
            proc.run([*words, "link", "set", "eth0", "up"])
            proc.run([*words, "link", "set", "lo", "up"])
        with log.open("w") as stream:
            listener = proc.spawn(["ip", "netns", "exec", found.node, sys.executable, "-c", LISTEN], log=stream)
        try:
            while "ready" not in log.read_text():
                assert listener.poll() is None, log.read_text()
            yield found
        finally:
            proc.stop(listener)
    finally:
        for name in (found.node, found.other):
            proc.run(["ip", "netns", "del", name], check=False)


@pytest.mark.parametrize(
    ("role", "wanted"),
    [
        ("none", [22, 7480]),
        ("worker", [22, 7480, 10250]),
        ("control", [22, 2379, 2380, 7480, 10250]),
        ("master", [22, 2379, 2380, 6443, 7480, 10250]),
    ],
)
def test_a_node_answers_where_its_role_needs_it_and_nowhere_else(
    pair: Pair, tmp_path: Path, role: str, wanted: list[int]
) -> None:
    pair.load(tmp_path, make_ruleset(make_recipe(), role))
    assert pair.open_ports() == wanted


def test_another_role_replaces_the_rules_whole(pair: Pair, tmp_path: Path) -> None:
    pair.load(tmp_path, make_ruleset(make_recipe(), "master"))
    pair.load(tmp_path, make_ruleset(make_recipe(firewall={"open": ["8080/tcp"]}), "none"))
    assert pair.open_ports() == [22, 7480, 8080]


def test_every_rule_is_understood_by_the_real_nft(need: Callable[[str], str], pair: Pair, tmp_path: Path) -> None:
    need("nft")
    for role in ROLES:
        for more in ({"kubernetes": None}, {"kubernetes": {"distribution": "k3s"}}):
            pair.load(tmp_path, make_ruleset(make_recipe(**more), role))
