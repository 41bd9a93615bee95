"""Operations on a site that is up, each a plan that is carried out under the site's lock."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import writing
from cumulet.site.act import Crew, carry_out
from cumulet.site.actions import Phase, Plan
from cumulet.site.facts import SiteFacts
from cumulet.site.keeper import hold
from cumulet.site.kubeadm_nodes import find_seat
from cumulet.site.lives import LIVES
from cumulet.site.model import SiteNode
from cumulet.site.parts import make_drain
from cumulet.site.ssh import Host

if TYPE_CHECKING:
    from cumulet.site.site import Listener, Outcome, Site

Errand = Callable[[Mapping[str, Host]], Awaitable[None]]
"""Something with the devices, before or after the steps of a plan."""
MANIFEST = "snapshot.json"


async def remove_node(site: Site, name: str, listen: Listener) -> Outcome:
    """Take a worker out of the site: drained, out of the cluster, then made as it was before. Raises TargetError.

    One that cannot be reached is taken out without being cleared.
    """
    node = _need(site, name)
    if node.role != "worker":
        what = "the control node" if node.role == "control" else "a master"
        message = f"{name}: is {what}: without it two votes are left, and none of them may fail"
        raise UsageError(message, hint="switch it off, then: cumulet site promote control")
    return await _leave(site, node, listen)


async def _leave(site: Site, node: SiteNode, listen: Listener) -> Outcome:
    life = LIVES[site.document.distribution]

    def plan(facts: SiteFacts) -> Plan:
        master = next(each for each in site.document.masters if each.name != node.name and each.name in facts.hosts)
        known = facts.nodes.get(node.name)
        # What runs on a device that is gone cannot be moved; it is started elsewhere once the node is deleted.
        drain = (
            [make_drain(node, master, life.KUBECTL)]
            if known is not None and known.ready and node.name in facts.hosts
            else []
        )
        forget = life.make_forget(site.document, node, facts)
        reset = [life.make_reset(node)] if node.name in facts.hosts else []
        return _phases(Phase("leave", f"{node.name} leaves", (*drain, *forget, *reset)))

    return await operate(site, plan, listen)


async def reset_nodes(site: Site, names: tuple[str, ...], listen: Listener) -> Outcome:
    """Make devices as they were before they joined: all of them, or those named, which are taken out first."""
    if names:
        outcome = None
        for name in names:
            outcome = await remove_node(site, name, listen)
        assert outcome is not None  # noqa: S101 - there is a name
        return outcome
    life = LIVES[site.document.distribution]

    def plan(facts: SiteFacts) -> Plan:
        steps = tuple(life.make_reset(node) for node in site.document.nodes if node.name in facts.hosts)
        return _phases(Phase("reset", "every device", steps, site.document.at_once))

    return await operate(site, plan, listen)


async def forget_lost(site: Site, lost: str, listen: Listener) -> Outcome:
    """Take a server that is gone for good out of etcd and cluster. Raises UsageError if it still answers."""
    node = _need(site, lost)
    life = LIVES[site.document.distribution]

    def plan(facts: SiteFacts) -> Plan:
        if lost in facts.hosts:
            raise UsageError(
                f"{lost}: still answers", hint="switch it off first; it must not come back with its old data"
            )
        return _phases(Phase("leave", f"{lost} is gone", tuple(life.make_forget(site.document, node, facts))))

    return await operate(site, plan, listen)


async def save_snapshot(site: Site, target: Path, listen: Listener) -> Outcome:
    """Save what the cluster keeps, and its authority, into one file that only its owner may read."""
    life = LIVES[site.document.distribution]
    seats: list[SiteNode] = []

    def plan(facts: SiteFacts) -> Plan:
        seat = find_seat(site.document, facts) or site.document.control
        seats.append(seat)
        return _phases(Phase("snapshot", "save", (life.make_snapshot(seat),)))

    async def fetch(hosts: Mapping[str, Host]) -> None:
        host = hosts[seats[0].name]
        files = {name: (await host.read_bytes(f"{life.AUTHORITY_FOLDER}/{name}")) for name in life.AUTHORITY}
        data = await host.read_bytes(life.SNAPSHOT)
        await host.run(["rm", "-f", life.SNAPSHOT])
        write_snapshot(target, site.document.site, data, files)

    return await operate(site, plan, listen, fetch)


async def restore_snapshot(site: Site, source: Path, listen: Listener) -> Outcome:
    """Begin again from a snapshot: every server gets its data and its authority.

    Raises UsageError if the file is no whole snapshot of this site.
    """
    name, data, files = read_snapshot(source)
    if name != site.document.site:
        raise UsageError(f"{source}: is a snapshot of site {name}, not of {site.document.site}")
    life = LIVES[site.document.distribution]
    digest = hashlib.sha256(data).hexdigest()

    def plan(facts: SiteFacts) -> Plan:
        plan: Plan = life.make_restore(site.document, facts, digest)
        return plan

    async def send(hosts: Mapping[str, Host]) -> None:
        for node in site.document.servers:
            await hosts[node.name].put(life.SNAPSHOT, data, 0o600)

    vault = {f"pki/{path}": text.decode() for path, text in files.items()}
    return await operate(site, plan, listen, before=send, vault=vault)


async def rotate(site: Site, listen: Listener) -> Outcome:
    """New certificates and kubeconfigs everywhere, one device after the other; no token stays."""
    life = LIVES[site.document.distribution]

    def plan(facts: SiteFacts) -> Plan:
        plan: Plan = life.make_rotation(site.document)
        return plan

    return await operate(site, plan, listen)


async def operate(
    site: Site,
    make: Callable[[SiteFacts], Plan],
    listen: Listener,
    after: Errand | None = None,
    *,
    before: Errand | None = None,
    vault: Mapping[str, str] | None = None,
) -> Outcome:
    """Look, plan, act, with the devices that answer; the control node or the first server holds the lock."""
    from cumulet.site.site import Outcome  # noqa: PLC0415 - it imports this module

    begin = time.monotonic()
    async with site.reachable() as (hosts, _):
        keeper_host = next((hosts[node.name] for node in site.document.servers if node.name in hosts), None)
        if keeper_host is None:
            raise TargetError("no server of the site can be reached", hint="cumulet site status")
        async with hold(keeper_host) as keeper:
            plan = make(await site.look(hosts, check=False))
            crew: Crew = site.make_crew(hosts, keeper, listen)
            crew.vault.update(vault or {})
            if before is not None:
                await before(hosts)
            try:
                await carry_out(plan, crew)
            finally:
                site.save_record(crew.record, time.monotonic() - begin)
            if after is not None:
                await after(hosts)
            return Outcome(bool(plan), time.monotonic() - begin, tuple(crew.record))


def write_snapshot(target: Path, name: str, data: bytes, files: Mapping[str, bytes]) -> None:
    """One tar file: manifest with digests, etcd's snapshot, the authority."""
    members = {"snapshot.db": data, **{f"pki/{path}": content for path, content in files.items()}}
    manifest = {
        "version": 1,
        "site": name,
        "time": int(time.time()),
        "sha256": {path: hashlib.sha256(content).hexdigest() for path, content in members.items()},
    }
    with writing(target) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in ((MANIFEST, json.dumps(manifest, indent=1).encode()), *members.items()):
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    target.chmod(0o600)


def read_snapshot(source: Path) -> tuple[str, bytes, dict[str, bytes]]:
    """The site's name, etcd's snapshot and the authority's files. Raises UsageError if the file is not whole."""
    try:
        with tarfile.open(source) as archive:
            members = {each.name: archive.extractfile(each) for each in archive if each.isfile()}
            content = {name: stream.read() for name, stream in members.items() if stream is not None}
        manifest = json.loads(content.pop(MANIFEST))
        if {name: hashlib.sha256(data).hexdigest() for name, data in content.items()} != manifest["sha256"]:
            raise ValueError("digests differ")
        name = str(manifest["site"])
    except FileNotFoundError:
        raise UsageError(f"{source}: no such file") from None
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise UsageError(f"{source}: no whole snapshot of a site: {error}") from error
    data = content.pop("snapshot.db")
    return name, data, {path.removeprefix("pki/"): text for path, text in content.items()}


def _phases(*phases: Phase) -> Plan:
    return tuple(phase for phase in phases if phase.steps)


def _need(site: Site, name: str) -> SiteNode:
    node = site.document.node(name)
    if node is None:
        names = ", ".join(each.name for each in site.document.nodes)
        raise UsageError(f"{name}: no such node; the site has: {names}")
    return node
