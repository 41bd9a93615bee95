"""The network's end of a call, against the packets of a computer that calls."""

from __future__ import annotations

import struct

import pytest

from cumulet_qemu.sim.ppp import (
    ACK,
    ADDRESS,
    DNS_1,
    DNS_2,
    ECHO,
    IPCP,
    IPV4,
    LCP,
    NAK,
    REJECT,
    REQUEST,
    TERMINATE,
    UNKNOWN_PROTOCOL,
    Addresses,
    Call,
    make_checksum,
    make_control,
    make_fcs,
    make_frame,
    read_frame,
    read_options,
    write_options,
)

VJ, ACFC, MAGIC = 2, 8, 5


def read_all(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """(protocol, code, identifier, rest) of every frame."""
    frames = [read_frame(part) for part in data.split(b"\x7e") if part]
    assert None not in frames
    return [(each[0], each[1][0], each[1][1], each[1][4:]) for each in frames if each is not None]


def ask(
    call: Call, protocol: int, code: int, data: bytes = b"", identifier: int = 1
) -> list[tuple[int, int, int, bytes]]:
    return read_all(call.feed(make_frame(protocol, make_control(code, identifier, data))))


def open_call() -> Call:
    call = Call()
    for protocol, options in ((LCP, []), (IPCP, wanted_options())):
        answers = ask(call, protocol, REQUEST, write_options(options))
        theirs = next(each for each in answers if each[1] == REQUEST)
        ask(call, protocol, ACK, theirs[3], theirs[2])
    return call


def wanted_options() -> list[tuple[int, bytes]]:
    return [(ADDRESS, bytes([10, 64, 0, 2])), (DNS_1, bytes([10, 64, 0, 53])), (DNS_2, bytes([10, 64, 0, 54]))]


def test_the_checksum_of_frames_is_that_of_x25() -> None:
    # The check value of CRC-16/X-25, from its catalogue.
    assert make_fcs(b"123456789") ^ 0xFFFF == 0x906E


@pytest.mark.parametrize("packet", [b"", b"\x7e\x7d\x11\x13\x03", bytes(range(256))])
def test_a_frame_is_read_as_it_was_written(packet: bytes) -> None:
    frame = make_frame(IPV4, packet)
    assert frame.count(b"\x7e") == 2
    assert not set(frame) & (set(range(0x20)) - {0x7D})
    assert read_frame(frame[1:-1]) == (IPV4, packet)


@pytest.mark.parametrize(
    "damage", [b"", b"\xff", make_frame(LCP, b"1234")[1:-2], b"x" + make_frame(LCP, b"1234")[1:-1]]
)
def test_a_damaged_frame_is_none(damage: bytes) -> None:
    assert read_frame(damage) is None


def test_a_compressed_protocol_is_read() -> None:
    data = b"\x21packet"
    data += struct.pack("<H", make_fcs(data) ^ 0xFFFF)
    assert read_frame(data) == (IPV4, b"packet")


def test_what_is_cut_off_is_no_option() -> None:
    assert read_options(bytes([3, 6, 10, 0, 0, 1, 2, 9, 1])) == [(3, bytes([10, 0, 0, 1]))]


def test_options_of_the_line_that_are_not_known_are_rejected() -> None:
    answers = ask(Call(), LCP, REQUEST, write_options([(MAGIC, b"1234"), (ACFC, b"")]), 7)
    assert answers[0] == (LCP, REJECT, 7, write_options([(ACFC, b"")]))


def test_known_options_are_taken_and_ours_are_asked_for() -> None:
    answers = ask(Call(), LCP, REQUEST, write_options([(MAGIC, b"1234")]), 8)
    assert answers == [(LCP, ACK, 8, write_options([(MAGIC, b"1234")])), (LCP, REQUEST, 1, b"")]


def test_an_address_is_assigned_to_who_asks_for_any() -> None:
    call = Call(Addresses(own="10.1.2.3", gateway="10.1.2.1", dns=("10.1.2.53", "10.1.2.54")))
    nothing = bytes(4)
    compression = (VJ, b"\x00\x2d\x0f\x01")
    first = ask(call, IPCP, REQUEST, write_options([(ADDRESS, nothing), compression, (DNS_1, nothing)]))
    assert first[0] == (IPCP, REJECT, 1, write_options([compression]))
    second = ask(call, IPCP, REQUEST, write_options([(ADDRESS, nothing), (DNS_1, nothing)]))
    assigned = [(ADDRESS, bytes([10, 1, 2, 3])), (DNS_1, bytes([10, 1, 2, 53]))]
    assert second[0] == (IPCP, NAK, 1, write_options(assigned))
    assert ask(call, IPCP, REQUEST, write_options(assigned))[0][1] == ACK
    assert not call.up


def test_a_call_is_up_when_both_ends_agree() -> None:
    assert open_call().up


def test_a_protocol_that_is_not_spoken_is_refused_by_its_number() -> None:
    ipv6cp = 0x8057
    (protocol, code, _, rest) = ask(Call(), ipv6cp, REQUEST)[0]
    assert (protocol, code, rest[:2]) == (LCP, UNKNOWN_PROTOCOL, struct.pack("!H", ipv6cp))


def test_an_echo_of_the_line_is_answered() -> None:
    (_, code, identifier, rest) = ask(open_call(), LCP, ECHO, b"maginote", 9)[0]
    assert (code, identifier, rest) == (ECHO + 1, 9, bytes(4) + b"note")


def test_a_call_that_is_ended_is_closed() -> None:
    call = open_call()
    assert ask(call, LCP, TERMINATE)[0][:2] == (LCP, TERMINATE + 1)
    assert call.closed
    assert not call.up


def test_the_network_hangs_up_with_words() -> None:
    call = open_call()
    assert read_all(call.hang_up())[0][:2] == (LCP, TERMINATE)
    assert not call.up


def make_ping(target: bytes) -> bytes:
    body = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"hello"
    body = body[:2] + struct.pack("!H", make_checksum(body)) + body[4:]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0) + bytes([10, 64, 0, 2]) + target
    return header + body


def test_a_ping_to_anywhere_is_answered_from_there() -> None:
    call = open_call()
    frames = [read_frame(part) for part in call.feed(make_frame(IPV4, make_ping(bytes([192, 0, 2, 1])))).split(b"\x7e")]
    protocol, packet = next(each for each in frames if each is not None)
    assert protocol == IPV4
    assert packet[12:20] == bytes([192, 0, 2, 1, 10, 64, 0, 2])
    assert packet[20] == 0
    assert make_checksum(packet[20:]) == 0
    assert packet[28:] == b"hello"
    assert call.pings == 1


def test_nothing_passes_before_the_call_is_up() -> None:
    assert Call().feed(make_frame(IPV4, make_ping(bytes([192, 0, 2, 1])))) == b""


def test_packets_that_are_no_pings_are_dropped() -> None:
    call = open_call()
    assert call.feed(make_frame(IPV4, b"\x45")) == b""
    assert call.feed(make_frame(IPV4, b"")) == b""
