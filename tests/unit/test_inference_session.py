"""Sessions with the real runtimes: one network in three formats, and the same right answers from each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.inference import Report, open_session, runtimes, save_report
from cumulet.inference.sample.network import CLASSES, INPUT, OUTPUT, make_answers, make_images, make_network
from cumulet.inference.sample.write import arrange, write_sample
from cumulet.inference.verdict import Verdict

HERE = ("onnxruntime", "litert", "ncnn")


@pytest.mark.parametrize("runtime", HERE)
def test_every_runtime_gives_the_right_answers_on_the_cpu(runtime: str, tmp_path: Path) -> None:
    images = make_images()
    with open_session(write_sample(runtime, tmp_path), "cpu", threads=1) as session:
        assert (session.runtime, session.provider, session.why) == (runtime, "cpu", "asked for")
        assert [tensor.name for tensor in (*session.inputs, *session.outputs)] == [INPUT, OUTPUT]
        found = [session.run({INPUT: arrange(runtime, image)})[OUTPUT].ravel() for image in images]
    right = make_answers(make_network(), images)
    assert np.abs(np.stack(found) - right).max() < 5e-4
    assert right.shape == (len(images), CLASSES)


def test_the_answers_are_told_apart() -> None:
    right = make_answers(make_network(), make_images())
    assert np.allclose(right.sum(axis=1), 1)
    # An answer that is one class for certain, or that is the same for every image, would hide mistakes.
    assert right.max() < 0.95
    assert np.abs(right[0] - right[1]).max() > 0.005


def test_the_sample_is_the_same_everywhere(tmp_path: Path) -> None:
    for runtime in HERE:
        one = write_sample(runtime, tmp_path).read_bytes()
        assert write_sample(runtime, tmp_path).read_bytes() == one
        assert len(one) < 32_000


@pytest.mark.parametrize("runtime", HERE)
def test_a_file_that_is_no_model_is_refused(runtime: str, tmp_path: Path) -> None:
    path = write_sample(runtime, tmp_path)
    path.write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"^\S+/sample\.\w+: "):
        open_session(path, "cpu")


def test_files_that_nobody_reads_and_runtimes_that_are_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as caught:
        open_session(Path("m.h5"), "cpu")
    assert caught.value.message == "m.h5: no runtime reads such files"
    with pytest.raises(UsageError, match=r"^m\.onnx: no such model$"):
        open_session(Path("m.onnx"), "cpu")
    monkeypatch.setattr(runtimes, "find_version", lambda name: "")
    with pytest.raises(ToolError) as absent:
        open_session(Path("m.param"), "cpu")
    assert absent.value.message == "m.param: ncnn is not here"
    assert absent.value.hint == "feature inference-ncnn, or pip install ncnn"


def test_other_inputs_are_named(tmp_path: Path) -> None:
    with open_session(write_sample("onnxruntime", tmp_path), "cpu") as session, pytest.raises(UsageError) as caught:
        session.run({"image": make_images()[:1]})
    assert caught.value.message == "onnxruntime: inputs are image, the model wants input"


def make_report(runtime: str, folder: Path, **words: object) -> Path:
    """A report of this computer's version of a runtime."""
    values = {"cpu": True, "gpu": False, "why": "wrong results on X: off by 0.400"} | words
    verdict = Verdict(runtime, runtimes.find_version(runtime), **values)  # type: ignore[arg-type]
    save_report(Report("", (), (verdict,)), folder / "state.json")
    return folder / "state.json"


def test_a_gpu_that_was_found_wrong_is_not_used(tmp_path: Path) -> None:
    state = make_report("ncnn", tmp_path)
    path = write_sample("ncnn", tmp_path)
    with open_session(path, state=state) as session:
        assert (session.provider, session.why) == ("cpu", "wrong results on X: off by 0.400")
    with pytest.raises(TargetError) as caught:
        open_session(path, "gpu", state=state)
    assert caught.value.message == "ncnn: the GPU is refused: wrong results on X: off by 0.400"


def test_a_report_of_other_drivers_is_not_believed(tmp_path: Path) -> None:
    """It says that the GPU is right, on a device that is not here: a new test finds that out."""
    good = {"gpu": True, "why": "", "cpu_seconds": 2.0, "gpu_seconds": 1.0}
    state = make_report("onnxruntime", tmp_path, **good)
    text = state.read_text().replace(
        '"renderers": []', '"renderers": [{"name": "X", "kind": "integrated", "driver": 1, "api": "1.3.0"}]'
    )
    state.write_text(text)
    with open_session(write_sample("onnxruntime", tmp_path), state=state) as session:
        assert session.provider == "cpu"
        assert session.why == "its packages for ARM have no provider for Vulkan"
