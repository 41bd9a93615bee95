"""A container image as data: what goes into it, and the request that is made of that. Pure, but for reading files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from cumulet.core.documents import load_document, suggest, validate
from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets, find_requirements
from cumulet_builder.engines.debian.lock import Request
from cumulet_builder.engines.debian.pins import Target, load_pins, select_pins, take_pin
from cumulet_builder.engines.debian.resolve import EMULATOR, ESSENTIAL, SDK_WHEELS
from cumulet_builder.recipe.values import Name, Package, Part

# Of the release of the image: what packs layers.
TOOLS = ("zstd",)


class ContainerRecipe(Part):
    """A document of recipes/containers."""

    version: Literal[1]
    container: Name
    title: str
    suite: Literal["trixie", "bookworm"] = "trixie"
    packages: tuple[Package, ...] = Field((), description="Debian packages; they bring what they depend on")
    pinned_wheels: tuple[Name, ...] = Field((), description="Python packages at their pinned versions, no others")
    lock: str | None = Field(None, description="File beside the document with the pins, if not requirements.lock")
    names_version: Name = Field(description="The Python package whose version is that of the image")
    drop: tuple[str, ...] = Field((), description="Glob patterns of paths that stay out")


def find_container(name: str) -> Path:
    """The bundled document of a name. Raises UsageError with the nearest one."""
    folder = find_assets("recipes") / "containers"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        hint = suggest(name, known) or f"known are: {', '.join(known)}"
        raise UsageError(f"unknown container {name!r}", hint=hint)
    return folder / f"{name}.yaml"


def load_container(path: Path) -> ContainerRecipe:
    """Read a document. Raises UsageError with every problem in it."""
    return validate(ContainerRecipe, load_document(path, kind="container"), kind="container")


def find_pins_file(recipe: ContainerRecipe, path: Path) -> Path:
    """The file with the pins that a document at `path` goes by."""
    return path.parent / recipe.lock if recipe.lock else find_requirements()


def make_request(recipe: ContainerRecipe, architecture: str, host: str, pins_file: Path) -> Request:
    """What must be resolved for a container on a computer of architecture `host`."""
    pins = load_pins(pins_file, Target(architecture, recipe.suite))
    asked = [take_pin(pins, name, pins_file.name) for name in recipe.pinned_wheels]
    needed = select_pins(pins, SDK_WHEELS, pins_file.name) if recipe.lock is None else []
    foreign = host != architecture
    return Request(
        suite=recipe.suite,
        components=("main",),
        architecture=architecture,
        host_architecture=host,
        base=tuple(sorted({ESSENTIAL, "python3", *recipe.packages})),
        extra=(),
        boot=(),
        tools=tuple(sorted({ESSENTIAL, *TOOLS, *([EMULATOR] if foreign else ["python3"])})),
        wheels=tuple(sorted({pin.word for pin in (*asked, *needed)})),
    )


def find_version(wheels: Sequence[str], name: str) -> str:
    """The version that the words `name==version` say of a package."""
    return next(word.partition("==")[2] for word in wheels if word.partition("==")[0] == name)
