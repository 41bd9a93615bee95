"""Traces of a deployment across tiers, as OpenTelemetry has them.

The way of a work is one trace: the hub that makes it, each hub below that hands it on, the agent that applies it, and
its report on the way back. The context travels with the objects, in an annotation (W3C traceparent). A process that
was given no collector makes no spans, loads nothing for it, and hands the context on as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from cumulet.central.kube import Json
from cumulet.central.protocol import TRACE
from cumulet.core.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.trace import Span as OtelSpan

PATH = "/v1/traces"
FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
SEND_SECONDS = 10.0
MOST_WAITING = 1024
"""Spans that wait for a collector that does not answer; more are dropped, and the work goes on."""
Value = str | int | float | bool


class Span(Protocol):
    """A part of a trace, as long as it lasts."""

    context: str
    """What others need to be a part of it: a traceparent, or an empty text if there is no trace."""

    def note(self, **values: Value) -> None:
        """Say more of it."""

    def fail(self, why: str) -> None:
        """It did not go well."""


class Traces(Protocol):
    """Where spans go."""

    def span(
        self, name: str, parent: str = "", *, since: float | None = None, **values: Value
    ) -> AbstractContextManager[Span]:
        """A span below `parent` (a traceparent; else a trace of its own), begun now or `since` (seconds since 1970)."""

    def close(self) -> None:
        """Send what waits. It may take some seconds."""


class _Handed:
    """A span that is none: it has the context that it was given."""

    def __init__(self, parent: str) -> None:
        self.context = parent if FORM.fullmatch(parent) else ""

    def note(self, **values: Value) -> None:
        return

    def fail(self, why: str) -> None:
        return


class NoTraces:
    """No collector: contexts are handed on."""

    @contextmanager
    def span(self, name: str, parent: str = "", *, since: float | None = None, **values: Value) -> Iterator[Span]:
        """Nothing but the context."""
        yield _Handed(parent)

    def close(self) -> None:
        """Nothing waits."""


class _Told:
    """A span of OpenTelemetry."""

    def __init__(self, span: OtelSpan, context: str) -> None:
        self._span, self.context = span, context

    def note(self, **values: Value) -> None:
        for name, value in values.items():
            self._span.set_attribute(f"cumulet.{name}", value)

    def fail(self, why: str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only where there is a collector

        self._span.set_status(StatusCode.ERROR, why)


class OpenTelemetry:
    """Spans to a collector by OTLP over HTTP, sent by a thread of their own."""

    def __init__(self, endpoint: str, service: str, cluster: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        about = Resource.create({"service.name": service, "cumulet.cluster": cluster})
        self._provider = TracerProvider(resource=about, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=SEND_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST_WAITING))
        self._tracer = self._provider.get_tracer("cumulet.central")
        self._carrier = TraceContextTextMapPropagator()

    @contextmanager
    def span(self, name: str, parent: str = "", *, since: float | None = None, **values: Value) -> Iterator[Span]:
        """A span; what is raised in it ends it as failed."""
        from opentelemetry.trace import StatusCode, set_span_in_context  # noqa: PLC0415

        start = round(since * 1e9) if since is not None else None
        above = self._carrier.extract({"traceparent": parent} if parent else {})
        made = self._tracer.start_span(name, above, start_time=start)
        carried: dict[str, str] = {}
        self._carrier.inject(carried, set_span_in_context(made))
        told = _Told(made, carried.get("traceparent", ""))
        told.note(**values)
        try:
            yield told
        except BaseException as error:
            made.set_status(StatusCode.ERROR, str(error)[:200])
            raise
        finally:
            made.end()

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def open_traces(endpoint: str, service: str, cluster: str) -> Traces:
    """Where the spans of a process go; nowhere without an endpoint. Raises UsageError."""
    if not endpoint:
        return NoTraces()
    found = make_endpoint(endpoint)
    try:
        return OpenTelemetry(found, service, cluster)
    except ImportError as error:
        raise UsageError(
            f"traces: {endpoint}: {error.name or error} is not installed here",
            hint="the Python extra `traces`, or the feature `traces` of an image",
        ) from error


def make_endpoint(text: str) -> str:
    """`http://collector:4318` with the path of traces, if it has none. Raises UsageError."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"traces: {text!r} is not the address of a collector", hint="http://collector:4318")
    return text if parts.path.strip("/") else text.rstrip("/") + PATH


def read_trace(found: Json) -> str:
    """The context that an object carries, or an empty text."""
    notes: Mapping[str, str] = (found.get("metadata") or {}).get("annotations") or {}
    text = str(notes.get(TRACE, ""))
    return text if FORM.fullmatch(text) else ""


def with_trace(body: Json, context: str) -> Json:
    """The object with a context; as it is without one."""
    if not context:
        return body
    meta = body.get("metadata") or {}
    return {**body, "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), TRACE: context}}}
