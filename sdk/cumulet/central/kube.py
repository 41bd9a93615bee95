"""A small client of the Kubernetes API: requests, pages, server-side apply, watches.

Objects are plain dictionaries, as JSON gives them. One `Kube` is one identity at one
API server; it keeps a few connections open and makes them anew when they fall silent.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from cumulet import __version__
from cumulet.central.access import Access, make_context
from cumulet.central.link import Link, UnreachableError, open_link
from cumulet.core.errors import TargetError

Json = dict[str, Any]
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PARTIAL = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
PAGE = 500
SILENCE_SECONDS = 150.0
"""A watch gets a bookmark about every minute; after this long without a byte it is dead."""
WATCH_SECONDS = (240, 420)
TOKEN_SECONDS = 60.0
MOST_LINE = 16 << 20
MOST_WAIT = 30.0


class RefusedError(TargetError):
    """The API server has answered with an error. `status` is HTTP's, `reason` Kubernetes' own word for it."""

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and where it is in the API."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", sub: str = "") -> str:
        """The path of all objects, those of a namespace, one of them, or a part of one."""
        words = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        words += ["namespaces", quote(namespace, safe="")] if namespace and self.namespaced else []
        words += [self.plural, *([quote(name, safe="")] if name else []), *([sub] if sub else [])]
        return "/".join(words)


@dataclass(frozen=True, slots=True)
class Query:
    """Which objects: a resource, a namespace, selectors. `partial`: their metadata only."""

    resource: Resource
    namespace: str = ""
    labels: str = ""
    fields: str = ""
    partial: bool = False

    def words(self) -> dict[str, str]:
        """As query parameters."""
        pairs = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in pairs.items() if value}


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`kind` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: Json


@dataclass(slots=True)
class Traffic:
    """What has gone over the wire, without what TLS and TCP add."""

    requests: int = 0
    sent: int = 0
    received: int = 0


class Kube:
    """An API server, as one user. `skew` is by how many seconds its clock is ahead, `heard` when it last answered."""

    def __init__(self, access: Access, *, agent: str = "cumulet", patience: float = 30.0, links: int = 8) -> None:
        self.access = access
        self.patience = patience
        self.skew: float | None = None
        self.heard = 0.0
        self.traffic = Traffic()
        self._agent = f"{agent}/{__version__}"
        self._context: ssl.SSLContext = make_context(access)
        self._idle: list[Link] = []
        self._watching: set[Link] = set()
        self._turn = asyncio.Semaphore(links)
        self._closed = False
        self._token = "", -TOKEN_SECONDS

    async def call(self, method: str, path: str, body: Json | None = None, **more: Any) -> Json:
        """Send a request and give back the object in the answer.

        `query` are parameters, `content` the type of the body, `accept` that of the
        answer. Raises RefusedError and UnreachableError.
        """
        answer = await self.raw(method, path, body, **more)
        return self._read(answer, path) if answer else {}

    async def raw(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = JSON,
        accept: str = JSON,
    ) -> bytes:
        """The same, with the answer as bytes. An answer "too many requests" is waited out a few times."""
        data = json.dumps(body, separators=(",", ":")).encode() if body is not None else b""
        target = self.access.prefix + path + (f"?{urlencode(query)}" if query else "")
        headers = self._headers(accept, content if body is not None else "", len(data))
        for attempt in range(5):
            async with self._turn:
                status, found, answer = await self._exchange(method, target, headers, data)
            if status != 429 or attempt == 4:
                break
            await asyncio.sleep(min(float(found.get("retry-after", "1")), MOST_WAIT) * random.uniform(1, 2))  # noqa: S311
        if status >= 400:
            raise make_refusal(f"{self.access.host}: {method} {path}", status, answer)
        return answer

    async def get(self, resource: Resource, name: str, namespace: str = "", sub: str = "") -> Json:
        """One object."""
        return await self.call("GET", resource.path(namespace, name, sub))

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """One object, or None if it is not there."""
        try:
            return await self.get(resource, name, namespace)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise

    async def find_kind(self, resource: Resource) -> Json | None:
        """What the server says of a resource, or None if it does not serve it."""
        path = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
        try:
            found = await self.call("GET", path)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return next((each for each in found["resources"] if each["name"] == resource.plural), None)

    async def create(self, resource: Resource, body: Json, namespace: str = "", name: str = "", sub: str = "") -> Json:
        """Make a new object; with `name` and `sub`, a part of one (`eviction`, `binding`)."""
        return await self.call("POST", resource.path(namespace, name, sub), body)

    async def replace(self, resource: Resource, body: Json, sub: str = "") -> Json:
        """Put an object in the place of the one of the same name; its resourceVersion must still be current."""
        meta = body["metadata"]
        return await self.call("PUT", resource.path(meta.get("namespace", ""), meta["name"], sub), body)

    async def apply(self, resource: Resource, body: Json, *, owner: str, force: bool = True, sub: str = "") -> Json:
        """Server-side apply: the fields in `body` become `owner`'s. Without `force`, a conflict is a RefusedError."""
        meta = body["metadata"]
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **body}
        query = {"fieldManager": owner, "force": "true" if force else "false"}
        path = resource.path(meta.get("namespace", ""), meta["name"], sub)
        return await self.call("PATCH", path, whole, query=query, content=APPLY)

    async def patch(self, resource: Resource, name: str, change: Json, namespace: str = "", *, sub: str = "") -> Json:
        """A merge patch: what is None goes, what is there is set."""
        return await self.call("PATCH", resource.path(namespace, name, sub), change, content=MERGE)

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", how: str = "") -> bool:
        """Delete an object (only if it has this uid). Gives back whether there was one."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        options |= {"preconditions": {"uid": uid}} if uid else {}
        options |= {"propagationPolicy": how} if how else {}
        try:
            await self.call("DELETE", resource.path(namespace, name), options)
        except RefusedError as error:
            if error.status == 404 or (uid and error.status == 409):
                return False
            raise
        return True

    async def pages(self, query: Query, size: int = PAGE) -> AsyncIterator[Json]:
        """All objects as lists of up to `size`; each has the items and, in its metadata, the resourceVersion."""
        words = {**query.words(), "limit": str(size)}
        accept = PARTIAL if query.partial else JSON
        while True:
            path = query.resource.path(query.namespace)
            page = await self.call("GET", path, query=words, accept=accept)
            yield page
            token = page["metadata"].get("continue", "")
            if not token:
                return
            words["continue"] = token

    async def collect(self, query: Query) -> list[Json]:
        """All objects."""
        return [item async for page in self.pages(query) for item in page.get("items") or []]

    async def watch(self, query: Query, since: str, silence: float = SILENCE_SECONDS) -> AsyncIterator[WatchEvent]:
        """Changes after the resourceVersion `since`, until the server ends the watch.

        Raises RefusedError with status 410 when `since` is too old, and
        UnreachableError after `silence` seconds without a byte.
        """
        seconds = random.randint(*WATCH_SECONDS)  # noqa: S311 - so that not all come back at once
        words = {**query.words(), "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        words |= {"resourceVersion": since} if since else {}
        target = self.access.prefix + query.resource.path(query.namespace) + "?" + urlencode(words)
        accept = PARTIAL.replace("List", "") if query.partial else JSON
        link = await self._open()
        self._watching.add(link)
        try:
            await link.send("GET", target, self._headers(accept, "", 0), b"")
            status, headers = await link.head()
            self._note_clock(headers)
            if status >= 400:
                answer = b"".join([chunk async for chunk in link.chunks()])
                raise make_refusal(f"{self.access.host}: watch {query.resource.plural}", status, answer)
            async for event in self._events(link, silence, query):
                yield event
        finally:
            self._watching.discard(link)
            link.close()

    async def _events(self, link: Link, silence: float, query: Query) -> AsyncIterator[WatchEvent]:
        rest = bytearray()
        async for chunk in link.chunks(silence):
            self.traffic.received += len(chunk)
            self.heard = time.monotonic()
            rest += chunk
            if len(rest) > MOST_LINE:
                raise UnreachableError(f"{self.access.host}: watch {query.resource.plural}: a line of over 16 MiB")
            if b"\n" not in chunk:
                continue
            *lines, tail = bytes(rest).split(b"\n")
            rest = bytearray(tail)
            for line in lines:
                event = self._read(line, query.resource.plural)
                if event.get("type") == "ERROR":
                    status = event["object"].get("code") or 500
                    text = json.dumps(event["object"]).encode()
                    raise make_refusal(f"{self.access.host}: watch {query.resource.plural}", status, text)
                yield WatchEvent(event["type"], event["object"])

    def _read(self, text: bytes, what: str) -> Json:
        """An answer as an object. What is none comes from somebody on the way: a portal, a proxy."""
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UnreachableError(f"{self.access.host}: {what}: the answer is not Kubernetes'")
        return found

    async def alive(self) -> bool:
        """Whether the server says of itself that it lives (`/livez`, or `/healthz` of an older one)."""
        for path in ("/livez", "/healthz"):
            try:
                await self.raw("GET", path, accept="*/*")
            except RefusedError as error:
                if error.status in (403, 404):
                    continue
                return False
            return True
        return False

    def close(self) -> None:
        """Leave every connection."""
        self._closed = True
        self._rebuild()

    def _headers(self, accept: str, content: str, length: int) -> list[tuple[str, str]]:
        default = self.access.port == 443
        host = f"[{self.access.host}]" if ":" in self.access.host else self.access.host
        headers = [("Host", host if default else f"{host}:{self.access.port}"), ("User-Agent", self._agent)]
        headers += [("Accept", accept)]
        token = self._find_token()
        headers += [("Authorization", f"Bearer {token}")] if token else []
        headers += [("Content-Type", content), ("Content-Length", str(length))] if content else []
        return headers

    def _find_token(self) -> str:
        if not self.access.token_file:
            return self.access.token
        now = time.monotonic()
        if now - self._token[1] > TOKEN_SECONDS:
            self._token = Path(self.access.token_file).read_text().strip(), now
        return self._token[0]

    async def _exchange(
        self, method: str, target: str, headers: list[tuple[str, str]], data: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """One request and its answer; a kept connection that turns out to be dead is replaced once."""
        while True:
            kept = self._take()
            link = kept or await self._open()
            try:
                await link.send(method, target, headers, data)
                status, found = await link.head()
                answer = b"".join([chunk async for chunk in link.chunks()])
            except UnreachableError:
                link.close()
                self._rebuild()
                if kept is not None and method != "POST":
                    continue
                raise
            except BaseException:
                link.close()
                raise
            self._note_clock(found)
            self.traffic.requests += 1
            self.traffic.sent += len(target) + len(data) + sum(len(name) + len(value) + 4 for name, value in headers)
            self.traffic.received += len(answer) + sum(len(name) + len(value) + 4 for name, value in found.items())
            self._keep(link)
            return status, found, answer

    async def _open(self) -> Link:
        try:
            return await open_link(self.access, self._context, self.patience)
        except UnreachableError:
            self._rebuild()
            raise

    def _rebuild(self) -> None:
        """One connection has fallen silent: the way there is another now, and the others are dead as well."""
        for link in (*self._idle, *self._watching):
            link.close()
        self._idle.clear()

    def _take(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if link.reusable:
                return link
            link.close()
        return None

    def _keep(self, link: Link) -> None:
        if link.reusable and not self._closed:
            self._idle.append(link)
        else:
            link.close()

    def _note_clock(self, headers: Mapping[str, str]) -> None:
        """Remember that the server has answered, and how far its clock is ahead of ours, in seconds."""
        self.heard = time.monotonic()
        try:
            theirs = email.utils.parsedate_to_datetime(headers["date"]).timestamp()
        except (KeyError, ValueError):
            return
        self.skew = theirs - time.time()


def make_refusal(what: str, status: int, answer: bytes) -> RefusedError:
    """The error for an answer: Kubernetes' own words if there are any."""
    try:
        found = json.loads(answer)
        reason, message = str(found.get("reason") or ""), str(found.get("message") or "")
    except (ValueError, AttributeError):
        reason, message = "", answer[:200].decode(errors="replace").strip()
    return RefusedError(f"{what}: {status} {reason}: {message}".rstrip(": "), status, reason)
