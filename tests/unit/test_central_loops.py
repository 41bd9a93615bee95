"""The parts of hub and agent that run: informers, queues, the web server, the document, the vault."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cumulet.central.access import Access, load_access
from cumulet.central.agent.config import KINDS, load_config, read_serial
from cumulet.central.agent.enrol import VERBS
from cumulet.central.agent.vault import Identity, Vault
from cumulet.central.hub.web import Answer, Request, Web
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError, WatchEvent, make_refusal
from cumulet.central.link import UnreachableError, describe
from cumulet.central.protocol import CONFIG_MAPS
from cumulet.central.workqueue import WorkQueue
from cumulet.core.errors import ToolError, UsageError

Write = Callable[[str, str], Path]


def item(name: str, text: str, version: int) -> Json:
    """A ConfigMap."""
    return {"metadata": {"name": name, "namespace": "n", "resourceVersion": str(version)}, "data": text}


class FakeKube:
    """Gives lists and watches as it is told; after the last watch it waits for ever."""

    def __init__(self, lists: list[list[Json]], watches: list[list[WatchEvent] | Exception]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []

    async def pages(self, query: Query) -> AsyncIterator[Json]:
        """One list in pages of one."""
        found = self.lists.pop(0)
        for index in range(max(1, len(found))):
            yield {"items": found[index : index + 1], "metadata": {"resourceVersion": "10"}}

    async def watch(self, query: Query, since: str, silence: float) -> AsyncIterator[WatchEvent]:
        """The next watch."""
        self.asked.append(since)
        if not self.watches:
            await asyncio.Event().wait()
        events = self.watches.pop(0)
        if isinstance(events, Exception):
            raise events
        for event in events:
            yield event


def follow(lists: list[list[Json]], watches: list[list[WatchEvent] | Exception], rounds: int) -> tuple[Any, ...]:
    """What an informer knows and has told after some rounds, and from where it has watched."""
    told: list[tuple[str, str | None, str | None]] = []

    async def story() -> Informer[str]:
        kube: Any = FakeKube(lists, watches)
        informer: Informer[str] = Informer(
            kube, Query(CONFIG_MAPS), lambda found: found["data"] or None, lambda *words: told.append(words)
        )
        task = asyncio.create_task(informer.run())
        while len(kube.asked) < rounds:
            await asyncio.sleep(0)
        task.cancel()
        return informer, kube

    informer, kube = asyncio.run(story())
    return dict(informer.found), told, kube.asked


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""
    monkeypatch.setattr("cumulet.central.informer.FIRST_WAIT", 0.0)
    monkeypatch.setattr("cumulet.central.workqueue.FIRST_WAIT", 0.0)


def test_an_informer_goes_on_from_where_it_was() -> None:
    change = WatchEvent("MODIFIED", item("a", "2", 11))
    bookmark = WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "30"}})
    found, told, asked = follow([[item("a", "1", 5)]], [[change, bookmark], UnreachableError("gone")], 3)
    assert found == {"n/a": "2"}
    assert told == [("n/a", None, "1"), ("n/a", "1", "2")]
    assert asked == ["10", "30", "30"]


def test_an_informer_lists_again_only_when_its_place_is_forgotten() -> None:
    gone = RefusedError("too old", 410, "Expired")
    found, told, _ = follow([[item("a", "1", 5), item("b", "1", 6)], [item("b", "2", 20)]], [gone], 2)
    assert found == {"n/b": "2"}
    assert told[-2:] == [("n/b", "1", "2"), ("n/a", "1", None)]


def test_an_informer_keeps_only_what_it_is_told_to_keep_and_tells_no_news_twice() -> None:
    same = WatchEvent("MODIFIED", item("a", "1", 11))
    empty = WatchEvent("MODIFIED", item("a", "", 12))
    found, told, _ = follow([[item("a", "1", 5)]], [[same, empty]], 2)
    assert found == {} and told == [("n/a", None, "1"), ("n/a", "1", None)]


def test_a_queue_does_each_key_once_and_again_when_asked_meanwhile() -> None:
    done: list[str] = []

    async def story() -> None:
        async def handle(key: str) -> None:
            done.append(key)
            if done == ["a"]:
                queue.add("a")
                queue.add("a")
            await asyncio.sleep(0)

        queue = WorkQueue("test", handle, workers=2)
        for key in ("a", "b", "a"):
            queue.add(key)
        task = asyncio.create_task(queue.run())
        while not queue.idle:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(story())
    assert sorted(done) == ["a", "a", "b"]


def test_a_queue_tries_again_after_an_error_and_survives_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def story() -> None:
        async def handle(key: str) -> float | None:
            seen.append(key)
            if seen.count(key) == 1:
                raise ToolError("busy") if key == "a" else KeyError("x")
            return None

        queue = WorkQueue("test", handle)
        queue.add("a")
        queue.add("b")
        task = asyncio.create_task(queue.run())
        while len(seen) < 4:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert queue.failed == {}
        task.cancel()

    asyncio.run(story())
    assert "test: a: busy" in caplog.text and "this is a bug in cumulet" in caplog.text


# --- the web server


@asynccontextmanager
async def open_web() -> AsyncIterator[int]:
    """A server with a few routes."""

    async def echo(request: Request) -> Answer:
        return Answer(200, await request.read(20), headers={"x-rest": request.rest, "x-q": request.query.get("q", "")})

    async def fail(request: Request) -> Answer:
        raise UsageError("that is wrong") if request.query else KeyError("a bug")

    async def stream(request: Request) -> Answer:
        async def parts() -> AsyncIterator[bytes]:
            for part in (b"one ", b"two"):
                yield part

        return Answer(stream=parts())

    web = Web()
    web.add("POST", "/echo/", echo)
    web.add("GET", "/fail", fail)
    web.add("GET", "/stream", stream)
    port = await web.start("127.0.0.1", 0)
    yield port
    await web.stop()


def ask(calls: Callable[[http.client.HTTPConnection], None]) -> None:
    """Talk to the server from another thread."""

    async def story() -> None:
        async with open_web() as port:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            failed: list[BaseException] = []

            def talk() -> None:
                try:
                    calls(connection)
                except BaseException as error:
                    failed.append(error)
                finally:
                    connection.close()

            thread = threading.Thread(target=talk)
            thread.start()
            while thread.is_alive():
                await asyncio.sleep(0.005)
            if failed:
                raise failed[0]

    asyncio.run(story())


def test_the_entry_serves_routes_one_after_the_other_on_a_connection() -> None:
    def talk(connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/echo/a%20b?q=1", body=b"hello")
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.headers["x-rest"], answer.headers["x-q"]) == (
            200,
            b"hello",
            "a b",
            "1",
        )
        connection.request("GET", "/stream")
        assert connection.getresponse().read() == b"one two"
        connection.request("GET", "/nowhere")
        found = connection.getresponse()
        assert (found.status, found.read()) == (404, b"Not Found\n")
        connection.request("GET", "/echo/x")
        assert connection.getresponse().status == 405

    ask(talk)


def test_the_entry_refuses_what_is_too_big_and_survives_a_bug() -> None:
    def talk(connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/echo/", body=b"x" * 1000)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (413, b"/echo/: more than 20 bytes\n")
        connection.request("GET", "/fail?x=1")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (400, b"that is wrong\n")
        connection.request("GET", "/fail")
        answer = connection.getresponse()
        assert answer.status == 500 and b"bug of the hub" in answer.read()

    ask(talk)


# --- the document, the vault, access


def test_the_document_of_an_agent_is_read_with_its_defaults(write: Write) -> None:
    path = write(
        "agent.yaml",
        "version: 1\ncluster: pier-7\nhubs:\n  - {server: https://hub.example:6443, token: hub.token}\n"
        "claims: {gpu: adreno-630}\nkinds: [example.com/Widget]\nfailover: 5m\nserial: 12\n",
    )
    found = load_config(path)
    assert found.hubs[0].token == path.parent / "hub.token"
    assert (found.failover, found.tier, found.serial) == (300, "edge", "12")
    assert found.kinds == (*KINDS, "example.com/Widget") and read_serial(found) == "12"


def test_every_problem_of_the_document_is_shown_with_its_place(write: Write) -> None:
    path = write("agent.yaml", "version: 1\nclutser: a\nhubs:\n  - {server: http://hub}\n  - {token: x}\ntier: moon\n")
    with pytest.raises(UsageError) as caught:
        load_config(path)
    text = "\n".join(str(each) for each in caught.value.problems)
    for part in (
        ":2:1: unknown key 'clutser' in agent",
        "did you mean 'cluster'?",
        ":1:1: missing key 'cluster' in agent",
        ":4:14: hubs[0].server: 'http://hub' is not an API server",
        "missing key 'server' in hubs[1]",
        ":6:7: tier: must be one of edge, station, regional, central, got 'moon'",
    ):
        assert part in text, text


def test_a_device_has_one_key_for_ever_that_only_its_owner_reads(tmp_path: Path) -> None:
    asked = {"folder": str(tmp_path / "vault"), "user": "u", "groups": ["g"]}
    first, again = VERBS["request"](asked), VERBS["request"](asked)
    assert first["key"] == again["key"] == VERBS["key"](asked)["key"]
    assert (tmp_path / "vault/device.key").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in json.dumps(first)


def test_a_request_under_way_and_the_last_hub_survive_a_restart(tmp_path: Path) -> None:
    server = "https://hub.example:6443"
    Vault(tmp_path).keep_request(server, "pier-7-x")
    Vault(tmp_path).keep_hub(server)
    found = Vault(tmp_path)
    assert (found.load_request(server), found.load_request("https://other")) == ("pier-7-x", "")
    assert found.load_hub() == server
    found.forget_request(server)
    assert found.load_request(server) == ""


def test_a_certificate_is_renewed_when_a_quarter_of_its_life_is_left() -> None:
    identity = Identity("", "", since=0, until=100)
    assert [identity.wants_renewal(now) for now in (50, 74, 76)] == [False, False, True]
    assert identity.is_valid(-600) and not identity.is_valid(100)


def test_a_kubeconfig_says_what_is_missing(write: Write) -> None:
    with pytest.raises(UsageError, match=r"k.conf: not a kubeconfig: 'current-context' is missing"):
        load_access(write("k.conf", "{}"))
    config = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://h:1/prefix/"}}],
        "users": [{"name": "u", "user": {"exec": {}}}],
    }
    with pytest.raises(UsageError, match="gets its identity from a program"):
        load_access(write("k.conf", json.dumps(config)))
    config["users"] = [{"name": "u", "user": {"token": "t"}}]
    found = load_access(write("k.conf", json.dumps(config)))
    assert (found.host, found.port, found.prefix, found.token) == ("h", 1, "/prefix", "t")


def test_a_token_in_a_file_is_read_again_when_it_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("first\n")
    kube = Kube(Access("https://h", token_file=str(tmp_path / "token")))
    assert ("Authorization", "Bearer first") in kube._headers("a", "", 0)
    (tmp_path / "token").write_text("second\n")
    assert ("Authorization", "Bearer first") in kube._headers("a", "", 0)
    monkeypatch.setattr("cumulet.central.kube.TOKEN_SECONDS", -1.0)
    assert ("Authorization", "Bearer second") in kube._headers("a", "", 0)


def test_a_portal_on_the_way_is_a_broken_link_and_no_bug() -> None:
    class Portal(Kube):
        async def raw(self, method: str, path: str, body: Json | None = None, **more: Any) -> bytes:
            return b"<html>please log in</html>"

    kube = Portal(Access("https://hub.example"))
    with pytest.raises(UnreachableError, match=r"hub.example: /version: the answer is not Kubernetes'"):
        asyncio.run(kube.call("GET", "/version"))


def test_errors_say_in_plain_words_what_was_wrong() -> None:
    status = json.dumps({"reason": "NotFound", "message": "no such thing"}).encode()
    assert make_refusal("hub: GET /x", 404, status).message == "hub: GET /x: 404 NotFound: no such thing"
    assert make_refusal("hub: GET /x", 502, b"<html>").message == "hub: GET /x: 502 : <html>"
    assert describe(TimeoutError(), 30) == "no answer for 30 s"
    assert Access("https://[::1]:6443").host == "::1"
