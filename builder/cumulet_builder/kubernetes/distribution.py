"""What the build asks of a distribution, and the table of those there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import cumulet_builder.kubernetes.k3s as k3s_module
import cumulet_builder.kubernetes.kubeadm as kubeadm_module
from cumulet_builder.kubernetes.preflight import Requirements
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.plan import Stage
from cumulet_builder.recipe.model import Recipe


class Distribution(Protocol):
    """How a distribution gets into an image. Nothing here builds or downloads: stages do."""

    REQUIREMENTS: Requirements
    """Kernel options and modules without which it does not run."""
    PACKAGES: tuple[str, ...]
    """Debian packages that it needs."""

    def make_stages(self, recipe: Recipe, around: Surroundings) -> list[Stage]:
        """The stages, the last one named `kubernetes`: `kubernetes.tar`, `data.tar`, `inventory.json`."""


DISTRIBUTIONS: Mapping[str, Distribution] = {"k3s": k3s_module, "kubeadm": kubeadm_module}
