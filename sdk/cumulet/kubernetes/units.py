"""systemd units as values, and their text."""

from __future__ import annotations

from dataclasses import dataclass

from cumulet.kubernetes.model import Text
from cumulet.kubernetes.render import render


@dataclass(frozen=True, slots=True)
class Service:
    """A service. `when` are condition lines, such as `PathExists=/x`; `weight` is its share of the CPU."""

    description: str
    start: tuple[str, ...]
    kind: str = "notify"
    before_start: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    environment_file: str = ""
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    wanted_by: str = ""
    restart: str = "always"
    weight: int = 100
    extra: tuple[str, ...] = ()


def make_service(service: Service) -> Text:
    """The text of a unit file."""
    return Text(render("service.j2", unit=service))


def make_target(description: str, *, when: tuple[str, ...] = (), requires: tuple[str, ...] = ()) -> Text:
    """The text of a target that multi-user.target wants but does not wait for."""
    return Text(render("target.j2", description=description, when=when, requires=requires))
