"""The node's GPU for pods: a device plugin of the kubelet that hands it out in hundredths.

`python -m cumulet.gpu` runs it. The share is accounted, not kept apart: nothing in the kernel divides these GPUs.
Offered is only a GPU that the self-test found right.
"""

from __future__ import annotations

from cumulet.gpu.devices import ENDPOINT, Gpu, find_gpus

__all__ = ["ENDPOINT", "Gpu", "find_gpus"]
