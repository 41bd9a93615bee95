"""A site as a value with operations: what `cumulet site` does, as calls with typed results and typed errors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from cumulet.core.errors import CumuletError, TargetError
from cumulet.core.files import write_text
from cumulet.site import life, upgrade
from cumulet.site.act import Crew, Event, carry_out, raise_all
from cumulet.site.actions import Plan
from cumulet.site.check import find_problems
from cumulet.site.facts import SiteFacts, parse_members, parse_nodes, read_hosts
from cumulet.site.handover import look_at_packages
from cumulet.site.keeper import Keeper, hold
from cumulet.site.model import SiteDocument, SiteNode, load_site, parse_seconds, read_sources
from cumulet.site.parts import read_script
from cumulet.site.plan import list_paths, make_plan
from cumulet.site.register import get_kubectl
from cumulet.site.ssh import Host, connect
from cumulet.site.status import SiteStatus, make_status
from cumulet.site.tokens import make_token

Listener = Callable[[Event], None]
ROUNDS = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has done: the steps with their seconds, and how long all of it took."""

    changed: bool
    seconds: float
    steps: tuple[Mapping[str, Any], ...] = ()


def ignore(event: Event) -> None:
    """The listener of somebody who does not want to be told."""


class Site:
    """The devices of a site.yaml.

    Every operation is there twice: `up()` for ordinary code, `up_async()` for code
    that runs in an event loop already.
    """

    def __init__(self, document: SiteDocument, folder: Path) -> None:
        self.document = document
        self.folder = folder
        """Where paths in the document start."""
        self.sources = read_sources(document, folder)

    @classmethod
    def load(cls, path: str | Path) -> Site:
        """The site in a file. Raises UsageError with every problem of the document."""
        file = Path(path)
        return cls(load_site(file), file.absolute().parent)

    def up(self, listen: Listener = ignore) -> Outcome:
        """Bring the site to what its document says; does nothing if it is there. Raises TargetError."""
        return _run(self.up_async(listen))

    def status(self) -> SiteStatus:
        """What the site is like; devices that cannot be reached are no error."""
        return _run(self.status_async())

    async def status_async(self) -> SiteStatus:
        """See `status`."""
        async with self.reachable() as (hosts, lost):
            return make_status(self.document, await self.look(hosts, check=False), lost)

    def remove(self, name: str, listen: Listener = ignore) -> Outcome:
        """Take a worker out: drained, out of the cluster, cleared. The document is not changed."""
        return _run(self.remove_async(name, listen))

    async def remove_async(self, name: str, listen: Listener = ignore) -> Outcome:
        """See `remove`."""
        return await life.remove_node(self, name, listen)

    def reset(self, names: tuple[str, ...] = (), listen: Listener = ignore) -> Outcome:
        """Make all devices, or those named, as they were before they joined."""
        return _run(self.reset_async(names, listen))

    async def reset_async(self, names: tuple[str, ...] = (), listen: Listener = ignore) -> Outcome:
        """See `reset`."""
        return await life.reset_nodes(self, names, listen)

    def forget(self, lost: str, listen: Listener = ignore) -> Outcome:
        """Take a server that is gone for good out of the vote and the cluster."""
        return _run(self.forget_async(lost, listen))

    async def forget_async(self, lost: str, listen: Listener = ignore) -> Outcome:
        """See `forget`."""
        return await life.forget_lost(self, lost, listen)

    def snapshot(self, target: str | Path, listen: Listener = ignore) -> Outcome:
        """Save what the cluster keeps, and its authority, into one file."""
        return _run(self.snapshot_async(target, listen))

    async def snapshot_async(self, target: str | Path, listen: Listener = ignore) -> Outcome:
        """See `snapshot`."""
        return await life.save_snapshot(self, Path(target), listen)

    def restore(self, source: str | Path, listen: Listener = ignore) -> Outcome:
        """Begin again from a snapshot."""
        return _run(self.restore_async(source, listen))

    async def restore_async(self, source: str | Path, listen: Listener = ignore) -> Outcome:
        """See `restore`."""
        return await life.restore_snapshot(self, Path(source), listen)

    def rotate(self, listen: Listener = ignore) -> Outcome:
        """New certificates and kubeconfigs everywhere; no token stays."""
        return _run(self.rotate_async(listen))

    async def rotate_async(self, listen: Listener = ignore) -> Outcome:
        """See `rotate`."""
        return await life.rotate(self, listen)

    def upgrade(self, programs: str | Path, at_once: int = 1, listen: Listener = ignore) -> Outcome:
        """Run other versions of the programs in the folder `programs`, device by device; workers in batches."""
        return _run(self.upgrade_async(programs, at_once, listen))

    async def upgrade_async(self, programs: str | Path, at_once: int = 1, listen: Listener = ignore) -> Outcome:
        """See `upgrade`."""
        return await upgrade.upgrade(self, Path(programs), at_once, listen)

    def plan(self) -> Plan:
        """What `up` would do now. Changes nothing. Raises TargetError for what keeps the site from coming up."""
        return _run(self.plan_async())

    async def plan_async(self) -> Plan:
        """See `plan`."""
        async with self.connected() as hosts:
            return make_plan(self.document, await self.survey(hosts), self.sources)

    async def up_async(self, listen: Listener = ignore) -> Outcome:
        """See `up`."""
        begin = time.monotonic()
        record: list[Mapping[str, Any]] = []
        async with self.connected() as hosts, hold(hosts[self.document.control.name]) as keeper:
            for _ in range(ROUNDS):
                # Looked at once more after the last step: done is what the facts say, not what was tried.
                plan = make_plan(self.document, await self.survey(hosts), self.sources)
                if not plan:
                    return Outcome(bool(record), time.monotonic() - begin, tuple(record))
                crew = self.make_crew(hosts, keeper, listen)
                try:
                    await carry_out(plan, crew)
                finally:
                    record += crew.record
                    self.save_record(record, time.monotonic() - begin)
        steps = ", ".join(step.id for phase in plan for step in phase.steps)
        raise TargetError(f"the site does not stay as it was made: {steps}", hint="cumulet site status")

    def make_crew(self, hosts: Mapping[str, Host], keeper: Keeper, listen: Listener) -> Crew:
        """Who carries a plan out, with a new token in its vault."""
        life = str(parse_seconds(self.document.token_life))
        files = {f"file/{path}": text for path, text in self.sources.items()}
        return Crew(hosts, keeper, listen, {"token": make_token(), "token-life": life, **files})

    @contextlib.asynccontextmanager
    async def connected(self, nodes: Sequence[SiteNode] | None = None) -> AsyncIterator[dict[str, Host]]:
        """Log in to every device, or to `nodes`. Raises one TargetError for all that cannot be reached."""
        wanted = self.document.nodes if nodes is None else nodes
        async with connect(self.document, wanted, self.folder) as found:
            raise_all([each for each in found.values() if isinstance(each, CumuletError)])
            yield {name: each for name, each in found.items() if isinstance(each, Host)}

    @contextlib.asynccontextmanager
    async def reachable(self) -> AsyncIterator[tuple[dict[str, Host], dict[str, str]]]:
        """Log in to every device that answers; yields the hosts, and name -> reason for those that do not."""
        async with connect(self.document, self.document.nodes, self.folder) as found:
            hosts = {name: each for name, each in found.items() if isinstance(each, Host)}
            yield hosts, {name: each.message for name, each in found.items() if not isinstance(each, Host)}

    async def look(self, hosts: Mapping[str, Host], *, check: bool = True) -> SiteFacts:
        """Facts about devices and cluster. With `check`, raises TargetError for what keeps the site from coming up."""
        facts = SiteFacts(await read_hosts(list(hosts.values()), list_paths(self.document, self.sources)))
        if check:
            raise_all(find_problems(self.document, facts))
        return await self.look_at_cluster(hosts, facts)

    async def survey(self, hosts: Mapping[str, Host]) -> SiteFacts:
        """All that a bring-up decides by: devices, cluster, packages. Raises TargetError as `look` does."""
        return await look_at_packages(self.document, self.sources, hosts, await self.look(hosts))

    async def look_at_cluster(self, hosts: Mapping[str, Host], facts: SiteFacts) -> SiteFacts:
        """Facts with what the cluster's own programs say."""
        if self.document.distribution == "kubeadm":
            facts = await self._look_at_etcd(hosts, facts)
        return await self._look_at_nodes(hosts, facts)

    async def _look_at_etcd(self, hosts: Mapping[str, Host], facts: SiteFacts) -> SiteFacts:
        for node in self.document.servers:
            host = hosts.get(node.name)
            if host is None or "etcd" not in facts.hosts[node.name].active:
                continue
            asked = await host.run(["sh", "-s", "--", "list"], input=read_script("etcd.sh"), seconds=30, check=False)
            if asked.code == 0:
                return replace(facts, members=parse_members(asked.out))
        return facts

    async def _look_at_nodes(self, hosts: Mapping[str, Host], facts: SiteFacts) -> SiteFacts:
        kubeadm = self.document.distribution == "kubeadm"
        kubectl = get_kubectl(self.document)
        unit = "kube-apiserver" if kubeadm else "k3s"
        for node in self.document.masters:
            host = hosts.get(node.name)
            if host is None or unit not in facts.hosts[node.name].active:
                continue
            asked = await host.run((*kubectl, "get", "nodes", "-o", "json"), seconds=30, check=False)
            if asked.code != 0:
                continue
            facts = replace(facts, nodes=parse_nodes(asked.out), api=True)
            return await self._look_at_notes(host, kubectl, facts)
        return facts

    async def _look_at_notes(self, host: Host, kubectl: tuple[str, ...], facts: SiteFacts) -> SiteFacts:
        ask = (*kubectl, "-n", "kube-system", "get", "--ignore-not-found")
        note = await host.run((*ask, "configmap", "cumulet-site", "-o", "jsonpath={.data.addons}"), check=False)
        of_type = "--field-selector=type=bootstrap.kubernetes.io/token"
        tokens = await host.run((*ask, "secrets", of_type, "-o", "name"), check=False)
        return replace(facts, addons=note.out.strip(), tokens=len(tokens.out.split()))

    @property
    def record_path(self) -> Path:
        """Where the record of the last run is."""
        return self.folder / f".{self.document.site}.record.json"

    def save_record(self, steps: Sequence[Mapping[str, Any]], seconds: float) -> None:
        """Write the machine-readable record of a run: every step with its host and seconds."""
        values = {"version": 1, "site": self.document.site, "seconds": round(seconds, 3), "steps": list(steps)}
        write_text(self.record_path, json.dumps(values, indent=1) + "\n")


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in an event loop of its own."""
    return asyncio.run(work)
