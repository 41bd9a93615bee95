"""The Vulkan devices of this computer, asked of its loader without any runtime.

A driver may take its process down with it: `python -m cumulet.inference.vulkan` answers as JSON, for those who
would rather not be in that process.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys
from dataclasses import asdict, dataclass
from typing import Literal

LIBRARY = "libvulkan.so.1"
INSTANCE_CREATE_INFO = 1
Kind = Literal["other", "integrated", "discrete", "virtual", "software"]
KINDS: tuple[Kind, ...] = ("other", "integrated", "discrete", "virtual", "software")
# apiVersion, driverVersion, vendorID, deviceID, deviceType, deviceName: the beginning of VkPhysicalDeviceProperties.
HEAD = struct.Struct("<IIIIi256s")
PROPERTIES_SIZE = 4096
MOST_DEVICES = 16


@dataclass(frozen=True, slots=True)
class Renderer:
    """A Vulkan device. `driver` is the driver's version as a number of its own making, `api` that of Vulkan."""

    name: str
    kind: Kind
    driver: int
    api: str


class _CreateInfo(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layers", ctypes.c_uint32),
        ("layer_names", ctypes.c_void_p),
        ("extensions", ctypes.c_uint32),
        ("extension_names", ctypes.c_void_p),
    )


def probe_renderers() -> list[Renderer]:
    """Every Vulkan device; none without a loader or a driver. The driver runs in this process."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return []
    instance = ctypes.c_void_p()
    info = _CreateInfo(kind=INSTANCE_CREATE_INFO)
    if library.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance)) != 0:
        return []
    count = ctypes.c_uint32(MOST_DEVICES)
    devices = (ctypes.c_void_p * MOST_DEVICES)()
    found = []
    if library.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices) >= 0:
        for device in devices[: count.value]:
            properties = ctypes.create_string_buffer(PROPERTIES_SIZE)
            library.vkGetPhysicalDeviceProperties(ctypes.c_void_p(device), properties)
            found.append(read_properties(properties.raw))
    library.vkDestroyInstance(instance, None)
    return found


def read_properties(data: bytes) -> Renderer:
    """A device's description as Vulkan lays it out."""
    api, driver, _, _, kind, name = HEAD.unpack_from(data)
    text = name.split(b"\0", 1)[0].decode(errors="replace")
    return Renderer(text, KINDS[kind], driver, f"{api >> 22}.{api >> 12 & 0x3FF}.{api & 0xFFF}")


if __name__ == "__main__":
    sys.stdout.write(json.dumps([asdict(renderer) for renderer in probe_renderers()]))
