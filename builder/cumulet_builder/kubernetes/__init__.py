"""Kubernetes in the image: two distributions behind one protocol, in one table.

`needed_packages` and `needed_modules` say what the rest of the image must bring,
`make_stages` what is built, `check_kernel` whether the kernel will do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cumulet_builder.kubernetes.distribution import Distribution
    from cumulet_builder.kubernetes.surroundings import Surroundings
    from cumulet_builder.plan import Stage
    from cumulet_builder.recipe.model import Recipe


def needed_packages(recipe: Recipe) -> tuple[str, ...]:
    """Debian packages that the recipe's distribution needs; none without Kubernetes."""
    distribution = _find(recipe)
    return distribution.PACKAGES if distribution else ()


def needed_modules(recipe: Recipe) -> tuple[str, ...]:
    """Kernel modules that the recipe's distribution needs; none without Kubernetes."""
    distribution = _find(recipe)
    return distribution.REQUIREMENTS.modules if distribution else ()


def make_stages(recipe: Recipe, around: Surroundings) -> list[Stage]:
    """The stages of the recipe's distribution, the last one named `kubernetes`; none without Kubernetes."""
    distribution = _find(recipe)
    return distribution.make_stages(recipe, around) if distribution else []


def check_kernel(recipe: Recipe, config: str, modules: Collection[str], builtin: Collection[str]) -> None:
    """Raise TargetError if the distribution would not run on a kernel with this config and these modules."""
    from cumulet_builder.kubernetes import preflight  # noqa: PLC0415 - only a build needs it

    distribution = _find(recipe)
    if distribution:
        preflight.check_kernel(
            distribution.REQUIREMENTS, config, modules, builtin, f"{recipe.board.kernel.package}: config"
        )


def _find(recipe: Recipe) -> Distribution | None:
    from cumulet_builder.kubernetes.distribution import DISTRIBUTIONS  # noqa: PLC0415 - slow to import

    return DISTRIBUTIONS[recipe.kubernetes.distribution] if recipe.kubernetes else None
