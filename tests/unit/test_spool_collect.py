"""Results from a folder of a task to a folder of a person: collected, sent up, counted once, fetched."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cumulet.core.deadline import Deadline
from cumulet.core.errors import ToolError, UsageError
from cumulet.spool import Collector, Entry, Fetched, Spool, Target, fetch_results, make_client
from cumulet.spool.fetch import choose_path
from cumulet.spool.node import NodeSettings, make_target, run_node

MIB = 1 << 20


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    found = Spool(tmp_path / "spool", 8 * MIB, origin="pier-7", keep_free=0)
    yield found
    found.close()


def write(path: Path, text: str, age: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))
    return path


def test_what_is_whole_is_kept_and_then_removed(tmp_path: Path, spool: Spool) -> None:
    out = tmp_path / "out"
    first = write(out / "detect/a.json", "one")
    deep = write(out / "detect/day/b.json", "two")
    staying = [
        write(out / "detect/c.json", "being written", age=0),
        write(out / "detect/.d.json", "hidden"),
        write(out / "detect/e.part", "half"),
        write(out / "stray", "no task's"),
    ]
    collector = Collector(out, spool, node="p4")
    assert collector.collect() == 2
    assert [(each.meta["task"], each.meta["name"], each.meta["node"]) for each in spool.entries()] == [
        ("detect", "a.json", "p4"),
        ("detect", "day/b.json", "p4"),
    ]
    assert not first.exists() and not deep.exists()
    assert all(path.exists() for path in staying)
    assert collector.collect() == 0


def test_the_same_result_again_has_the_same_id_and_another_one_has_not(tmp_path: Path, spool: Spool) -> None:
    collector = Collector(tmp_path / "out", spool)
    ids = []
    for task, name, text in (("t", "a", "x"), ("t", "a", "x"), ("t", "a", "y"), ("t", "b", "x"), ("u", "a", "x")):
        write(tmp_path / "out" / task / name, text)
        assert collector.collect() == 1
        ids.append(spool.entries()[-1].id)
    assert len(set(ids)) == 4
    assert len(spool.entries()) == 4


def test_a_cut_between_keeping_and_removing_changes_nothing(
    tmp_path: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "out/t/a", "x")

    def fail(*words: object, **more: object) -> None:
        raise OSError("power is gone")

    collector = Collector(tmp_path / "out", spool)
    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", fail)
        assert collector.collect() == 0
    assert (path.exists(), len(spool.entries())) == (True, 1)
    assert collector.collect() == 1
    assert (path.exists(), len(spool.entries())) == (False, 1)


def test_links_and_pipes_of_a_container_lead_nowhere(tmp_path: Path, spool: Spool) -> None:
    secret = write(tmp_path / "secret/key", "secret")
    folder = tmp_path / "out/t"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(secret)
    (folder / "folder").symlink_to(secret.parent)
    os.mkfifo(folder / "pipe")
    assert Collector(tmp_path / "out", spool, settle=0).collect() == 0
    assert spool.entries() == []


def test_a_task_may_write_into_its_folder_whoever_it_runs_as(tmp_path: Path, spool: Spool) -> None:
    folder = tmp_path / "out/t"
    folder.mkdir(parents=True, mode=0o755)
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "out/link").symlink_to(tmp_path / "elsewhere")
    Collector(tmp_path / "out", spool).collect()
    assert (folder.stat().st_mode & 0o7777, (tmp_path / "elsewhere").stat().st_mode & 0o7777) == (0o1777, 0o755)


def test_a_full_spool_leaves_results_where_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = Spool(tmp_path / "small", MIB, origin="pier-7", keep_free=0)
    paths = [write(tmp_path / f"out/t/{number}", "x" * 700_000 + str(number)) for number in range(2)]
    collector = Collector(tmp_path / "out", small)
    assert [collector.collect(), collector.collect()] == [1, 0]
    assert [path.exists() for path in paths] == [False, True]
    assert caplog.text.count("full: ") == 1
    small.done(small.entries()[0])
    assert collector.collect() == 1
    small.close()


def make_entry(name: str, id: str = "ab" * 20) -> Entry:
    return Entry(id, "pier-7", "result", 1, "0" * 64, 0.0, {"task": "t", "name": name})


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "", ".parts/x", "a\0b"])
def test_a_name_from_a_site_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    assert choose_path(tmp_path, make_entry(name)) == tmp_path / "pier-7" / ("ab" * 20)


def test_results_of_one_name_lie_beside_each_other(tmp_path: Path) -> None:
    assert choose_path(tmp_path, make_entry("a/b")) == tmp_path / "pier-7/a/b"
    write(tmp_path / "pier-7/a/b", "other")
    assert choose_path(tmp_path, make_entry("a/b")) == tmp_path / "pier-7/a/b.abababab"
    assert choose_path(tmp_path, make_entry("a/b/c")) == tmp_path / "pier-7" / ("ab" * 20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(*tiers: NodeSettings) -> Iterator[None]:
    """Tiers in a thread, until the end."""
    loop = asyncio.new_event_loop()
    works = []

    async def story() -> None:
        works.extend(asyncio.ensure_future(run_node(each)) for each in tiers)
        await asyncio.gather(*works, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(story()))
    thread.start()
    try:
        yield
        assert not any(work.done() for work in works), works
    finally:
        loop.call_soon_threadsafe(lambda: [work.cancel() for work in works])
        thread.join(30)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_results_go_from_a_folder_at_the_edge_to_a_folder_at_the_top(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    top = NodeSettings("centre", tmp_path / "top", port=port, readers=frozenset({"centre"}))
    edge = NodeSettings(
        "pier-7", tmp_path / "edge", port=0, keep_free=0, up=(url,), collect=tmp_path / "out", node="p4"
    )
    for name, text in (("a.json", "one"), ("deep/b.json", "two" * 99999), ("empty", "")):
        write(tmp_path / "out/detect" / name, text)
    write(tmp_path / "out/other/c", "not asked for")

    def fetch(**more: bool) -> list[Fetched]:
        with make_client(Target((url,))) as client:
            return list(fetch_results(client, url, "detect", tmp_path / "here", **more))

    with running(top, edge):
        wait(lambda: up(url) and len(fetch()) == 3)
        assert not any(each.new for each in fetch())
        found = {each.path.relative_to(tmp_path / "here").as_posix(): each.path.read_text() for each in fetch()}
        assert found == {"pier-7/a.json": "one", "pier-7/deep/b.json": "two" * 99999, "pier-7/empty": ""}
        assert {path.name for path in (tmp_path / "here").iterdir()} == {"pier-7"}
        # A transfer that was cut off goes on where it was.
        (tmp_path / "here/pier-7/deep/b.json").unlink()
        (tmp_path / "here/.parts").mkdir()
        key = next(each.entry.id for each in fetch() if each.path.name == "b.json")
        (tmp_path / "here/pier-7/deep/b.json").unlink()
        write(tmp_path / f"here/.parts/pier-7.{key}", "two" * 5)
        assert [each.path.name for each in fetch() if each.new] == ["b.json"]
        # What is taken gives its room back, and the same result is not counted a second time.
        assert len(fetch(take=True)) == 3
        assert fetch() == []
        again = write(tmp_path / "out/detect/a.json", "one")
        wait(lambda: not again.exists() and not any((tmp_path / "edge/spool/entries").iterdir()))
        assert fetch() == []


def up(url: str) -> bool:
    with make_client(Target((url,))) as client:
        try:
            list(fetch_results(client, url, "none", Path("/nonexistent")))
        except ToolError:
            return False
    return True


def wait(want: Callable[[], bool]) -> None:
    deadline = Deadline.after(20)
    while not want():
        deadline.check("results")
        deadline.sleep(0.02)


def test_who_is_no_reader_sees_nothing(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    top = NodeSettings("centre", tmp_path / "top", port=port, readers=frozenset({"operator"}))
    with running(top), make_client(Target((url,))) as client:

        def refused() -> bool:
            try:
                list(fetch_results(client, url, "detect", tmp_path))
            except ToolError:
                return False
            except UsageError as error:
                return "403 centre may not read results" in error.message
            raise AssertionError("was let in")

        wait(refused)


def test_a_tier_shows_its_parent_another_certificate_than_its_children(tmp_path: Path) -> None:
    own = {"authority": tmp_path / "ca", "certificate": tmp_path / "crt", "key": tmp_path / "key"}
    assert make_target(NodeSettings("s", tmp_path, up=("u",), **own)).certificate == tmp_path / "crt"
    up = {"up_authority": tmp_path / "top", "up_certificate": tmp_path / "agent.crt", "up_key": tmp_path / "device.key"}
    found = make_target(NodeSettings("s", tmp_path, up=("u",), **own, **up))
    assert (found.authority, found.certificate, found.key) == tuple(up.values())
