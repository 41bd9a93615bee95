"""Where the data folders are: beside the code in a checkout, inside the package once installed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cumulet.core.errors import ToolError

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALLED = Path(__file__).resolve().parent / "_assets"


def find_assets(name: Literal["recipes", "layers"], checkout: Path = CHECKOUT, installed: Path = INSTALLED) -> Path:
    """The folder `recipes` or `layers`: of the checkout that this code runs from, else of the wheel.

    Raises ToolError if neither is there.
    """
    # A `pyproject.toml` tells a checkout from a folder that only happens to have the name.
    for root in ([checkout] if (checkout / "pyproject.toml").is_file() else []) + [installed]:
        if (root / name).is_dir():
            return root / name
    raise ToolError(
        f"{installed / name}: no such folder", hint="install cumulet again: pip install --force-reinstall cumulet-board"
    )


def find_requirements(checkout: Path = CHECKOUT, installed: Path = INSTALLED) -> Path:
    """`requirements.lock`: every Python package of ours, pinned. Raises ToolError if it is not there."""
    for root in (checkout, installed):
        if (root / "requirements.lock").is_file():
            return root / "requirements.lock"
    raise ToolError(
        f"{installed / 'requirements.lock'}: no such file",
        hint="install cumulet again: pip install --force-reinstall cumulet-board",
    )
