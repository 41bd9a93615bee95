"""The device plugin against a kubelet that is played on a unix socket: real calls, real messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from cumulet.core.errors import ToolError
from cumulet.core.notes import GPU_RESOURCE
from cumulet.gpu.api import DEVICE_PLUGIN, REGISTRATION, load_messages
from cumulet.gpu.devices import ENDPOINT, choose_units, find_gpus
from cumulet.gpu.plugin import KUBELET, register
from cumulet.gpu.process import Places, Process
from cumulet.inference import Report, save_report
from cumulet.inference.verdict import Verdict
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.packing import Amounts, make_resources


def until(want: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + 20
    while not want():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass
class Kubelet:
    """Takes registrations on its socket, and calls a plugin back as the kubelet does."""

    folder: Path
    taken: list[Any] = field(default_factory=list)
    refuse: str = ""

    def start(self) -> None:
        messages = load_messages()
        handler = grpc.unary_unary_rpc_method_handler(
            self.take, messages["RegisterRequest"].FromString, lambda answer: answer.SerializeToString()
        )
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(REGISTRATION, {"Register": handler}),)
        )
        self.server.add_insecure_port(f"unix:{self.folder / KUBELET}")
        self.server.start()

    def stop(self) -> None:
        self.server.stop(grace=0).wait()
        (self.folder / KUBELET).unlink(missing_ok=True)

    def take(self, request: Any, context: Any) -> Any:
        if self.refuse:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refuse)
        self.taken.append(request)
        return load_messages()["Empty"]()

    def call(self, name: str, answer: str, request: Any) -> Any:
        with grpc.insecure_channel(f"unix:{self.folder / ENDPOINT}") as channel:
            ask = channel.unary_unary(
                f"/{DEVICE_PLUGIN}/{name}",
                lambda message: message.SerializeToString(),
                load_messages()[answer].FromString,
            )
            return ask(request, timeout=10, wait_for_ready=True)


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    kubelet = Kubelet(tmp_path / "plugins")
    kubelet.folder.mkdir()
    kubelet.start()
    yield kubelet
    kubelet.stop()


@dataclass
class Running:
    """The process in a thread, and what it said."""

    places: Places
    said: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.process = Process(self.places, self.said.append, interval=0.02)
        self.thread = threading.Thread(target=self.process.run)
        self.thread.start()

    def stop(self) -> None:
        self.process.over.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running(kubelet: Kubelet, tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "dri").mkdir()
    (tmp_path / "dri/renderD128").touch()
    (tmp_path / "dri/card0").touch()
    running = Running(Places(kubelet.folder, tmp_path / "dri", tmp_path / "selftest.json"))
    judge(running.places.report, right=True)
    running.start()
    yield running
    running.stop()


def judge(path: Path, *, right: bool) -> None:
    """The self-test's result."""
    save_report(Report("", (), (Verdict("ncnn", "1", cpu=True, gpu=right, why="" if right else "wrong"),)), path)


def test_the_resource_is_the_one_that_tasks_ask_for() -> None:
    profile = make_scheduler_config("x")["profiles"][1]
    scored = profile["pluginConfig"][0]["args"]["scoringStrategy"]["resources"]
    asked = make_resources(Amounts(100, 20, 1 << 20), 1 << 20)["requests"]
    assert GPU_RESOURCE in asked
    assert GPU_RESOURCE in {each["name"] for each in scored}


def test_messages_are_written_as_the_kubelet_reads_them() -> None:
    messages = load_messages()
    request = messages["RegisterRequest"](version="v1beta1", endpoint="e", options={"pre_start_required": True})
    assert request.SerializeToString() == b'\n\x07v1beta1\x12\x01e"\x02\x08\x01'
    answer = messages["ContainerAllocateResponse"](envs={"A": "1"}, devices=[{"host_path": "/x"}])
    assert answer.SerializeToString() == b"\n\x06\n\x01A\x12\x011\x1a\x04\x12\x02/x"
    # A newer kubelet's fields are passed over.
    assert list(messages["AllocateRequest"].FromString(b"\x0a\x03\x0a\x01d\x52\x01z").container_requests[0].devices_ids)


def test_a_kubelet_gets_a_hundred_units_and_a_container_its_render_node(kubelet: Kubelet, running: Running) -> None:
    messages = load_messages()
    until(lambda: bool(kubelet.taken))
    (request,) = kubelet.taken
    assert (request.version, request.endpoint, request.resource_name) == ("v1beta1", ENDPOINT, GPU_RESOURCE)
    assert kubelet.call("GetDevicePluginOptions", "DevicePluginOptions", messages["Empty"]()) == request.options
    with grpc.insecure_channel(f"unix:{kubelet.folder / ENDPOINT}") as channel:
        watch = channel.unary_stream(
            f"/{DEVICE_PLUGIN}/ListAndWatch",
            lambda message: message.SerializeToString(),
            messages["ListAndWatchResponse"].FromString,
        )(messages["Empty"](), timeout=20)
        first = next(watch)
        assert [device.ID for device in first.devices][:2] == ["renderD128-00", "renderD128-01"]
        assert len(first.devices) == 100
        assert {device.health for device in first.devices} == {"Healthy"}
        # A new self-test finds it wrong: it is taken back at once.
        judge(running.places.report, right=False)
        assert {device.health for device in next(watch).devices} == {"Unhealthy"}
        (running.places.dri / "renderD128").unlink()
        assert len(next(watch).devices) == 0
        (running.places.dri / "renderD129").touch()
        assert next(watch).devices[0].ID == "renderD129-00"
    ids = [f"renderD129-{number:02}" for number in range(20)]
    answer = kubelet.call(
        "Allocate", "AllocateResponse", messages["AllocateRequest"](container_requests=[{"devices_ids": ids}])
    )
    (container,) = answer.container_responses
    node = str(running.places.dri / "renderD129")
    assert [(each.container_path, each.host_path, each.permissions) for each in container.devices] == [
        (node, node, "rw")
    ]
    assert dict(container.envs) == {"CUMULET_GPU_PERCENT": "20"}
    report = str(running.places.report)
    assert [(each.container_path, each.host_path, each.read_only) for each in container.mounts] == [
        (report, report, True)
    ]
    wanted = messages["PreferredAllocationRequest"](
        container_requests=[{"available_deviceIDs": ids, "allocation_size": 3}]
    )
    preferred = kubelet.call("GetPreferredAllocation", "PreferredAllocationResponse", wanted)
    assert list(preferred.container_responses[0].deviceIDs) == ids[:3]
    kubelet.call("PreStartContainer", "PreStartContainerResponse", messages["PreStartContainerRequest"]())


def test_a_gpu_that_is_gone_is_refused_by_name(kubelet: Kubelet, running: Running) -> None:
    until(lambda: bool(kubelet.taken))
    request = load_messages()["AllocateRequest"](container_requests=[{"devices_ids": ["renderD200-00"]}])
    with pytest.raises(grpc.RpcError) as caught:
        kubelet.call("Allocate", "AllocateResponse", request)
    assert caught.value.details() == "no such GPU: renderD200"


def test_every_new_kubelet_is_registered_with(kubelet: Kubelet, running: Running) -> None:
    until(lambda: len(kubelet.taken) == 1)
    kubelet.stop()
    # A kubelet that starts removes what others have left in its folder.
    (kubelet.folder / ENDPOINT).unlink(missing_ok=True)
    kubelet.start()
    until(lambda: len(kubelet.taken) == 2)
    until((kubelet.folder / ENDPOINT).exists)
    assert running.said[0] == "renderD128: offered"
    assert running.said.count("registered with the kubelet") == 2


def test_a_kubelet_that_refuses_is_told_with_its_words(kubelet: Kubelet) -> None:
    kubelet.refuse = "unsupported version"
    with pytest.raises(ToolError) as caught:
        register(kubelet.folder, 5)
    assert caught.value.message.endswith(
        "kubelet.sock: the kubelet did not take the plugin: INVALID_ARGUMENT: unsupported version"
    )


def test_units_come_from_the_fullest_gpu_that_has_enough(tmp_path: Path) -> None:
    for name in ("renderD129", "renderD128"):
        (tmp_path / name).touch()
    one, two = find_gpus(tmp_path)
    assert (one.name, two.name) == ("renderD128", "renderD129")
    free = [*one.units, *two.units[:30]]
    assert choose_units(free, [], 20) == two.units[:20]
    assert choose_units(free, [], 40) == one.units[:40]
    assert choose_units(free, one.units[5:6], 2) == [one.units[5], one.units[0]]
    assert choose_units(free, [], 120) == [*two.units[:30], *one.units[:90]]
    assert choose_units(free, one.units[:3], 3) == one.units[:3]
