"""Models that nobody needs any more: found by a pure function, removed from the nodes. Pinned ones stay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.api import Api, Json
from cumulet.core.errors import TargetError
from cumulet.models.documents import PREFIX
from cumulet.tasks import Device

SCRIPT = Path(__file__).parent / "scripts" / "models.sh"
MODEL, BEFORE, FROM = "cumulet.dev/model", "cumulet.dev/model-before", "cumulet.dev/model-from"
"""Annotations of a task: the model that it has, the one before, and the one that a switch may go back to."""
WORKLOADS = ("/apis/apps/v1/deployments", "/apis/batch/v1/jobs", "/apis/apps/v1/statefulsets", "/api/v1/pods")
INDEX = "/var/lib/cumulet/blobs/index.json"
"""What the control node keeps of the site's packages."""
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
RunScript = Callable[[str, Sequence[str]], Awaitable[str]]
"""Runs the script on a node, with arguments; gives back what it printed."""


@dataclass(frozen=True, slots=True)
class Held:
    """A model on a node. `names`: its images, or its folder in the store. `size` in bytes."""

    node: str
    reference: str
    names: tuple[str, ...]
    size: int


async def read_pins(api: Api) -> set[str]:
    """The references of all models that something in the cluster has, has had before, or mounts."""
    pins: set[str] = set()
    for path in WORKLOADS:
        for item in (await api.call("GET", path)).get("items", []):
            pins |= find_pins(item)
    return pins


def find_pins(item: Json) -> set[str]:
    """The models of one object: by its annotations, by its volumes, or by those of its pods."""
    template = item.get("spec", {}).get("template") or item
    found = {
        text
        for part in (item, template)
        for name, text in (part.get("metadata", {}).get("annotations") or {}).items()
        if text and name in (MODEL, BEFORE, FROM)
    }
    for volume in (template.get("spec") or {}).get("volumes") or []:
        reference = volume.get("image", {}).get("reference", "")
        if reference.startswith(PREFIX):
            found.add(reference)
    return found


def parse_held(node: str, text: str) -> list[Held]:
    """The models of a node from what the script has printed: `image NAME DIGEST SIZE UNIT`, `store NAME SHA256 KIB`."""
    images: dict[tuple[str, str], tuple[list[str], int]] = {}
    held = []
    for line in text.splitlines():
        words = line.split()
        if words[0] == "image" and len(words) == 5:
            model = words[1].removeprefix(PREFIX).partition("@")[0].partition(":")[0]
            size = int(float(words[3]) * UNITS.get(words[4], 1))
            names, _ = images.setdefault((model, words[2]), ([], size))
            names.append(words[1])
        elif words[0] == "store" and len(words) == 4:
            reference = f"{PREFIX}{words[1]}@sha256:{words[2]}"
            held.append(Held(node, reference, (f"{words[1]}/{words[2]}",), int(words[3]) << 10))
    held += [
        Held(node, f"{PREFIX}{model}@{digest}", tuple(sorted(names)), size)
        for (model, digest), (names, size) in images.items()
    ]
    return sorted(held, key=lambda each: each.reference)


def plan_removal(held: Sequence[Held], pins: Collection[str]) -> list[Held]:
    """Those that may go: nothing has them pinned, by their digest or by one of their names."""
    return [each for each in held if each.reference not in pins and not set(each.names) & set(pins)]


async def prune_models(
    run: Mapping[str, RunScript], pins: Collection[str], *, dry: bool = False
) -> tuple[list[Held], list[Held]]:
    """Remove from every node what is not pinned; gives back what was removed, and what stays. Raises TargetError."""
    script = SCRIPT.read_text()
    texts = await asyncio.gather(*(each(script, ["list"]) for each in run.values()))
    held = [each for node, text in zip(run, texts, strict=True) for each in parse_held(node, text)]
    going = plan_removal(held, pins)
    if not dry:
        for node, each in run.items():
            names = [name for one in going if one.node == node for name in one.names]
            if names:
                await each(script, ["remove", *names])
        await _check_gone(run, script, going)
    return going, [each for each in held if each not in going]


async def _check_gone(run: Mapping[str, RunScript], script: str, going: Sequence[Held]) -> None:
    for node in dict.fromkeys(each.node for each in going):
        left = {each.reference for each in parse_held(node, await run[node](script, ["list"]))}
        for each in going:
            if each.node == node and each.reference in left:
                raise TargetError(f"{node}: {each.reference}: is still there", hint="does a container have it open?")


async def prune_site(path: Path, keep: Collection[str], *, dry: bool = False) -> tuple[list[Held], list[Held]]:
    """Remove what is not pinned from every device of the site in a file that can be reached. See `prune_models`.

    Pinned is what the cluster has, what `keep` names, and what the site's packages would bring back.
    """
    from cumulet.tasks import reach  # noqa: PLC0415 - brings the site's modules along

    async with reach(path) as reached:
        pins = await read_pins(reached.api) | set(keep) | await _read_packages(reached.device(reached.control))
        run = {name: _make_runner(device) for name, device in reached.devices.items()}
        return await prune_models(run, pins, dry=dry)


async def _read_packages(control: Device) -> set[str]:
    """The images that the site's packages have: they would be imported again at the next `site up`."""
    try:
        index = json.loads(await control.read_bytes(INDEX))
    except TargetError:
        # A site without packages.
        return set()
    return {image["name"] for package in index["packages"] for image in package["images"]} | {
        f"{PREFIX}{package['name']}@sha256:{package['sha256']}" for package in index["packages"]
    }


def _make_runner(device: Device) -> RunScript:
    async def run(script: str, words: Sequence[str]) -> str:
        return (await device.run(["sh", "-s", "--", *words], input=script)).out

    return run
