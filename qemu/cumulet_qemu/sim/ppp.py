"""The network's end of a call: PPP over a serial line, one address, and hosts that answer to ping. Pure.

Framing is RFC 1662's, with every control character escaped; of LCP (RFC 1661) and IPCP (RFC 1332, RFC 1877) it speaks
what a call needs: options that it does not know are rejected, addresses are assigned. It has no timers: the other
end repeats what got lost.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

FLAG, ESCAPE, FLIP = 0x7E, 0x7D, 0x20
LCP, IPCP, IPV4 = 0xC021, 0x8021, 0x0021
REQUEST, ACK, NAK, REJECT, TERMINATE, TERMINATED = 1, 2, 3, 4, 5, 6
UNKNOWN_PROTOCOL, ECHO, ECHO_REPLY = 8, 9, 10
GOOD_FCS = 0xF0B8
# Options of LCP that are taken as they are: MRU, characters to escape, magic number.
LCP_KNOWN = (1, 2, 5)
ADDRESS, DNS_1, DNS_2 = 3, 129, 131


def make_fcs(data: bytes) -> int:
    """The frame check sequence of RFC 1662 before its last inversion."""
    fcs = 0xFFFF
    for byte in data:
        fcs ^= byte
        for _ in range(8):
            fcs = (fcs >> 1) ^ 0x8408 if fcs & 1 else fcs >> 1
    return fcs


def make_frame(protocol: int, packet: bytes) -> bytes:
    """A packet as it goes over the line."""
    data = struct.pack("!BBH", 0xFF, 0x03, protocol) + packet
    data += struct.pack("<H", make_fcs(data) ^ 0xFFFF)
    escaped = bytearray([FLAG])
    for byte in data:
        escaped += bytes([ESCAPE, byte ^ FLIP]) if byte < 0x20 or byte in (FLAG, ESCAPE) else bytes([byte])
    return bytes([*escaped, FLAG])


def read_frame(escaped: bytes) -> tuple[int, bytes] | None:
    """(protocol, packet) of what stood between two flags; None if it is no whole frame."""
    data, flip = bytearray(), 0
    for byte in escaped:
        if byte == ESCAPE:
            flip = FLIP
        else:
            data.append(byte ^ flip)
            flip = 0
    if len(data) < 4 or make_fcs(bytes(data)) != GOOD_FCS:
        return None
    rest = bytes(data[:-2]).removeprefix(b"\xff\x03")
    if not rest:
        return None
    # A protocol below 256 may come as one byte, which is then odd.
    size = 1 if rest[0] & 1 else 2
    return int.from_bytes(rest[:size], "big"), rest[size:]


def make_control(code: int, identifier: int, data: bytes) -> bytes:
    """A packet of LCP or IPCP."""
    return struct.pack("!BBH", code, identifier, 4 + len(data)) + data


def read_options(data: bytes) -> list[tuple[int, bytes]]:
    """(type, value) of every option; what is cut off is left out."""
    options = []
    while len(data) >= 2 and 2 <= data[1] <= len(data):
        options.append((data[0], data[2 : data[1]]))
        data = data[data[1] :]
    return options


def write_options(options: list[tuple[int, bytes]]) -> bytes:
    """Options as they stand in a packet."""
    return b"".join(bytes([kind, 2 + len(value)]) + value for kind, value in options)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a call is given: its own address, the gateway's, and two name servers."""

    own: str = "10.64.0.2"
    gateway: str = "10.64.0.1"
    dns: tuple[str, str] = ("10.64.0.53", "10.64.0.54")


class Call:
    """One call, from the network's side. `up` says whether both ends have agreed on addresses.

    With `deaf` the network has forgotten it, and answers nothing.
    """

    def __init__(self, addresses: Addresses | None = None) -> None:
        self.addresses = addresses or Addresses()
        self.closed = False
        self.deaf = False
        self.pings = 0
        self._frame = bytearray()
        self._opened: dict[int, set[int]] = {LCP: set(), IPCP: set()}
        self._identifier = 0

    @property
    def up(self) -> bool:
        """Whether packets can pass."""
        return self._opened[IPCP] == {REQUEST, ACK} and not self.closed

    def feed(self, data: bytes) -> bytes:
        """What the network answers to bytes from the line."""
        if self.deaf:
            return b""
        answer = bytearray()
        for byte in data:
            if byte != FLAG:
                self._frame.append(byte)
                continue
            frame, self._frame = bytes(self._frame), bytearray()
            found = read_frame(frame) if frame else None
            if found is not None:
                answer += self._take(*found)
        return bytes(answer)

    def hang_up(self) -> bytes:
        """The network ends the call: the words that tell the other end."""
        self.closed = True
        return self._send(LCP, TERMINATE, b"network")

    def _take(self, protocol: int, packet: bytes) -> bytes:
        if protocol == IPV4:
            return self._answer_ping(packet) if self.up else b""
        if len(packet) < 4:
            return b""
        if protocol not in self._opened:
            rejected = make_control(UNKNOWN_PROTOCOL, self._next(), struct.pack("!H", protocol) + packet)
            return make_frame(LCP, rejected)
        code, identifier, size = struct.unpack("!BBH", packet[:4])
        return self._control(protocol, code, identifier, packet[4:size])

    def _control(self, protocol: int, code: int, identifier: int, data: bytes) -> bytes:
        if code == REQUEST:
            return self._answer_request(protocol, identifier, data)
        if code == ACK:
            self._opened[protocol].add(ACK)
        elif code in (NAK, REJECT) and protocol == IPCP:
            # The other end may refuse to be told our address, but not to have one.
            return self._send(protocol, REQUEST, b"")
        elif code == TERMINATE:
            self.closed = self.closed or protocol == LCP
            return make_frame(protocol, make_control(TERMINATED, identifier, b""))
        elif code == ECHO and protocol == LCP:
            return make_frame(LCP, make_control(ECHO_REPLY, identifier, bytes(4) + data[4:]))
        return b""

    def _answer_request(self, protocol: int, identifier: int, data: bytes) -> bytes:
        options = read_options(data)
        wanted = self._wanted(protocol)
        unknown = [each for each in options if each[0] not in (LCP_KNOWN if protocol == LCP else wanted)]
        other = [(kind, wanted[kind]) for kind, value in options if kind in wanted and value != wanted[kind]]
        if unknown:
            answer = make_control(REJECT, identifier, write_options(unknown))
        elif other:
            answer = make_control(NAK, identifier, write_options(other))
        else:
            answer = make_control(ACK, identifier, data)
            self._opened[protocol].add(REQUEST)
        asked = b"" if ACK in self._opened[protocol] else self._send(protocol, REQUEST, self._own_options(protocol))
        return make_frame(protocol, answer) + asked

    def _wanted(self, protocol: int) -> dict[int, bytes]:
        """What the other end must ask for."""
        if protocol == LCP:
            return {}
        given = (self.addresses.own, *self.addresses.dns)
        return dict(zip((ADDRESS, DNS_1, DNS_2), map(_pack, given), strict=True))

    def _own_options(self, protocol: int) -> bytes:
        return write_options([(ADDRESS, _pack(self.addresses.gateway))] if protocol == IPCP else [])

    def _send(self, protocol: int, code: int, data: bytes) -> bytes:
        return make_frame(protocol, make_control(code, self._next(), data))

    def _next(self) -> int:
        self._identifier = self._identifier % 255 + 1
        return self._identifier

    def _answer_ping(self, packet: bytes) -> bytes:
        """The reply to an ICMP echo request to anywhere; nothing to anything else."""
        size = (packet[0] & 15) * 4 if packet else 0
        if len(packet) < size + 8 or size < 20 or packet[9] != 1 or packet[size] != 8:
            return b""
        self.pings += 1
        body = bytearray(packet[size:])
        body[0:4] = bytes(4)
        body[2:4] = struct.pack("!H", make_checksum(bytes(body)))
        header = bytearray(packet[:size])
        header[12:16], header[16:20] = packet[16:20], packet[12:16]
        return make_frame(IPV4, bytes(header) + bytes(body))


def make_checksum(data: bytes) -> int:
    """The Internet checksum of RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _pack(address: str) -> bytes:
    return ipaddress.IPv4Address(address).packed
