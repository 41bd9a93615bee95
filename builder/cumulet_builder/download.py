"""Downloads into the content store: parallel, resumable, verified.

A file arrives as `parts/SHA256.part` in the cache folder and moves into the
store only after its SHA-256 has been checked; an interrupted download goes on
where it stopped. Nothing here knows what the files are for.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from cumulet.core.errors import ToolError
from cumulet.core.files import raise_os_error
from cumulet_builder.cache import Cache

if TYPE_CHECKING:
    import httpx

CHUNK = 1 << 17
GONE = (404, 410, 401, 403)
LARGEST_TEXT = 4 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """One wanted file: where it is, what it must hold, and the name that people know it by."""

    url: str
    sha256: str
    size: int | None
    name: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a set of downloads is. `total` is None while a file's size is not known."""

    done: int
    total: int | None
    files_done: int
    files: int
    name: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How hard to try. `attempts` counts tries in a row that brought no byte."""

    parallel: int = 8
    attempts: int = 5
    pause: float = 0.5
    timeout: float = 30.0


Report = Callable[[Progress], None]


class _StoppedError(Exception):
    """Another download of the set has failed."""


@dataclass
class _Job:
    """What the threads of one `download` share."""

    cache: Cache
    settings: Settings
    client: httpx.Client
    report: Report | None
    requests: Sequence[Request]
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    here: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    def note(self, request: Request, here: int, *, finished: bool = False) -> None:
        """Record that `here` bytes of the file are on disk, and report the sums."""
        with self.lock:
            self.here[request.sha256] = here
            if finished:
                self.finished.add(request.sha256)
            if self.report is not None:
                sizes = [
                    each.size if each.size is not None else self.here.get(each.sha256)
                    if each.sha256 in self.finished else None
                    for each in self.requests
                ]  # fmt: skip
                total = sum(size for size in sizes if size is not None) if None not in sizes else None
                done = sum(self.here.values())
                self.report(Progress(done, total, len(self.finished), len(self.requests), request.name))


def download(
    requests: Sequence[Request],
    cache: Cache,
    progress: Report | None = None,
    settings: Settings | None = None,
) -> None:
    """Bring every file that the cache lacks into it.

    `progress` is called from the downloading threads, one call at a time. Raises
    ToolError for the first file that cannot be had; what has arrived is kept, so
    that the next call goes on from there.
    """
    settings = settings or Settings()
    wanted = {each.sha256: each for each in requests if not cache.have_file(each.sha256, each.size)}
    if not wanted:
        return
    with _client(settings) as client:
        job = _Job(cache, settings, client, progress, list(wanted.values()))
        with ThreadPoolExecutor(min(settings.parallel, len(wanted))) as pool:
            futures = [pool.submit(_fetch, each, job) for each in wanted.values()]
            _finish(futures, job)


def fetch_text(url: str, settings: Settings | None = None) -> str:
    """A small text, such as a list of checksums. Raises ToolError if it cannot be had."""
    import httpx  # noqa: PLC0415 - slow to import

    settings = settings or Settings()
    for attempt in range(settings.attempts):
        try:
            with _client(settings) as client:
                answer = client.get(url)
                if answer.status_code == httpx.codes.OK and len(answer.content) <= LARGEST_TEXT:
                    return answer.text
                trouble = f"HTTP {answer.status_code}, {len(answer.content)} bytes"
                if answer.status_code in GONE:
                    break
        except httpx.HTTPError as error:
            trouble = describe(error)
        if attempt + 1 < settings.attempts:
            time.sleep(settings.pause * 2**attempt)
    raise ToolError(f"{url}: cannot be read: {trouble}", hint="check the address and the network")


def describe(error: Exception) -> str:
    """What a transfer error says, or its kind if it says nothing."""
    return str(error) or type(error).__name__


def _client(settings: Settings) -> httpx.Client:
    import httpx  # noqa: PLC0415 - slow to import

    limits = httpx.Limits(max_connections=settings.parallel)
    return httpx.Client(follow_redirects=True, timeout=settings.timeout, limits=limits)


def _finish(futures: list[Future[None]], job: _Job) -> None:
    """Wait for all; after the first failure or an interrupt the others stop at their next chunk."""
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        job.stop.set()
        for each in futures:
            each.cancel()
    errors = [each.exception() for each in futures if not each.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, _StoppedError):
            raise error


def _fetch(request: Request, job: _Job) -> None:
    """Download one file, with retries, until it is in the store."""
    part = job.cache.root / "parts" / f"{request.sha256}.part"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with _owned(part) as stream:
            if job.cache.have_file(request.sha256, request.size):
                part.unlink(missing_ok=True)
            else:
                _fill(request, stream, job)
                stream.flush()
                _store(request, part, stream, job)
        job.note(request, job.cache.file(request.sha256).stat().st_size, finished=True)
    except OSError as error:
        raise_os_error(error, part)


@contextmanager
def _owned(part: Path) -> Iterator[IO[bytes]]:
    """The part file, open and ours alone: another build may want the same file."""
    while True:
        with part.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                same = os.fstat(stream.fileno()).st_ino == part.stat().st_ino
            except FileNotFoundError:
                same = False
            if same:
                yield stream
                return


def _store(request: Request, part: Path, stream: IO[bytes], job: _Job) -> None:
    size = stream.tell()
    if request.size is not None and size != request.size:
        part.unlink()
        raise ToolError(
            f"{request.name}: {request.url} gave {size} bytes instead of {request.size}",
            hint="the mirror holds another file; run again, or name another mirror",
        )
    os.fsync(stream.fileno())
    job.cache.add_file(part, request.sha256, f"{request.name}: {request.url}")


def _fill(request: Request, stream: IO[bytes], job: _Job) -> None:
    """Append to the part file until it is complete. Tries that bring bytes do not count as failed."""
    failed = 0
    while True:
        before = stream.tell()
        trouble = _receive(request, stream, job)
        if trouble is None:
            return
        failed = failed + 1 if stream.tell() == before else 1
        if failed >= job.settings.attempts:
            raise ToolError(
                f"{request.name}: {request.url}: {trouble} ({stream.tell()} bytes are here)",
                hint="run the same command again: it goes on where it stopped; or name another mirror",
            )
        if job.stop.wait(job.settings.pause * 2 ** (failed - 1)):
            raise _StoppedError


def _receive(request: Request, stream: IO[bytes], job: _Job) -> str | None:
    """One try. None when the server has sent everything, else what went wrong."""
    import httpx  # noqa: PLC0415 - slow to import

    if urlsplit(request.url).scheme == "file":
        return _copy(request, stream)
    start = stream.tell()
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with job.client.stream("GET", request.url, headers=headers) as answer:
            if answer.status_code in GONE:
                raise ToolError(
                    f"{request.name}: {request.url}: HTTP {answer.status_code}",
                    hint="the mirror no longer has this file: update the lock, or name another mirror",
                )
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return _judge_range(answer, start, stream)
            if answer.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                return f"HTTP {answer.status_code}"
            if not _continues(answer, start):
                stream.truncate(0)
                stream.seek(0)
            # As it comes: collected to chunks of one size, a broken connection would lose the last.
            for chunk in answer.iter_raw():
                if job.stop.is_set():
                    raise _StoppedError
                stream.write(chunk)
                job.note(request, stream.tell())
    except httpx.HTTPError as error:
        return describe(error)
    return None


def _continues(answer: httpx.Response, start: int) -> bool:
    """Whether the answer begins at byte `start`; a server may send the whole file instead."""
    if not start:
        return True
    return answer.status_code == 206 and answer.headers.get("content-range", "").startswith(f"bytes {start}-")


def _judge_range(answer: httpx.Response, start: int, stream: IO[bytes]) -> str | None:
    """After "no such range": the part is complete if its size is the file's, else it is worthless."""
    if answer.headers.get("content-range") == f"bytes */{start}":
        return None
    stream.truncate(0)
    stream.seek(0)
    return "the server has less of this file than we do; starting over"


def _copy(request: Request, stream: IO[bytes]) -> str | None:
    stream.truncate(0)
    stream.seek(0)
    path = Path(unquote(urlsplit(request.url).path))
    try:
        with path.open("rb") as source:
            while chunk := source.read(CHUNK):
                stream.write(chunk)
    except FileNotFoundError as error:
        raise ToolError(
            f"{request.name}: {path}: no such file", hint="check the folder that the recipe names"
        ) from error
    return None
