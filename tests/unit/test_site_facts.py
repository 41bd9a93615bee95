"""Facts from what devices print, and what is found wrong in them, word for word."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cumulet.site.check import describe_time, find_problems
from cumulet.site.facts import (
    HostFacts,
    Member,
    SiteFacts,
    find_clock_errors,
    parse_host,
    parse_members,
    parse_nodes,
)
from cumulet.site.model import SiteDocument, parse_site

# What the script printed on a device of a k3s site.
SAMPLE = (Path(__file__).parent / "test_site_data/facts-k3s.txt").read_text()
MIB, GIB, DAY = 1 << 20, 1 << 30, 86400.0
NAMES = {"p1": "control", "p2": "master", "p3": "master", "p4": "worker"}


def make_site(distribution: str = "kubeadm", extra: str = "") -> SiteDocument:
    nodes = "".join(f"- {{name: {name}, address: 10.0.0.1{name[1]}, role: {role}}}\n" for name, role in NAMES.items())
    return parse_site(f"version: 1\nsite: pier-7\ndistribution: {distribution}\n{extra}nodes:\n{nodes}", "s")


def make_host(name: str, **changes: Any) -> HostFacts:
    fine = HostFacts(
        name=name,
        memory=4 * GIB,
        disk=8 * GIB,
        links={f"10.0.0.1{name[1]}": 1500},
        programs={"kubeadm": "v1.36.3", "containerd": "v2.0.0"},
    )
    return replace(fine, **changes)


def problems_of(changes: dict[str, dict[str, Any]], site: SiteDocument | None = None) -> list[tuple[str, str]]:
    hosts = {name: make_host(name, **changes.get(name, {})) for name in NAMES}
    return [(each.message, each.hint) for each in find_problems(site or make_site(), SiteFacts(hosts))]


def test_facts_are_read_from_what_a_device_prints() -> None:
    facts = parse_host("p2", SAMPLE, 1795576480.0)
    assert facts is not None
    assert round(facts.clock, 3) == 10.221
    assert replace(facts, files={}, clock=0) == HostFacts(
        name="p2",
        architecture="arm64",
        kernel="6.12.57",
        hostname="p2",
        cpus=2,
        memory=3884084 * 1024,
        disk=14908264 * 1024,
        cgroup=2,
        restricted=False,
        boot="6c138c75-8bb9-465e-a453-eef250361c3e",
        machine="b581b4e192c1441584d0002133e9a9a2",
        role="none",
        links={"10.0.0.12": 1500},
        programs={"k3s": "v1.36.2+k3s1"},
        active=frozenset({"k3s"}),
        made=True,
        etcd_data=True,
    )
    assert facts.files["/etc/hosts"] == "0e8105e027b1fafad65f86bfc12e61c2306b14001de920270f2b9663373d1ccd"
    assert len(facts.files) == 5


@pytest.mark.parametrize("text", ["", "Welcome!\n", SAMPLE.removesuffix("end\n"), SAMPLE + "more\n"])
def test_half_an_answer_is_no_answer(text: str) -> None:
    assert parse_host("p2", text, 0.0) is None


def test_what_is_under_way_on_a_device_is_read_whole() -> None:
    facts = parse_host("p2", SAMPLE.replace("made\n", "installing masters.join of p2\n"), 0.0)
    assert facts is not None
    assert (facts.installing, facts.made) == ("masters.join of p2", False)


def test_members_of_etcd_are_read() -> None:
    text = json.dumps(
        {
            "members": [
                {"ID": 10276657743932975437, "name": "p1", "peerURLs": ["https://10.0.0.11:2380"]},
                {"ID": 255, "peerURLs": ["https://10.0.0.12:2380"], "isLearner": True},
            ]
        }
    )
    assert parse_members(text) == (
        Member("8e9e05c52164694d", "p1", "10.0.0.11", False),
        Member("ff", "", "10.0.0.12", True),
    )


def test_nodes_are_read_with_what_k3s_says_of_their_member() -> None:
    def node(name: str, **conditions: str) -> dict[str, Any]:
        found = [{"type": each, "status": status} for each, status in conditions.items()]
        return {"metadata": {"name": name, "labels": {"a": ""}}, "status": {"conditions": found}}

    items = [node("p1", Ready="True", EtcdIsVoter="True"), node("p2", Ready="Unknown", EtcdIsVoter="False"), node("p4")]
    items[2]["spec"] = {"unschedulable": True}
    items[2]["status"]["addresses"] = [
        {"type": "Hostname", "address": "p4"},
        {"type": "InternalIP", "address": "10.0.0.14"},
    ]
    found = parse_nodes(json.dumps({"items": items}))
    assert [(each.name, each.ready, each.voter) for each in found.values()] == [
        ("p1", True, True),
        ("p2", False, False),
        ("p4", False, None),
    ]
    assert (found["p4"].address, found["p4"].unschedulable, found["p4"].labels) == ("10.0.0.14", True, {"a"})


@pytest.mark.parametrize(
    ("clocks", "off"),
    [
        ([0, 1, -2, 0], {}),
        ([0, DAY, 0, 0], {"p2": DAY}),
        ([DAY, DAY, DAY, DAY], {"": -DAY}),
        ([0, DAY, DAY, DAY], {"": -DAY, "p1": -DAY}),
        ([0, 0, DAY, DAY], {"p3": DAY, "p4": DAY}),
        ([0, 0, DAY, -DAY], {"p3": DAY, "p4": -DAY}),
        ([-DAY], {"p1": -DAY}),
        ([30, -31, 0, 0], {}),
        ([61, 0, 0, 0], {"p1": 61}),
    ],
    ids=[
        "none",
        "one",
        "this computer",
        "the control node, which this is",
        "half",
        "two ways",
        "lone",
        "small",
        "just",
    ],
)
def test_a_wrong_clock_is_found_and_does_not_make_others_wrong(clocks: list[float], off: dict[str, float]) -> None:
    facts = {f"p{number}": make_host(f"p{number}", clock=clock) for number, clock in enumerate(clocks, 1)}
    assert find_clock_errors(facts, 60) == off


def test_nothing_is_wrong_with_a_good_site() -> None:
    assert problems_of({}) == []


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        (
            {"memory": 400 * MIB},
            "p3: memory: has 400 MiB, needs 512 MiB",
            "take a bigger device, or lower minimum.memory",
        ),
        (
            {"disk": 100 * MIB},
            "p3: free space in /var/lib: has 100 MiB, needs 1024 MiB",
            "free some, or lower minimum.disk",
        ),
        (
            {"programs": {}},
            "p3: its image has no kubeadm and no containerd",
            "its image needs: kubernetes: {distribution: kubeadm}",
        ),
        (
            {"role": "worker"},
            "p3: was made for role worker, the site wants master",
            "change its node.yaml, or the role of p3 in site.yaml",
        ),
        ({"links": {"10.9.9.9": 1500}}, "p3: has not the address 10.0.0.13 itself; it has: 10.9.9.9", ""),
        ({"links": {}}, "p3: has not the address 10.0.0.13 itself; it has: none", ""),
        (
            {"clock": -DAY},
            "p3: its clock is 1 day behind",
            "on p3: timedatectl set-ntp true, or let it see the sky or a time server",
        ),
        (
            {"links": {"10.0.0.13": 1280}},
            "p3: packets on its link have at most 1280 bytes (MTU), on the others 1500",
            "give all links of the site the same MTU",
        ),
        (
            {"programs": {"kubeadm": "v1.35.0", "containerd": "v2.0.0"}},
            "p3: has Kubernetes v1.35.0, the others v1.36.3",
            "give it the same image",
        ),
    ],
)
def test_a_device_that_will_not_do_is_named_with_the_reason(changes: dict[str, Any], message: str, hint: str) -> None:
    assert problems_of({"p3": changes}) == [(message, hint)]


def test_all_problems_of_all_devices_come_at_once() -> None:
    found = problems_of({"p1": {"memory": MIB, "disk": MIB}, "p4": {"clock": 7200.0}})
    assert [message for message, _ in found] == [
        "p1: memory: has 1 MiB, needs 512 MiB",
        "p1: free space in /var/lib: has 1 MiB, needs 1024 MiB",
        "p4: its clock is 2 hours ahead",
    ]


def test_a_wrong_clock_of_this_computer_is_named() -> None:
    assert problems_of({name: {"clock": DAY} for name in NAMES}) == [
        (
            "this computer: its clock is 1 day behind",
            "on this computer: timedatectl set-ntp true, or let it see the sky or a time server",
        )
    ]


def test_what_is_in_may_be_full_and_of_another_version() -> None:
    older = {"kubeadm": "v1.35.0", "containerd": "v2.0.0"}
    others = {name: {"made": True} for name in NAMES if name != "p3"}
    assert problems_of({**others, "p3": {"made": True, "disk": 0, "memory": MIB, "programs": older}}) == []


def test_limits_are_those_of_the_document() -> None:
    site = make_site(extra="minimum: {memory: 5GiB, disk: 1KiB, clock: 2h}\n")
    found = problems_of({"p1": {"disk": 2048, "clock": 7000.0}}, site)
    assert [message.partition(":")[2] for message, _ in found] == [" memory: has 4096 MiB, needs 5120 MiB"] * 4


def test_a_device_for_the_other_distribution_is_refused() -> None:
    fine = {name: {"programs": {"k3s": "v1.36.2+k3s1"}} for name in NAMES}
    assert problems_of(fine, make_site("k3s")) == []
    found = problems_of({**fine, "p2": {}}, make_site("k3s"))
    assert found[0] == ("p2: its image has no k3s", "its image needs: kubernetes: {distribution: k3s}")


def test_times_are_described_in_fitting_units() -> None:
    assert [describe_time(each) for each in (90, -3600, 9000, DAY, 2.5 * DAY)] == [
        "90 seconds",
        "1 hour",
        "2.5 hours",
        "1 day",
        "2.5 days",
    ]


@pytest.mark.parametrize(
    ("version", "fits"), [("v1.36.3", True), ("v1.36.1", True), ("v1.36.4", False), ("v1.35.9", False), ("", True)]
)
def test_a_device_that_comes_later_may_be_an_older_patch_release(version: str, fits: bool) -> None:
    from cumulet.site.check import _check_versions

    old = {name: HostFacts(name, made=True, programs={"kubeadm": "v1.36.3"}) for name in ("p1", "p2")}
    new = HostFacts("p3", programs={"kubeadm": version} if version else {})
    assert (_check_versions({**old, "p3": new}) == []) is fits
