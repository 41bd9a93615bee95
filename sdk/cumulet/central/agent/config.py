"""agent.yaml: which cluster this is, and the hubs that it may be under, in order.

Read without the library that checks the other documents: the agent has to stay small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cumulet.central.access import check_server
from cumulet.central.protocol import TIERS
from cumulet.core.documents import Place, Value, describe, load_document, make_error, suggest
from cumulet.core.errors import Problem

DEFAULT = Path("/etc/cumulet/agent.yaml")
KINDS = (
    "Namespace", "ConfigMap", "Secret", "Service", "ServiceAccount", "PersistentVolumeClaim", "LimitRange",
    "ResourceQuota", "apps/Deployment", "apps/DaemonSet", "apps/StatefulSet", "batch/Job", "batch/CronJob",
    "rbac.authorization.k8s.io/Role", "rbac.authorization.k8s.io/RoleBinding", "networking.k8s.io/NetworkPolicy",
    "policy/PodDisruptionBudget", "autoscaling/HorizontalPodAutoscaler",
    "cluster.open-cluster-management.io/Placement", "work.open-cluster-management.io/ManifestWorkReplicaSet",
    "cumulet.dev/Task",
)  # fmt: skip
"""What a hub may have applied here: nothing that gives rights over the whole cluster."""
KEYS = "version cluster hubs agent tier local state claims serial kinds failover certificate_life feedback run traces"
SERIALS = (Path("/etc/cumulet/serial"), Path("/sys/firmware/devicetree/base/serial-number"))
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class HubConfig:
    """A hub: its API server, the file with the token that lets us in, the file with its authority."""

    server: str
    token: Path | None = None
    authority: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """All of agent.yaml. Times in seconds. `run` is where recorder and uplink publish how the site is, `traces`
    the address of an OpenTelemetry collector.
    """

    cluster: str
    hubs: tuple[HubConfig, ...]
    agent: str = "agent"
    tier: str = "edge"
    local: Path | None = None
    state: Path = Path("/var/lib/cumulet/agent")
    claims: Mapping[str, str] = field(default_factory=dict)
    serial: str = ""
    kinds: tuple[str, ...] = KINDS
    failover: float = 600.0
    certificate_life: int = 30 * 86400
    feedback: float = 10.0
    run: Path = Path("/run/cumulet")
    traces: str = ""


def load_config(path: Path) -> AgentConfig:
    """The document in a file. Raises UsageError with every problem, each with its place."""
    document = load_document(path, kind="agent")
    reader = _Reader(document, path.parent)
    made = reader.read()
    if reader.problems or made is None:
        raise make_error(reader.problems)
    return made


def read_serial(config: AgentConfig) -> str:
    """The device's serial number: the document's, or what the firmware says; empty if nobody says one."""
    if config.serial:
        return config.serial
    for path in SERIALS:
        try:
            return path.read_text(errors="replace").strip("\0\n ")
        except OSError:
            continue
    return ""


def parse_seconds(text: str) -> int:
    """`10m` as seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time; write it like 10m")
    return int(match[1]) * UNITS[match[2]]


def check_name(text: str) -> str:
    """A name as clusters and agents have them. Raises ValueError."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a name: use small letters, digits and '-'")
    return text


class _Reader:
    """Takes the document apart and collects every problem."""

    def __init__(self, document: Value, folder: Path) -> None:
        self.document, self.folder = document, folder
        self.problems: list[Problem] = []

    def read(self) -> AgentConfig | None:
        self._check_keys(self.document, KEYS.split(), "agent")
        found: dict[str, object] = {}
        for name, convert in (
            ("cluster", check_name),
            ("agent", check_name),
            ("tier", _check_tier),
            ("local", self._path),
            ("state", Path),
            ("serial", str),
            ("failover", parse_seconds),
            ("certificate_life", parse_seconds),
            ("feedback", parse_seconds),
            ("run", Path),
            ("traces", str),
        ):
            value = self.document.mapping.get(name)
            if value is not None:
                found[name] = self._text(value, name, convert)
        self._need(self.document, ("cluster", "hubs"), "agent")
        found |= self._lists()
        if self.problems:
            return None
        return AgentConfig(**found)  # type: ignore[arg-type]  # each has just been checked

    def _lists(self) -> dict[str, object]:
        found: dict[str, object] = {}
        hubs = self.document.mapping.get("hubs")
        if hubs is not None:
            if not hubs.items:
                self._add(hubs.place, "hubs: must be a list with at least one hub")
            found["hubs"] = tuple(self._hub(each, f"hubs[{index}]") for index, each in enumerate(hubs.items))
        claims = self.document.mapping.get("claims")
        if claims is not None:
            found["claims"] = {
                name: str(self._text(each, f"claims.{name}", str)) for name, each in claims.mapping.items()
            }
        kinds = self.document.mapping.get("kinds")
        if kinds is not None:
            more = tuple(str(self._text(each, f"kinds[{index}]", str)) for index, each in enumerate(kinds.items))
            found["kinds"] = (*KINDS, *more)
        return found

    def _hub(self, value: Value, where: str) -> HubConfig:
        self._check_keys(value, ["server", "token", "authority"], where)
        self._need(value, ("server",), where)
        found: dict[str, object] = {}
        for name, convert in (("server", check_server), ("token", self._path), ("authority", self._path)):
            each = value.mapping.get(name)
            if each is not None:
                found[name] = self._text(each, f"{where}.{name}", convert)
        return HubConfig(**{"server": "", **found})  # type: ignore[arg-type]  # each has just been checked

    def _path(self, text: str) -> Path:
        return self.folder / text

    def _text(self, value: Value, where: str, convert: Callable[[str], Made]) -> Made | None:
        if isinstance(value.content, dict | list) or value.content is None:
            self._add(value.place, f"{where}: must be text, got {describe(value.plain())}")
            return None
        try:
            return convert(str(value.content))
        except ValueError as error:
            self._add(value.place, f"{where}: {error}")
            return None

    def _need(self, value: Value, names: tuple[str, ...], where: str) -> None:
        for name in names:
            if name not in value.mapping:
                self._add(value.place, f"missing key {name!r} in {where}")

    def _check_keys(self, value: Value, known: list[str], where: str) -> None:
        for name, each in value.mapping.items():
            if name not in known:
                hint = suggest(name, known) or f"known keys: {', '.join(known)}"
                self._add(each.key, f"unknown key {name!r} in {where}", hint)

    def _add(self, place: Place, message: str, hint: str = "") -> None:
        self.problems.append(place.problem(message, hint))


def _check_tier(text: str) -> str:
    if text not in TIERS:
        raise ValueError(f"must be one of {', '.join(TIERS)}, got {text!r}")
    return text
