"""What the stand-ins for k3s share: a cluster that keeps k3s's own rules, answered for over HTTP.

One learner at a time, no second member of the same name, nobody in without the token.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

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

    def answer_beat(
        self, name: str, address: str, api: bool, member: str, kubelet: bool, boot: str, version: str
    ) -> dict[str, Any]:
        if member and member not in self.members:
            return {"fatal": "this server has been removed from the cluster"}
        self.beats[name] = (time.monotonic(), api)
        admitted = any(self._serves(each) for each in self.beats)
        if admitted and kubelet and name not in self.nodes:
            self.nodes[name] = {"address": address, "since": time.monotonic(), "annotations": {}}
            self.events.append(f"known {name}")
        if name in self.nodes:
            self.nodes[name] |= {"boot": boot, "version": version}
        return {"admitted": admitted, "serves": self._serves(name)}

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
