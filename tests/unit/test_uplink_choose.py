"""Which link carries what: by state, permission and cost; and what has to be done for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet.modem import Lock, Registration, State, Status
from cumulet.uplink import Choice, LinkState, UplinkDocument, load_uplink, make_choice, make_commands, probe_links
from cumulet.uplink.facts import Facts, read_network

TEXT = """\
version: 1
links:
  - {name: eth, kind: ethernet, interface: eth0, cost: 0}
  - {name: fast, kind: 5g, cost: 2}
  - {name: slow, kind: 4g, cost: 5}
  - {name: sky, kind: beidou, cost: 1000, carries: [status], device: /dev/ttyS1, address: "358463"}
classes:
  model: {most_cost: 2}
settle: 30
"""


@pytest.fixture
def document(tmp_path: Path) -> UplinkDocument:
    (tmp_path / "uplink.yaml").write_text(TEXT)
    return load_uplink(tmp_path / "uplink.yaml")


def up(*names: str, since: float = 0.0, **more: Any) -> list[LinkState]:
    every = ("eth", "fast", "slow", "sky")
    return [
        LinkState(name, name in names, since, "" if name in names else "no cable", f"if-{name}", "10.0.0.1", **more)
        for name in every
    ]


def choose(document: UplinkDocument, *names: str, before: Choice | None = None, **more: Any) -> dict[str, str | None]:
    return dict(make_choice(document, up(*names, **more), before or Choice(), 100.0).links)


def test_the_cheapest_link_that_is_up_and_allowed_carries_each_class(document: UplinkDocument) -> None:
    assert choose(document, "eth", "fast", "slow", "sky") == dict.fromkeys(
        ("control", "model", "result", "status"), "eth"
    )
    assert choose(document, "fast", "slow", "sky") == dict.fromkeys(("control", "model", "result", "status"), "fast")
    assert choose(document, "slow", "sky") == {"control": "slow", "model": None, "result": "slow", "status": "slow"}
    assert choose(document, "sky") == {"control": None, "model": None, "result": None, "status": "sky"}
    assert choose(document) == dict.fromkeys(("control", "model", "result", "status"))


def test_every_link_that_is_not_used_has_a_reason(document: UplinkDocument) -> None:
    reasons = make_choice(document, up("slow", "sky"), Choice(), 100.0).reasons
    assert reasons["model"] == {
        "eth": "no cable",
        "fast": "no cable",
        "slow": "costs 5, model is worth 2",
        "sky": "may not carry model",
    }
    assert make_choice(document, up("eth", "fast"), Choice(), 100.0).reasons["control"]["fast"] == "another is cheaper"


def test_roaming_needs_permission(document: UplinkDocument) -> None:
    made = make_choice(document, up("fast", roaming=True), Choice(), 100.0)
    assert made.links["control"] is None
    assert made.reasons["control"]["fast"] == "is roaming, which is not allowed"


def test_a_better_link_is_taken_when_it_has_settled_and_a_dead_one_left_at_once(document: UplinkDocument) -> None:
    before = make_choice(document, up("fast"), Choice(), 0.0)
    fresh = [*up("eth", since=80.0)[:1], *up("fast")[1:]]
    made = make_choice(document, fresh, before, 100.0)
    assert made.links["control"] == "fast"
    assert made.reasons["control"]["eth"] == "is up for 20 s, taken after 30"
    assert make_choice(document, fresh, before, 110.0).links["control"] == "eth"
    assert choose(document, "slow", before=before)["control"] == "slow"


def test_commands_are_given_once_and_no_class_leaks_out_by_a_dearer_way(document: UplinkDocument) -> None:
    states = up("slow", "sky")
    choice = make_choice(document, states, Choice(), 100.0)
    commands = [" ".join(each) for each in make_commands(choice, states, "", [])]
    assert commands == [
        "ip -4 route replace default via 10.0.0.1 dev if-slow table 7101",
        "ip -4 rule add fwmark 7101 lookup 7101 pref 7101",
        "ip -4 route replace unreachable default table 7102",
        "ip -4 rule add fwmark 7102 lookup 7102 pref 7102",
        "ip -4 route replace default via 10.0.0.1 dev if-slow table 7103",
        "ip -4 rule add fwmark 7103 lookup 7103 pref 7103",
        "ip -4 route replace default via 10.0.0.1 dev if-slow table 7104",
        "ip -4 rule add fwmark 7104 lookup 7104 pref 7104",
    ]
    rules = "".join(f"{n}:\tfrom all fwmark {n:#x} lookup {n}\n" for n in range(7101, 7105))
    routes: list[dict[str, Any]] = [
        {"dst": "default", "table": str(n), "gateway": "10.0.0.1", "dev": "if-slow"} for n in (7101, 7103, 7104)
    ]
    routes.append({"dst": "default", "table": "7102", "type": "unreachable"})
    assert make_commands(choice, states, rules, routes) == []
    # The link was down for a moment, and the kernel has dropped one of its routes.
    (again,) = make_commands(choice, states, rules, routes[1:])
    assert again[-1] == "7101"
    changed = make_choice(document, up("fast", "sky"), choice, 200.0)
    assert len(make_commands(changed, up("fast"), rules, routes)) == 4


ETH = {
    "ifname": "eth0",
    "flags": ["UP", "LOWER_UP"],
    "addr_info": [{"family": "inet", "local": "10.0.0.5"}],
}
ROUTE = {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"}
MODEM_ROUTE = {"dst": "default", "gateway": "10.64.0.1", "dev": "wwan0"}


def modem(**changes: Any) -> Status:
    words: dict[str, Any] = {
        "state": State.CONNECTED, "lock": Lock.NONE, "registration": Registration.HOME, "operator": "CM",
        "signal": 61, "technologies": ("lte", "5gnr"), "generations": (), "able": (), "bands": (),
        "interface": "wwan0", "address": "10.64.0.2/32",
    }  # fmt: skip
    return Status(**{**words, **changes})


def probe(document: UplinkDocument, facts: Facts, **more: Any) -> dict[str, LinkState]:
    return {state.name: state for state in probe_links(document, facts, more.pop("before", {}), 50.0, **more)}


def test_links_are_up_as_interfaces_and_modem_say(document: UplinkDocument) -> None:
    found = probe(document, Facts([ETH], [ROUTE, MODEM_ROUTE], modem(), beidou=True))
    assert [name for name, state in found.items() if state.up] == ["eth", "fast", "sky"]
    assert found["fast"] == LinkState("fast", True, 50.0, "", "wwan0", "10.64.0.1", False, 61)
    assert found["slow"].why == "the network is 5g"
    found = probe(document, Facts([], [], modem(technologies=("lte",), registration=Registration.ROAMING)))
    assert (found["slow"].up, found["slow"].roaming, found["fast"].why) == (True, True, "the network is 4g")


@pytest.mark.parametrize(
    ("facts", "name", "why"),
    [
        (Facts(), "eth", "there is no interface eth0"),
        (Facts([{**ETH, "flags": ["UP"]}], [ROUTE]), "eth", "no cable"),
        (Facts([{**ETH, "addr_info": []}], [ROUTE]), "eth", "no address"),
        (Facts([ETH]), "eth", "no gateway"),
        (Facts(), "fast", "there is no modem"),
        (Facts(modem=modem(state=State.SEARCHING)), "slow", "the modem is searching"),
        (Facts(modem=modem(address="")), "fast", "the modem is connected"),
        (Facts(beidou_reason="no card"), "sky", "no card"),
    ],
)
def test_a_link_that_is_down_says_why(document: UplinkDocument, facts: Facts, name: str, why: str) -> None:
    state = probe(document, facts)[name]
    assert (state.up, state.why) == (False, why)


def test_a_link_keeps_the_time_at_which_it_came_up(document: UplinkDocument) -> None:
    facts = Facts([ETH], [ROUTE])
    first = {state.name: state for state in probe_links(document, facts, {}, 10.0)}
    assert probe(document, facts, before=first)["eth"].since == 10.0
    assert probe(document, Facts(), before=first)["eth"].since == 50.0


def test_a_link_behind_which_nobody_answers_is_down(tmp_path: Path) -> None:
    (tmp_path / "u.yaml").write_text(TEXT.replace("cost: 0}", 'cost: 0, probe: "10.9.9.9:443"}'))
    document = load_uplink(tmp_path / "u.yaml")
    facts = Facts([ETH], [ROUTE])
    assert probe(document, facts, probe=lambda interface, where: False)["eth"].why == "10.9.9.9:443 does not answer"
    assert probe(document, facts, probe=lambda interface, where: (interface, where) == ("eth0", "10.9.9.9:443"))[
        "eth"
    ].up


def test_what_iproute2_does_not_say_in_json_is_named() -> None:
    with pytest.raises(ToolError, match="ip -j addr: not JSON"):
        read_network(lambda argv: "eth0: UP")


def test_every_problem_of_the_document_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "uplink.yaml"
    path.write_text(
        "version: 1\nlinks:\n  - {name: a, kind: ethernet}\n  - {name: a, kind: beidou}\n  - {name: b, kind: 6g}\n"
    )
    with pytest.raises(UsageError, match="kind"):
        load_uplink(path)
    path.write_text("version: 1\nlinks:\n  - {name: a, kind: ethernet}\n  - {name: a, kind: beidou}\n")
    with pytest.raises(UsageError) as caught:
        load_uplink(path)
    assert [f"{each.line}: {each.message}" for each in caught.value.problems] == [
        "3: a: an ethernet link has no interface",
        "4: links: 'a' is there twice",
        "4: a: a Beidou link needs a device and the hub's address",
        "4: a: Beidou carries only the status",
    ]
