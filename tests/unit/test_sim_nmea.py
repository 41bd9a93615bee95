"""The simulated receiver: sentences, checksums, recordings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import cumulet_qemu.checks
from cumulet_qemu.sim.nmea import SKY, Receiver, Sky, have_checksum, make_epoch, make_sentence, read_recording

NOW = datetime(2026, 5, 17, 4, 30, 1, 250_000, tzinfo=UTC)


def sentences(data: bytes) -> list[str]:
    assert data.endswith(b"\r\n")
    return data.decode("ascii").split("\r\n")[:-1]


def test_a_checksum_is_that_of_the_standard() -> None:
    # The examples of the standard and of receivers' manuals.
    assert make_sentence("GPGLL,5057.970,N,00146.110,E,142451,A") == b"$GPGLL,5057.970,N,00146.110,E,142451,A*27\r\n"
    assert have_checksum("$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*76")
    assert not have_checksum("$GPGGA,092750.000,5321.6802,N,00630.3372,W,1,8,1.03,61.7,M,55.2,M,,*77")
    assert not have_checksum("GPGGA")


def test_a_second_tells_time_place_and_every_system() -> None:
    lines = sentences(make_epoch(NOW, SKY))
    assert all(map(have_checksum, lines))
    assert lines[0].startswith("$GNRMC,043001.25,A,3030.0000,N,11415.0000,E,")
    assert ",170526," in lines[0]
    assert lines[-1].startswith("$GNZDA,043001.25,17,05,2026,")
    talkers = {line[1:3] for line in lines if line[3:6] == "GSV"}
    assert talkers == {"GP", "GL", "GA", "GB", "GQ"}


def test_satellites_are_told_four_at_a_time() -> None:
    lines = [line for line in sentences(make_epoch(NOW, SKY.only(["beidou"]))) if "GSV" in line]
    assert [line[:14] for line in lines] == ["$GBGSV,2,1,07,", "$GBGSV,2,2,07,"]
    numbers = [line.split("*")[0].split(",")[4::4] for line in lines]
    assert [int(n) for part in numbers for n in part] == [each.number for each in SKY.satellites["beidou"]]


def test_beidou_may_have_its_older_talker() -> None:
    data = make_epoch(NOW, SKY, {"beidou": "BD"})
    assert b"$BDGSV" in data
    assert b"$GBGSV" not in data


def test_with_too_few_satellites_there_is_no_fix() -> None:
    data = make_epoch(NOW, SKY.only(["qzss"]))
    assert b"$GNRMC,043001.25,V," in data
    assert b",E,0,01," in data


@pytest.mark.parametrize(("latitude", "longitude", "words"), [(-33.86, 151.2, "3351.6000,S,15112.0000,E")])
def test_places_are_degrees_and_minutes(latitude: float, longitude: float, words: str) -> None:
    assert words.encode() in make_epoch(NOW, Sky(SKY.satellites, latitude, longitude))


def test_a_recording_is_told_as_if_it_was_now() -> None:
    text = (Path(cumulet_qemu.checks.__file__).with_name("beidou.nmea")).read_text()
    recording = read_recording(text)
    assert len(recording.seconds) == 5
    lines = sentences(recording.at(6, NOW))
    assert all(map(have_checksum, lines))
    assert lines[0].split(",")[1] == "043001.25"
    assert lines[0].split(",")[9] == "170526"
    original = [line for line in text.splitlines() if "GSV" in line][: len([line for line in lines if "GSV" in line])]
    assert [line for line in lines if "GSV" in line] == original


def test_damaged_lines_of_a_recording_are_left_out() -> None:
    good = make_sentence("GNRMC,043000.00,A,,,,,,,170526,,,A").decode()
    recording = read_recording(f"noise\n{good}$GBGSV,1,1,01,03*00\n{good.replace('3000', '3001')}")
    assert [len(second) for second in recording.seconds] == [1]


@pytest.mark.parametrize("text", ["", "noise\n$GBGSV,1,1,00*79\n"])
def test_a_recording_without_times_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no sentence with a time"):
        read_recording(text)


def test_a_receiver_speaks_of_its_own_time() -> None:
    receiver = Receiver(SKY.only(["gps", "beidou"]))
    receiver.shift = timedelta(days=3)
    lines = sentences(receiver.tick(NOW.timestamp()))
    assert ",200526," in lines[0]
    assert receiver.feed(b"$PMTK\r\n") == b""
