"""The hub as a service: settings from its command line, until it is told to end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cumulet.central.access import Access, load_access, load_own_access
from cumulet.central.hub.process import Hub, read_allowed
from cumulet.central.hub.sky import Sky, load_settings
from cumulet.central.kube import Kube
from cumulet.central.traces import open_traces
from cumulet.core.errors import CumuletError, UsageError
from cumulet.core.lifetime import run_until_told

LINKS = 24
PORT = 8443


@dataclass(frozen=True, slots=True)
class Settings:
    """How a hub runs. Without `kubeconfig` it is a pod; without certificate its entry speaks plain HTTP on loopback."""

    kubeconfig: Path | None = None
    listen: str = "127.0.0.1"
    port: int = PORT
    certificate: Path | None = None
    key: Path | None = None
    allowed: Path | None = None
    traces: str = ""
    sky: Path | None = None


def make_access(settings: Settings) -> Access:
    """The API server that this is the hub of. Raises UsageError, ToolError."""
    return load_access(settings.kubeconfig) if settings.kubeconfig is not None else load_own_access()


def make_web_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS of the entry. Raises UsageError: nothing but loopback is served without it."""
    if settings.certificate is None or settings.key is None:
        if settings.listen not in ("127.0.0.1", "::1", "localhost"):
            raise UsageError(f"{settings.listen}: is reachable by others, so it needs a certificate and a key")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"{settings.certificate}: cannot be used: {error}") from error
    return context


async def run_hub(settings: Settings, prepare: Callable[[Hub], object] = lambda hub: None) -> None:
    """Run a hub until cancelled. `prepare` adds routes before it starts. Raises CumuletError."""
    context = make_web_context(settings)
    try:
        allowed = read_allowed(settings.allowed.read_text()) if settings.allowed is not None else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{settings.allowed}: not a list of devices: {error}", hint='[{"serial": "...", "key": "SHA256:..."}]'
        ) from error
    kube = Kube(make_access(settings), agent="cumulet-hub", links=LINKS)
    traces = open_traces(settings.traces, "cumulet-hub", kube.access.host)
    hub = Hub(kube, allowed, traces)
    hub.sky = Sky(hub.fleet, load_settings(settings.sky)) if settings.sky is not None else None
    prepare(hub)
    await hub.web.start(settings.listen, settings.port, context)
    try:
        await hub.run()
    finally:
        await hub.web.stop()
        kube.close()
        await asyncio.to_thread(traces.close)


def serve(settings: Settings, prepare: Callable[[Hub], object] = lambda hub: None) -> None:
    """Run a hub until SIGTERM or SIGINT. Raises CumuletError."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    asyncio.run(run_until_told(run_hub(settings, prepare)))


def main() -> int:
    """Do what the command line says; the exit code is that of the error."""
    parser = argparse.ArgumentParser("cumulet.central.hub", description="Run the controllers of a hub.")
    parser.add_argument("verb", choices=["run"])
    parser.add_argument("--kubeconfig", type=Path, help="of the hub's API server; a pod needs none")
    parser.add_argument("--listen", default="127.0.0.1", help="address of the entry over HTTP")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--certificate", type=Path, help="of the entry")
    parser.add_argument("--key", type=Path, help="of the entry")
    parser.add_argument("--allowed", type=Path, help="devices that need no person: JSON list of serial and key")
    parser.add_argument("--sky", type=Path, help="sky.yaml: the hub's Beidou terminal, and the keys of its sites")
    parser.add_argument("--traces", default="", metavar="URL", help="an OpenTelemetry collector, for spans by OTLP")
    from cumulet.central.page import add_page  # noqa: PLC0415  (the page stands on the hub)

    words = vars(parser.parse_args())
    words.pop("verb")
    try:
        serve(Settings(**words), add_page)
    except CumuletError as error:
        sys.stderr.write(error.report())
        return error.exit_code
    return 0
