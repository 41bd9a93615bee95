"""The self-test's judgement: a GPU that is wrong, that breaks off, that is none, or that is slow is refused."""

from __future__ import annotations

import json
import math
import struct
import sys
from pathlib import Path

import pytest

from cumulet.cli import main
from cumulet.core.errors import TargetError, ToolError
from cumulet.inference import labels, selftest
from cumulet.inference.capabilities import find_refusal, load_table, probe_soc
from cumulet.inference.runtimes import RUNTIMES
from cumulet.inference.session import choose_provider
from cumulet.inference.verdict import Measurement, Report, Verdict, find_error, judge, load_report, save_report
from cumulet.inference.vulkan import HEAD, PROPERTIES_SIZE, Renderer, read_properties

RIGHT = ((0.7, 0.2, 0.1), (0.1, 0.8, 0.1))
ADRENO = Renderer("Turnip Adreno (TM) 630", "integrated", 1, "1.3.289")
LLVMPIPE = Renderer("llvmpipe", "software", 1, "1.4.305")
NONSENSE = "wrong results on Turnip Adreno (TM) 630: of another class, or no numbers"
CPU = Measurement("1.0", RIGHT, 0.010)


def gpu(answers: tuple[tuple[float, ...], ...] = RIGHT, seconds: float = 0.002) -> Measurement:
    return Measurement("1.0", answers, seconds)


def test_a_gpu_that_is_right_and_faster_is_used() -> None:
    half = tuple(tuple(value + 0.004 for value in row) for row in RIGHT)
    verdict = judge("ncnn", CPU, gpu(half), [ADRENO], RIGHT)
    assert (verdict.cpu, verdict.gpu, verdict.why) == (True, True, "")
    assert verdict.gpu_error == pytest.approx(0.004)
    assert choose_provider("auto", "ncnn", verdict).gpu
    assert choose_provider("gpu", "ncnn", verdict).why == "right, and 5.0 times as fast as the CPU"
    assert not choose_provider("cpu", "ncnn", verdict).gpu


@pytest.mark.parametrize(
    ("measured", "renderer", "why"),
    [
        (gpu(((0.6, 0.3, 0.1), RIGHT[1])), ADRENO, "wrong results on Turnip Adreno (TM) 630: off by 0.100"),
        (gpu(((0.2, 0.7, 0.1), RIGHT[1])), ADRENO, NONSENSE),
        (gpu(((math.nan, 0.2, 0.1), RIGHT[1])), ADRENO, NONSENSE),
        (gpu(RIGHT[:1]), ADRENO, NONSENSE),
        (gpu(seconds=0.05), ADRENO, "Turnip Adreno (TM) 630 is slower than the CPU: 50.00 ms against 10.00 ms"),
        (gpu(), LLVMPIPE, "llvmpipe computes on the CPU"),
        (Measurement(failure="was killed by SIGSEGV"), ADRENO, "was killed by SIGSEGV"),
    ],
)  # fmt: skip
def test_every_other_gpu_is_refused(measured: Measurement, renderer: Renderer, why: str) -> None:
    verdict = judge("ncnn", CPU, measured, [renderer], RIGHT)
    assert (verdict.cpu, verdict.gpu, verdict.why) == (True, False, why)
    assert not choose_provider("auto", "ncnn", verdict).gpu
    with pytest.raises(TargetError) as caught:
        choose_provider("gpu", "ncnn", verdict)
    assert caught.value.message == f"ncnn: the GPU is refused: {why}"


def test_a_cpu_that_is_wrong_is_told_too() -> None:
    verdict = judge("ncnn", Measurement("1", ((0.6, 0.3, 0.1), RIGHT[1]), 0.01), gpu(), [ADRENO], RIGHT)
    assert (verdict.cpu, verdict.cpu_why) == (False, "wrong results: off by 0.100")
    broken = judge("ncnn", Measurement(failure="exited with code 1"), gpu(), [ADRENO], RIGHT)
    assert (broken.cpu, broken.cpu_why, broken.gpu) == (False, "exited with code 1", True)
    assert find_error(RIGHT, RIGHT) == 0


def test_a_report_is_kept_whole_and_one_of_another_kind_is_none(tmp_path: Path) -> None:
    report = Report("sdm845", (ADRENO,), (judge("ncnn", CPU, gpu(), [ADRENO], RIGHT),), 5.0)
    save_report(report, tmp_path / "deep" / "state.json")
    assert load_report(tmp_path / "deep" / "state.json") == report
    assert report.of("litert") is None
    assert load_report(tmp_path / "none.json") is None
    for text in ("", "[]", "{}", '{"version": 9}', '{"version": 1, "renderers": [1], "verdicts": []}'):
        (tmp_path / "bad.json").write_text(text)
        assert load_report(tmp_path / "bad.json") is None


# The processes that measure.


def put_python(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program in Python's place."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    monkeypatch.setattr(selftest.sys, "executable", str(script))


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ("kill -SEGV $$", "was killed by SIGSEGV"),
        ("echo 'driver: lost' >&2; exit 7", "exited with code 7: driver: lost"),
        ("printf 'driver: lost\\n\\000' >&2; exit 7", "exited with code 7: driver: lost"),
        ("sleep 30", "not done within 0 s"),
        ('echo noise; echo \'{"error": "no Vulkan device"}\'', "no Vulkan device"),
    ],
)
def test_a_driver_that_takes_its_process_down_is_only_told(
    body: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_python(tmp_path, monkeypatch, body)
    assert selftest.run_measurement("ncnn", "gpu", 0.3) == Measurement(failure=failure)


def test_a_process_that_cannot_be_started_is_not_told_as_one_that_took_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest.sys, "executable", str(tmp_path / "gone"))
    failure = "cannot be started: No such file or directory"
    assert selftest.run_measurement("ncnn", "cpu", 240) == Measurement(failure=failure)


def test_real_devices_come_before_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": each.name, "kind": each.kind, "driver": 1, "api": each.api} for each in (LLVMPIPE, ADRENO)]
    put_python(tmp_path, monkeypatch, f"echo '{json.dumps(rows)}'")
    assert selftest.find_renderers() == [ADRENO, LLVMPIPE]
    put_python(tmp_path, monkeypatch, "exit 1")
    assert selftest.find_renderers() == []


def test_a_device_is_read_as_vulkan_lays_it_out() -> None:
    data = HEAD.pack(1 << 22 | 3 << 12 | 289, 77, 0x5143, 1, 1, b"Turnip\0junk").ljust(PROPERTIES_SIZE, b"\xff")
    assert read_properties(data) == Renderer("Turnip", "integrated", 77, "1.3.289")
    assert struct.calcsize(HEAD.format) == 276


def test_the_real_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.json"
    assert main(["selftest", "--runtime", "onnxruntime", "--state", str(state), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (verdict,) = told["verdicts"]
    assert (verdict["runtime"], verdict["cpu"], verdict["gpu"]) == ("onnxruntime", True, False)
    assert 0 < verdict["cpu_seconds"] < 1
    assert 0 <= verdict["cpu_error"] < 1e-4
    assert load_report(state) is not None
    assert main(["selftest", "--runtime", "onnxruntime", "--state", str(state), "--need-gpu"]) == 4
    out, err = capsys.readouterr()
    assert "no GPU: its packages for ARM have no provider for Vulkan" in out
    assert err == "error: no runtime may use a GPU\nhint: cumulet selftest says why\n"


# The table.


def test_the_table_also_says_no(tmp_path: Path) -> None:
    assert find_refusal("a64", "ncnn") == "Mali-400 has no compute shaders"
    assert find_refusal("rk3399", "ncnn") == "Mesa has no Vulkan driver for Midgard GPUs"
    assert find_refusal("sdm845", "onnxruntime") == "its packages for ARM have no provider for Vulkan"
    assert find_refusal("sdm845", "ncnn") == find_refusal("", "ncnn") == ""
    assert set(load_table().runtimes) == set(RUNTIMES)
    tree = tmp_path / "compatible"
    tree.write_bytes(b"oneplus,enchilada\0qcom,sdm845\0")
    assert probe_soc(tree) == "sdm845"
    tree.write_bytes(b"acme,box\0")
    assert probe_soc(tree) == probe_soc(tmp_path / "none") == ""


# Labels.


def test_labels_and_notes_of_a_node() -> None:
    verdicts = (
        Verdict("ncnn", "1", cpu=True, gpu=True, why="", cpu_seconds=0.01, gpu_seconds=0.004),
        Verdict("litert", "2", cpu=True, gpu=False, why="x"),
        Verdict("onnxruntime", "3", cpu=False, gpu=False, why="x"),
    )
    metadata = labels.make_patch(Report("sdm845", (ADRENO,), verdicts))["metadata"]
    assert metadata["labels"] == {
        "cumulet.dev/gpu": "true",
        "cumulet.dev/soc": "sdm845",
        "cumulet.dev/inference-ncnn": "gpu",
        "cumulet.dev/inference-litert": "cpu",
        "cumulet.dev/inference-onnxruntime": "broken",
    }
    assert metadata["annotations"] == {
        "edge.cumulet.dev/renderer": "Turnip Adreno (TM) 630",
        "edge.cumulet.dev/gpu-speed": "250.0",
        "edge.cumulet.dev/runtimes": "ncnn,litert",
    }
    nothing = labels.make_patch(Report("", (), ()))["metadata"]
    assert nothing["labels"] == {"cumulet.dev/gpu": "false", "cumulet.dev/soc": None}
    assert set(nothing["annotations"].values()) == {None}


def test_a_node_is_patched_with_its_kubelets_right(tmp_path: Path) -> None:
    config, told = tmp_path / "kubelet.conf", tmp_path / "told"
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f'#!{sys.executable}\nimport sys\nopen({str(told)!r}, "w").write("\\n".join(sys.argv[1:]))\n')
    kubectl.chmod(0o755)
    report = Report("", (), ())
    with pytest.raises(ToolError, match=r"^this computer is not in a cluster: "):
        labels.publish(report, [(config, (str(kubectl),))])
    config.touch()
    assert labels.publish(report, [(config, (str(kubectl),))], "p1") == "p1"
    words = told.read_text().split("\n")
    assert words[:-1] == [f"--kubeconfig={config}", "patch", "node", "p1", "--type=merge", "--patch"]
    assert json.loads(words[-1]) == labels.make_patch(report)
