"""The engines: each turns a recipe and its lock into stages. Adding one is a folder and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.engines.debian.stages import make_stages as make_debian_stages
from cumulet_builder.plan import Stage
from cumulet_builder.recipe.model import Recipe

ENGINES: Mapping[str, Callable[[Recipe, Lock, Cache], list[Stage]]] = {"debian": make_debian_stages}
