"""A Beidou terminal on a pseudo terminal: cards, beams, the card's pace, and messages to and from a satellite.

It reads and writes sentences by itself, so that the codec of the SDK is held against another one.
"""

from __future__ import annotations

import functools
import operator
import os
import pty
import re
import select
import threading
import time
import tty
from dataclasses import dataclass, field

SENTENCE = re.compile(rb"\$([^*\r\n]*)\*([0-9A-Fa-f]{2})\r\n")


def frame(text: str) -> bytes:
    """A sentence around a text."""
    check = functools.reduce(operator.xor, text.encode(), 0)
    return f"${text}*{check:02X}\r\n".encode()


@dataclass
class RdssTerminal:
    """What the terminal is like, which a test may change, and what it did: `sent` are (time, address, content).

    `generation` 2 speaks RDSS 2.1, 3 the sentences after it. `period` is the card's, in seconds.
    """

    generation: int = 2
    card: int = 242286
    period: float = 60.0
    beams: tuple[int, ...] = (0, 3, 2, 0, 0, 4, 0, 0, 0, 0)
    mute: bool = False
    sent: list[tuple[float, str, bytes]] = field(default_factory=list)
    refused: int = 0
    device: str = ""
    _held: bytearray = field(default_factory=bytearray)

    def __enter__(self) -> RdssTerminal:
        self._ours, self._theirs = pty.openpty()
        tty.setraw(self._theirs)
        self.device = os.ttyname(self._theirs)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._end.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def receive(self, sender: int, data: bytes) -> None:
        """A message comes from the satellite."""
        if self.generation == 2:
            self.say(f"BDTXR,1,{sender:07d},2,,A4{data.hex().upper()}")
        else:
            self.say(f"BDTCI,{sender},{self.card},2,120000,2,0,{data.hex().upper()}")

    def say(self, text: str, damage: bool = False) -> None:
        """Write a sentence to the line, with a wrong bit if it is to be damaged."""
        data = bytearray(frame(text))
        if damage:
            data[3] ^= 1
        os.write(self._ours, bytes(data))

    def _run(self) -> None:
        while not self._end.is_set():
            if not select.select([self._ours], [], [], 0.02)[0]:
                continue
            self._held += os.read(self._ours, 4096)
            while found := SENTENCE.search(self._held):
                text, check = found[1].decode(), int(found[2], 16)
                del self._held[: found.end()]
                if check == functools.reduce(operator.xor, text.encode(), 0) and not self.mute:
                    self._obey(text.split(","))

    def _obey(self, words: list[str]) -> None:
        if words[0] == "CCICA":
            card = f"{self.card:07d},{self.card:08d},0000011" if self.card else "0000000,00000000,0000000"
            self.say(f"BDICI,{card},6,{self.period:.0f},3,N,0")
        elif words[0] == "CCICR":
            self.say(f"BDICP,{self.card},0,0,3,0,N,2,N,1,0,0,3,1,{self.period:.0f},2,0,0,0,0,21,0,0,0")
        elif words[:2] == ["CCRMO", "BSI"]:
            self.say("BDBSI,02,06," + ",".join(map(str, self.beams)))
        elif words[:2] == ["CCRMO", "PWI"]:
            seen = [(number, power) for number, power in enumerate(self.beams, 1) if power]
            self.say("BDPWI,120000.00,00," + ",".join([f"{len(seen):02d}", *(f"{n},{p},{p},0" for n, p in seen)]))
        elif words[0] in ("CCTXA", "CCTCQ"):
            self._transmit(words)

    def _transmit(self, words: list[str]) -> None:
        now = time.monotonic()
        early = self.period - (now - self.sent[-1][0]) if self.sent else 0.0
        if early <= 0:
            content = words[4].removeprefix("A4") if words[0] == "CCTXA" else words[5]
            self.sent.append((now, words[1].lstrip("0"), bytes.fromhex(content)))
        else:
            self.refused += 1
        wait = max(1, round(early)) if early > 0 else 0
        if words[0] == "CCTXA":
            self.say(f"BDFKI,TXA,{'N' if wait else 'Y'},Y,0,{wait // 60:02d}{wait % 60:02d}")
        else:
            self.say(f"BDFKI,120000,TCQ,{'N' if wait else 'Y'},{1 if wait else 0},{wait}")
