"""The scheduler's settings: a second profile that fills nodes instead of spreading over them. Pure."""

from __future__ import annotations

from typing import Any, Final

from cumulet.core.notes import GPU_RESOURCE

PACKING_SCHEDULER: Final = "cumulet-packing"
"""Name of the profile for AI tasks. Everything else stays with the default one, which spreads."""
# Each of these would pull containers apart that are to lie together, or to where an image happens to be.
SPREADING: Final = ("PodTopologySpread", "NodeResourcesBalancedAllocation", "ImageLocality")


def make_scheduler_config(kubeconfig: str, **election: object) -> dict[str, Any]:
    """KubeSchedulerConfiguration with both profiles; `election` are the settings of the election of a leader."""
    resources = [{"name": name, "weight": 1} for name in ("cpu", "memory", GPU_RESOURCE)]
    strategy = {"type": "MostAllocated", "resources": resources}
    fit = {"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}}
    disabled = [{"name": name} for name in SPREADING]
    packing = {
        "schedulerName": PACKING_SCHEDULER,
        "plugins": {"score": {"disabled": disabled}},
        "pluginConfig": [fit],
    }
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "enableProfiling": False,
        "leaderElection": election,
        "profiles": [{"schedulerName": "default-scheduler"}, packing],
    }
