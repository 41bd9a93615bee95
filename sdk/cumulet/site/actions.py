"""What a bring-up does, as values: the same list feeds the dry run, the journal, the executor and the tests.

A value that is known only while the plan runs (a token, a key, a certificate) is named,
not held: `Late` makes a content from the vault at the moment it is needed, so that no
secret is in a plan, in a log or in the journal.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from cumulet.packages import Package

Vault = Mapping[str, str]
"""Values fetched or made while a plan runs, by name. In memory only."""


@dataclass(frozen=True, slots=True)
class Late:
    """A content that is made from the vault. `name` says what it is, in plain words."""

    name: str
    make: Callable[[Vault], str] = field(compare=False, repr=False)


Content = str | Late


@dataclass(frozen=True, slots=True)
class Run:
    """Run a program; it must end with 0. `input` is what it reads; `seconds` is the longest it may take."""

    argv: tuple[str, ...]
    input: Content | None = None
    seconds: float = 120.0
    into: str = ""
    """Keep what it prints in the vault, under this name."""
    explain: tuple[tuple[str, str], ...] = ()
    """What its errors mean: a part of the text -> plain words."""


@dataclass(frozen=True, slots=True)
class Put:
    """Make a file, whole or not at all."""

    path: str
    content: Content
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Fetch:
    """Keep a file's content in the vault, under a name."""

    path: str
    into: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Run a program again and again until it ends with 0."""

    what: str
    argv: tuple[str, ...]
    seconds: float = 180.0
    input: Content | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Bring a file of this computer to the host, going on where an earlier try ended."""

    source: str
    path: str
    sha256: str
    size: int
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Ready:
    """Wait, asking on this host, until nodes are Ready; lets their kubelets have certificates on the way.

    `nodes`: name -> address. A certificate is granted only for exactly that name and address.
    `kubectl` are the words to ask with.
    """

    nodes: tuple[tuple[str, str], ...]
    kubectl: tuple[str, ...]
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Handle:
    """Do something with packages on the host: bring their blobs there, put them in place, drop what is needed no more.

    `sources`: where blobs come from, best first. With `listen`, an address, the host hands them on until the phase
    ends. `login` is the file with the source's password; `names` are files among the blobs to drop.
    """

    verb: Literal["bring", "install", "drop"]
    packages: tuple[Package, ...] = ()
    sources: tuple[str, ...] = ()
    listen: str = ""
    login: str = ""
    names: tuple[str, ...] = ()


Action = Run | Put | Fetch | Wait | Send | Ready | Handle


@dataclass(frozen=True, slots=True)
class Step:
    """Something done on one host. `why` is what the facts say about it."""

    name: str
    host: str
    title: str
    why: str
    actions: tuple[Action, ...]

    @property
    def id(self) -> str:
        """What the journal calls it."""
        return f"{self.name}@{self.host}"


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps that belong together. With `at_once` 1 they run in their order; else hosts run side by side.

    `beside`: names of phases that may come meanwhile; before any other one all of these steps are over.
    """

    name: str
    title: str
    steps: tuple[Step, ...]
    at_once: int = 1
    beside: tuple[str, ...] = ()


Plan = tuple[Phase, ...]


def describe(action: Action) -> str:  # noqa: PLR0911 - one answer for each kind of action
    """An action as one line, without any secret."""
    match action:
        case Run(argv=argv, input=content):
            return shlex.join(argv) + (f" < {_describe_content(content)}" if content is not None else "")
        case Put(path=path, content=content, mode=mode):
            return f"write {path} (mode {mode:o}): {_describe_content(content)}"
        case Fetch(path=path, into=name):
            return f"read {path} as {name}"
        case Wait(what=what, argv=argv, seconds=seconds):
            return f"wait up to {seconds:.0f} s until {what}: {shlex.join(argv)}"
        case Ready(nodes=nodes, seconds=seconds):
            return f"wait up to {seconds:.0f} s until Ready: {', '.join(name for name, _ in nodes)}"
        case Handle(verb=verb, packages=packages, sources=sources, listen=address, names=names):
            what = ", ".join([*(each.title for each in packages), *(name[:12] for name in names)])
            start = f" from {' or '.join(sources)}" if sources else ""
            return f"{verb} {what}{start}" + (f", hand on at {address}" if address else "")
        case Send(path=path, size=size, sha256=digest):
            return f"send {path} ({size} bytes, sha256 {digest[:12]})"


def _describe_content(content: Content) -> str:
    if isinstance(content, Late):
        return f"<{content.name}>"
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{len(content.encode())} bytes, sha256 {digest[:12]}"


def count_steps(plan: Plan) -> int:
    """How many steps a plan has."""
    return sum(len(phase.steps) for phase in plan)
