"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP and takes the protobuf apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    """A span as it came: its service, ids as hexadecimal digits, attributes, seconds."""

    service: str
    cluster: str
    name: str
    trace: str
    span: str
    parent: str
    values: dict[str, object]
    seconds: float
    failed: str


@dataclass
class Collector:
    """What has come so far, and where it listens."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    requests: int = 0

    def named(self, name: str) -> list[Seen]:
        """The spans of a name."""
        return [each for each in self.spans if each.name == name]

    def children(self, parent: Seen) -> list[str]:
        """The names of the spans below one, sorted."""
        return sorted(each.name for each in self.spans if each.parent == parent.span and each.trace == parent.trace)

    def take(self, body: bytes) -> None:
        """One request of an exporter."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        self.requests += 1
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    values = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
                    self.spans.append(
                        Seen(
                            about["service.name"],
                            about["cumulet.cluster"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            {key.removeprefix("cumulet."): value for key, value in values.items()},
                            (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                            span.status.message if span.status.code == 2 else "",
                        )
                    )


@contextmanager
def open_collector() -> Iterator[Collector]:
    """A collector on the loopback interface."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            good = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            if good:
                found.take(body)
            self.send_response(200 if good else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *words: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
