"""Which engine builds which feature with which Kubernetes: asked of the engines themselves, one small recipe at a time.

A cell is what `cumulet build` would say of such a recipe before it starts, so that the table cannot promise
what a build then refuses.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet_builder.engines.table import ENGINES
from cumulet_builder.engines.yocto.prepare import Folders, check_recipe
from cumulet_builder.kubernetes.distribution import DISTRIBUTIONS
from cumulet_builder.recipe.catalogue import load_catalogue
from cumulet_builder.recipe.load import Resolved, resolve_recipe

BOARD = "qemu-arm64"
# What every recipe with Kubernetes has.
WITH_KUBERNETES = "containers"
CHECKS: Mapping[str, Callable[[Resolved, Folders], None]] = {
    "debian": lambda resolved, folders: None,
    "yocto": check_recipe,
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Whether an engine builds a feature with a distribution; `reason` says why not."""

    feature: str
    title: str
    engine: str
    distribution: str
    reason: str = ""

    @property
    def builds(self) -> bool:
        """Whether it does."""
        return not self.reason


def load_parity(folders: Folders) -> list[Cell]:
    """Every feature with every engine and every distribution, in the order of their names and tables."""
    features = load_catalogue(folders.recipes)["features"]
    with tempfile.TemporaryDirectory(prefix="cumulet-parity-") as name:
        return [
            Cell(feature.name, feature.title, engine, distribution, _ask(Path(name), folders, words))
            for feature in features
            for engine in ENGINES
            for distribution in DISTRIBUTIONS
            if (words := (feature.name, engine, distribution))
        ]


def _ask(folder: Path, folders: Folders, words: tuple[str, str, str]) -> str:
    """The reason why not, or an empty text."""
    feature, engine, distribution = words
    path = folder / f"{feature}-{engine}-{distribution}.yaml"
    path.write_text(make_recipe(feature, engine, distribution))
    try:
        CHECKS[engine](resolve_recipe(path), folders)
    except UsageError as error:
        found = [problem.message for problem in error.problems] or [error.message]
        return "; ".join(dict.fromkeys(found))
    return ""


def make_recipe(feature: str, engine: str, distribution: str) -> str:
    """A recipe that asks for just one feature, in YAML."""
    features = ", ".join(dict.fromkeys(["base", WITH_KUBERNETES, feature]))
    return (
        f"version: 1\nimage: parity\nboard: {BOARD}\nengine: {engine}\nfeatures: [{features}]\n"
        f"kubernetes: {{distribution: {distribution}}}\n"
    )


def make_table(cells: Sequence[Cell]) -> str:
    """The table in Markdown: a row for each feature, and under it the reasons, each with a number."""
    columns = list(dict.fromkeys((cell.engine, cell.distribution) for cell in cells))
    reasons = list(dict.fromkeys(cell.reason for cell in cells if cell.reason))
    lines = [
        "| feature | " + " | ".join(f"{engine}, {distribution}" for engine, distribution in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for feature in dict.fromkeys(cell.feature for cell in cells):
        row = {(cell.engine, cell.distribution): cell for cell in cells if cell.feature == feature}
        lines.append(f"| {feature} | " + " | ".join(_say(row[column], reasons) for column in columns) + " |")
    return "\n".join([*lines, *_footnotes(reasons)]) + "\n"


def _say(cell: Cell, reasons: Sequence[str]) -> str:
    return "yes" if cell.builds else f"no ({reasons.index(cell.reason) + 1})"


def _footnotes(reasons: Iterable[str]) -> list[str]:
    notes = [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]
    return ["", *notes] if notes else []
