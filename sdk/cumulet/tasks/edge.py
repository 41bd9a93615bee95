"""The profile of an edge: its nodes, what they have, what of it is taken, how busy they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cumulet.core.documents import load_document, make_error, validate
from cumulet.core.errors import Problem, UsageError
from cumulet.core.quantities import parse_size, write_size
from cumulet.packing import Amounts, Room
from cumulet.tasks.profile import Part, Size


class Gpu(Part):
    """A node's GPU. Its share is accounted in hundredths, not kept apart by the hardware."""

    renderer: str = Field("", description="What the driver calls it")
    units: int = Field(100, ge=0, le=100, description="Hundredths that tasks may take")
    speed: float = Field(0, ge=0, description="Inferences a second of the self-test's model; 0: not measured")


class Link(Part):
    """A node's way to the other nodes of the site."""

    mbit: float = Field(0, ge=0, description="Megabits a second; 0: not measured")
    milliseconds: float = Field(0, ge=0)


class Load(Part):
    """How busy a node was when the profile was taken, in percent."""

    cpu: float = Field(0, ge=0)
    gpu: float = Field(0, ge=0)
    memory: float = Field(0, ge=0)


class Used(Part):
    """What is reserved of a node, by tasks and by everything else."""

    cpu: float = Field(0, ge=0, description="Processors")
    gpu: int = Field(0, ge=0, description="Hundredths")
    memory: Size = "0MiB"


def _check_processors(count: float) -> float:
    if not 0 < count <= 1024:
        raise ValueError(f"a node has more than 0 and up to 1024 processors, not {count:g}")
    return count


class EdgeNode(Part):
    """One node, as tasks see it."""

    name: str
    role: Literal["single", "control", "master", "worker"] = "worker"
    cpus: Annotated[float, AfterValidator(_check_processors)] = Field(description="Processors for tasks")
    memory: Size
    disk: Size = Field("0MiB", description="Free where containers and models lie; 0MiB: not known")
    gpu: Gpu | None = None
    runtimes: tuple[str, ...] = ()
    link: Link = Link()
    load: Load = Load()
    used: Used = Used()
    tasks: tuple[str, ...] = Field((), description="Tasks that share it")
    whole: str = Field("", description="The task that has it to itself")

    @property
    def room(self) -> Room:
        """What the packing rule sees of it."""
        units = self.gpu.units if self.gpu is not None else 0
        size = Amounts(round(self.cpus * 1000), units, parse_size(self.memory))
        used = Amounts(round(self.used.cpu * 1000), self.used.gpu, parse_size(self.used.memory))
        return Room(self.name, size, used, self.tasks, self.whole)


class EdgeProfile(Part):
    """The nodes of a site that take tasks."""

    version: Literal[1]
    edge: str
    nodes: tuple[EdgeNode, ...]

    @property
    def rooms(self) -> tuple[Room, ...]:
        """The nodes as the packing rule sees them."""
        return tuple(node.room for node in self.nodes)


def load_edge(path: Path) -> EdgeProfile:
    """The profile in a file. Raises UsageError with every problem, each with file, line and column."""
    document = load_document(path, kind="edge")
    profile = validate(EdgeProfile, document, "edge")
    problems: list[Problem] = []
    names = [node.name for node in profile.nodes]
    for index, name in enumerate(names):
        value = document.at(("nodes", index, "name"))
        if name in names[:index] and value is not None:
            problems.append(value.place.problem(f"node {name!r} is there twice"))
    if not names:
        problems.append(document.place.problem("an edge has at least one node"))
    if problems:
        raise make_error(problems)
    return profile


def find_free_space(profile: EdgeProfile) -> int:
    """Bytes that are free on every node's disk, as far as that is known. Raises UsageError if it is not at all."""
    known = [parse_size(node.disk) for node in profile.nodes if parse_size(node.disk)]
    if not known:
        raise UsageError(f"{profile.edge}: no node says how much of its disk is free", hint="cumulet task edge")
    return min(known)


def write_edge(profile: EdgeProfile) -> str:
    """The document as YAML, without what is the default anyway."""
    import yaml  # noqa: PLC0415 - slow to import

    values = profile.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"version": 1, **values}, sort_keys=False, width=110)


def imagine(profile: EdgeProfile, count: int) -> tuple[Room, ...]:
    """So many idle nodes, of the sizes that the edge has, in their proportion: for what-if questions."""
    sizes: Sequence[Amounts] = [room.size for room in profile.rooms]
    digits = len(str(count))
    return tuple(
        Room(f"node-{number + 1:0{digits}}", sizes[number * len(sizes) // count % len(sizes)])
        for number in range(count)
    )


def make_node_size(memory: int) -> str:
    """Bytes as they stand in the document, rounded down: nobody may be promised what is not there."""
    return write_size(memory // (1 << 20) * (1 << 20))
