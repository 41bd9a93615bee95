"""Other versions of a site's programs: handed out first, then switched to device by device.

The root of a device is read-only, so a new program lies on its data partition and is
laid over the old one by a mount, now and at every start. Going back is the same with
the old programs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import sha256_file
from cumulet.site.act import carry_out
from cumulet.site.actions import Phase, Send, Step
from cumulet.site.keeper import hold
from cumulet.site.model import SiteDocument
from cumulet.site.ssh import Host
from cumulet.site.upgrade_plan import make_upgrade

if TYPE_CHECKING:
    from cumulet.site.site import Listener, Outcome, Site

FOLDER = "/var/lib/cumulet/programs"
TARGETS: Mapping[str, Mapping[str, str]] = {
    "kubeadm": {
        "kube": "/usr/bin/kube",
        "etcd": "/usr/bin/etcd",
        "containerd": "/usr/bin/containerd",
        "containerd-shim-runc-v2": "/usr/bin/containerd-shim-runc-v2",
    },
    "k3s": {"k3s": "/usr/bin/k3s"},
}
"""The programs of a distribution: file name -> where the image has it."""


@dataclass(frozen=True, slots=True)
class Program:
    """A new program: its file here, the SHA-256 of it, and the path of the one that it is laid over."""

    path: Path
    sha256: str
    target: str

    @property
    def place(self) -> str:
        """Where it lies on a device: by its digest, so that old and new lie side by side."""
        return f"{FOLDER}/{self.sha256[:16]}/{self.path.name}"


async def upgrade(site: Site, folder: Path, at_once: int, listen: Listener) -> Outcome:
    """Hand the programs out and switch to them, device by device.

    Raises UsageError if the folder has none, TargetError at the first device that is not Ready with them.
    """
    from cumulet.site.site import Outcome  # noqa: PLC0415 - it imports this module

    document = site.document
    programs = find_programs(document, folder)
    overlays = [(program.place, program.target) for program in programs]
    begin = time.monotonic()
    record: list[Mapping[str, object]] = []
    async with site.connected() as hosts, hold(hosts[document.control.name]) as keeper:
        facts = await site.look(hosts)
        lame = [
            each.name for each in document.nodes if each.name not in facts.nodes or not facts.nodes[each.name].ready
        ]
        if lame:
            message = f"{', '.join(lame)}: not Ready; an upgrade begins only on a healthy site"
            raise TargetError(message, hint="cumulet site up")
        crew = site.make_crew(hosts, keeper, listen)
        try:
            await carry_out((make_delivery(document, programs),), crew)
            version = await read_version(hosts[document.control.name], programs)
            plan = make_upgrade(document, facts, overlays, version, at_once)
            await carry_out(plan, crew)
        finally:
            record += crew.record
            site.save_record(record, time.monotonic() - begin)
    return Outcome(bool(plan), time.monotonic() - begin, tuple(record))


def find_programs(document: SiteDocument, folder: Path) -> list[Program]:
    """The programs in a folder. Raises UsageError if none is one of the distribution's."""
    targets = TARGETS[document.distribution]
    found = {folder / name: target for name, target in targets.items() if (folder / name).is_file()}
    if not found:
        raise UsageError(f"{folder}: has no program of {document.distribution}", hint=f"one of: {', '.join(targets)}")
    return [Program(path, sha256_file(path), target) for path, target in found.items()]


async def read_version(host: Host, programs: Sequence[Program]) -> str:
    """The version of Kubernetes that the new programs say they are, asked where they are to run. Raises UsageError."""
    for program in programs:
        if program.path.name in ("kube", "k3s"):
            words = ["kubelet", "--version"] if program.path.name == "kube" else ["--version"]
            told = await host.run([program.place, *words], check=False)
            versions = [word for word in told.out.split() if word.startswith("v1.")]
            if versions:
                return versions[0]
    hint = "the folder must have kube or k3s, for the architecture of the devices"
    raise UsageError(f"{programs[0].path.parent}: cannot tell which version of Kubernetes it is", hint=hint)


def make_delivery(document: SiteDocument, programs: Sequence[Program]) -> Phase:
    """Bring the programs to every device; one that is there whole is not sent again."""
    sends = tuple(
        Send(str(program.path), program.place, program.sha256, program.path.stat().st_size, 0o755)
        for program in programs
    )
    steps = tuple(
        Step("upgrade.send", node.name, "the new programs", "not there yet", sends) for node in document.nodes
    )
    return Phase("deliver", "hand the programs out", steps, document.at_once)
