"""Members of a super container as processes on loopback, and somebody who looks after them as a controller does."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cumulet.supercontainer import Member, make_trust
from cumulet.supercontainer.inside.setting import Setting

Task = Callable[[Member], Any]
START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["cumulet.supercontainer.inside.life", "super_tasks"])


def make_settings(folder: Path, size: int, **more: Any) -> list[Setting]:
    """Settings of all members, with certificates and free ports."""
    files = make_trust("job", size)
    ports = free_ports(size + 1)
    peers = tuple(f"127.0.0.1:{port}" for port in ports[:size])
    made = []
    for index in range(size):
        trust = folder / f"trust-{index}"
        trust.mkdir(parents=True)
        for name in ("ca.crt", "token"):
            (trust / name).write_bytes(files[name])
        for kind in ("crt", "key"):
            (trust / f"tls.{kind}").write_bytes(files[f"{index}.{kind}"])
        values = {"seconds": 20.0, "listen": "127.0.0.1", "node": f"p{index}", "store": folder / "store", **more}
        setting = Setting("job", index, size, peers, folder / f"spool-{index}", trust, **values)
        made.append(replace(setting, token=files["token"].decode(), door=ports[size] if setting.merges else 0))
    return made


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def live(setting: Setting, task: Task, deadly: str, log: Path) -> None:
    """A member's process. It kills itself at the event `deadly`."""

    def listen(event: str) -> None:
        with log.open("a") as stream:
            stream.write(f"{event}\n")
        if event == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        task(Member(setting, listen))
    except Exception as error:
        listen(f"{type(error).__name__}: {error}")
        os._exit(3)


@dataclass
class Group:
    """All members as processes; `deaths` says at which event one of a number kills itself, the first time."""

    settings: list[Setting]
    task: Task
    deaths: dict[int, str] = field(default_factory=dict)
    forget: bool = False
    """Whether what a lost member had on its disk is lost as well."""
    processes: dict[int, BaseProcess] = field(default_factory=dict)
    lives: dict[int, int] = field(default_factory=dict)
    killed: int = 0

    def start(self, index: int) -> None:
        """Start a member, or its replacement."""
        attempt = self.lives.get(index, -1) + 1
        self.lives[index] = attempt
        setting = self.settings[index]
        spool = setting.spool / str(attempt) if self.forget else setting.spool
        fresh = Setting(
            **{name: getattr(setting, name) for name in setting.__slots__ if name != "life"}
            | {"attempt": attempt, "spool": spool}
        )
        deadly = self.deaths.get(index, "") if attempt == 0 else ""
        process = START.Process(target=live, args=(fresh, self.task, deadly, self._log(index, attempt)), daemon=True)
        process.start()
        self.processes[index] = process

    def replace_lost(self) -> None:
        """Start those again that have been killed."""
        for index, process in list(self.processes.items()):
            if process.exitcode == -signal.SIGKILL and self.lives[index] < 3:
                self.killed += 1
                self.start(index)

    def seen(self) -> list[tuple[int, int, str]]:
        """What has happened: index, attempt, event."""
        return [
            (index, attempt, line)
            for index, last in self.lives.items()
            for attempt in range(last + 1)
            if self._log(index, attempt).exists()
            for line in self._log(index, attempt).read_text().splitlines()
        ]

    def _log(self, index: int, attempt: int) -> Path:
        return self.settings[index].trust.with_name(f"log-{index}-{attempt}")


@contextmanager
def running(group: Group) -> Iterator[Group]:
    """All members, until the end of the block."""
    for index in range(len(group.settings)):
        group.start(index)
    try:
        yield group
    finally:
        for process in group.processes.values():
            process.kill()
            process.join()


def ask(setting: Setting, path: str, method: str = "GET") -> dict[str, Any]:
    """A question at the door of the merging member, as the API server carries it."""
    context = ssl.create_default_context(cafile=str(setting.trust / "ca.crt"))
    with (
        socket.create_connection(("127.0.0.1", setting.door), 5) as plain,
        context.wrap_socket(plain, server_hostname=f"member-{setting.index}") as connection,
    ):
        connection.sendall(f"{method} /{setting.token}/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        data = b""
        while piece := connection.recv(1 << 16):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    found: dict[str, Any] = json.loads(body)
    return {**found, "status": int(head.split()[1])}


def take_result(group: Group, seconds: float = 15.0) -> bytes:
    """Look after a group until its result is there, fetch it, say so. Lost members are replaced."""
    end = time.monotonic() + seconds
    door = next(each for each in group.settings if each.door)
    while True:
        assert time.monotonic() < end, f"no result: {group.seen()[-20:]}"
        group.replace_lost()
        try:
            state = ask(door, "state")
            if state["state"] == "failed":
                raise AssertionError(state["message"])
            if state["result"] is not None:
                data = b""
                while len(data) < state["result"]["size"]:
                    data += base64.b64decode(ask(door, f"result/{len(data)}")["data"])
                digest = state["result"]["sha256"]
                assert ask(door, f"taken/{digest}", "POST")["taken"] == digest
                return data
        except (OSError, KeyError, json.JSONDecodeError, ValueError):
            pass
        time.sleep(0.02)
