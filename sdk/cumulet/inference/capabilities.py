"""What is known before anything is measured: which system on chip has a GPU that a runtime can compute on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

Answer = Literal["yes", "no", "untested", "software"]
"""`software`: Vulkan is there, computed by the CPU."""
TREE = Path("/proc/device-tree/compatible")


class Row(BaseModel):
    """Base of the table's rows: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Runtime(Row):
    """What a runtime can do with a GPU, whichever it is."""

    gpu: Answer
    why: str


class Soc(Row):
    """A system on chip. `driver`: Mesa's Vulkan driver, "" if there is none; `compatible`: of its device trees."""

    soc: str
    compatible: str
    gpu: str
    driver: str = ""
    answer: Answer
    why: str = ""


class Table(Row):
    """The whole table."""

    version: Literal[1]
    runtimes: dict[str, Runtime]
    socs: tuple[Soc, ...]


@cache
def load_table() -> Table:
    """The table that comes with the SDK."""
    return Table.model_validate(yaml.safe_load(Path(__file__).with_name("capabilities.yaml").read_text()))


def probe_soc(tree: Path = TREE) -> str:
    """The name of this computer's system on chip, or "" for one that the table does not know."""
    try:
        names = tree.read_bytes().decode(errors="replace").strip("\0").split("\0")
    except OSError:
        return ""
    return next((row.soc for row in load_table().socs if row.compatible in names), "")


def find_refusal(soc: str, runtime: str) -> str:
    """Why the GPU need not even be tried, or "" if it is worth a measurement."""
    table = load_table()
    ability = table.runtimes[runtime]
    if ability.gpu == "no":
        return ability.why
    row = next((each for each in table.socs if each.soc == soc), None)
    return row.why if row is not None and row.answer == "no" else ""
