"""The life of a site after its bring-up, by distribution: modules with the same functions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Final

from cumulet.site import k3s_life, kubeadm_life

LIVES: Final[Mapping[str, ModuleType]] = {"kubeadm": kubeadm_life, "k3s": k3s_life}
