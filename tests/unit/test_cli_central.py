"""`cumulet hub` and `cumulet agent` on the command line: what they say when something is wrong, and without a hub."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.central.agent.config import load_config
from cumulet.central.agent.vault import Vault
from cumulet.central.hub.service import Settings, make_web_context
from cumulet.central.pulse import LinkPulse, Pulse, TaskPulse
from cumulet.core.errors import UsageError
from cumulet_builder.cli import main

Write = Callable[[str, str], Path]
AGENT = "version: 1\ncluster: pier-7\nhubs: [{server: https://hub.example:6443}]\nstate: STATE\n"
STATUS = {
    "cluster": "pier-7", "hub": "https://hub.example:6443", "state": "in touch", "trouble": "", "works": 3, "since": 0,
    "certificate_until": 1798761600.0, "clock_behind": 600.0, "silent": 1.0, "sent": 10, "received": 20,
}  # fmt: skip


@pytest.fixture
def document(write: Write, here: Path) -> Path:
    """agent.yaml with its state below the current folder."""
    return write("agent.yaml", AGENT.replace("STATE", str(here / "state")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hub", "clusters"], "error: which hub?\nhint: --kubeconfig FILE\n"),
        (["hub", "clusters", "--kubeconfig", "absent"], "error: absent: cannot be read: No such file or directory"),
        (["hub", "tasks"], "error: which hub?\nhint: --kubeconfig FILE\n"),
        (["hub", "token", "--kubeconfig", "x"], "error: for which cluster?\nhint: cumulet hub token NAME, or --any\n"),
        (["hub", "token", "a", "--life", "soon"], "error: 'soon' is not a time; write it like 10m\n"),
        (["hub", "token", "Pier"], "error: 'Pier' is not a name: use small letters, digits and '-'\n"),
        (["hub", "run", "--listen", "0.0.0.0"], "error: 0.0.0.0: is reachable by others, so it needs a certificate"),
        (["agent", "status", "-f", "absent.yaml"], "error: absent.yaml: no such file\n"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert main(words) == 2
    assert capsys.readouterr().err.startswith(message)


def test_what_tasks_use_is_a_line_each(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    task = TaskPulse("default/detect", 1, 4, 3, 3, 2600, 900, {"yolo@4f53cda18c2b": 1})
    one = Pulse(1, tasks=(task,), links={"5g": LinkPulse(1, 0, 0, 61)}, window=(1 << 40, 1800))
    found = {"pier-7": one, "quay-1": one}
    monkeypatch.setattr("cumulet_builder.commands.hub.ask", lambda kubeconfig, call: found)
    assert main(["hub", "tasks"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    wanted = "default/detect 6/8 ready at 2 sites, 5.20 cores, 1800 MiB; yolo@4f53cda18c2b at 2"
    assert " ".join(first.split()) == wanted
    assert second.startswith("2 sites: 5g 2 used, 0 up, 0 down; next quiet stretch ")
    assert main(["hub", "tasks", "pier-7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["ready"] == 3
    assert main(["hub", "tasks", "quay-9"]) == 2
    assert "quay-9: has said nothing of its tasks" in capsys.readouterr().err


def test_an_agent_that_has_never_run_has_no_status(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "status", "-f", str(document)]) == 2
    assert "no agent has run here" in capsys.readouterr().err


def test_the_status_tells_what_people_ask(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Vault(load_config(document).state).keep_status(dict(STATUS))
    assert main(["agent", "status", "-f", str(document)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pier-7 under https://hub.example:6443: in touch, 3 works"
    assert lines[1] == "certificate until 2027-01-01"
    assert lines[2] == "this device's clock is 600 s behind the hub's"


def test_an_agent_that_is_out_of_touch_or_dead_is_an_error(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = Vault(load_config(document).state)
    vault.keep_status({**STATUS, "state": "out of touch", "trouble": "hub.example:6443: no answer for 30 s"})
    assert main(["agent", "status", "-f", str(document)]) == 4
    assert "pier-7: out of touch\nhint: hub.example:6443: no answer for 30 s" in capsys.readouterr().err
    path = vault.folder / "status.json"
    path.write_text(json.dumps({**STATUS, "written": time.time() - 500}))
    assert main(["agent", "status", "-f", str(document)]) == 4
    assert "pier-7: does not run" in capsys.readouterr().err


def test_the_fingerprint_of_the_key_is_the_same_every_time(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [main(["agent", "key", "-f", str(document)]) for _ in range(2)] == [0, 0]
    first, second = capsys.readouterr().out.split()
    assert first == second and first.startswith("SHA256:")


def test_an_entry_for_others_needs_a_certificate_that_is_one(tmp_path: Path) -> None:
    assert make_web_context(Settings()) is None
    (tmp_path / "x.crt").write_text("no certificate")
    with pytest.raises(UsageError, match=r"x.crt: cannot be used"):
        make_web_context(Settings(certificate=tmp_path / "x.crt", key=tmp_path / "x.crt"))
