"""The engines: each turns a recipe and its lock into stages. Adding one is a folder and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cumulet.core.errors import UsageError
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.stages import make_stages as make_debian_stages
from cumulet_builder.engines.yocto.stages import make_stages as make_yocto_stages
from cumulet_builder.plan import Stage
from cumulet_builder.recipe.model import Recipe

Engine = Callable[[Recipe, Any, Cache], list[Stage]]
"""Its lock is the engine's own kind."""
ENGINES: Mapping[str, Engine] = {"debian": make_debian_stages, "yocto": make_yocto_stages}


def find_engine(recipe: Recipe) -> Engine:
    """The engine of a recipe. Raises UsageError for one that this version has not."""
    if recipe.engine not in ENGINES:
        raise UsageError(
            f"{recipe.image}: engine: {recipe.engine} is not in this version of cumulet",
            hint=f"set it to {' or '.join(ENGINES)}, or leave it out",
        )
    return ENGINES[recipe.engine]
