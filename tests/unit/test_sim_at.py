"""The simulated modem, by what a computer types."""

from __future__ import annotations

import pytest

from cumulet_qemu.sim.at import Card, Modem, Network
from cumulet_qemu.sim.ppp import LCP, REQUEST, make_control, make_frame

APN = 'AT+CGDCONT=1,"IP","cmnet"'


def ask(modem: Modem, *lines: str) -> list[str]:
    """What is answered to the last of some lines, without echo and blanks."""
    answer = b""
    for line in lines:
        answer = modem.feed(f"{line}\r".encode())
    return [each for each in answer.decode().replace("\r", "\n").split("\n") if each and each not in lines]


def test_it_answers_and_echoes_until_told_not_to() -> None:
    modem = Modem()
    assert modem.feed(b"AT\r") == b"AT\r\r\nOK\r\n"
    modem.feed(b"ATE0\r")
    assert modem.feed(b"AT\r") == b"\r\nOK\r\n"


@pytest.mark.parametrize("line", ["AT+NOSUCH", "AT^SYSINFO", "AT%IPSYS?", "AT+CPMS=?"])
def test_what_it_has_not_is_an_error(line: str) -> None:
    assert ask(Modem(), line) == ["ERROR"]


def test_a_command_may_come_in_pieces() -> None:
    modem = Modem()
    modem.feed(b"ATE0\r")
    assert modem.feed(b"AT+C") == b""
    assert modem.feed(b"SQ\r") == b"\r\n+CSQ: 22,99\r\n\r\nOK\r\n"


def test_a_sim_with_a_pin_wants_it() -> None:
    modem = Modem(Card(pin="2580"))
    assert ask(modem, "AT+CPIN?") == ["+CPIN: SIM PIN", "OK"]
    assert ask(modem, "AT+CIMI") == ["+CME ERROR: 11"]
    assert ask(modem, "AT+CREG?") == ["+CREG: 0,2", "OK"]
    assert ask(modem, 'AT+CPIN="1111"') == ["+CME ERROR: 16"]
    assert ask(modem, "AT+CPINR") == ['+CPINR: "SIM PIN",2,3', "OK"]
    assert ask(modem, 'AT+CPIN="2580"') == ["OK"]
    assert ask(modem, "AT+CPIN?") == ["+CPIN: READY", "OK"]
    assert ask(modem, "AT+CREG?") == ["+CREG: 0,1", "OK"]


def test_a_note_has_every_command_but_no_pin() -> None:
    modem, notes = Modem(Card(pin="2580")), []
    modem.note = lambda command, answer: notes.append((command, answer))
    ask(modem, 'AT+CPIN="2580"', "AT+CSQ")
    assert notes == [("AT+CPIN=...", "OK"), ("AT+CSQ", "+CSQ: 22,99 OK")]


def test_three_wrong_pins_block_the_sim() -> None:
    modem = Modem(Card(pin="2580"))
    assert ask(modem, *['AT+CPIN="1111"'] * 3) == ["+CME ERROR: 12"]
    assert ask(modem, 'AT+CPIN="2580"') == ["+CME ERROR: 3"]
    assert ask(modem, "AT+CPIN?") == ["+CPIN: SIM PUK", "OK"]


def test_the_number_of_the_sim_is_read_as_a_file() -> None:
    assert ask(Modem(Card(iccid="8986001234")), "AT+CRSM=176,12258,0,0,10") == ['+CRSM: 144,0,"9868002143"', "OK"]


def test_registrations_are_told_with_place_and_technology_when_asked_for() -> None:
    modem = Modem()
    assert ask(modem, "AT+CEREG=2", "AT+CEREG?") == ['+CEREG: 2,1,"1A2B","01234567",7', "OK"]
    assert ask(modem, "AT+C5GREG=2", "AT+C5GREG?") == ['+C5GREG: 2,1,"1A2B","01234567",11,0,""', "OK"]
    assert ask(Modem(network=Network(technology=7)), "AT+C5GREG=?") == ["ERROR"]


def test_abroad_it_roams() -> None:
    assert ask(Modem(network=Network(roaming=True)), "AT+CREG?") == ["+CREG: 0,5", "OK"]


def test_the_operator_is_told_by_name_or_number() -> None:
    modem = Modem()
    assert ask(modem, "AT+COPS=3,0", "AT+COPS?") == ['+COPS: 0,0,"Cumulet",11', "OK"]
    assert ask(modem, "AT+COPS=3,2", "AT+COPS?") == ['+COPS: 0,2,"46000",11', "OK"]


def test_a_call_needs_a_context_and_a_network() -> None:
    assert ask(Modem(), "ATD*99***1#") == ["NO CARRIER"]
    modem = Modem()
    modem.drop()
    assert ask(modem, APN, "ATD*99***1#") == ["NO CARRIER"]


def test_a_call_is_ppp_until_it_is_ended() -> None:
    modem = Modem()
    assert ask(modem, APN, "ATD*99***1#") == ["CONNECT 150000000"]
    assert modem.apns == ["cmnet"]
    assert modem.call is not None
    assert modem.feed(make_frame(LCP, make_control(REQUEST, 1, b"")))[:1] == b"\x7e"
    assert modem.feed(make_frame(LCP, make_control(5, 2, b""))).endswith(b"\r\nNO CARRIER\r\n")
    assert modem.call is None


@pytest.mark.parametrize("typed", [b"AT+CGACT=0\r", b"+++", b"\r\nAT\r"])
def test_who_types_commands_again_has_hung_up(typed: bytes) -> None:
    modem = Modem()
    ask(modem, "ATE0", APN, "ATD*99#")
    for byte in make_frame(LCP, make_control(REQUEST, 1, b"AT\r")) + typed:
        assert modem.call is not None
        modem.feed(bytes([byte]))
    assert modem.call is None


def test_the_last_frames_of_a_call_are_no_command() -> None:
    modem = Modem()
    ask(modem, "ATE0", APN, "ATD*99#")
    modem.drop()
    assert modem.feed(make_frame(LCP, make_control(6, 1, b""))) == b""
    assert ask(modem, "AT") == ["OK"]


def test_a_network_that_goes_away_ends_the_call_and_says_so() -> None:
    modem = Modem()
    ask(modem, "AT+CREG=1", APN, "ATD*99***1#")
    said = modem.drop()
    assert b"\r\nNO CARRIER\r\n" in said
    assert said.endswith(b"\r\n+CREG: 0\r\n")
    assert ask(modem, "AT+COPS?") == ["+COPS: 0", "OK"]
    assert modem.restore() == b"\r\n+CREG: 1\r\n"
    assert ask(modem, "ATD*99***1#") == ["CONNECT 150000000"]


def test_a_call_that_is_forgotten_is_silent_until_commands_are_typed() -> None:
    modem = Modem()
    ask(modem, "ATE0", APN, "ATD*99***1#")
    assert modem.forget() == b""
    assert modem.feed(make_frame(LCP, make_control(REQUEST, 1, b""))) == b""
    assert ask(modem, "AT+CGACT=0,1") == ["OK"]
    assert modem.call is None
    assert modem.forget() == b""


def test_switched_off_it_is_in_no_network() -> None:
    modem = Modem()
    assert ask(modem, "AT+CFUN=4", "AT+CREG?") == ["+CREG: 0,2", "OK"]
    assert ask(modem, "AT+CFUN=1", "AT+CREG?") == ["+CREG: 0,1", "OK"]
