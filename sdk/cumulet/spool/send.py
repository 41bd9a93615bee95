"""The sender: takes what waits in a spool to the tier above, and forgets it there once it is told that it is safe.

Nothing is kept about how far a transfer came: the receiver knows, and is asked. So a cut on either side,
at any byte, costs at most what was under way.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, ToolError
from cumulet.spool.entry import Entry
from cumulet.spool.store import Spool
from cumulet.spool.wire import PIECE_TYPE, ROOT, TUS, make_metadata, make_path

if TYPE_CHECKING:
    import httpx

SLICE = 1 << 20
TRIES = 3
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
HELD_PAUSE = 5.0
REFUSED_SECONDS = 3600.0
# Not the fault of one entry: not let in at all, busy, no room.
LATER = (401, 408, 412, 423, 429, 500, 502, 503, 504, 507)


@dataclass(frozen=True, slots=True)
class Target:
    """Where content goes: the parents in the order they are tried, `https://host:port` each.

    With `authority` the parent's certificate is checked against that file instead of the system's; with
    `certificate` and `key` this side shows one too. `mark` is the firewall mark of the sockets, by which the
    uplink chooses a link for them. `seconds` is the longest silence.
    """

    urls: tuple[str, ...]
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    mark: int = 0
    seconds: float = 30.0


@dataclass(slots=True)
class Outcome:
    """What one round did: entries and bytes sent, entries held back by the uplink, refused ones with the reason,
    and why it ended early, if it did."""

    sent: int = 0
    size: int = 0
    held: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    error: str = ""


class _BrokenError(ToolError):
    """The other side is not there, or has no room now: worth another try, later."""


class _RefusedError(TargetError):
    """The other side will not have this entry."""


def make_client(target: Target) -> httpx.Client:
    """A client for a target. Raises ToolError if its certificates cannot be read."""
    import httpx  # noqa: PLC0415  (slow to import)

    options = [(_SOL_SOCKET, _SO_MARK, target.mark)] if target.mark else None
    transport = httpx.HTTPTransport(verify=_make_trust(target), retries=0, socket_options=options)
    return httpx.Client(transport=transport, timeout=target.seconds, headers={"Tus-Resumable": TUS})


_SOL_SOCKET, _SO_MARK = 1, 36  # Linux; Python's socket module has no name for the second before 3.13


def _make_trust(target: Target) -> ssl.SSLContext | bool:
    if not any(url.startswith("https:") for url in target.urls):
        return True
    try:
        trust = ssl.create_default_context(cafile=target.authority)
        # Python 3.13 demands of every certificate to name its authority's key, which not all of a cluster's do.
        trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if target.certificate is not None:
            trust.load_cert_chain(target.certificate, target.key)
    except OSError as error:
        where = target.authority or target.certificate
        raise ToolError(f"{where}: cannot be used: {error.strerror or error}") from error
    return trust


class Sender:
    """Sends a spool's entries. `permit(topic)` says whether that class of traffic may flow now.

    `slice_size` is how many bytes go between two questions to `permit`. Not for several threads at once.
    """

    def __init__(
        self,
        spool: Spool,
        target: Target,
        client: httpx.Client,
        *,
        permit: Callable[[str], bool] = lambda topic: True,
        slice_size: int = SLICE,
    ) -> None:
        self.spool, self.target = spool, target
        self._client, self._permit, self._slice = client, permit, slice_size
        self._at = 0
        self._refused: dict[tuple[str, str], tuple[float, str]] = {}

    def send_all(self, deadline: Deadline) -> Outcome:
        """One round over everything that waits, the oldest first. Expected trouble is in the outcome, not raised."""
        outcome, now = Outcome(), time.monotonic()
        self._refused = {key: told for key, told in self._refused.items() if told[0] > now}
        for entry in self.spool.entries():
            if (entry.origin, entry.id) in self._refused:
                continue
            try:
                deadline.check("sending")
                if not self._send(entry, outcome, deadline):
                    outcome.held += 1
            except _RefusedError as error:
                self._refused[(entry.origin, entry.id)] = (now + REFUSED_SECONDS, error.message)
            except (_BrokenError, TargetError) as error:
                outcome.error = error.message
                break
        outcome.refused = {"/".join(key): told[1] for key, told in self._refused.items()}
        return outcome

    def run(self, stop: threading.Event, tell: Callable[[Outcome], None] = lambda outcome: None) -> None:
        """Send until `stop` is set: at once while it works, with growing, scattered pauses while it does not."""
        pause = FIRST_PAUSE
        while not stop.is_set():
            outcome = self.send_all(Deadline.after(LONGEST_PAUSE))
            tell(outcome)
            if outcome.error:
                pause = min(pause * 2, LONGEST_PAUSE)
                wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  (not a secret: many edges must not come at once)
            else:
                pause, wait = FIRST_PAUSE, HELD_PAUSE if outcome.held else FIRST_PAUSE
            stop.wait(wait)

    def _send(self, entry: Entry, outcome: Outcome, deadline: Deadline) -> bool:
        """Send one entry; False if the uplink holds it back. The receiver says where to go on."""
        if not self._permit(entry.topic):
            return False
        for _ in range(TRIES):
            offset: int | None = self._begin(entry)
            while offset is not None and offset < entry.size:
                if not self._permit(entry.topic):
                    return False
                deadline.check("sending")
                offset = self._send_slice(entry, offset, outcome)
            if offset == entry.size:
                self.spool.done(entry)
                outcome.sent += 1
                return True
        raise _RefusedError(f"{entry.origin}/{entry.id}: the receiver began it again {TRIES} times")

    def _begin(self, entry: Entry) -> int:
        """Announce an entry, to the first parent that answers; how many bytes of it are there."""
        headers = {"Upload-Length": str(entry.size), "Upload-Metadata": make_metadata(entry)}
        answer = self._ask("POST", ROOT, headers, None)
        if answer.status_code not in (200, 201):
            raise _refusal(entry, answer)
        return _offset(answer)

    def _send_slice(self, entry: Entry, offset: int, outcome: Outcome) -> int | None:
        """Send a slice; the new offset, or None if the other side counts differently."""
        piece = self.spool.read(entry, offset, self._slice)
        if not piece:
            raise _RefusedError(f"{entry.origin}/{entry.id}: its file is shorter than it was")
        headers = {"Upload-Offset": str(offset), "Content-Type": PIECE_TYPE}
        answer = self._ask("PATCH", make_path(entry), headers, piece)
        if answer.status_code in (404, 409):
            return None
        if answer.status_code != 204:
            raise _refusal(entry, answer)
        outcome.size += len(piece)
        return _offset(answer)

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> httpx.Response:
        """The answer of a parent. Only an announcement goes to the next parent at once: that one knows no slices."""
        import httpx  # noqa: PLC0415  (slow to import)

        errors = []
        for _ in range(len(self.target.urls) if body is None else 1):
            url = self.target.urls[self._at].rstrip("/")
            try:
                answer = self._client.request(method, url + path, headers=headers, content=body)
            except httpx.HTTPError as error:
                errors.append(f"{url}: {error or type(error).__name__}")
                self._at = (self._at + 1) % len(self.target.urls)
                continue
            if answer.status_code in LATER:
                raise _BrokenError(f"{url}: {_reason(answer)}")
            return answer
        raise _BrokenError("; ".join(errors))


def _offset(answer: httpx.Response) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not text.isdigit():
        raise _BrokenError(f"{answer.request.url}: not a receiver of results: it says no Upload-Offset")
    return int(text)


def _refusal(entry: Entry, answer: httpx.Response) -> _RefusedError:
    return _RefusedError(f"{entry.origin}/{entry.id}: {_reason(answer)}")


def _reason(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text.strip()[:200] or answer.reason_phrase}"
