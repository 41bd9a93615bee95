"""An image with a satellite receiver: gpsd sees every system that the recipe asks for, and the clock is set from it.

The receiver is simulated on the other side of a serial port: from a sky, and from a recording with Beidou's older
talker BD, replayed with its times moved to now.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cumulet_qemu.guest import Guest, Patience
from cumulet_qemu.published import GnssFacts, Published
from cumulet_qemu.sim.nmea import SKY, Receiver, read_recording
from cumulet_qemu.vm import VirtualMachine

RECORDING = Path(__file__).with_name("beidou.nmea")
IDS = {"gps": 0, "galileo": 2, "beidou": 3, "qzss": 5, "glonass": 6}
CLOCK_SECONDS = 3.0
AWAY = timedelta(days=3)
# Views of the sky for some seconds, as gpsd gives them.
WATCH = (
    'exec 3<>/dev/tcp/127.0.0.1/2947; echo \'?WATCH={"enable":true,"json":true};\' >&3; '
    "timeout 8 cat <&3 | grep SKY; true"
)

# What of the way from receiver to clock can be seen, for a failed check.
CLOCK_FACTS = (
    "chronyc -n sources; chronyc tracking; timeout 12 ntpshmmon -n 3 -t 10; "
    "journalctl -b --no-pager -o short-monotonic -u gpsd -u chrony -u 'gpsdctl@*' | tail -40"
)


@pytest.fixture(scope="module")
def receiver(vm: VirtualMachine) -> Receiver:
    """The simulated receiver."""
    assert vm.radio.receiver is not None, "the board has no port for a receiver"
    return vm.radio.receiver


@pytest.fixture
def facts(image: Published) -> GnssFacts:
    """What the image asks for."""
    assert image.gnss is not None, "the image has no receiver"
    return image.gnss


@pytest.fixture
def recording(receiver: Receiver) -> Iterator[None]:
    """The receiver replays the recording."""
    receiver.recording = read_recording(RECORDING.read_text())
    yield
    receiver.recording = None


def read_sky(node: Guest) -> dict[int, set[int]]:
    """System's number -> numbers of its satellites, of some seconds: one view alone may be of half a second's words."""
    told = node.output(f"bash -c {shlex.quote(WATCH)}", 60).splitlines()
    views = [json.loads(line) for line in told if '"class":"SKY"' in line]
    sky: dict[int, set[int]] = {}
    for view in views:
        for each in view.get("satellites", []):
            sky.setdefault(each["gnssid"], set()).add(each["svid"])
    return sky


def test_gpsd_reports_every_satellite_of_the_systems_asked_for(
    node: Guest, receiver: Receiver, facts: GnssFacts, patience: Patience
) -> None:
    wanted = {IDS[name]: {each.number for each in SKY.satellites[name]} for name in facts.constellations}
    deadline = patience(180)
    while not wanted.items() <= (sky := read_sky(node)).items():
        assert not deadline.passed, (wanted, sky)
    assert IDS["beidou"] in wanted


def test_boot_says_that_all_are_seen(vm: VirtualMachine, facts: GnssFacts, patience: Patience) -> None:
    line = vm.wait_line(re.compile(r"cumulet: gnss: (.*)"), "what the receiver sees", patience(facts.wait + 120))
    assert line[1].strip() == f"all asked for are seen: {' '.join(facts.constellations)}"


@pytest.mark.usefixtures("recording")
def test_beidou_is_seen_with_its_older_talker(node: Guest) -> None:
    numbers = {int(n) for n in re.findall(r"\$BDGSV,\d,\d,\d+,(\d\d)", RECORDING.read_text())}
    node.output("/usr/lib/cumulet/gnss-check 30", 90)
    assert numbers <= read_sky(node).get(IDS["beidou"], set())


def test_beidou_that_is_not_seen_is_said(node: Guest, receiver: Receiver, facts: GnssFacts) -> None:
    receiver.sky = SKY.only(set(SKY.satellites) - {"beidou"})
    try:
        node.output("systemctl restart gpsd && sleep 2")
        said = node.output("/usr/lib/cumulet/gnss-check 20", 120)
    finally:
        receiver.sky = SKY
    assert re.search(r"cumulet: gnss: beidou: asked for, not seen within 20 s; seen:.* gps", said), said
    assert "beidou 0" in node.output("cat /run/cumulet/gnss").splitlines()


def test_clock_is_set_from_the_receiver(node: Guest, receiver: Receiver, patience: Patience) -> None:
    # Three days away nothing else can have set it.
    for shift in (AWAY, timedelta()):
        receiver.shift = shift
        # As at a start with a wrong clock: gpsd takes no clock that was put back under it.
        node.output("systemctl stop chrony gpsd && date -s '2024-02-29 12:00:00' && systemctl start gpsd chrony")
        node.run("chronyc offline")
        deadline = patience(180)
        while abs(time.time() + shift.total_seconds() - float(node.output("date +%s.%N"))) > CLOCK_SECONDS:
            assert not deadline.passed, node.run(CLOCK_FACTS).output
            deadline.sleep(2)
        assert "(GNSS)" in node.output("chronyc tracking")
