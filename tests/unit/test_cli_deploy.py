"""`cumulet deploy` on the command line: what it says when something is wrong, and how it shows what came back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.central import DeploymentStatus
from cumulet.central.reports import SiteReport
from cumulet_builder.cli import main
from cumulet_builder.commands.deploy import show

Write = Callable[[str, str], Path]
TASK = "version: 1\ntask: detect\nimage: detect:1\ncpu: 15\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent.yaml", "--to", "tier=edge"], "error: absent.yaml: no such file\n"),
        (["task.yaml", "--to", "edge"], "error: --to: 'edge' is not a condition; write it like tier=edge\n"),
        (
            ["task", "task.yaml", "--node", "big"],
            "error: --node: 'big' is not a size of node\nhint: write it like 8,6GiB",
        ),
        (["task.yaml", "--wait", "soon"], "error: --wait: not a time: 'soon'; write it like 10m\n"),
        (["task.yaml", "--to", "tier=edge"], "error: which hub?\nhint: --kubeconfig FILE\n"),
        (["status", "detect"], "error: which hub?\nhint: --kubeconfig FILE\n"),
        (["results", "detect", "--to", "x"], "error: where do results arrive?\nhint: --from https://centre:8444\n"),
        (
            ["results", "detect", "--to", "x", "--from", "https://c"],
            "error: who are you to the top?\nhint: --kubeconfig",
        ),
        (["remove", "detect"], "error: there is nobody to ask\nhint: --yes\n"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    write("task.yaml", TASK)
    assert main(["deploy", *words]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_a_deployment_is_shown_by_site_and_node(capsys: pytest.CaptureFixture[str]) -> None:
    sites = {
        "quay": SiteReport("Waiting", "no node has room for it", 0, 1, silent=True),
        "station-1/pier-7": SiteReport("Running", "", 2, 2, {"p4": "1/1", "p5": "1/1"}),
    }
    needs = {"cpu": "1200m", "memory": "512Mi"}
    show(DeploymentStatus("detect", 2, 2, {"Waiting": 1, "Running": 8}, sites, 7, needs=needs))
    assert capsys.readouterr().out.splitlines() == [
        "detect: 1 Waiting, 8 Running",
        "  needs 1200m cpu, 512Mi memory",
        "  quay                             Waiting   0/1 no node has room for it  (out of touch since)",
        "  station-1/pier-7                 Running   2/2 p4=1/1 p5=1/1",
        "  and 7 more",
    ]
