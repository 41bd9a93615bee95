"""An image with inference runtimes: the self-test has run at boot, is right on the CPU, and refuses llvmpipe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cumulet_qemu.guest import Guest

STATE = "/var/lib/cumulet/selftest.json"
# Every runtime twice, imported and compiled for by an emulated processor.
SELFTEST_SECONDS = 1200


@pytest.fixture(scope="module")
def report(node: Guest) -> dict[str, Any]:
    """What the self-test of this boot found."""
    node.until(f"test -s {STATE}", SELFTEST_SECONDS)
    found: dict[str, Any] = json.loads(node.output(f"cat {STATE}"))
    return found


def test_every_runtime_is_right_on_the_cpu(report: dict[str, Any]) -> None:
    found = {each["runtime"]: (each["cpu"], each["cpu_why"]) for each in report["verdicts"]}
    assert found
    assert {name: why for name, (right, why) in found.items() if not right} == {}
    assert all(each["cpu_seconds"] > 0 for each in report["verdicts"])


def test_vulkan_is_there_and_computed_by_the_processor(report: dict[str, Any]) -> None:
    assert report["soc"] == "qemu"
    assert [each["kind"] for each in report["renderers"]] == ["software"]
    assert report["renderers"][0]["name"].startswith("llvmpipe")


def test_ncnn_computes_the_same_with_vulkan_and_is_refused_as_a_gpu(report: dict[str, Any]) -> None:
    (verdict,) = [each for each in report["verdicts"] if each["runtime"] == "ncnn"]
    assert not verdict["gpu"]
    assert verdict["why"].endswith("computes on the CPU")
    assert 0 <= verdict["gpu_error"] < 0.02


def test_the_unit_of_the_self_test_has_ended_well(node: Guest, report: dict[str, Any]) -> None:
    node.until("test $(systemctl show -P ActiveState cumulet-selftest.service) = inactive", SELFTEST_SECONDS)
    assert node.output("systemctl show -P Result cumulet-selftest.service") == "success"


def test_the_device_plugin_waits_for_a_kubelet(node: Guest) -> None:
    assert node.output("systemctl is-active cumulet-gpu.service") == "active"
    node.output("modprobe vgem")
    said = "journalctl -b -u cumulet-gpu.service -o cat | grep 'not offered: the self-test has not found it right'"
    assert node.until(said, 60).startswith("renderD128")
