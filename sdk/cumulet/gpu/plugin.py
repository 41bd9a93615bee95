"""The device plugin: what it answers the kubelet, its server on a socket, and its registration."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cumulet.core.errors import ToolError
from cumulet.core.notes import GPU_RESOURCE
from cumulet.gpu.api import DEVICE_PLUGIN, HEALTHY, REGISTRATION, UNHEALTHY, VERSION, load_messages
from cumulet.gpu.devices import ENDPOINT, PERCENT, Gpu, choose_units, gpu_of

KUBELET = "kubelet.sock"
PATIENCE = 10.0
# Each open list of devices holds one thread; a kubelet that came back may have two for a moment.
THREADS = 8


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered now: the GPUs, and whether they were found right."""

    gpus: tuple[Gpu, ...] = ()
    healthy: bool = False


class Plugin:
    """Answers of the plugin. `report`: the self-test's result, which a container gets to read if it is there."""

    def __init__(self, report: Path) -> None:
        self.report = report
        self.offer = Offer()
        self._changed = threading.Condition()
        self._number = 0
        self._over = False

    def show(self, offer: Offer) -> bool:
        """Offer something else from now on; whether it is something else."""
        with self._changed:
            if offer == self.offer:
                return False
            self.offer = offer
            self._number += 1
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """Let every open list come to its end."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def get_options(self, request: Any, context: Any) -> Any:
        """Which calls are of use."""
        return load_messages()["DevicePluginOptions"](get_preferred_allocation_available=True)

    def list_and_watch(self, request: Any, context: Any) -> Iterator[Any]:
        """The devices, and again whenever they have changed."""
        seen = -1
        while context.is_active():
            with self._changed:
                if not self._over and self._number == seen:
                    self._changed.wait(timeout=1)
                if self._over:
                    return
                if self._number == seen:
                    continue
                seen, offer = self._number, self.offer
            yield self._make_list(offer)

    def _make_list(self, offer: Offer) -> Any:
        health = HEALTHY if offer.healthy else UNHEALTHY
        rows = [{"ID": unit, "health": health} for gpu in offer.gpus for unit in gpu.units]
        return load_messages()["ListAndWatchResponse"](devices=rows)

    def get_preferred(self, request: Any, context: Any) -> Any:
        """Which hundredths the kubelet had best take."""
        rows = [
            {"deviceIDs": choose_units(each.available_deviceIDs, each.must_include_deviceIDs, each.allocation_size)}
            for each in request.container_requests
        ]
        return load_messages()["PreferredAllocationResponse"](container_responses=rows)

    def allocate(self, request: Any, context: Any) -> Any:
        """What a container gets for its hundredths: the render node, its share in words, the self-test's result."""
        known = {gpu.name: gpu for gpu in self.offer.gpus}
        rows = []
        for each in request.container_requests:
            names = sorted({gpu_of(unit) for unit in each.devices_ids})
            lost = [name for name in names if name not in known]
            if lost:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no such GPU: {', '.join(lost)}")
            paths = [str(known[name].path) for name in names]
            row: dict[str, Any] = {
                "envs": {PERCENT: str(len(each.devices_ids))},
                "devices": [{"container_path": path, "host_path": path, "permissions": "rw"} for path in paths],
            }
            if self.report.is_file():
                path = str(self.report)
                row["mounts"] = [{"container_path": path, "host_path": path, "read_only": True}]
            rows.append(row)
        return load_messages()["AllocateResponse"](container_responses=rows)

    def pre_start(self, request: Any, context: Any) -> Any:
        """Nothing has to be done before a container starts."""
        return load_messages()["PreStartContainerResponse"]()


def start_server(plugin: Plugin, folder: Path) -> grpc.Server:
    """Serve the plugin on its socket in the kubelet's folder. Raises ToolError if that cannot be had."""
    messages = load_messages()

    def unary(call: Any, request: str) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            call, messages[request].FromString, lambda answer: answer.SerializeToString()
        )

    handlers = {
        "GetDevicePluginOptions": unary(plugin.get_options, "Empty"),
        "ListAndWatch": grpc.unary_stream_rpc_method_handler(
            plugin.list_and_watch, messages["Empty"].FromString, lambda answer: answer.SerializeToString()
        ),
        "GetPreferredAllocation": unary(plugin.get_preferred, "PreferredAllocationRequest"),
        "Allocate": unary(plugin.allocate, "AllocateRequest"),
        "PreStartContainer": unary(plugin.pre_start, "PreStartContainerRequest"),
    }
    path = folder / ENDPOINT
    path.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(THREADS, thread_name_prefix="gpu-plugin"))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(DEVICE_PLUGIN, handlers),))
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise ToolError(f"{path}: cannot be listened on: {error}", hint="is the kubelet's folder there?") from error
    server.start()
    return server


def register(folder: Path, patience: float = PATIENCE) -> None:
    """Tell the kubelet of the plugin. Raises ToolError if it does not answer or does not want it."""
    messages = load_messages()
    request = messages["RegisterRequest"](
        version=VERSION,
        endpoint=ENDPOINT,
        resource_name=GPU_RESOURCE,
        options={"get_preferred_allocation_available": True},
    )
    with contextlib.closing(grpc.insecure_channel(f"unix:{folder / KUBELET}")) as channel:
        call = channel.unary_unary(
            f"/{REGISTRATION}/Register", lambda message: message.SerializeToString(), messages["Empty"].FromString
        )
        try:
            call(request, timeout=patience, wait_for_ready=True)
        except grpc.RpcError as error:
            raise ToolError(
                f"{folder / KUBELET}: the kubelet did not take the plugin: {error.code().name}: {error.details()}",
                hint="systemctl status kubelet",
            ) from error
