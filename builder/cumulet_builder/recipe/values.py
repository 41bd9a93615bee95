"""The words that recipes and boards are made of: sizes, names, paths, each with its check in plain words."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Architecture = Literal["arm64", "amd64"]
UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
UNIT_TYPES = "service|socket|timer|target|mount|automount|path|slice|swap|device"


def parse_size(text: str) -> int:
    """`400MiB` as a number of bytes. Raises ValueError on anything else."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text.strip())
    if not match or match[2] not in UNITS:
        raise ValueError(f"not a size: {text!r}; write it like 400MiB")
    return int(match[1]) * UNITS[match[2]]


def _check_size(text: str) -> str:
    parse_size(text)
    return text


def _check_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write it like 10.42.0.0/16") from None
    return text


def form(pattern: str, what: str) -> tuple[AfterValidator, FieldInfo]:
    """A check in plain words, and the same pattern for the JSON Schema."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    schema: FieldInfo = Field(json_schema_extra={"pattern": f"^(?:{pattern})$"})
    return AfterValidator(check), schema


Name = Annotated[
    str,
    Field(max_length=63),
    *form(r"[a-z0-9][a-z0-9.+-]*", "a name: use lower-case letters, digits, '.', '+' and '-'"),
]
Hostname = Annotated[
    str,
    Field(max_length=63),
    *form(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "a host name: use lower-case letters, digits and '-'"),
]
Package = Annotated[
    str,
    *form(
        r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?",
        "the name of a Debian package; write it like htop, or htop=3.4.1-5",
    ),
]
Module = Annotated[
    str, *form(r"[A-Za-z0-9_*?\[\]-]+", "the name of a kernel module; write it like veth, without .ko and folder")
]
Unit = Annotated[
    str,
    *form(rf"[A-Za-z0-9:_.@\\-]+\.({UNIT_TYPES})", "the name of a systemd unit; write it like ssh.service"),
]
ImagePath = Annotated[
    str,
    *form(
        r"(/(?!\.{1,2}(/|$))[^/\0]+)+",
        "a path in the image; write it like /etc/motd, without '..' and without '/' at the end",
    ),
]
Mode = Annotated[str, *form(r"[0-7]{3,4}", 'permissions; write them in octal, like "0644"')]
PublicKey = Annotated[
    str,
    *form(
        r"(\S.* )?(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-\S+@openssh\.com) AAAA[A-Za-z0-9+/=]+( .*)?",
        "a public key; write the line that stands in a .pub file, like: ssh-ed25519 AAAA...",
    ),
]
Network = Annotated[str, AfterValidator(_check_network)]
"""Addresses with a prefix length, as `10.42.0.0/16`."""
Size = Annotated[str, AfterValidator(_check_size)]
"""A size with a unit, as `400MiB`."""


class Part(BaseModel):
    """Base of every part of a document: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
