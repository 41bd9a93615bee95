"""One node of the lab: its folder, its start, its end, programs run inside it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core import proc
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet_qemu.lab import cgroups as groups
from cumulet_qemu.lab.wiring import LabNode, Wiring, make_node_document

SCRIPT = Path(__file__).with_name("node.sh")
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
SSH = 22


@dataclass(frozen=True, slots=True)
class Container:
    """A node with its wiring, its folder of the lab, the unpacked root and this computer's control groups."""

    node: LabNode
    wiring: Wiring
    folder: Path
    root: Path
    cgroups: groups.Cgroups

    @property
    def path(self) -> str:
        """The node's control group below the lab's."""
        return f"{self.wiring.name}/{self.node.name}"

    @property
    def overlay(self) -> Path:
        """What the node has changed in /etc and /var."""
        return self.folder / "data/overlay"

    @property
    def host_key(self) -> str:
        """The line of the public key that the node's ssh server shows."""
        return (self.overlay / f"{HOST_KEY}.pub").read_text().strip()

    @property
    def running(self) -> bool:
        """Whether anything of the node runs."""
        return bool(groups.list_processes(self.cgroups, self.path))

    def prepare(self, authorized_keys: list[str]) -> None:
        """Make the node's folder: its document and its host key. What is there stays."""
        for name in ("root", "data"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.overlay / HOST_KEY
        if not key.exists():
            key.parent.mkdir(parents=True, exist_ok=True)
            fresh = key.with_name("fresh")
            for left in (fresh, fresh.with_suffix(".pub")):
                left.unlink(missing_ok=True)
            proc.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", fresh])
            fresh.with_suffix(".pub").rename(f"{key}.pub")
            fresh.rename(key)
        document = self.overlay / "etc/cumulet/node.yaml"
        document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(make_node_document(self.wiring, self.node, authorized_keys))

    def start(self, memory: int | None = None) -> None:
        """Start the node's init and return at once. Does nothing if the node runs."""
        if self.running:
            return
        folders = groups.make_groups(self.cgroups, self.path)
        if memory is not None:
            groups.limit_memory(folders, memory)
        # An init writes to its console before it has a log; both are kept.
        (self.folder / "console").write_text("")
        pairs = " ".join(f"{name}={folder}" for name, folder in folders.items())
        environment = {
            "FOLDER": str(self.folder),
            "ROOT": str(self.root),
            "CGROUPS": pairs,
            "TYPE": self.cgroups.version,
        }
        network = f"/run/netns/{self.wiring.namespace(self.node)}"
        with (self.folder / "start.log").open("w") as log:
            # It outlives this process, so it is no child of it.
            proc.run(["setsid", "--fork", "nsenter", f"--net={network}", SCRIPT], env=environment, log=log)

    def kill(self) -> None:
        """Take the node's power away."""
        groups.end_processes(self.cgroups, self.path)

    def remove(self) -> None:
        """End the node and remove all that it has written."""
        self.kill()
        groups.remove_groups(self.cgroups, self.path)
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, deadline: Deadline) -> float:
        """Wait until the node's ssh server answers; returns the seconds that it took. Raises TargetError."""
        begin = time.monotonic()
        while not self._answers():
            if deadline.passed or (time.monotonic() > begin + 1 and not self.running):
                raise TargetError(f"{self.node.name}: no ssh server after {deadline.seconds:.0f} s\n{self.tail()}")
            time.sleep(0.05)
        return time.monotonic() - begin

    def tail(self) -> str:
        """The last lines that the node's start and its init have written."""
        lines = []
        for name in ("start.log", "console"):
            with contextlib.suppress(OSError):
                lines += (self.folder / name).read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def init(self) -> int:
        """The node's process 1, as a number of this computer's. Raises TargetError if the node is off."""
        for number in groups.list_processes(self.cgroups, self.path):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{number}/status").read_text()
                spaces = next(line.split()[1:] for line in text.splitlines() if line.startswith("NSpid"))
                if len(spaces) == 2 and spaces[1] == "1":
                    return number
        raise TargetError(f"{self.node.name}: is off", hint="cumulet lab start")

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The words that run a command inside the node."""
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
        return ["nsenter", "-t", str(self.init()), "-m", "-u", "-i", "-n", "-p", "-C", "--", *clean, *argv]

    def run(self, *argv: str, input: str | None = None, check: bool = True) -> proc.Result:
        """Run a program inside the node, as root, without ssh. Raises ToolError if it fails."""
        return proc.run(self.enter(argv), input=input, check=check)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self.node.host, SSH), timeout=0.2) as connection:
                connection.settimeout(1.0)
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False
