"""Results over real sockets: resumed at the byte, counted once, let in by certificate only."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cumulet.core.deadline import Deadline
from cumulet.spool import Entry, Inbox, Sender, Spool, Target, make_client, receive, relay, wire

MIB = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}


@contextmanager
def serving(app: web.Application, trust: ssl.SSLContext | None = None) -> Iterator[int]:
    """An application on a port of this computer, in a thread; the port."""
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), []

    async def start() -> web.AppRunner:
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust)
        await site.start()
        ports.append(runner.addresses[0][1])
        return runner

    def run() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Cutter:
    """A relay on this computer that breaks each connection after so many bytes towards the server; 0: never."""

    def __init__(self, port: int) -> None:
        self.port, self.limits, self.passed = port, [0], 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._inner: socket.socket | None = None
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._inner is not None and self._inner.fileno() >= 0:
            self._inner.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            self._inner = inner
            limit = self.limits.pop(0) if len(self.limits) > 1 else self.limits[0]
            with inner, socket.create_connection(("127.0.0.1", self.port)) as outer:
                back = threading.Thread(target=self._pump, args=(outer, inner, 0))
                back.start()
                self.passed += self._pump(inner, outer, limit)
                for end in (inner, outer):
                    try:
                        end.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        continue
                back.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, limit: int) -> int:
        passed = 0
        try:
            while data := source.recv(min(65536, limit - passed) if limit else 65536):
                sink.sendall(data)
                passed += len(data)
                if limit and passed >= limit:
                    break
        except OSError:
            pass
        return passed


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", 64 * MIB, origin="edge-1", keep_free=0)
    yield made
    made.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox(tmp_path / "inbox", 64 * MIB)
    yield made
    made.close()


MakeSender = Callable[..., Sender]


@pytest.fixture
def make_sender() -> Iterator[MakeSender]:
    """`make_sender(spool, url, ...)`: a sender whose connections are closed at the end."""
    clients: list[httpx.Client] = []

    def make(spool: Spool, *urls: str, **choices: Any) -> Sender:
        target = Target(urls, seconds=5)
        clients.append(make_client(target))
        return Sender(spool, target, clients[-1], **choices)

    yield make
    for client in clients:
        client.close()


def contents(inbox: Inbox) -> dict[str, bytes]:
    return {f"{one.entry.origin}/{one.entry.id}": one.path.read_bytes() for one in inbox.arrivals()}


def test_what_waits_arrives_once_and_is_forgotten(make_sender: MakeSender, spool: Spool, inbox: Inbox) -> None:
    data = {"a": b"x" * 3_000_000, "b": b"", "c": b"small"}
    for name, content in data.items():
        spool.put(content, id=name, meta={"task": name})
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        sender = make_sender(spool, f"http://127.0.0.1:{port}")
        outcome = sender.send_all(Deadline.after(20))
        assert (outcome.sent, outcome.size, outcome.error) == (3, 3_000_005, "")
        spool.put(b"small", id="c")  # its maker was cut off before it could note that it had put it
        assert sender.send_all(Deadline.after(20)).sent == 1
    assert contents(inbox) == {f"edge-1/{name}": content for name, content in data.items()}
    assert inbox.counts() == {"partial": 0, "arrived": 3, "taken": 0}
    assert spool.entries() == []
    assert [one.entry.meta for one in inbox.arrivals()] == [{"task": "a"}, {"task": "b"}, {"task": "c"}]


def test_a_broken_connection_costs_only_what_was_under_way(make_sender: MakeSender, spool: Spool, inbox: Inbox) -> None:
    data = bytes(range(256)) * 16384  # 4 MiB
    spool.put(data, id="big")
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        cutter = Cutter(port)
        cutter.limits = [1_500_000, 700_001, 900_007, 0]
        sender = make_sender(spool, cutter.url, slice_size=8 * MIB)
        rounds = 0
        while not sender.send_all(Deadline.after(20)).sent:
            rounds += 1
            assert rounds < 20
        cutter.close()
    # A busy computer may need one more for a connection that timed out.
    assert 3 <= rounds <= 6
    assert contents(inbox) == {"edge-1/big": data}
    # Each broken connection lost at most what a socket holds; from zero it would have been 3 MB more.
    assert cutter.passed < len(data) + 600_000


def test_the_next_parent_is_tried_when_one_is_away(make_sender: MakeSender, spool: Spool, inbox: Inbox) -> None:
    spool.put(b"data", id="x")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = f"http://127.0.0.1:{silent.getsockname()[1]}"
    sender = make_sender(spool, away)
    outcome = sender.send_all(Deadline.after(5))
    assert outcome.sent == 0
    assert outcome.error.startswith(f"{away}: ")
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        sender = make_sender(spool, away, f"http://127.0.0.1:{port}")
        assert sender.send_all(Deadline.after(5)).sent == 1


def test_the_uplink_holds_a_class_back_between_two_slices(make_sender: MakeSender, spool: Spool, inbox: Inbox) -> None:
    spool.put(b"r" * 300_000, id="result")
    spool.put(b"s", id="status", topic="status")
    asked: list[str] = []

    def permit(topic: str) -> bool:
        asked.append(topic)
        return topic == "status" or asked.count("result") <= 2

    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        outcome = make_sender(spool, f"http://127.0.0.1:{port}", permit=permit, slice_size=100_000).send_all(
            Deadline.after(20)
        )
    assert (outcome.sent, outcome.held, outcome.size) == (1, 1, 100_001)
    assert inbox.progress("edge-1", "result") == (100_000, 300_000)
    assert [entry.id for entry in spool.entries()] == ["result"]


def test_a_full_inbox_makes_the_sender_wait(make_sender: MakeSender, spool: Spool, tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "small", 1000)
    spool.put(b"x" * 2000, id="x")
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        outcome = make_sender(spool, f"http://127.0.0.1:{port}").send_all(Deadline.after(5))
    assert "507" in outcome.error
    assert outcome.refused == {}
    assert len(spool.entries()) == 1
    inbox.close()


def test_a_conflict_is_refused_by_name_and_holds_nothing_up(
    make_sender: MakeSender, spool: Spool, inbox: Inbox
) -> None:
    inbox.begin(Entry("x", "edge-1", "result", 3, "0" * 64, 0.0), "edge-1")
    spool.put(b"other", id="x")
    spool.put(b"fine", id="y")
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        sender = make_sender(spool, f"http://127.0.0.1:{port}")
        outcome = sender.send_all(Deadline.after(5))
        assert outcome.sent == 1
        assert outcome.refused == {"edge-1/x": "edge-1/x: 409 edge-1/x: is here with other content, from edge-1"}
        assert sender.send_all(Deadline.after(5)).refused == outcome.refused
    assert [entry.id for entry in spool.entries()] == ["x"]


def test_nobody_brings_results_of_somebody_else(make_sender: MakeSender, spool: Spool, inbox: Inbox) -> None:
    spool.put(b"data", id="x", origin="edge-2")
    with serving(receive.make_app(inbox, lambda request: "edge-1")) as port:
        outcome = make_sender(spool, f"http://127.0.0.1:{port}").send_all(Deadline.after(5))
    assert outcome.refused == {"edge-2/x": "edge-2/x: 403 edge-1 may not bring results of edge-2"}
    with serving(receive.make_app(inbox, lambda request: None)) as port:
        outcome = make_sender(spool, f"http://127.0.0.1:{port}").send_all(Deadline.after(5))
    assert "401 show a client certificate" in outcome.error
    assert inbox.counts()["arrived"] == 0


def test_a_station_hands_on_what_it_gets_and_the_centre_counts_it_once(
    make_sender: MakeSender, spool: Spool, inbox: Inbox, tmp_path: Path
) -> None:
    station = Spool(tmp_path / "station", MIB, origin="station-1", keep_free=0)
    centre = Inbox(tmp_path / "centre", MIB)
    spool.put(b"data", id="x", meta={"task": "t"})
    children = {"station-1": {"edge-1"}}
    with (
        serving(receive.make_app(inbox, lambda request: "edge-1")) as below,
        serving(
            receive.make_app(
                centre, lambda request: "station-1", lambda peer, origin: origin in children.get(peer, {peer})
            )
        ) as above,
    ):
        made = make_sender(spool, f"http://127.0.0.1:{below}").send_all(Deadline.after(5))
        assert (made.sent, relay(inbox, station), relay(inbox, station)) == (1, 1, 0)
        assert make_sender(station, f"http://127.0.0.1:{above}").send_all(Deadline.after(5)).sent == 1
        # The edge moved to another parent in between and brings it once more.
        spool.put(b"data", id="x", meta={"task": "t"})
        moved = make_sender(spool, f"http://127.0.0.1:{below}")
        assert moved.send_all(Deadline.after(5)).sent == 1
        assert relay(inbox, station) == 0
    (arrival,) = centre.arrivals()
    assert (arrival.entry.origin, arrival.peer, arrival.entry.meta) == ("edge-1", "station-1", {"task": "t"})
    centre.taken(arrival)
    assert centre.counts() == {"partial": 0, "arrived": 0, "taken": 1}
    assert list((tmp_path / "centre/arrived").iterdir()) == []
    centre.close()
    station.close()


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(inbox: Inbox) -> Iterator[Ask]:
    with (
        serving(receive.make_app(inbox, lambda request: "edge-1")) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        yield lambda method, path="/results", **words: client.request(method, path, **words)


def announce(**changes: str) -> dict[str, str]:
    entry = Entry("x", "edge-1", "result", 3, "0" * 64, 0.0)
    return {**TUS, "Upload-Length": "3", "Upload-Metadata": wire.make_metadata(entry), **changes}


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"Tus-Resumable": "0.2.2"}, 412, "speak tus 1.0.0"),
        ({"Upload-Length": "-1"}, 400, "cannot be"),
        ({"Upload-Length": "many"}, 400, "cannot be read"),
        ({"Upload-Length": str(1 << 40)}, 507, "full"),
        ({"Upload-Metadata": "id eA=="}, 400, "is missing"),
        ({"Upload-Metadata": "id !"}, 400, "cannot be read"),
        ({"Upload-Metadata": wire.make_metadata(Entry("../x", "edge-1", "t", 3, "0" * 64, 0.0))}, 400, "not a name"),
    ],
)
def test_a_wrong_announcement_is_refused_and_named(
    ask: Ask, inbox: Inbox, headers: dict[str, str], status: int, text: str
) -> None:
    answer = ask("POST", headers=announce(**headers))
    assert (answer.status_code, text in answer.text) == (status, True), answer.text
    assert inbox.counts() == {"partial": 0, "arrived": 0, "taken": 0}


def test_it_speaks_tus(ask: Ask) -> None:
    assert ask("OPTIONS").headers["Tus-Version"] == "1.0.0"
    created = ask("POST", headers=announce())
    assert (created.status_code, created.headers["Location"]) == (201, "/results/edge-1/x")
    piece = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    assert ask("PATCH", "/results/edge-1/x", headers=piece, content=b"ab").headers["Upload-Offset"] == "2"
    there = ask("HEAD", "/results/edge-1/x", headers=TUS)
    assert (there.headers["Upload-Offset"], there.headers["Upload-Length"]) == ("2", "3")
    assert ask("PATCH", "/results/edge-1/x", headers=piece, content=b"ab").status_code == 409
    more = {**piece, "Upload-Offset": "2"}
    assert ask("PATCH", "/results/edge-1/x", headers=more, content=b"cdef").status_code == 400
    assert ask("PATCH", "/results/edge-1/x", headers={**more, "Content-Type": "text/plain"}).status_code == 415
    assert ask("PATCH", "/results/edge-1/y", headers=piece, content=b"ab").status_code == 404
    assert ask("HEAD", "/results/edge-1/y", headers=TUS).status_code == 404
    assert ask("GET", "/results/edge-1/x", headers=TUS).status_code == 405
    assert ask("DELETE", "/results/edge-1/x", headers=TUS).status_code == 405


def make_certificates(folder: Path, *names: str) -> None:
    """An authority and what it signed, as files: ca.pem, NAME.pem, NAME.key."""
    folder.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    for name in ("ca", *names):
        key = authority if name == "ca" else ec.generate_private_key(ec.SECP256R1())
        subject = issuer if name == "ca" else x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(name == "ca", None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(authority, hashes.SHA256())
        )
        file = name.replace(":", "_")
        (folder / f"{file}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        (folder / f"{file}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )


def test_who_sends_is_known_by_certificate(spool: Spool, inbox: Inbox, tmp_path: Path) -> None:
    agent = "system:open-cluster-management:edge-1:agent"
    make_certificates(tmp_path / "good", "hub", agent)
    make_certificates(tmp_path / "bad", agent)
    good, bad, file = tmp_path / "good", tmp_path / "bad", agent.replace(":", "_")
    spool.put(b"data", id="x")
    trust = receive.make_trust(good / "ca.pem", good / "hub.pem", good / "hub.key")
    with serving(receive.make_app(inbox, receive.from_certificate), trust) as port:
        url = (f"https://localhost:{port}",)
        for target in (
            Target(url, good / "ca.pem"),
            Target(url, good / "ca.pem", bad / f"{file}.pem", bad / f"{file}.key"),
            Target(url, bad / "ca.pem", good / f"{file}.pem", good / f"{file}.key"),
        ):
            with make_client(target) as client:
                outcome = Sender(spool, target, client).send_all(Deadline.after(5))
            assert (outcome.sent, bool(outcome.error)) == (0, True)
        target = Target(url, good / "ca.pem", good / f"{file}.pem", good / f"{file}.key")
        with make_client(target) as client:
            assert Sender(spool, target, client).send_all(Deadline.after(5)).sent == 1
    assert [one.peer for one in inbox.arrivals()] == ["edge-1"]
