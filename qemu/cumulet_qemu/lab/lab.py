"""The lab as a whole: made, changed, looked at and taken away. Every operation may be repeated."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from cumulet.core import proc
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.core.files import locked, write_text
from cumulet_qemu.lab import cgroups as groups
from cumulet_qemu.lab.container import Container
from cumulet_qemu.lab.settings import keep_settings, restore_settings
from cumulet_qemu.lab.store import load_document, save_document
from cumulet_qemu.lab.wiring import (
    MOST_NODES,
    LabNode,
    Slowness,
    Wiring,
    check_slowness,
    make_bridge_commands,
    make_cable_commands,
    make_known_hosts,
    make_slow_commands,
    make_wiring,
)
from cumulet_qemu.ssh import make_key

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """What one node is like now."""

    name: str
    address: str
    running: bool
    plugged: bool


class Lab:
    """Nodes as system containers on this computer. Needs root.

    `folder` has the lab's document, its key and what its nodes have written. A lab
    begins with `store.make_document` and is opened again from its folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        document = load_document(folder)
        self.wiring: Wiring = make_wiring(document.name, document.subnet)
        self.root = document.root
        self.cgroups = groups.read_cgroups()

    @property
    def key(self) -> Path:
        """The private key that opens every node."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of all nodes, in ssh's own form."""
        return self.folder / "known_hosts"

    @property
    def nodes(self) -> list[Container]:
        """Every node, running or not, in order."""
        count = load_document(self.folder).nodes
        return [self._container(self.wiring.node(index)) for index in range(1, count + 1)]

    def node(self, name: str) -> Container:
        """A node by its name. Raises UsageError."""
        for each in self.nodes:
            if each.node.name == name:
                return each
        names = ", ".join(each.node.name for each in self.nodes) or "none"
        raise UsageError(f"{name}: no such node; there are: {names}", hint="cumulet lab status")

    def up(self, count: int, memory: int | None = None, tell: Callable[[str, float], None] | None = None) -> None:
        """Bring the lab to `count` running nodes; nodes that run are left alone. `tell(name, seconds)` per node."""
        if not 1 <= count <= MOST_NODES:
            raise UsageError(f"a lab has 1 to {MOST_NODES} nodes, not {count}")
        with self._changing():
            document = load_document(self.folder)
            if count > document.nodes:
                save_document(self.folder, replace(document, nodes=count))
            keep_settings(self.folder)
            self._make_key()
            if not Path(f"/sys/class/net/{self.wiring.bridge}").exists():
                self._run_all(make_bridge_commands(self.wiring))
            for each in self.nodes:
                each.prepare([self.key.with_suffix(".pub").read_text().strip()])
            hosts = {each.node.host: each.host_key for each in self.nodes}
            write_text(self.known_hosts, make_known_hosts(hosts))
            self.start([each for each in self.nodes if not each.running], memory, tell)

    def start(
        self,
        nodes: Iterable[Container],
        memory: int | None = None,
        tell: Callable[[str, float], None] | None = None,
    ) -> None:
        """Start nodes, all at once, and wait until each can be logged in to."""
        waiting = list(nodes)
        for each in waiting:
            self._plug_in(each)
            each.start(memory)
        deadline = Deadline.after(START_SECONDS + 5 * len(waiting))
        with ThreadPoolExecutor(max(1, len(waiting))) as pool:
            for each, seconds in zip(waiting, pool.map(lambda one: one.wait(deadline), waiting), strict=True):
                if tell is not None:
                    tell(each.node.name, seconds)

    def cut(self, name: str) -> None:
        """Pull the node's cable; the node runs on and sees that its link is gone."""
        proc.run(["ip", "link", "set", self.wiring.link(self.node(name).node), "down"])

    def plug(self, name: str) -> None:
        """Put the cable back."""
        proc.run(["ip", "link", "set", self.wiring.link(self.node(name).node), "up"])

    def slow(self, name: str, slowness: Slowness) -> None:
        """Make the node's link slow, lossy or late in both directions; good again with an empty `slowness`.

        Raises UsageError for a value that is wrong, ToolError where the kernel cannot do it.
        """
        check_slowness(slowness)
        good = slowness == Slowness()
        for argv in make_slow_commands(self.wiring, self.node(name).node, slowness):
            result = proc.run(argv, check=False)
            if result.code == 0 or good:
                continue
            if slowness.needs_netem and "kind is unknown" in result.err:
                message = "this kernel has no network emulator (sch_netem): no delay and no loss"
                raise ToolError(message, hint="modprobe sch_netem, or use --rate alone")
            raise proc.failure(result)

    def status(self) -> list[NodeStatus]:
        """What each node is like."""
        return [
            NodeStatus(each.node.name, each.node.host, each.running, self._is_plugged(each.node)) for each in self.nodes
        ]

    def down(self) -> None:
        """Take everything away; see `clear_lab`."""
        clear_lab(self.wiring, self.folder)

    def _container(self, node: LabNode) -> Container:
        return Container(node, self.wiring, self.folder / node.name, self.root, self.cgroups)

    def _plug_in(self, each: Container) -> None:
        """Make the cable of a node that is off anew: one that was half made looks like a whole one."""
        space = Path("/run/netns") / self.wiring.namespace(each.node)
        if space.exists():
            proc.run(["ip", "netns", "del", space.name])
        proc.run(["ip", "link", "del", self.wiring.link(each.node)], check=False)
        self._run_all(make_cable_commands(self.wiring, each.node))

    def _is_plugged(self, node: LabNode) -> bool:
        try:
            return bool(int(Path(f"/sys/class/net/{self.wiring.link(node)}/flags").read_text(), 16) & 1)
        except FileNotFoundError:
            return False

    def _run_all(self, commands: list[list[str]]) -> None:
        for argv in commands:
            proc.run(argv)

    def _make_key(self) -> None:
        if not self.key.exists():
            make_key(self.folder, "cumulet-lab")

    def _changing(self) -> contextlib.AbstractContextManager[None]:
        return locked(self.folder / ".lock", f"lab {self.wiring.name}")


def clear_lab(wiring: Wiring, folder: Path) -> None:
    """Take a lab away: processes, control groups, links, network namespaces, files.

    Works by names alone, so also after a `kill -9` at any moment and without the lab's document;
    what is not there is passed over. Raises TargetError for what stays.
    """
    cgroups = groups.read_cgroups()
    groups.end_processes(cgroups, wiring.name)
    groups.remove_groups(cgroups, wiring.name)
    for space in Path("/run/netns").glob(f"{wiring.bridge}-*"):
        proc.run(["ip", "netns", "del", space.name])
    # A namespace takes its end of the cable away; this computer's may still be there for a moment.
    for link in _list_links(wiring):
        proc.run(["ip", "link", "del", link], check=False)
    left = _list_links(wiring)
    if left:
        raise TargetError(f"lab {wiring.name}: left over: {', '.join(left)}")
    if not any(each.folder.joinpath(groups.TOP).exists() for each in cgroups.hierarchies):
        restore_settings(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _list_links(wiring: Wiring) -> list[str]:
    links = Path("/sys/class/net")
    bridge = [wiring.bridge] if (links / wiring.bridge).exists() else []
    return [*(each.name for each in links.glob(f"{wiring.bridge}-*")), *bridge]
