"""uplink.yaml: the links of a site, what each costs and may carry, and what each class of traffic may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cumulet.core.documents import Place, Value, load_document, validate_whole
from cumulet.core.errors import Problem

Kind = Literal["ethernet", "5g", "4g", "beidou"]
TrafficClass = Literal["control", "model", "result", "status"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
Amount = Annotated[float, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Link(_Part):
    """One link. A modem gives two: `5g` and `4g` are up as its network is."""

    name: Name = Field(description="How it is called in messages.")
    kind: Kind = Field(description="ethernet, 5g, 4g or beidou.")
    interface: str = Field("", max_length=15, description="The network interface of an ethernet link.")
    cost: Amount = Field(0, description="What a MiB costs, in whatever unit; only the order counts.")
    carries: tuple[TrafficClass, ...] = Field(
        ("control", "model", "result", "status"), description="What may go over it."
    )
    roaming: bool = Field(False, description="Whether it may be used in another operator's network.")
    probe: str = Field("", pattern=r"^$|^[^:\s]+:\d+$", description="HOST:PORT that must answer over it.")
    device: str = Field("", description="The serial line of a Beidou terminal.")
    dialect: Literal["2.1", "3"] = Field("2.1", description="The sentences that the terminal speaks.")
    address: str = Field("", pattern=r"^\d{0,10}$", description="The card number of the hub, for Beidou.")
    service: Literal["global", "regional"] = Field("global", description="70 or 1,750 bytes a message.")


class ClassRule(_Part):
    """What a class of traffic is worth."""

    most_cost: Amount | None = Field(None, description="The highest cost of a link that may carry it.")


class UplinkDocument(_Part):
    """The whole of uplink.yaml."""

    version: Literal[1]
    links: tuple[Link, ...] = Field(min_length=1, description="The links; of equal ones the first is taken.")
    classes: dict[TrafficClass, ClassRule] = Field(default_factory=dict, description="Rules of traffic classes.")
    settle: int = Field(30, ge=0, le=3600, description="Seconds that a better link must be up before it is used.")


def load_uplink(path: Path) -> UplinkDocument:
    """The document in a file. Raises UsageError with every problem."""
    return validate_whole(UplinkDocument, load_document(path, kind="uplink"), "uplink", find_problems)


def find_problems(made: UplinkDocument, document: Value) -> list[Problem]:
    """What a single field cannot know."""
    problems, seen = [], set()
    for number, link in enumerate(made.links):
        place = _place(document, number)
        if link.name in seen:
            problems.append(place.problem(f"links: {link.name!r} is there twice"))
        seen.add(link.name)
        if link.kind == "ethernet" and not link.interface:
            problems.append(place.problem(f"{link.name}: an ethernet link has no interface", "interface: eth0"))
        if link.kind == "beidou":
            if not link.device or not link.address:
                problems.append(place.problem(f"{link.name}: a Beidou link needs a device and the hub's address"))
            if set(link.carries) != {"status"}:
                problems.append(place.problem(f"{link.name}: Beidou carries only the status", "carries: [status]"))
    return problems


def _place(document: Value, number: int) -> Place:
    found = document.at(("links", number))
    return found.place if found is not None else document.place
