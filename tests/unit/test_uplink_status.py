"""The status in a short message: what fits, what comes back, what is not believed."""

from __future__ import annotations

import dataclasses
import random

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.uplink.status import NodeStatus, SiteStatus, decode_status, encode_status, is_newer

NOW = 1795608000 // 60 * 60
KEY = b"k" * 32
FULL = SiteStatus(
    site="pier-7",
    sequence=65535,
    time=NOW,
    position=(31.23042, 121.4737),
    nodes=10,
    ready=9,
    servers=3,
    servers_ready=2,
    cpu=71,
    gpu=100,
    memory=55,
    running=40,
    waiting=3,
    failed=1,
    spool_mib=1023.0,
    spool_entries=255,
    age=63.0,
    links=("down", "down", "up", "used"),
    signal=61,
    model="deadbeef",
    alarms=("node-lost", "uplink-down"),
    temperature=-20,
    battery=88,
    note="pump 3 stopped",
)


def test_everything_comes_back_from_seventy_bytes() -> None:
    data = encode_status(FULL, "global", KEY)
    assert len(data) <= 70
    assert decode_status(data, ["other", "pier-7"], {"pier-7": KEY}) == dataclasses.replace(
        FULL, position=pytest.approx(FULL.position, abs=1e-5)
    )


def test_the_longest_status_fits() -> None:
    many = tuple(NodeStatus(f"p{n}", n % 2 == 0, 127, 127, 127, 100) for n in range(1000))
    longest = dataclasses.replace(FULL, note="ä" * 30, nodes=99999, spool_mib=1e12, each_node=many)
    assert len(encode_status(longest, "global", KEY)) <= 70
    regional = encode_status(longest, "regional", KEY)
    assert 1400 < len(regional) <= 1750
    back = decode_status(regional, ["pier-7"], {"pier-7": KEY}, [node.name for node in many])
    assert (len(back.each_node), back.nodes) == (255, 1023)
    assert not any(node.ready for node in back.each_node)  # those in trouble come first
    assert back.each_node[0].name == "p1"


def test_any_status_survives_the_way() -> None:
    chance = random.Random(7)
    for _ in range(300):
        status = SiteStatus(
            site=f"s{chance.randrange(99)}",
            sequence=chance.randrange(1 << 16),
            time=NOW + 60 * chance.randrange(10**6),
            position=None if chance.random() < 0.3 else (chance.uniform(-90, 90), chance.uniform(-180, 180)),
            nodes=chance.randrange(1024),
            cpu=chance.randrange(101),
            failed=chance.randrange(1024),
            spool_mib=chance.uniform(0, 50_000),
            links=tuple(chance.choices(("none", "down", "up", "used"), k=4)),
            temperature=chance.randrange(-60, 190),
            battery=chance.choice([None, 0, 50, 100]),
            each_node=tuple(NodeStatus(f"n{n}", chance.random() < 0.5, n) for n in range(chance.randrange(20))),
        )
        back = decode_status(
            encode_status(status, "regional"), [status.site], {}, [node.name for node in status.each_node]
        )
        assert back.spool_mib == pytest.approx(status.spool_mib, rel=0.045, abs=0.03)
        if status.position is not None:
            assert back.position == pytest.approx(status.position, abs=1e-5)
        same = {"spool_mib": 0.0, "position": None, "each_node": ()}
        assert dataclasses.replace(back, **same) == dataclasses.replace(status, **same)
        assert sorted(back.each_node, key=lambda n: n.name) == sorted(status.each_node, key=lambda n: n.name)


def test_what_is_too_big_stays_at_the_end_of_its_range() -> None:
    status = dataclasses.replace(FULL, cpu=1000, ready=-5, temperature=10_000, spool_mib=1e15)
    back = decode_status(encode_status(status, "global"), ["pier-7"], {})
    assert (back.cpu, back.ready, back.temperature) == (127, 0, 195)
    assert back.spool_mib > 60_000


def test_nobody_speaks_for_a_site_without_its_key() -> None:
    data = encode_status(FULL, "global", KEY)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        with pytest.raises(TargetError):
            decode_status(bytes(damaged), ["pier-7"], {"pier-7": KEY})
    with pytest.raises(TargetError, match=r"pier-7: a status that is not from there"):
        decode_status(encode_status(FULL, "global"), ["pier-7"], {"pier-7": KEY})
    with pytest.raises(TargetError, match=r"pier-7: its status is signed, and its key is not known here"):
        decode_status(data, ["pier-7"], {})


def test_what_is_no_status_is_named() -> None:
    with pytest.raises(TargetError, match="a status of an unknown site, "):
        decode_status(encode_status(FULL, "global"), ["else"], {})
    with pytest.raises(TargetError, match="a status of version 15; known is 1"):
        decode_status(b"\xff" * 40, ["pier-7"], {})
    data = encode_status(FULL, "global")
    for size in range(len(data)):
        with pytest.raises(TargetError):
            decode_status(data[:size], ["pier-7"], {})
    with pytest.raises(UsageError, match="'fire': not one of control-plane, no-quorum"):
        encode_status(dataclasses.replace(FULL, alarms=("fire",)), "global")


def test_an_old_status_is_told_from_a_new_one() -> None:
    later, wrapped = dataclasses.replace(FULL, time=NOW + 60, sequence=0), dataclasses.replace(FULL, sequence=0)
    assert is_newer(FULL, None)
    assert is_newer(later, FULL)
    assert is_newer(wrapped, FULL)
    assert not is_newer(FULL, FULL)
    assert not is_newer(FULL, later)
    assert not is_newer(FULL, wrapped)
