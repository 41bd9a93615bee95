"""Inference: one `Session` over onnxruntime, LiteRT and ncnn, and the self-test that says whether a GPU is right.

    from cumulet.inference import open_session

    with open_session(Path("model.onnx")) as session:
        result = session.run({"input": image})

To add a runtime: a module and a line in `runtimes/`, and the sample network in its format in `sample/`.
"""

from __future__ import annotations

from cumulet.inference.labels import find_kubelet, patch_node
from cumulet.inference.runtimes import RUNTIMES, Tensor
from cumulet.inference.selftest import run_selftest
from cumulet.inference.session import Session, open_session
from cumulet.inference.verdict import STATE, Report, Verdict, load_report, save_report

__all__ = [
    "RUNTIMES",
    "STATE",
    "Report",
    "Session",
    "Tensor",
    "Verdict",
    "find_kubelet",
    "load_report",
    "open_session",
    "patch_node",
    "run_selftest",
    "save_report",
]
