"""`cumulet model roll` before it reaches a cluster: signatures, the quiet hour, what is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from cumulet import monitor
from cumulet.models import Rolled, build_model
from cumulet.models import commands as model
from cumulet.monitor import Window
from cumulet.packages import make_key
from cumulet_builder.cli import main

TASK = "version: 1\ntask: detect\nimage: detect:1\ncpu: 15\nmodel: cumulet.dev/models/yolo@sha256:" + "a" * 64 + "\n"


@pytest.fixture
def reference(here: Path) -> str:
    """A task, and a model with its release; gives back the model's reference."""
    (here / "detect.yaml").write_text(TASK)
    (here / "yolo").mkdir()
    (here / "yolo/labels.txt").write_text("cat\n")
    for name in ("key.pem", "other.pem"):
        make_key(here / name)
    return build_model(here / "yolo", here / "yolo.oci", "yolo", "8.1", here / "key.pem").reference


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of a cluster: what it was asked for."""
    asked: list[Any] = []

    def switch(profile: Any, wanted: str, choices: dict[str, Any]) -> Rolled:
        asked.append((profile.task, profile.mount, wanted, choices["namespace"]))
        bad = choices["seconds"] == 1
        return Rolled(
            profile.task, profile.model, wanted, True, bad, "p1: accuracy 0.4, at least 0.9 is wanted" if bad else ""
        )

    monkeypatch.setattr(model, "switch_task", switch)
    return asked


WORDS = ("model", "roll", "detect.yaml", "yolo.oci", "--key")


def test_a_model_is_rolled_to_the_digest_that_was_signed(
    reference: str, switched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "key.pem.pub"]) == 0
    assert switched == [("detect", "image", reference, "default")]
    assert capsys.readouterr().out == (
        f"detect: has yolo 8.1\nwrite into detect.yaml: model: {reference}, mount: image\n"
    )
    assert main(["model", "roll", "detect.yaml", "yolo.oci.release.json", "--key", "key.pem.pub"]) == 0
    assert len(switched) == 2


def test_a_model_that_went_back_ends_with_code_4(
    reference: str, switched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "key.pem.pub", "--seconds", "1"]) == 4
    assert "detect: has its old model again: p1: accuracy 0.4, at least 0.9 is wanted" in capsys.readouterr().err


def test_a_model_with_a_bad_signature_reaches_no_cluster(
    reference: str, switched: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "other.pem.pub"]) == 4
    assert "not signed by this key" in capsys.readouterr().err
    assert main(["model", "roll", "detect.yaml", "nothing.oci", "--key", "key.pem.pub"]) == 2
    assert "nothing.oci.release.json: No such file" in capsys.readouterr().err
    assert switched == []


def test_the_quiet_hour_is_waited_for(
    reference: str, switched: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = time.monotonic()

    def find(site: Path, ring: Path | None, length: str) -> Window:
        assert (switched, length) == ([], "45m")
        return Window(int(time.time()) + 1, 2700, 9.8, 37.2, "weekdays")

    monkeypatch.setattr(monitor, "find_window_of", find)
    assert main([*WORDS, "key.pem.pub", "--when", "quiet", "--for", "45m"]) == 0
    assert time.monotonic() - begin < 5
    assert len(switched) == 1
    assert "9.8 % expected, 37.2 % is usual (by the last two weeks)" in capsys.readouterr().err
