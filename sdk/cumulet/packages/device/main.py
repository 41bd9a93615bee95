"""What a device is asked to do with packages: one request on its input, answers as lines of JSON.

The other end says that it is still there by a line now and then; when it is gone, or
silent for a minute, this ends. Nothing is lost by that: whatever was verified counts.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cumulet.core.errors import CumuletError, TargetError
from cumulet.packages.device.chunks import Blob, Part
from cumulet.packages.device.client import BrokenError, Client
from cumulet.packages.device.pull import Effort, pull
from cumulet.packages.device.serve import Shelf, serving
from cumulet.packages.device.sources import INDEX, SIGNATURE, open_source
from cumulet.packages.device.tree import Home

SILENCE_SECONDS = 60.0
FAILED = 4


def say(**answer: object) -> None:
    """One line for the other end."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Read the request and do it; ends the process with 0, or 4 after a line that says what is wrong."""
    request = json.loads(sys.stdin.buffer.readline())
    home = Home(Path(request["home"]))
    threading.Thread(target=watch, args=(0, request.get("silence", SILENCE_SECONDS)), daemon=True).start()
    try:
        VERBS[request["verb"]](request, home)
    except CumuletError as error:
        say(error=error.message, hint=error.hint)
        sys.exit(FAILED)
    except OSError as error:
        say(error=f"{error.filename or home.blobs.parent}: {error.strerror or error}", hint="")
        sys.exit(FAILED)


def watch(handle: int, silence: float) -> None:
    """End this process when nobody talks to it any more."""
    while select.select([handle], [], [], silence)[0] and os.read(handle, 4096):
        pass
    os._exit(FAILED)


def read_index(request: dict[str, Any], home: Home) -> None:
    """The index and its signatures, as the source shows them; those that were kept if it cannot be reached."""
    kept = [(home.blobs / name).read_bytes() for name in (INDEX, SIGNATURE) if (home.blobs / name).is_file()]
    answer: dict[str, object] = {"kept": [encode(each) for each in kept]} if len(kept) == 2 else {}
    try:
        client = Client(request["login"], request["seconds"])
        answer["fetched"] = [encode(each) for each in open_source(request["source"], client).read_index()]
    except BrokenError as error:
        if not answer:
            raise
        answer["reason"] = error.message
    say(done=answer)


def encode(data: bytes) -> str:
    """Bytes as a text of JSON."""
    return base64.b64encode(data).decode()


def look(request: dict[str, Any], home: Home) -> None:
    """Which of the packages are here, as blobs and in their places, and what else lies among the blobs."""
    wanted = {each["sha256"]: each for each in request["packages"]}
    names = sorted(path.name for path in home.blobs.glob("*")) if home.blobs.is_dir() else []
    have = [name for name in names if name in wanted and home.have(home.blobs / name, name)]
    fixed = {INDEX, SIGNATURE, "lock", *wanted, *(f"{sha256}.part" for sha256 in wanted)}
    placed = [
        sha256
        for sha256, each in wanted.items()
        if each["tree"] and home.have(home.place(each), each["tree"]) and home.is_current(each)
    ]
    parts = {name: (home.blobs / f"{name}.part").stat().st_size for name in wanted if f"{name}.part" in names}
    say(done={"blobs": have, "parts": parts, "placed": placed, "others": [each for each in names if each not in fixed]})


def bring(request: dict[str, Any], home: Home) -> None:
    """Bring blobs here; with `listen`, hand them on until the other end is gone."""
    blobs = [Blob.from_values(each) for each in request["packages"]]
    sources = [open_source(each, Client(request["login"], request["seconds"])) for each in request["sources"]]
    missing = [each for each in blobs if not home.have(home.blobs / each.sha256, each.sha256)]
    shelf = Shelf(home.blobs, frozenset(each.sha256 for each in missing))
    with locked(home), handing_on(request, shelf):
        for blob in missing:
            if (home.blobs / blob.sha256).exists():
                # Its last step was not taken, or it is damaged: what is right of it is not fetched again.
                (home.blobs / blob.sha256).replace(home.blobs / f"{blob.sha256}.part")
            part = Part(home.blobs, blob)
            try:
                shelf.begin(part)
                effort = Effort(request["patience"], request["pause"])
                pull(part, sources, effort, lambda part: say(name=part.blob.name, bytes=part.length))
                home.prove(part.publish(), blob.sha256)
            finally:
                part.close()
            say(name=blob.name, bytes=blob.size)
        say(done={})
        if request["listen"]:
            threading.Event().wait()


@contextlib.contextmanager
def handing_on(request: dict[str, Any], shelf: Shelf) -> Iterator[None]:
    """Hand on what is on the shelf, if the request says where to listen."""
    if not request["listen"]:
        yield
        return
    address, port, secret, most = request["listen"]
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(serving(shelf, (address, port), secret, most))
        except OSError as error:
            raise TargetError(f"{address}:{port}: cannot be listened on: {error.strerror}") from error
        yield


def install(request: dict[str, Any], home: Home) -> None:
    """Put packages in their places."""
    with locked(home):
        for package in request["packages"]:
            home.install(package)
    say(done={})


def drop(request: dict[str, Any], home: Home) -> None:
    """Remove files of the folder of blobs."""
    with locked(home):
        home.drop(request["names"])
    say(done={})


@contextlib.contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the folder of blobs. One installer works on a site, so who holds it now is left over from an earlier one."""
    home.blobs.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 10
    with (home.blobs / "lock").open("a+") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TargetError(f"{home.blobs}: is in use by another program") from None
                stream.seek(0)
                with contextlib.suppress(ValueError, ProcessLookupError):
                    os.kill(int(stream.read()), signal.SIGTERM)
                time.sleep(0.05)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


VERBS: dict[str, Callable[[dict[str, Any], Home], None]] = {
    "index": read_index,
    "look": look,
    "bring": bring,
    "install": install,
    "drop": drop,
}
