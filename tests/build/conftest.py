"""What the tests of real builds share: a store of packages, finished images, private caches, closed worlds.

Packages come once, through this computer's apt configuration and the user's own cache. Every build of a test
then goes by a lock and that store, with a mirror that nobody answers at, so that none of them can cheat.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cumulet_builder.cache import default_root
from cumulet_builder.toolbox import remove_tree

ROOT = Path(__file__).parents[2]
CUMULET = (sys.executable, "-m", "cumulet_builder.cli")
NOWHERE = "http://127.0.0.1:1"
IMAGES = ("base-amd64", "base-arm64")
LIMIT = 600.0
# What of /tmp is not looked at: the way to a checkout that lies there.
LEAVE_OUT = f"-path {Path(*ROOT.parts[:3])} -prune -o -print" if ROOT.is_relative_to("/tmp") else ""
# A disk of 450 MiB instead of 1.5 GB, and fewer zeros to read.
SMALL = ("--set", "disk.root=100MiB", "--set", "disk.data=64MiB")


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error message; the test fails if there is not exactly one, of one line, with a hint."""
        lines = self.err.splitlines()
        found = [line for line in lines if line.startswith("error: ")]
        assert len(found) == 1, self.err
        after = lines[lines.index(found[0]) + 1 :]
        assert len(after) == 1, self.err
        assert after[0].startswith("hint: "), self.err
        return found[0].removeprefix("error: ")


@dataclass(frozen=True)
class Builder:
    """The command line over one cache and one folder of images. `start` are words before it, `env` is added."""

    folder: Path
    options: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = ROOT

    @property
    def cache(self) -> Path:
        """Its private cache."""
        return self.folder / "cache"

    @property
    def out(self) -> Path:
        """Where it publishes."""
        return self.folder / "out"

    def words(self, command: str, recipe: str | Path, *more: str | Path) -> list[str]:
        """The whole command."""
        own = ["--cache", str(self.cache), "--out", str(self.out)]
        return [*self.start, *CUMULET, command, str(recipe), *own, *self.options, *map(str, more)]

    def open(self, command: str, recipe: str | Path, *more: str | Path) -> subprocess.Popen[str]:
        """Start a command that the test will end; it leads a process group, as in a terminal."""
        return subprocess.Popen(
            self.words(command, recipe, *more),
            cwd=self.cwd,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, recipe: str | Path, *more: str | Path, code: int = 0) -> Done:
        """Run a command, which must end with `code`."""
        words = self.words(command, recipe, *more)
        env = {**os.environ, **self.env}
        done = subprocess.run(words, cwd=self.cwd, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return Done(done.returncode, done.stdout, done.stderr)

    def plan(self, recipe: str | Path, *more: str | Path) -> dict[str, str]:
        """Stage -> why it would run; stages that would not are left out."""
        answer = json.loads(self.run("plan", recipe, "--json", *more).out)
        return {step["stage"]: step["reason"] for step in answer["stages"] if step["run"]}

    def stage(self, name: str) -> Path:
        """The folder of the one result of a stage."""
        (found,) = [path for path in (self.cache / "stages" / name).iterdir() if path.name[0] != "."]
        return found


@dataclass(frozen=True)
class Store:
    """Everything that the locks of both images name."""

    folder: Path
    locks: Mapping[str, Path]

    def options(self, image: str) -> tuple[str, ...]:
        """What makes a build go by the lock and this store alone."""
        return (*SMALL, "--lock", str(self.locks[image]), "--vendor", str(self.folder), "--mirror", NOWHERE)


@pytest.fixture(scope="session")
def space() -> Iterator[Path]:
    """A folder that everybody may enter, removed at the end, on a disk with room."""
    folder = Path(tempfile.mkdtemp(prefix="cumulet-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    remove_tree(folder)


@pytest.fixture(scope="session")
def store(space: Path) -> Store:
    """Locks of both base images from the real mirror, and their packages, by way of the user's own cache."""
    lent = Builder(space / "lent")
    locks = {}
    for image in IMAGES:
        locks[image] = space / f"{image}.json"
        own = ("--cache", str(default_root()))
        lent.run("lock", image, *own, "--output", locks[image])
        make_older(locks[image])
        lent.run("vendor", image, *own, "--lock", locks[image], "--to", space / "store")
    return Store(space / "store", locks)


def make_older(lock: Path) -> None:
    """Date a lock back by a day, as if the mirror had moved on since; its packages stay those of today."""
    document = json.loads(lock.read_text())
    document["epoch"] -= 86400
    lock.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def amd64(space: Path, store: Store) -> Builder:
    """The image for this computer's usual architecture, built from nothing. Tests must not change it."""
    made = Builder(space / "amd64", store.options("base-amd64"))
    made.run("build", "base-amd64")
    return made


@pytest.fixture(scope="session")
def builder_of() -> Callable[..., Builder]:
    """`builder_of(folder, *options)`: a builder of one's own."""
    return lambda folder, *options: Builder(folder, options)


@pytest.fixture
def room(space: Path) -> Iterator[Path]:
    """An empty folder of this test alone."""
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=space))
    folder.chmod(0o755)
    yield folder
    remove_tree(folder)


@pytest.fixture
def twin(amd64: Builder, room: Path) -> Callable[..., Builder]:
    """`twin("image", "erofs")`: a builder as `amd64`, with a cache of its own that lacks these stages.

    The files are links: a test that damages one must put another in its place (see `replaced`).
    """

    def make(*lacking: str) -> Builder:
        for part in ("files", "stages", "last"):
            shutil.copytree(amd64.cache / part, room / "cache" / part, symlinks=True, copy_function=os.link)
        for name in lacking:
            shutil.rmtree(room / "cache/stages" / name)
        return replace(amd64, folder=room)

    return make


@pytest.fixture(scope="session")
def replaced() -> Callable[[Path, bytes], None]:
    """`replaced(path, content)`: another file under the same name, so that links to the old one keep theirs."""

    def write(path: Path, content: bytes) -> None:
        path.unlink()
        path.write_bytes(content)

    return write


@pytest.fixture(scope="session")
def published() -> Callable[[Path], dict[str, str]]:
    """File name -> SHA-256 of a published folder; the log and the record of this very build are left out."""

    def read(folder: Path) -> dict[str, str]:
        paths = [path for path in sorted(folder.iterdir()) if path.is_file()]
        done = subprocess.run(["sha256sum", *paths], capture_output=True, text=True, check=True)
        digests = {Path(line[66:]).name: line[:64] for line in done.stdout.splitlines()}
        return {name: digest for name, digest in digests.items() if name not in ("build.log", "build.json")}

    return read


@pytest.fixture(scope="session")
def left_behind() -> Callable[[Path], list[str]]:
    """What is still there of builds in a folder: processes, loop devices, half-made things."""

    def look(folder: Path) -> list[str]:
        found = [f"process {pid}: {line}" for pid, line in processes_of(folder)]
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            if str(folder) in backing.read_text():
                found.append(f"loop device {backing.parts[3]}")
        half = [*folder.glob("*/.tmp-*"), *folder.glob("*/.old-*"), *folder.glob("cache/tmp/*")]
        half += [path for path in folder.glob("cache/stages/*/.*") if path.is_dir()]
        return found + [str(path) for path in half]

    return look


@pytest.fixture(scope="session")
def working() -> Callable[[Path], list[tuple[int, str]]]:
    """(process id, command line) of everything that works in a folder."""
    return processes_of


def processes_of(folder: Path) -> list[tuple[int, str]]:
    """(process id, command line) of everything that names a folder, or has it as its root."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            top = str((path / "root").readlink())
        except OSError:
            continue
        if str(folder) in f"{line} {top}" and int(path.name) != os.getpid():
            found.append((int(path.name), line))
    return found


@pytest.fixture
def need_root() -> None:
    """The test makes mounts of its own."""
    if os.geteuid() != 0:
        # In CI the top conftest.py makes a failure of it.
        pytest.skip("only root may make the mounts of this test")


@pytest.fixture(scope="session")
def closed(space: Path) -> Callable[..., Builder]:
    """`closed("x", options)`: a builder that can write nothing but below its folder and in an empty /tmp.

    With `user`, as an ordinary user who has subordinate ids: one that exists only there. Afterwards the folder
    has what the last command left: `mounts-before`, `mounts-after`, `tmp`.
    """

    def make(name: str, options: tuple[str, ...], *, user: bool = False) -> Builder:
        folder = space / name
        folder.mkdir()
        script = folder / "closed.sh"
        script.write_text("\n".join(make_closed_world(folder, user=user)) + "\n")
        return Builder(folder, options, ("unshare", "--mount", "--propagation", "private", "sh", str(script)))

    return make


def make_closed_world(folder: Path, *, user: bool) -> list[str]:
    """The lines of the script, whose arguments are the command."""
    lines = ["set -eu", f"mount --bind {folder} {folder}"]
    lines += [*make_user(folder), *make_reachable(folder, (ROOT, Path(sys.base_prefix)))] if user else []
    lines += [*make_empty_tmp(folder), "mount -o remount,bind,ro /"]
    lines.append(f"cat /proc/self/mounts > {folder}/mounts-before")
    become = "setpriv --reuid 61234 --regid 61234 --clear-groups --inh-caps=-all -- " if user else ""
    lines += ["code=0", f'{become}"$@" || code=$?', f"cat /proc/self/mounts > {folder}/mounts-after"]
    return [*lines, f"find /tmp -mindepth 1 {LEAVE_OUT} > {folder}/tmp", "exit $code"]


def make_empty_tmp(folder: Path) -> list[str]:
    """Lines that cover /tmp with an empty one; a checkout that lies there stays visible."""
    empty = ["mount -t tmpfs -o mode=1777 none /tmp"]
    if not ROOT.is_relative_to("/tmp"):
        return empty
    hold = folder / "checkout"
    shown = [f"mkdir -p {ROOT}", f"mount --bind {hold} {ROOT}", f"umount {hold}", f"mount -o remount,bind,ro {ROOT}"]
    return [f"mkdir -p {hold}", f"mount --bind {ROOT} {hold}", *empty, *shown]


def make_user(folder: Path) -> list[str]:
    """An ordinary user with subordinate ids, in files that cover this computer's own, and the owner of `folder`."""
    texts = {
        "passwd": Path("/etc/passwd").read_text() + f"builder:x:61234:61234::{folder}/home:/bin/sh\n",
        "group": Path("/etc/group").read_text() + "builder:x:61234:\n",
        "subuid": "builder:700000:65536\n",
        "subgid": "builder:700000:65536\n",
    }
    lines = [f"mkdir -p {folder}/home", f"chown 61234:61234 {folder} {folder}/home"]
    for name, text in texts.items():
        (folder / name).write_text(text)
        lines.append(f"mount --bind {folder}/{name} /etc/{name}")
    return lines


def make_reachable(folder: Path, paths: Sequence[Path]) -> list[str]:
    """Lines that show paths to everybody although a folder above them is closed, such as root's home."""
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        tops = [top for top in reversed(path.parents) if not top.stat().st_mode & 1]
        if tops:
            closed.setdefault(tops[0], []).append(path)
    lines = []
    for top, below in closed.items():
        holds = {path: f"{folder}/hold{path.name}" for path in below}
        lines += [f"mkdir -p {hold} && mount --bind {path} {hold}" for path, hold in holds.items()]
        lines.append(f"mount -t tmpfs -o mode=755 none {top}")
        lines += [f"mkdir -p {path} && mount --bind {hold} {path} && umount {hold}" for path, hold in holds.items()]
    return lines
