"""Which certificate requests the hub grants: pure rules over what a request says and what is known of its cluster.

A request that is refused is refused by name: the reason is a word that programs can
count, the message says what was wrong with it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cumulet.central.hub.records import Cluster, Wish
from cumulet.central.keys import make_fingerprint
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    DEVICE_KEY,
    EVERY_CLUSTER,
    RETURN_GROUP,
    SERIAL,
    USER_PREFIX,
    make_group,
)

CLIENT_USAGES = {"client auth", "digital signature", "key encipherment"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for: a user, and groups, for a key with this fingerprint."""

    user: str
    groups: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`approve`, `deny`, or `wait` for a person."""

    word: str
    reason: str
    message: str
    accept: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """A device that may join without a person: its serial number, and the fingerprint of its key."""

    serial: str
    key: str


def read_request(text: str) -> Asked:
    """What is in `spec.request`. Raises ValueError for what is no request, or one not signed by its own key."""
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    data = base64.b64decode(text, validate=True)
    if not data.lstrip().startswith(b"-----BEGIN CERTIFICATE REQUEST-----"):
        raise ValueError("its PEM block is no CERTIFICATE REQUEST")
    found = x509.load_pem_x509_csr(data)
    if not found.is_signature_valid:
        raise ValueError("it is not signed by its own key")
    names = [str(each.value) for each in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    groups = [str(each.value) for each in found.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if len(names) != 1:
        raise ValueError("it has no name, or several")
    der = found.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Asked(names[0], tuple(groups), make_fingerprint(der))


def check_subject(asked: Asked, cluster: str) -> str:
    """What is wrong with the name and groups that are asked for, or an empty text."""
    groups = set(asked.groups) - {EVERY_CLUSTER}
    if groups != {make_group(cluster)}:
        named = ", ".join(sorted(groups)) or "no group"
        return f"asks for {named}; a request of {cluster} is for {make_group(cluster)} alone"
    words = asked.user.removeprefix(USER_PREFIX).split(":")
    if not asked.user.startswith(USER_PREFIX) or len(words) != 2 or words[0] != cluster or not words[1]:
        return f"asks for the name {asked.user!r}; one of {cluster} is {USER_PREFIX}{cluster}:AGENT"
    return ""


def judge(wish: Wish, cluster: Cluster | None, allowed: Mapping[str, Sequence[Allowed]] | None = None) -> Verdict:
    """What is to become of a request. `allowed` are the devices that need no person, by serial number."""
    try:
        asked = read_request(wish.request)
    except ValueError as error:
        return Verdict("deny", "Malformed", f"the request cannot be read: {error}")
    wrong = _find_fault(wish, asked, cluster)
    if wrong is not None:
        return wrong
    if wish.user == asked.user:
        return _judge_renewal(cluster)
    return _judge_newcomer(wish, asked, cluster, allowed or {})


def _find_fault(wish: Wish, asked: Asked, cluster: Cluster | None) -> Verdict | None:
    if not set(wish.usages) <= CLIENT_USAGES:
        return Verdict("deny", "WrongUsage", f"asks for {', '.join(wish.usages)}; an agent's is client auth")
    wrong = check_subject(asked, wish.cluster)
    if wrong:
        return Verdict("deny", "ForeignName", wrong)
    claimed = wish.annotations.get(DEVICE_KEY)
    if claimed and claimed != asked.key:
        return Verdict("deny", "WrongKey", f"says that its key is {claimed}, but is signed by {asked.key}")
    pinned = cluster.annotations.get(DEVICE_KEY) if cluster is not None else None
    if pinned and pinned != asked.key:
        return Verdict("deny", "WrongKey", f"{wish.cluster} has the key {pinned}, this request has {asked.key}")
    return None


def _judge_renewal(cluster: Cluster | None) -> Verdict:
    if cluster is None or not cluster.accepted or cluster.deleting:
        return Verdict("deny", "NotAccepted", "this hub does not accept the cluster (any more)")
    return Verdict("approve", "AutoApproved", "the agent renews its own certificate")


def _judge_newcomer(
    wish: Wish, asked: Asked, cluster: Cluster | None, allowed: Mapping[str, Sequence[Allowed]]
) -> Verdict:
    pinned = cluster is not None and cluster.annotations.get(DEVICE_KEY) == asked.key
    if pinned and cluster is not None and cluster.accepted:
        return Verdict("approve", "DeviceReturned", f"the device with the key {asked.key} is back")
    if f"{RETURN_GROUP}:{wish.cluster}" in wish.groups:
        return Verdict("deny", "TokenUsed", f"the token of {wish.cluster} has been used; it lets only that device back")
    strangers = [group for group in wish.groups if group.startswith(f"{BOOTSTRAP_GROUP}:")]
    if strangers and f"{BOOTSTRAP_GROUP}:{wish.cluster}" not in strangers:
        return Verdict("deny", "ForeignToken", f"this token is not for {wish.cluster}")
    serial = wish.annotations.get(SERIAL, "")
    if any(each.key == asked.key for each in allowed.get(serial, ())):
        return Verdict("approve", "DeviceAllowed", f"serial number {serial} with the key {asked.key} is allowed", True)
    return Verdict("wait", "NeedsApproval", f"key {asked.key}" + (f", serial number {serial}" if serial else ""))
