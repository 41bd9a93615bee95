"""Packages in a bring-up: once over the uplink, then from device to device, then put in place. Pure.

What Kubernetes and the scripts may need comes before anything else is changed; what only
tasks need (`late` in the index, models above all) comes when the cluster already works,
so that gigabytes on a slow uplink do not hold it up. Images are imported as early as
there is a container runtime: a pod that finds its image missing would pull it over the
uplink. Upstream Kubernetes has containerd in the image; k3s brings its own along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cumulet.core.errors import TargetError
from cumulet.packages import Index, Package
from cumulet.site.actions import Action, Handle, Phase, Put, Run, Step
from cumulet.site.facts import HostFacts, SiteFacts
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import read_script

HOME: Final = "/var/lib/cumulet"
BLOBS: Final = f"{HOME}/blobs"
INDEX: Final = f"{BLOBS}/index.json"
SIGNATURE: Final = f"{INDEX}.sig"
PORT: Final = 7480
"""Where a device hands packages on, on its address inside the site, while a bring-up distributes them."""
FAN_OUT: Final = 3
"""How many devices take from one at a time: links are shared, and the tree grows fast enough."""
IMPORT_SECONDS: Final = 1800.0
# An unpacked tree or an imported image lies beside its archive for a while; numbers from measured archives.
ROOM: Final = {"files": 4, "image": 3, "model": 1}


@dataclass(frozen=True, slots=True)
class Holding:
    """What one device has: blobs by SHA-256, how many bytes of others, packages in place, images by name."""

    blobs: frozenset[str] = frozenset()
    parts: Mapping[str, int] = field(default_factory=dict)
    placed: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()
    """Files among the blobs that the index does not name."""
    images: Mapping[str, str] = field(default_factory=dict)
    """Name -> digest, of those that containerd has whole."""

    def have(self, package: Package) -> bool:
        """Whether a package is in its place."""
        if package.kind == "image":
            return all(self.images.get(image.name) == image.digest for image in package.images)
        return package.sha256 in self.placed


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """The index, its signature checked, and what each device has. `kept`: the control node has this very index."""

    index: Index
    text: str
    signature: str
    kept: bool
    holdings: Mapping[str, Holding]


def list_wanted(site: SiteDocument, index: Index, host: HostFacts) -> list[Package]:
    """The packages that a device is to have, in the order of the index. Raises TargetError for one there is not."""
    names = (site.packages.names if site.packages else ()) or index.names
    found = []
    for name in names:
        package = index.find(name, host.architecture)
        if package is None and name not in index.names:
            known = ", ".join(index.names) or "none"
            raise TargetError(f"package {name}: not in the index, which has: {known}", hint="cumulet package add")
        if package is None and site.packages and site.packages.names:
            raise TargetError(f"{host.name}: package {name}: not for {host.architecture}", hint="cumulet package add")
        found += [package] if package else []
    return found


def make_early_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """What comes before everything else: `packages`, `distribute`, `install`."""
    if facts.packages is None:
        return []
    keep = [] if facts.packages.kept else [_make_keep(site, facts.packages)]
    return _make_phases(site, facts, ("packages", "distribute", "install"), keep, late=False)


def make_image_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """Images for a runtime that came with Kubernetes; needed by scripts, so before them."""
    if facts.packages is None or _has_runtime_before(site):
        return []
    steps = [
        step
        for node in site.nodes
        for step in _make_imports(site, node, facts, _list_lacking(site, node, facts, False))
    ]
    return [Phase("images", "images into the container runtime", tuple(steps), site.at_once)]


def make_late_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """AI runtime images and base models."""
    if facts.packages is None:
        return []
    return _make_phases(site, facts, ("models", "models-distribute", "models-install"), [], late=True)


def _has_runtime_before(site: SiteDocument) -> bool:
    return site.distribution == "kubeadm"


def _make_keep(site: SiteDocument, packages: PackageFacts) -> Step:
    # The signature first: it says which index it is for, and the old one is still right until the new one is there.
    actions = (Put(SIGNATURE, packages.signature), Put(INDEX, packages.text))
    why = "another one than was used last"
    return Step("packages.index", site.control.name, f"keep index {packages.index.serial}", why, actions)


def _make_phases(
    site: SiteDocument, facts: SiteFacts, names: tuple[str, str, str], first: list[Step], *, late: bool
) -> list[Phase]:
    lacking = {node.name: _list_lacking(site, node, facts, late) for node in site.nodes}
    _check_room(facts, lacking)
    fetch, distribute, install = names
    what = "AI runtimes and models" if late else "packages"
    return [
        Phase(fetch, f"{what} to the control node", (*first, *_make_fetch(site, facts, lacking, fetch))),
        Phase(
            distribute, f"{what} to every device", tuple(_make_spread(site, facts, lacking, distribute)), site.at_once
        ),
        Phase(
            install,
            f"{what} are put in place",
            tuple(step for node in site.nodes for step in _make_install(site, node, facts, late, install)),
            site.at_once,
        ),
    ]


def _list_lacking(site: SiteDocument, node: SiteNode, facts: SiteFacts, late: bool) -> list[Package]:
    packages = facts.packages
    assert packages is not None  # noqa: S101 - the callers have looked; for the type checker
    holding = packages.holdings[node.name]
    wanted = list_wanted(site, packages.index, facts.hosts[node.name])
    return [each for each in wanted if each.late == late and not holding.have(each)]


def _missing(facts: SiteFacts, name: str, packages: Sequence[Package]) -> list[Package]:
    """Those whose blob a device has not either."""
    holding = facts.packages.holdings[name] if facts.packages else Holding()
    return [each for each in packages if each.sha256 not in holding.blobs]


def _make_fetch(site: SiteDocument, facts: SiteFacts, lacking: Mapping[str, list[Package]], phase: str) -> list[Step]:
    """What the control node takes over the uplink: all that it or anybody else has no blob of."""
    wanted = {each.sha256: each for name, packages in lacking.items() for each in _missing(facts, name, packages)}
    missing = _missing(facts, site.control.name, list(wanted.values()))
    if not missing or site.packages is None:
        return []
    action = Handle("bring", tuple(missing), (site.packages.source,), login=site.packages.login or "")
    return [Step(f"{phase}.fetch", site.control.name, f"fetch {_name(missing)}", "not in the site yet", (action,))]


def _make_spread(site: SiteDocument, facts: SiteFacts, lacking: Mapping[str, list[Package]], phase: str) -> list[Step]:
    """A tree with the control node on top: each takes from the one above it, or from those above that one."""
    missing = {node: _missing(facts, node.name, lacking[node.name]) for node in site.nodes if node != site.control}
    takers = [node for node, packages in missing.items() if packages]
    if not takers:
        return []
    handed = {each.sha256: each for node in takers for each in missing[node]}
    tree = [site.control, *takers]
    steps = []
    for place, node in enumerate(tree):
        above = []
        up = place
        while up:
            up = (up - 1) // FAN_OUT
            above.append(f"peer://{tree[up].address}:{PORT}")
        packages = tuple(missing[node]) if place else tuple(handed.values())
        title = f"take {_name(packages)}" if place else f"hand on {_name(packages)}"
        why = "not there yet" if place else f"not there yet: {', '.join(each.name for each in takers)}"
        action = Handle("bring", packages, tuple(above), listen=node.address)
        steps.append(Step(f"{phase}.{'take' if place else 'hand-on'}", node.name, title, why, (action,)))
    return steps


def _make_install(site: SiteDocument, node: SiteNode, facts: SiteFacts, late: bool, phase: str) -> list[Step]:
    packages = facts.packages
    assert packages is not None  # noqa: S101 - the callers have looked; for the type checker
    lacking = _list_lacking(site, node, facts, late)
    files = tuple(each for each in lacking if each.kind != "image")
    steps = []
    if files:
        action = Handle("install", files)
        steps.append(Step(f"{phase}.files", node.name, f"put in place {_name(files)}", "not in its place", (action,)))
    if late or _has_runtime_before(site):
        steps += _make_imports(site, node, facts, lacking)
    names = _list_needless(site, node, facts, late)
    if names:
        action = Handle("drop", names=tuple(names))
        why = "in their places now, or of an older index"
        steps.append(Step(f"{phase}.tidy", node.name, "remove what is needed no more", why, (action,)))
    return steps


def _make_imports(site: SiteDocument, node: SiteNode, facts: SiteFacts, lacking: Sequence[Package]) -> list[Step]:
    images = [each for each in lacking if each.kind == "image"]
    actions: list[Action] = []
    for each in images:
        words = (f"{image.name}={image.digest}" for image in each.images)
        run = ("sh", "-s", "--", "import", f"{BLOBS}/{each.sha256}", *words)
        actions.append(Run(run, read_script("images.sh"), seconds=IMPORT_SECONDS))
    if not actions:
        return []
    if node != site.control:
        actions.append(Handle("drop", names=tuple(each.sha256 for each in images)))
    return [Step("images.import", node.name, f"import {_name(images)}", "containerd has not all of it", tuple(actions))]


def _list_needless(site: SiteDocument, node: SiteNode, facts: SiteFacts, late: bool) -> list[str]:
    """Files among a device's blobs that it does without. The control node keeps blobs for devices that come later."""
    packages = facts.packages
    assert packages is not None  # noqa: S101 - the callers have looked; for the type checker
    holding = packages.holdings[node.name]
    names = [] if late else list(holding.others)
    if node != site.control:
        wanted = [each for each in list_wanted(site, packages.index, facts.hosts[node.name]) if each.late == late]
        # Images go with the step that imports them, wherever in the plan that is.
        names += [
            each.sha256
            for each in wanted
            if (each.kind != "image" and not holding.have(each))
            or (each.sha256 in holding.blobs and holding.have(each))
        ]
    return names


def _check_room(facts: SiteFacts, lacking: Mapping[str, list[Package]]) -> None:
    """Better no byte than a disk that is full in the middle. Raises TargetError."""
    short = []
    for name, packages in lacking.items():
        holding = facts.packages.holdings[name] if facts.packages else Holding()
        need = sum(
            each.size * ROOM[each.kind]
            - (each.size if each.sha256 in holding.blobs else holding.parts.get(each.sha256, 0))
            for each in packages
        )
        if need > facts.hosts[name].disk:
            short.append(f"{name}: packages need {need >> 20} MiB, free are {facts.hosts[name].disk >> 20} MiB")
    if short:
        raise TargetError("; ".join(short), hint="free some space in /var/lib, or name fewer packages in site.yaml")


def _name(packages: Sequence[Package]) -> str:
    size = sum(each.size for each in packages)
    shown = f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
    return f"{', '.join(each.title for each in packages)} ({shown})"
