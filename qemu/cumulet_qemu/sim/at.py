"""A modem with a SIM, in a network of one cell: the commands of 3GPP 27.007 that a connection needs. Pure.

Commands end with CR, answers stand between CR LF. A dialled call is PPP (ppp.Call). Beside what is typed, the
network may drop a call and come back, and the SIM may want its PIN.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cumulet_qemu.sim.ppp import FLAG, Addresses, Call

HOME, SEARCHING, ROAMING = 1, 2, 5
TRIES = 3
# What stands outside of frames when the other end types commands again: a line that no plug is pulled from has no
# other way to show that it has hung up.
TYPED = re.compile(rb"[\r\n]*(?:\+\+\+|AT[ -}]*\r)", re.IGNORECASE)
LONGEST_COMMAND = 256
PIN_COMMAND = re.compile(r"(\+CPIN=).*", re.IGNORECASE)
REGISTRATIONS = ("CREG", "CGREG", "CEREG", "C5GREG")
# Elementary files of the SIM: ICC-ID, administrative data (the network's code has three digits).
ICCID_FILE, ADMINISTRATIVE_FILE = 12258, 28589


@dataclass(frozen=True, slots=True)
class Card:
    """The SIM. An empty PIN: it asks for none."""

    pin: str = ""
    imsi: str = "460001234567890"
    iccid: str = "89860012345678901234"


@dataclass(frozen=True, slots=True)
class Network:
    """The operator. `technology` as in +COPS: 7 is LTE, 11 is 5G beside it."""

    name: str = "Cumulet"
    code: str = "46000"
    technology: int = 11
    roaming: bool = False
    addresses: Addresses = field(default_factory=Addresses)


class Modem:
    """The whole modem. `apns` has the access point of every call that was made.

    `note` is told every command and its answer; a PIN is left out.
    """

    def __init__(self, card: Card | None = None, network: Network | None = None) -> None:
        self.card = card or Card()
        self.network = network or Network()
        self.call: Call | None = None
        self.apns: list[str] = []
        self.note: Callable[[str, str], None] = lambda command, answer: None
        self._line = bytearray()
        self._outside = bytearray()
        self.unlocked = not self.card.pin
        self._tries = TRIES
        self._there = True
        self._echo = True
        self._power = 1
        self._reports = dict.fromkeys(REGISTRATIONS, 0)
        self._name_format = 0
        self._contexts: dict[int, tuple[str, str]] = {}

    @property
    def registration(self) -> int:
        """The registration as in +CREG."""
        if not (self.unlocked and self._there and self._power == 1):
            return SEARCHING if self._there else 0
        return ROAMING if self.network.roaming else HOME

    @property
    def registered(self) -> bool:
        """Whether the network has let it in."""
        return self.registration in (HOME, ROAMING)

    def feed(self, data: bytes) -> bytes:
        """What comes back for bytes from the computer."""
        if self.call is not None:
            return self._feed_call(self.call, data)
        answer = bytearray()
        for byte in data:
            if byte == FLAG:
                # The last frames of a call that the network has ended.
                self._line.clear()
                continue
            if self._echo:
                answer.append(byte)
            if byte == 0x0D:
                line, self._line = self._line.decode("ascii", "replace").strip(), bytearray()
                said = self._execute(line)
                self.note(PIN_COMMAND.sub(r"\1...", line), " ".join(said.decode("ascii").split()))
                answer += said
            elif byte in (0x08, 0x7F):
                del self._line[-1:]
            elif byte != 0x0A:
                self._line.append(byte)
        return bytes(answer)

    def tick(self, now: float) -> bytes:
        """Nothing happens by itself."""
        return b""

    def drop(self) -> bytes:
        """The network goes away: a call ends, and the modem is registered no more."""
        end = self._end_call(self.call.hang_up()) if self.call is not None else b""
        self._there = False
        return end + self._report()

    def forget(self) -> bytes:
        """The network forgets the call and tells nobody."""
        if self.call is not None:
            self.call.deaf = True
        return b""

    def restore(self) -> bytes:
        """The network is back."""
        self._there = True
        return self._report()

    def _feed_call(self, call: Call, data: bytes) -> bytes:
        self._outside = (self._outside + data).rpartition(bytes([FLAG]))[2][-LONGEST_COMMAND:]
        if TYPED.fullmatch(self._outside):
            self.call = None
            return self.feed(bytes(self._outside).replace(b"+++", b""))
        answer = call.feed(data)
        return self._end_call(answer) if call.closed else answer

    def _end_call(self, last: bytes) -> bytes:
        self.call = None
        return last + _say("NO CARRIER")

    def _report(self) -> bytes:
        """What is told unasked when the registration changes, of those kinds that were asked for."""
        return b"".join(_say(self._registration(name)) for name, level in self._reports.items() if level)

    def _registration(self, name: str, asked: bool = False) -> str:
        level = self._reports[name]
        words = [*([str(level)] if asked else []), str(self.registration)]
        if level == 2 and self.registered:
            # ModemManager reads but one digit here of all but 5G's own.
            words += ['"1A2B"', '"01234567"', "11" if name == "C5GREG" else "7"]
            words += ["0", '""'] if name == "C5GREG" else []
        return f"+{name}: {','.join(words)}"

    def _execute(self, line: str) -> bytes:
        if not line:
            return b""
        command = line[2:] if line[:2].upper() == "AT" else None
        if command is None:
            return b""
        for pattern, handler in COMMANDS:
            match = re.fullmatch(pattern, command, re.IGNORECASE)
            if match is not None:
                return handler(self, match)
        return _say("ERROR")

    # One method for each command that does something.

    def _set_echo(self, match: re.Match[str]) -> bytes:
        self._echo = match[1] == "1"
        return _say("OK")

    def _reset(self, match: re.Match[str]) -> bytes:
        self._echo = True
        self._reports = dict.fromkeys(REGISTRATIONS, 0)
        return _say("OK")

    def _ask_pin(self, match: re.Match[str]) -> bytes:
        if self._tries == 0:
            return _say("+CPIN: SIM PUK", "OK")
        return _say("+CPIN: READY" if self.unlocked else "+CPIN: SIM PIN", "OK")

    def _take_pin(self, match: re.Match[str]) -> bytes:
        if self.unlocked or self._tries == 0:
            return _say("+CME ERROR: 3")
        if match[1] != self.card.pin:
            self._tries -= 1
            return _say("+CME ERROR: 16" if self._tries else "+CME ERROR: 12")
        self.unlocked, self._tries = True, TRIES
        return _say("OK") + self._report()

    def _ask_tries(self, match: re.Match[str]) -> bytes:
        return _say(f'+CPINR: "SIM PIN",{self._tries},{TRIES}', "OK")

    def _read_card(self, match: re.Match[str]) -> bytes:
        if match[1] == str(ICCID_FILE):
            digits = self.card.iccid
            data = "".join(digits[at + 1] + digits[at] for at in range(0, len(digits), 2))
        elif match[1] == str(ADMINISTRATIVE_FILE) and self.unlocked:
            data = "00000002"
        else:
            return _say("+CRSM: 106,130", "OK")
        return _say(f'+CRSM: 144,0,"{data}"', "OK")

    def _ask_imsi(self, match: re.Match[str]) -> bytes:
        return _say(self.card.imsi, "OK") if self.unlocked else _say("+CME ERROR: 11")

    def _ask_power(self, match: re.Match[str]) -> bytes:
        return _say(f"+CFUN: {self._power}", "OK")

    def _set_power(self, match: re.Match[str]) -> bytes:
        self._power = int(match[1])
        return _say("OK") + self._report()

    def _use_registration(self, match: re.Match[str]) -> bytes:
        """Ask, ask what there is to ask, set."""
        name = match[1].upper()
        if name == "C5GREG" and self.network.technology != 11:
            return _say("ERROR")
        if match[2] == "?":
            return _say(self._registration(name, asked=True), "OK")
        if match[2] == "=?":
            return _say(f"+{name}: (0-2)", "OK")
        self._reports[name] = int(match[2][1:])
        return _say("OK")

    def _ask_operator(self, match: re.Match[str]) -> bytes:
        if not self.registered:
            return _say("+COPS: 0", "OK")
        name = self.network.code if self._name_format == 2 else self.network.name
        return _say(f'+COPS: 0,{self._name_format},"{name}",{self.network.technology}', "OK")

    def _set_operator(self, match: re.Match[str]) -> bytes:
        self._name_format = int(match[1])
        return _say("OK")

    def _ask_signal(self, match: re.Match[str]) -> bytes:
        return _say("+CSQ: 22,99" if self.registered else "+CSQ: 99,99", "OK")

    def _ask_contexts(self, match: re.Match[str]) -> bytes:
        lines = [f'+CGDCONT: {cid},"{kind}","{apn}","",0,0' for cid, (kind, apn) in sorted(self._contexts.items())]
        return _say(*lines, "OK")

    def _set_context(self, match: re.Match[str]) -> bytes:
        self._contexts[int(match[1])] = (match[2], match[3] or "")
        return _say("OK")

    def _ask_active(self, match: re.Match[str]) -> bytes:
        lines = [f"+CGACT: {cid},{int(self.call is not None)}" for cid in sorted(self._contexts)]
        return _say(*lines, "OK")

    def _dial(self, match: re.Match[str]) -> bytes:
        context = self._contexts.get(int(match[1] or 1))
        if not self.registered or context is None:
            return _say("NO CARRIER")
        self.apns.append(context[1])
        self.call = Call(self.network.addresses)
        self._outside.clear()
        return _say("CONNECT 150000000")


def _say(*lines: str) -> bytes:
    return "".join(f"\r\n{line}\r\n" for line in lines).encode("ascii")


def _fixed(*lines: str) -> Callable[[Modem, re.Match[str]], bytes]:
    return lambda modem, match: _say(*lines)


CONTEXTS = tuple(f'+CGDCONT: (1-8),"{kind}",,,(0,1),(0,1)' for kind in ("IP", "IPV6", "IPV4V6"))
# Pattern of what stands after AT -> what answers it. What is not here is an error, as on a modem that has it not.
COMMANDS: tuple[tuple[str, Callable[[Modem, re.Match[str]], bytes]], ...] = (
    (r"", _fixed("OK")),
    (r"E([01])?", Modem._set_echo),
    (r"Z0?|&F0?", Modem._reset),
    (r"(V1|&C1|&D\d|X\d|Q0|S\d+=\d+|\+CMEE=[012]|\+IFC=.*|\+CTZ[RU]=\d)+", _fixed("OK")),
    (r"I\d?", _fixed("Cumulet", "Simulated modem", "Revision: 1", "OK")),
    (r"\+C?GMI", _fixed("Cumulet", "OK")),
    (r"\+C?GMM", _fixed("Simulated modem", "OK")),
    (r"\+C?GMR", _fixed("1.0", "OK")),
    (r"\+C?GSN", _fixed("867900000000017", "OK")),
    (r"\+GCAP", _fixed("+GCAP: +CGSM", "OK")),
    (r"\+WS46=\?", _fixed("+WS46: (12,22,25,28,29,30,31,36,37)", "OK")),
    (r"\+IFC=\?", _fixed("+IFC: (0,2),(0,2)", "OK")),
    (r"\+CPIN\?", Modem._ask_pin),
    (r'\+CPIN="?(\d{4,8})"?', Modem._take_pin),
    (r"\+CPINR.*", Modem._ask_tries),
    (r"\+CIMI", Modem._ask_imsi),
    (r"\+CRSM=176,(\d+).*", Modem._read_card),
    (r"\+CRSM=.*", _fixed("+CRSM: 106,130", "OK")),
    (r"\+CLCK=\?", _fixed('+CLCK: ("SC")', "OK")),
    (r'\+CLCK="SC",2', _fixed("+CLCK: 1", "OK")),
    (r"\+CFUN\?", Modem._ask_power),
    (r"\+CFUN=([014])(,0)?", Modem._set_power),
    (r"\+(CREG|CGREG|CEREG|C5GREG)(\?|=\?|=[012])", Modem._use_registration),
    (r"\+COPS\?", Modem._ask_operator),
    (r"\+COPS=3,([012])", Modem._set_operator),
    (r"\+COPS=0", _fixed("OK")),
    (r"\+CSQ\??", Modem._ask_signal),
    (r"\+CGATT\?", _fixed("+CGATT: 1", "OK")),
    (r"\+CGATT=1", _fixed("OK")),
    (r"\+CGDCONT=\?", _fixed(*CONTEXTS, "OK")),
    (r"\+CGDCONT\?", Modem._ask_contexts),
    (r'\+CGDCONT=(\d),"(\w+)"(?:,"([^"]*)".*)?', Modem._set_context),
    (r"\+CGAUTH=.*", _fixed("OK")),
    (r"\+CGACT\?", Modem._ask_active),
    (r"\+CGACT=[01](,\d)?", _fixed("OK")),
    (r"H0?", _fixed("OK")),
    (r"D\*99(?:\*+(\d))?#", Modem._dial),
)
