"""What the self-test found, as labels and annotations of this node: Kubernetes schedules by measured truth."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.core.notes import NodeNote
from cumulet.inference.verdict import Report

PREFIX = "cumulet.dev/"
# The kubelet's own right is enough: it may label its own node. (kubeconfig, the words that start kubectl)
Kubelet = tuple[Path, tuple[str, ...]]
KUBELETS: tuple[Kubelet, ...] = (
    (Path("/etc/kubernetes/kubelet.conf"), ("kubectl",)),
    (Path("/var/lib/rancher/k3s/agent/kubelet.kubeconfig"), ("k3s", "kubectl")),
)


def make_patch(report: Report) -> dict[str, Any]:
    """The patch of a node. A value of None takes away what an earlier report said."""
    best = max((1 / each.gpu_seconds for each in report.verdicts if each.gpu), default=0.0)
    labels: dict[str, str | None] = {f"{PREFIX}gpu": "true" if best else "false"}
    labels[f"{PREFIX}soc"] = report.soc or None
    for verdict in report.verdicts:
        labels[f"{PREFIX}inference-{verdict.runtime}"] = "gpu" if verdict.gpu else "cpu" if verdict.cpu else "broken"
    good = [each.runtime for each in report.verdicts if each.cpu or each.gpu]
    notes: dict[str, str | None] = {
        NodeNote.RENDERER: report.renderers[0].name if report.renderers else None,
        NodeNote.GPU_SPEED: f"{best:.1f}" if best else None,
        NodeNote.RUNTIMES: ",".join(good) or None,
    }
    return {"metadata": {"labels": {key: _fit(value) for key, value in labels.items()}, "annotations": notes}}


def _fit(value: str | None) -> str | None:
    """A label's value: at most 63 letters, digits, '.', '_' and '-'."""
    return None if value is None else re.sub(r"[^A-Za-z0-9._-]+", "-", value)[:63].strip("-._")


def find_kubelet(kubelets: Sequence[Kubelet] = KUBELETS) -> Kubelet | None:
    """The kubelet of this computer, if it is in a cluster."""
    return next((each for each in kubelets if each[0].is_file()), None)


def publish(report: Report, kubelets: Sequence[Kubelet] = KUBELETS, node: str = "") -> str:
    """Write labels and annotations onto this node; gives its name. Raises ToolError if it is in no cluster."""
    return patch_node(make_patch(report), kubelets, node)


def patch_node(
    patch: Mapping[str, Any], kubelets: Sequence[Kubelet] = KUBELETS, node: str = "", patience: float = 60
) -> str:
    """Change this node's object, with its kubelet's right; gives its name. Raises ToolError if it is in no cluster."""
    found = find_kubelet(kubelets)
    if found is None:
        raise ToolError("this computer is not in a cluster: no kubelet has a kubeconfig here", hint="cumulet site up")
    config, kubectl = found
    name = node or socket.gethostname().lower()
    words = [*kubectl, f"--kubeconfig={config}", "patch", "node", name, "--type=merge", "--patch"]
    proc.run([*words, json.dumps(patch)], timeout=patience)
    return name
