"""The sentences of Beidou terminals: those of real ones are read, ours are what real ones take."""

from __future__ import annotations

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.uplink.rdss import (
    Beams,
    Card,
    Feedback,
    Message,
    Report,
    make_beam_query,
    make_card_query,
    make_transmission,
    read_report,
)
from cumulet.uplink.sentence import Lines, make_sentence, read_sentence

# As terminals of several makers write them, checksums and all.
SAID: dict[bytes, Report | None] = {
    b"$BDICI,0242286,00242286,0000011,6,60,3,N,0*38\r\n": Card("0242286", 60, 3),
    b"$BDICI,0166166,02097151,0000011,6,40,3,N,000*33\r\n": Card("0166166", 40, 3),
    b"$BDICI,0000000,00000000,0000000,0,0,0,N,0*0B\r\n": Card("", 0, 0),
    b"$BDICP,4238473,0,0,3,0,N,2,N,1,0,0,3,1,60,2,0,0,0,0,21,0,0,0*48\r\n": Card("4238473", 60, 2),
    b"$BDFKI,TXA,Y,Y,0,0000*13\r\n": Feedback("TXA", True, "", 0),
    b"$BDFKI,TXA,Y,Y,0,0040*17\r\n": Feedback("TXA", True, "", 40),
    b"$BDFKI,TXA,N,Y,0,0000*04\r\n": Feedback("TXA", False, "refused", 0),
    b"$BDFKI,DWA,N,Y,0,0058*16\r\n": Feedback("DWA", False, "too early", 58),
    b"$BDFKI,082920,TCQ,Y,0,0*70\r\n": Feedback("TCQ", True, "", 0),
    b"$BDTXR,1,0179773,2,,A468656C6C6F*43\r\n": Message("179773", b"hello"),
    b"$BDTXR,1,0166166,1,,3132333433333335*46\r\n": Message("166166", b"12343335"),
    b"$BDTCI,4204986,4204990,2,142204,2,0,3A642B500000000000000A01F35B41EC036542EE74F5*40\r\n": Message(
        "4204986", bytes.fromhex("3A642B500000000000000A01F35B41EC036542EE74F5")
    ),
    b"$BDBSI,01,03,3,2,2,0,3,0,0,3,0,0*5F\r\n": Beams((3, 2, 2, 0, 3, 0, 0, 3, 0, 0)),
    b"$BDPWI,000000.00,00,01,51,40,33,0*7B\r\n": Beams((40,)),
    b"$GNRMC,,V,,,,,,,,,,N*4D\r\n": None,
}


@pytest.mark.parametrize("line", SAID, ids=lambda line: line.decode().strip())
def test_what_terminals_say_is_understood(line: bytes) -> None:
    assert read_report(line) == SAID[line]


def test_what_terminals_are_told_is_what_they_know() -> None:
    assert make_card_query("2.1") == b"$CCICA,0,00*7B\r\n"
    assert make_card_query("3") == b"$CCICR,0,00*68\r\n"
    assert make_beam_query("2.1", 1) == b"$CCRMO,BSI,2,1*27\r\n"
    assert make_transmission("2.1", "179773", b"hello") == b"$CCTXA,0179773,1,2,A468656C6C6F*7A\r\n"
    assert make_transmission("3", "15950011", b"\x01\x02").startswith(b"$CCTCQ,15950011,2,1,2,0102,0*")


def test_a_message_has_a_length_that_the_service_takes() -> None:
    assert len(read_sentence(make_transmission("2.1", "1", bytes(70)))[4]) == 2 * 70 + 2
    assert len(read_sentence(make_transmission("3", "1", bytes(1750)))[5]) == 2 * 1750
    for dialect, size in (("2.1", 78), ("3", 1751), ("3", 0)):
        with pytest.raises(UsageError, match=rf"a message of {size} bytes"):
            make_transmission(dialect, "1", bytes(size))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not the number of a Beidou card"):
        make_transmission("3", "12a", b"x")


def test_every_single_damaged_byte_is_noticed() -> None:
    line = b"$BDTXR,1,0179773,2,,A468656C6C6F*43"
    for at in range(len(line)):
        for bit in range(8):
            damaged = bytearray(line)
            damaged[at] ^= 1 << bit
            # Capital and small hexadecimal digits of the checksum mean the same.
            if bytes(damaged).upper() == line:
                continue
            with pytest.raises(TargetError):
                read_sentence(bytes(damaged))


@pytest.mark.parametrize(
    "text", ["BDFKI,TXA", "BDTCI,1,2,3,4,2,0,XY", "BDICI,x,1,1,1,60,3,N,0", "BDICI,1", "BDPWI,1,00,04,1", "BDBSI,1,2,x"]
)
def test_a_sentence_that_is_whole_and_senseless_is_named(text: str) -> None:
    with pytest.raises(TargetError, match=text.split(",", maxsplit=1)[0]):
        read_report(make_sentence(*text.split(",")))


def test_lines_are_found_wherever_the_pieces_end() -> None:
    text = b"rubbish$BDICI,1*00\r\n$BDBSI,01*11\r\nhalf$GN"
    for size in range(1, 12):
        lines = Lines()
        found = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size])]
        assert found == [b"$BDICI,1*00\r", b"$BDBSI,01*11\r"]
    lines = Lines()
    list(lines.feed(b"x" * 10_000))
    assert len(lines.held) == 0


def test_a_field_that_would_break_the_sentence_is_refused() -> None:
    for text in ("a,b", "a*", "a\r\n$", "ä"):
        with pytest.raises(UsageError, match="cannot be a field"):
            make_sentence("CCTXA", text)
