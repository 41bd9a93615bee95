"""The choice made true: packets of each class take the link that was chosen, in a network of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet.uplink import Uplink, load_uplink
from cumulet.uplink.service import Ways

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]
SITE, WORLD = f"cumulet-site-{os.getpid()}", f"cumulet-world-{os.getpid()}"
LINKS = {"cheap": "10.99.1", "dear": "10.99.2"}
DOCUMENT = """\
version: 1
links:
  - {name: cheap, kind: ethernet, interface: cheap, cost: 1, probe: "10.99.9.9:8443"}
  - {name: dear, kind: ethernet, interface: dear, cost: 9, carries: [control, result]}
settle: 0
"""
# Both run inside a namespace, with what the computer has.
SERVER = """
import socket
with socket.create_server(("10.99.9.9", 8443)) as listener:
    while True:
        connection, address = listener.accept()
        with connection:
            connection.sendall(address[0].encode())
"""
CLIENT = """
import socket, sys
with socket.socket() as link:
    link.setsockopt(socket.SOL_SOCKET, 36, int(sys.argv[1]))
    link.settimeout(3)
    try:
        link.connect(("10.99.9.9", 8443))
        print(link.recv(100).decode().rpartition(".")[0])
    except OSError as error:
        print(error.strerror or error)
"""
PROBE = """
import sys
from cumulet.uplink.facts import answers
sys.exit(not answers(sys.argv[1], sys.argv[2]))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def network() -> Iterator[None]:
    """A site with two links into a world that has a server; all of it in namespaces."""
    if os.geteuid() != 0:
        pytest.fail("needs root") if os.environ.get("CI") else pytest.skip("needs root")
    for name in (SITE, WORLD):
        ip("netns", "add", name)
    server = None
    try:
        for name, net in LINKS.items():
            ip("-n", SITE, "link", "add", name, "type", "veth", "peer", "name", name, "netns", WORLD)
            ip("-n", SITE, "addr", "add", f"{net}.2/24", "dev", name)
            ip("-n", WORLD, "addr", "add", f"{net}.1/24", "dev", name)
            for side in (SITE, WORLD):
                ip("-n", side, "link", "set", name, "up")
            metric = "100" if name == "cheap" else "200"
            ip("-n", SITE, "route", "add", "default", "via", f"{net}.1", "dev", name, "metric", metric)
        for side in (SITE, WORLD):
            ip("-n", side, "link", "set", "lo", "up")
        ip("-n", WORLD, "addr", "add", "10.99.9.9/32", "dev", "lo")
        server = subprocess.Popen(["ip", "netns", "exec", WORLD, "python3", "-c", SERVER])
        time.sleep(0.5)
        yield
    finally:
        if server is not None:
            server.kill()
            server.wait()
        for name in (SITE, WORLD):
            ip("netns", "del", name)


def run_inside(argv: Sequence[str]) -> str:
    done = subprocess.run(["ip", "netns", "exec", SITE, *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(done.stderr)
    return done.stdout


def probe_inside(interface: str, where: str) -> bool:
    words = ["ip", "netns", "exec", SITE, sys.executable, "-c", PROBE, interface, where]
    return subprocess.run(words, check=False).returncode == 0


def way(mark: int) -> str:
    return run_inside(["python3", "-c", CLIENT, str(mark)]).strip()


def test_packets_go_where_the_choice_says(network: None, tmp_path: Path) -> None:
    (tmp_path / "uplink.yaml").write_text(DOCUMENT)
    ways = Ways(run_inside, probe_inside)
    uplink = Uplink(load_uplink(tmp_path / "uplink.yaml"), ways=ways, state=tmp_path / "uplink.json")
    uplink.step()
    assert {way(mark) for mark in (7101, 7102, 7103, 7104)} == {LINKS["cheap"]}
    before = run_inside(["ip", "-4", "rule", "show"])
    uplink.step()
    assert run_inside(["ip", "-4", "rule", "show"]) == before
    for action in ("down", "up"):  # for a moment: the kernel drops the routes, and nobody says so
        ip("-n", SITE, "link", "set", "cheap", action)
    ip("-n", SITE, "route", "add", "default", "via", "10.99.1.1", "dev", "cheap", "metric", "100")
    uplink.step()
    assert {way(mark) for mark in (7101, 7102, 7103, 7104)} == {LINKS["cheap"]}
    # The cable stays in, but nobody answers behind it: only the probe can tell.
    ip("-n", WORLD, "addr", "del", f"{LINKS['cheap']}.1/24", "dev", "cheap")
    uplink.step()
    assert [way(mark) for mark in (7101, 7103)] == [LINKS["dear"]] * 2
    for mark in (7102, 7104):
        assert way(mark) == "No route to host"
    ip("-n", WORLD, "addr", "add", f"{LINKS['cheap']}.1/24", "dev", "cheap")
    uplink.step()
    assert {way(mark) for mark in (7101, 7102, 7103, 7104)} == {LINKS["cheap"]}
    ip("-n", WORLD, "link", "set", "cheap", "down")
    uplink.step()
    assert way(7101) == LINKS["dear"]
    assert uplink.choice.reasons["control"]["cheap"] == "no cable"
