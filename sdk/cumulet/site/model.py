"""site.yaml: which devices make a site, and what they run. Typed as the recipe is.

One declaration gives the type, the default, the check and the documented field.
What a single field cannot know (roles that fit together, addresses used twice) is
checked over the whole document, every problem at once.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cumulet.core.documents import Place, Value, load_document, make_error, parse_versioned, validate_whole
from cumulet.core.errors import Problem
from cumulet.kubernetes import Addon, Cluster
from cumulet.packages import check_source

MOST_NODES = 50
BALANCER = "127.0.0.1:7443"
"""Where every node finds an API server: its own balancer."""
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SECONDS = {"s": 1, "m": 60, "h": 3600}
Role = Literal["single", "control", "master", "worker"]


def parse_size(text: str) -> int:
    """`512MiB` as bytes. Raises ValueError."""
    match = re.fullmatch(r"(\d+)(KiB|MiB|GiB)", text)
    if not match:
        raise ValueError(f"not a size: {text!r}; write it like 512MiB")
    return int(match[1]) * UNITS[match[2]]


def parse_seconds(text: str) -> int:
    """`30m` as seconds. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([smh])", text)
    if not match:
        raise ValueError(f"not a time: {text!r}; write it like 30m")
    return int(match[1]) * SECONDS[match[2]]


def _keep(parse: object, text: str) -> str:
    parse(text)  # type: ignore[operator]
    return text


def _check_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a name: use lower-case letters, digits and '-'")
    return text


def _check_address(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address; write it like 10.0.0.11") from None
    return text


def _check_network(text: str) -> str:
    try:
        ipaddress.IPv4Network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write it like 10.42.0.0/16") from None
    return text


def _check_host_key(text: str) -> str:
    if not re.fullmatch(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+) AAAA\S+( .*)?|SHA256:\S+", text):
        raise ValueError("not a host key; write the server's .pub line, or its fingerprint SHA256:...")
    return text


Name = Annotated[str, AfterValidator(_check_name)]
Address = Annotated[str, AfterValidator(_check_address)]
Network = Annotated[str, AfterValidator(_check_network)]
Size = Annotated[str, AfterValidator(lambda text: _keep(parse_size, text))]
Duration = Annotated[str, AfterValidator(lambda text: _keep(parse_seconds, text))]
HostKey = Annotated[str, AfterValidator(_check_host_key)]
Claim = Annotated[str, Field(min_length=1, max_length=1024)]
PackageSource = Annotated[str, AfterValidator(check_source)]


class Part(BaseModel):
    """Base of every part of the document: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SiteNode(Part):
    """One device."""

    name: Name
    address: Address = Field(description="IPv4 address by which the other devices reach it")
    role: Role
    host_key: HostKey | None = Field(None, description="Its ssh host key, or the fingerprint of it")
    port: int = Field(22, ge=1, le=65535, description="Port of its ssh server")


def _check_count(nodes: tuple[SiteNode, ...]) -> tuple[SiteNode, ...]:
    # Not a length in the type: that would be held against the nodes without a mistake only.
    if not 1 <= len(nodes) <= MOST_NODES:
        raise ValueError(f"a site has 1 to {MOST_NODES} nodes, this one has {len(nodes) or 'none'}")
    return nodes


class Ssh(Part):
    """How the devices are reached. Host keys are always checked."""

    user: str = Field("root", description="Must be able to do everything on the devices")
    key: str | None = Field(None, description="Private key file. Default: your own keys and agent")
    known_hosts: str | None = Field(
        None, description="known_hosts file. Default: the site's own, filled by `site trust`"
    )


class Net(Part):
    """Addresses inside the cluster."""

    pod_cidr: Network = "10.42.0.0/16"
    service_cidr: Network = "10.43.0.0/16"


class Minimum(Part):
    """What a device must have."""

    memory: Size = Field("512MiB", description="Memory")
    disk: Size = Field("1GiB", description="Free space where containers and etcd lie")
    clock: Duration = Field("60s", description="Most that clocks may differ")


class Packages(Part):
    """What is fetched once, checked, and handed from device to device."""

    source: PackageSource = Field(
        description="https://... of a store with a signed index, or oci://registry/repository"
    )
    key: str = Field(description="File with the public key (ed25519, PEM) that the index must be signed with")
    login: str | None = Field(None, description="File with user:password for a registry that wants one")
    names: tuple[Name, ...] = Field((), description="Packages for every device. Default: all in the index")


class Script(Part):
    """A program that runs once on every device of some roles, after Kubernetes is up."""

    name: Name
    run: str = Field(description="A file beside site.yaml, copied and run as root")
    on: tuple[Role, ...] = Field(("control", "master", "worker", "single"), description="Roles")


class Central(Part):
    """The central cloud that the site registers at."""

    hub: str = Field(description="https://... of the hub's API server")
    token: str = Field(description="File with the bootstrap token")
    authority: str | None = Field(None, description="File with the certificate (PEM) that the hub's is signed by")
    tier: Literal["edge", "station", "regional", "central"] = Field("edge", description="Which tier the site is")
    claims: Mapping[Annotated[str, Field(min_length=1, max_length=253)], Claim] = Field(
        {}, description="What the site says of itself, for placements: `gpu: adreno-630`"
    )


class SiteDocument(Part):
    """A site: its devices, their roles, what runs on them."""

    version: Literal[1]
    site: Name
    distribution: Literal["k3s", "kubeadm"] = "k3s"
    nodes: Annotated[tuple[SiteNode, ...], AfterValidator(_check_count)]
    workers: Literal["remaining", "all"] = Field("remaining", description="all: control and masters also take work")
    ssh: Ssh = Ssh()
    network: Net = Net()
    addons: tuple[Addon, ...] = ("coredns", "metrics-server")
    minimum: Minimum = Minimum()
    packages: Packages | None = None
    scripts: tuple[Script, ...] = ()
    central: Central | None = None
    at_once: int = Field(8, ge=1, le=MOST_NODES, description="Devices that are worked on at the same time")
    token_life: Duration = Field("30m", description="How long a token that lets devices join is good for")

    @property
    def servers(self) -> tuple[SiteNode, ...]:
        """Control first, then the masters: the order in which they join."""
        order = ("single", "control", "master")
        return tuple(node for role in order for node in self.nodes if node.role == role)

    @property
    def masters(self) -> tuple[SiteNode, ...]:
        """The nodes with an API server, in order."""
        return tuple(node for node in self.nodes if node.role in ("single", "master"))

    @property
    def worker_nodes(self) -> tuple[SiteNode, ...]:
        """The nodes that are no servers, in order."""
        return tuple(node for node in self.nodes if node.role == "worker")

    @property
    def control(self) -> SiteNode:
        """The control node, or the only one."""
        return self.servers[0]

    def node(self, name: str) -> SiteNode | None:
        """The node of this name."""
        return next((node for node in self.nodes if node.name == name), None)

    @property
    def cluster(self) -> Cluster:
        """What every node of the cluster agrees on."""
        # One device needs nobody between itself and its own API server.
        several = self.distribution == "kubeadm" and len(self.masters) > 1
        balanced = tuple(node.address for node in self.masters) if several else ()
        return Cluster(
            name=self.site,
            pod_cidr=self.network.pod_cidr,
            service_cidr=self.network.service_cidr,
            addons=self.addons,
            endpoint=BALANCER if balanced else "",
            balanced=balanced,
            masters_work=self.workers == "all" or len(self.nodes) <= len(self.servers),
        )


Sources = Mapping[str, str]
"""The files that a document names, by the path that it names them by."""


def read_sources(site: SiteDocument, folder: Path) -> dict[str, str]:
    """Read the files that a document names. Raises UsageError for every one that cannot be read."""
    paths = [script.run for script in site.scripts]
    if site.central is not None:
        paths += [path for path in (site.central.token, site.central.authority) if path]
    if site.packages is not None:
        paths += [path for path in (site.packages.key, site.packages.login) if path]
    found, problems = {}, []
    for path in paths:
        try:
            found[path] = (folder / Path(path).expanduser()).read_text()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            problems.append(Problem(path, 0, 0, f"cannot be read: {reason}", "it is looked for beside site.yaml"))
    if problems:
        raise make_error(problems)
    return found


def load_site(path: Path) -> SiteDocument:
    """The site in a file. Raises UsageError with every problem, each with file, line and column."""
    return _check(load_document(path, kind="site"))


def parse_site(text: str, file: str) -> SiteDocument:
    """The site in a text; `file` names it in messages. Raises UsageError as `load_site` does."""
    return _check(parse_versioned(text, file, kind="site"))


def _check(document: Value) -> SiteDocument:
    return validate_whole(SiteDocument, document, "site", find_problems)


def find_problems(site: SiteDocument, document: Value) -> list[Problem]:
    """What is wrong with the document as a whole."""
    return [*_role_problems(site, document), *_address_problems(site, document), *_script_problems(site, document)]


def _place(document: Value, *key: str | int) -> Place:
    value = document.at(key)
    return value.place if value is not None else document.place


def _role_problems(site: SiteDocument, document: Value) -> list[Problem]:
    nodes = document.mapping["nodes"].key
    counts = {role: sum(node.role == role for node in site.nodes) for role in ("single", "control", "master", "worker")}
    if counts["single"]:
        if len(site.nodes) > 1:
            hint = "one node with role single is a site of its own; otherwise use control, master and worker"
            return [nodes.problem(f"role single is for a site of one node, this one has {len(site.nodes)}", hint)]
        return []
    problems = []
    if counts["control"] != 1:
        hint = "it is the third vote beside the two masters, and the place that the site is looked after from"
        problems.append(nodes.problem(f"needs one node with role control, has {counts['control'] or 'none'}", hint))
    if counts["master"] != 2:
        hint = "two masters and the control node are three votes: any one of them may be lost"
        problems.append(nodes.problem(f"needs two nodes with role master, has {counts['master'] or 'none'}", hint))
    return problems


def _address_problems(site: SiteDocument, document: Value) -> list[Problem]:
    problems = []
    inside = [("pod_cidr", site.network.pod_cidr), ("service_cidr", site.network.service_cidr)]
    for index, node in enumerate(site.nodes):
        for field in ("name", "address"):
            value = getattr(node, field)
            first = next(place for place, each in enumerate(site.nodes) if getattr(each, field) == value)
            if first < index:
                line = _place(document, "nodes", first, field).line
                place = _place(document, "nodes", index, field)
                problems.append(place.problem(f"{field} {value!r} is used twice, first on line {line}"))
        for name, network in inside:
            if ipaddress.IPv4Address(node.address) in ipaddress.IPv4Network(network):
                place = _place(document, "nodes", index, "address")
                problems.append(place.problem(f"address {node.address} lies in network.{name} {network}"))
    if ipaddress.IPv4Network(inside[0][1]).overlaps(ipaddress.IPv4Network(inside[1][1])):
        problems.append(_place(document, "network").problem("pod_cidr and service_cidr overlap"))
    return problems


def _script_problems(site: SiteDocument, document: Value) -> list[Problem]:
    names = [script.name for script in site.scripts]
    return [
        _place(document, "scripts", index, "name").problem(f"script {name!r} is there twice")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
