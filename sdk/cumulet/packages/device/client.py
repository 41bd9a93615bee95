"""HTTP as it is needed here: one question, one answer, a place to start at, redirects, a registry's tokens."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urljoin, urlsplit

from cumulet.core.errors import TargetError

# What lies in the kernel's buffer when this process is killed is sent again: less than a chunk.
BUFFER = 1 << 19
REDIRECTS = 5
LARGEST_ANSWER = 64 << 20
CERTIFICATES = "/usr/lib/python3/dist-packages/certifi/cacert.pem"


class BrokenError(TargetError):
    """The other side is not there, or the connection broke: worth another try."""


class RefusedError(TargetError):
    """The other side says no, with an HTTP status."""

    def __init__(self, message: str, status: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class _Plain(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = _open_socket(self.host, self.port, self.timeout)


class _Secure(http.client.HTTPSConnection):
    def connect(self) -> None:
        context = ssl.create_default_context()
        if not context.cert_store_stats()["x509_ca"] and Path(CERTIFICATES).exists():
            context.load_verify_locations(CERTIFICATES)
        self.sock = context.wrap_socket(_open_socket(self.host, self.port, self.timeout), server_hostname=self.host)


def _open_socket(host: str, port: int, seconds: float | None) -> socket.socket:
    error: OSError = OSError(f"{host}: no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            made.settimeout(seconds)
            made.connect(address)
        except OSError as reason:
            made.close()
            error = reason
        else:
            return made
    raise error


class Client:
    """Asks servers. `login` is `user:password` for a registry that wants one; `seconds` the longest silence."""

    def __init__(self, login: str = "", seconds: float = 15.0) -> None:
        self.seconds = seconds
        self._login = f"Basic {base64.b64encode(login.encode()).decode()}" if login else ""
        self._grants: dict[str, str] = {}

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
    ) -> http.client.HTTPResponse:
        """The answer with a status below 400; the caller reads and closes it. Raises BrokenError or RefusedError."""
        for _ in range(REDIRECTS):
            answer = self._ask_once(method, url, headers or {}, body)
            if answer.status == 401 and self._take_grant(url, answer.headers.get("WWW-Authenticate", "")):
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)
            elif answer.status in (301, 302, 303, 307, 308) and method in ("GET", "HEAD"):
                url = urljoin(url, answer.headers.get("Location", ""))
            elif answer.status >= 400:
                reason = f"{answer.status} {answer.reason}"
                answer.close()
                raise RefusedError(f"{url}: {reason}", answer.status)
            else:
                return answer
            answer.close()
        raise BrokenError(f"{url}: sends from one place to another without end")

    def read(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """A small document. Raises BrokenError or RefusedError."""
        answer = self.ask("GET", url, headers)
        try:
            text = answer.read(LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(f"{url}: {describe(error)}") from error
        finally:
            answer.close()
        return text

    def _ask_once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> http.client.HTTPResponse:
        parts = urlsplit(url)
        kind = _Secure if parts.scheme == "https" else _Plain
        connection = kind(parts.hostname or "", parts.port, timeout=self.seconds)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        grant = self._grants.get(parts.netloc)
        sent = {
            "User-Agent": "cumulet",
            "Connection": "close",
            **({"Authorization": grant} if grant else {}),
            **headers,
        }
        try:
            connection.request(method, path or "/", body, sent)
            answer = connection.getresponse()
            if connection.sock is not None:
                connection.sock.close()  # for good when the answer is closed: one connection, one question
            return answer
        except ssl.SSLCertVerificationError as error:
            raise RefusedError(f"{url}: its certificate is not good: {error.verify_message}", 0) from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise BrokenError(f"{parts.netloc}: {describe(error)}") from error

    def _take_grant(self, url: str, challenge: str) -> bool:
        """What the other side wants to see before it answers; False if it has been shown that already."""
        place = urlsplit(url).netloc
        scheme, _, rest = challenge.partition(" ")
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() == "basic":
            grant = self._login
        elif scheme.lower() == "bearer" and "realm" in wanted:
            grant = self._fetch_token(wanted)
        else:
            return False
        if not grant or self._grants.get(place) == grant:
            return False
        self._grants[place] = grant
        return True

    def _fetch_token(self, wanted: dict[str, str]) -> str:
        query = urlencode({str(name): wanted[name] for name in ("service", "scope") if name in wanted})
        headers = {"Authorization": self._login} if self._login else {}
        asked = self._ask_once("GET", f"{wanted['realm']}?{query}", headers, None)
        try:
            answer: dict[str, Any] = json.loads(asked.read(LARGEST_ANSWER)) if asked.status == 200 else {}
        except ValueError:
            answer = {}
        finally:
            asked.close()
        token = answer.get("token") or answer.get("access_token")
        return f"Bearer {token}" if token else ""


def describe(error: Exception) -> str:
    """Why a connection broke, in few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection broke"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
