"""What has arrived at the top, brought to a person: each result a file, by site and name, whole and checked.

Results that are in the folder already are not fetched again; one that was cut off goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.core.files import sha256_file
from cumulet.spool.collect import NAME, TASK
from cumulet.spool.entry import Entry, load_entry
from cumulet.spool.wire import ROOT, make_path

if TYPE_CHECKING:
    import httpx

PARTS = ".parts"
MOST_PAGES = 100000


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result and its file. `new`: it was not in the folder before."""

    entry: Entry
    path: Path
    new: bool


def fetch_results(client: httpx.Client, url: str, task: str, folder: Path, *, take: bool = False) -> Iterator[Fetched]:
    """Every result of a task that has arrived, one after the other, as it comes to lie below `folder`.

    `take`: the top forgets its content then, and gives the room back. Raises ToolError, TargetError, UsageError.
    """
    for entry in list_results(client, url, task):
        path = choose_path(folder, entry)
        new = not path.exists() or path.stat().st_size != entry.size or sha256_file(path) != entry.sha256
        if new:
            _fetch(client, url, entry, folder, path)
        if take:
            _ask(client, "DELETE", url.rstrip("/") + make_path(entry), (204, 404))
        yield Fetched(entry, path, new)


def list_results(client: httpx.Client, url: str, task: str) -> Iterator[Entry]:
    """The entries of a task's results at the top, in the order of their arrival."""
    after = 0
    for _ in range(MOST_PAGES):
        answer = _ask(client, "GET", url.rstrip("/") + ROOT, (200,), params={"task": task, "after": str(after)})
        try:
            page = answer.json()
            entries = [load_entry(json.dumps(each)) for each in page["results"]]
            after = int(page["next"])
        except (ValueError, KeyError, TypeError) as error:
            raise TargetError(f"{url}: is no entry of results: {type(error).__name__}") from error
        yield from (entry for entry in entries if entry.meta.get(TASK) == task)
        if not after:
            return


def choose_path(folder: Path, entry: Entry) -> Path:
    """Where a result lies: `SITE/NAME`. What comes from a site decides nothing outside of the site's own folder.

    A result of the same name with other content lies beside the first one, with the beginning of its id behind.
    """
    words = PurePosixPath(entry.meta.get(NAME, "") or entry.id).parts
    bad = not words or any(word in ("..", "/", PARTS) or "\0" in word for word in words)
    site = folder / entry.origin
    name = Path(entry.id) if bad or any((site / part).is_file() for part in Path(*words).parents) else Path(*words)
    plain = site / name
    beside = plain.with_name(f"{plain.name}.{entry.id[:8]}")
    if beside.exists() or (plain.is_file() and sha256_file(plain) != entry.sha256) or plain.is_dir():
        return beside
    return plain


def _fetch(client: httpx.Client, url: str, entry: Entry, folder: Path, path: Path) -> None:
    import httpx  # noqa: PLC0415  (slow to import)

    part = folder / PARTS / f"{entry.origin}.{entry.id}"
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            here = part.stat().st_size if part.exists() else 0
            if here < entry.size:
                headers = {"Range": f"bytes={here}-"} if here else {}
                with client.stream("GET", url.rstrip("/") + make_path(entry), headers=headers) as answer:
                    if answer.status_code not in (200, 206):
                        answer.read()
                        raise _refusal(url, answer)
                    with part.open("ab" if answer.status_code == 206 else "wb") as stream:
                        for piece in answer.iter_bytes():
                            stream.write(piece)
                        stream.flush()
                        os.fsync(stream.fileno())
            elif not here:
                part.touch()
            if part.stat().st_size == entry.size and sha256_file(part) == entry.sha256:
                part.rename(path)
                with contextlib.suppress(OSError):
                    part.parent.rmdir()
                return
            part.unlink()
    except httpx.HTTPError as error:
        raise ToolError(f"{url}: {error or type(error).__name__}", hint="the same command again goes on") from error
    except OSError as error:
        raise ToolError(f"{error.filename or path}: {error.strerror or error}") from error
    raise TargetError(f"{entry.origin}/{entry.id}: what came is not what was announced")


def _ask(
    client: httpx.Client, method: str, url: str, good: tuple[int, ...], params: dict[str, str] | None = None
) -> httpx.Response:
    import httpx  # noqa: PLC0415  (slow to import)

    try:
        answer = client.request(method, url, params=params)
    except httpx.HTTPError as error:
        raise ToolError(f"{url}: {error or type(error).__name__}", hint="is the entry of the top's results up?") from (
            error
        )
    if answer.status_code not in good:
        raise _refusal(url, answer)
    return answer


def _refusal(url: str, answer: httpx.Response) -> TargetError | UsageError:
    text = f"{url}: {answer.status_code} {answer.text.strip()[:200] or answer.reason_phrase}"
    return UsageError(text) if answer.status_code in (400, 401, 403) else TargetError(text)
