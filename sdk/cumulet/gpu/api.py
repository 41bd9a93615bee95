"""The kubelet's device plugin API, v1beta1: its messages, made from the table below when they are first used.

The table is the part of api.proto that a plugin speaks: field name, number, type. Fields of these numbers and types
are what the kubelet of every Kubernetes since 1.10 reads.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

VERSION: Final = "v1beta1"
REGISTRATION: Final = f"{VERSION}.Registration"
DEVICE_PLUGIN: Final = f"{VERSION}.DevicePlugin"
HEALTHY: Final = "Healthy"
UNHEALTHY: Final = "Unhealthy"

# `[]` before a type: repeated. `{}`: a map of texts to texts.
MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    "Empty": {},
    "DevicePluginOptions": {
        "pre_start_required": (1, "bool"),
        "get_preferred_allocation_available": (2, "bool"),
    },
    "RegisterRequest": {
        "version": (1, "string"),
        "endpoint": (2, "string"),
        "resource_name": (3, "string"),
        "options": (4, "DevicePluginOptions"),
    },
    "Device": {"ID": (1, "string"), "health": (2, "string")},
    "ListAndWatchResponse": {"devices": (1, "[]Device")},
    "ContainerPreferredAllocationRequest": {
        "available_deviceIDs": (1, "[]string"),
        "must_include_deviceIDs": (2, "[]string"),
        "allocation_size": (3, "int32"),
    },
    "PreferredAllocationRequest": {"container_requests": (1, "[]ContainerPreferredAllocationRequest")},
    "ContainerPreferredAllocationResponse": {"deviceIDs": (1, "[]string")},
    "PreferredAllocationResponse": {"container_responses": (1, "[]ContainerPreferredAllocationResponse")},
    "ContainerAllocateRequest": {"devices_ids": (1, "[]string")},
    "AllocateRequest": {"container_requests": (1, "[]ContainerAllocateRequest")},
    "Mount": {"container_path": (1, "string"), "host_path": (2, "string"), "read_only": (3, "bool")},
    "DeviceSpec": {"container_path": (1, "string"), "host_path": (2, "string"), "permissions": (3, "string")},
    "ContainerAllocateResponse": {
        "envs": (1, "{}"),
        "mounts": (2, "[]Mount"),
        "devices": (3, "[]DeviceSpec"),
    },
    "AllocateResponse": {"container_responses": (1, "[]ContainerAllocateResponse")},
    "PreStartContainerRequest": {"devices_ids": (1, "[]string")},
    "PreStartContainerResponse": {},
}


@cache
def load_messages() -> dict[str, Any]:
    """Message name -> its class."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # noqa: PLC0415 - slow to import

    proto = descriptor_pb2.FileDescriptorProto(name="cumulet/deviceplugin.proto", package=VERSION, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = proto.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    file = pool.Add(proto) or pool.FindFileByName(proto.name)
    return {name: message_factory.GetMessageClass(file.message_types_by_name[name]) for name in MESSAGES}


def _add_field(message: Any, name: str, number: int, kind: str) -> None:
    added = message.field.add(name=name, number=number)
    added.label = added.LABEL_REPEATED if kind.startswith(("[]", "{}")) else added.LABEL_OPTIONAL
    kind = kind.removeprefix("[]")
    if kind == "{}":
        # A map is a repeated message with a key and a value.
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", 1, "string")
        _add_field(entry, "value", 2, "string")
        added.type, added.type_name = added.TYPE_MESSAGE, f".{VERSION}.{message.name}.{entry.name}"
    elif kind in MESSAGES:
        added.type, added.type_name = added.TYPE_MESSAGE, f".{VERSION}.{kind}"
    else:
        added.type = {"string": added.TYPE_STRING, "bool": added.TYPE_BOOL, "int32": added.TYPE_INT32}[kind]
