#!/usr/bin/python3 -I
"""Answers as k3s does wherever a bring-up looks. Runs on a node of the lab; never shipped.

What all nodes must agree on (members of etcd, nodes, the token) is kept by the test,
behind HTTP; what k3s keeps on its disk is kept on the node's disk.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

HOME = Path("/etc/cumulet/stand-in")
SETTINGS = Path("/etc/rancher/k3s")
SERVER = Path("/var/lib/rancher/k3s/server")
MEMBER = SERVER / "db/etcd/member/id"
KUBELET = Path("/var/lib/rancher/k3s/agent/kubelet.kubeconfig")
KUBECONFIG = SETTINGS / "k3s.yaml"
TOKEN = SERVER / "token"
BOOT = Path("/proc/sys/kernel/random/boot_id")
VERSION = os.environ.get("STAND_IN_VERSION", "v1.36.2+k3s1")


def fail(text: str) -> NoReturn:
    sys.stderr.write(f"level=fatal msg={text!r}\n")
    sys.exit(1)


def ask(path: str, **body: object) -> dict[str, Any]:
    """Ask the test; ends this program where k3s would end itself."""
    host, port = (HOME / "cluster").read_text().split()
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("POST", path, json.dumps(body))
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    if "fatal" in answer:
        fail(answer["fatal"])
    return answer


def load_settings(path: Path, mode: str) -> dict[str, str]:
    """Keys with their values, which are empty for lists. A key that is no flag ends the program."""
    lines = [line for line in path.read_text().splitlines() if line[:1] not in ("-", " ", "#", "")]
    settings = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = json.loads((HOME / "flags.json").read_text())[mode]
    unknown = sorted(settings.keys() - set(flags))
    if unknown:
        fail(f"unknown settings: {', '.join(unknown)}")
    return settings


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tell_ready() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])


def run_server() -> None:
    settings = load_settings(SETTINGS / "config.yaml", "server")
    me = {"name": settings["node-name"], "address": settings["node-ip"]}
    api = settings.get("disable-apiserver") != "true"
    # As k3s does: data on the disk decide; settings matter only where there are none.
    if not MEMBER.exists():
        if settings.get("cluster-init") == "true":
            answer = ask("/init", **me)
        else:
            token = Path(settings["token-file"]).read_text().strip()
            answer = ask("/join", **me, server=settings["server"], token=token)
        write(TOKEN, answer["token"] + "\n")
        write(MEMBER, answer["id"])
    go_on(me, api, MEMBER.read_text())


def run_agent() -> None:
    settings = load_settings(SETTINGS / "agent.yaml", "agent")
    me = {"name": settings["node-name"], "address": settings["node-ip"]}
    token = Path(settings["token-file"]).read_text().strip()
    ask("/agent", **me, server=settings["server"], token=token)
    go_on(me, api=False, member="")


def go_on(me: dict[str, str], api: bool, member: str) -> NoReturn:
    """Live until killed; a member that has been removed ends itself."""
    ready = False
    while True:
        has = KUBELET.exists()
        answer = ask("/beat", **me, api=api, member=member, kubelet=has, boot=BOOT.read_text().strip(), version=VERSION)
        # As k3s does: the kubelet has its kubeconfig first, and registers with it.
        if answer["admitted"] and not KUBELET.exists():
            write(KUBELET, "kubeconfig\n")
        if answer["serves"] and not KUBECONFIG.exists():
            write(KUBECONFIG, "kubeconfig\n")
        if not ready and (answer["serves"] if api else True):
            tell_ready()
            ready = True
        time.sleep(0.2)


def reset(source: Path, token: Path) -> None:
    """Begin again with what a snapshot holds: this server is the only member then."""
    settings = load_settings(SETTINGS / "config.yaml", "server")
    state = json.loads(source.read_text())["state"]
    answer = ask("/reset", name=settings["node-name"], token=token.read_text().strip(), state=state)
    write(TOKEN, answer["token"] + "\n")
    write(MEMBER, answer["id"])


def run_kubectl(words: list[str]) -> None:
    """A kubelet asks any API server, an administrator the one beside him."""
    config = f"--kubeconfig={KUBELET}"
    path = KUBELET if config in words else KUBECONFIG
    if not path.exists():
        sys.stderr.write("The connection to the server 127.0.0.1:6443 was refused\n")
        sys.exit(1)
    words = [word for word in words if not word.startswith("--kubeconfig=")]
    answer = ask("/kubectl", host="" if path == KUBELET else socket.gethostname(), words=words)
    sys.stdout.write(answer["out"])
    sys.stderr.write(answer["err"])
    sys.exit(answer["code"])


match sys.argv[1:]:
    case ["--version"]:
        sys.stdout.write(f"k3s version {VERSION} (stand-in)\ngo version none\n")
    case ["server"]:
        run_server()
    case ["agent", "--config=/etc/rancher/k3s/agent.yaml"]:
        run_agent()
    case ["kubectl", *words]:
        run_kubectl(words)
    case ["etcd-snapshot", "save", folder, name] if folder.startswith("--dir=") and name.startswith("--name="):
        where = Path(folder.partition("=")[2]) / f"{name.partition('=')[2]}-{socket.gethostname()}-{int(time.time())}"
        write(where, json.dumps(ask("/snapshot", name=socket.gethostname())))
    case ["server", "--cluster-reset", source, token] if source.startswith("--cluster-reset-restore-path="):
        reset(Path(source.partition("=")[2]), Path(token.removeprefix("--token-file=")))
    case ["certificate", "rotate"]:
        ask("/rotate", name=socket.gethostname())
    case words:
        fail(f"no such command: {' '.join(words)}")
