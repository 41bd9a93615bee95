"""The page over HTTP: its files for everybody, what it shows and does for who has a token with the rights."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from cumulet.central.hub.approval import accept, approve, find_candidate
from cumulet.central.hub.process import Hub
from cumulet.central.hub.web import Answer, Request
from cumulet.central.kube import Json, RefusedError
from cumulet.central.page.deploy import NAMESPACE, make_rollout
from cumulet.central.page.usage import make_details, make_summary, make_usage
from cumulet.central.page.users import User, Users
from cumulet.central.page.view import Heard, make_rollouts, make_tiers, make_waiting
from cumulet.central.protocol import NAMESPACES, PLACEMENTS, REPLICA_SETS, TIERS
from cumulet.central.traces import with_trace
from cumulet.core.errors import CumuletError, UsageError

OWNER = "cumulet-page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
# Nothing from elsewhere, no script in the page itself, in nobody's frame.
SAFE = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
log = logging.getLogger("cumulet.hub")
Work = Callable[[User, Request], Awaitable[Json]]


def add_page(hub: Hub) -> Page:
    """Serve the page at the hub's entry. What is given back need not be kept, but can be closed."""
    page = Page(hub)
    for path, (name, content) in FILES.items():
        hub.web.add("GET", path, _make_file(name, content))
    hub.web.add("GET", "/api/overview", page.guard("see", page.overview))
    hub.web.add("GET", "/api/cluster/", page.guard("see", page.details))
    hub.web.add("POST", "/api/approve", page.guard("approve", page.approve))
    hub.web.add("POST", "/api/reject", page.guard("approve", page.reject))
    hub.web.add("POST", "/api/deploy", page.guard("deploy", page.deploy))
    hub.web.add("POST", "/api/remove", page.guard("deploy", page.remove))
    return page


def _make_file(name: str, content: str) -> Callable[[Request], Awaitable[Answer]]:
    body = (files("cumulet.central.page") / "assets" / name).read_bytes()

    async def handle(request: Request) -> Answer:
        return Answer(200, body, content, {**SAFE, "cache-control": "no-cache"})

    return handle


class Page:
    """The handlers, over a hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.users = hub, Users(hub.kube.access)

    def close(self) -> None:
        """Leave the connections of those who have asked lately."""
        self.users.close()

    def guard(self, right: str, work: Work) -> Callable[[Request], Awaitable[Answer]]:
        """A handler that lets only those in whose token has a right; what it gives back goes out as JSON."""

        async def handle(request: Request) -> Answer:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            try:
                user = await self.users.find(token if scheme.lower() == "bearer" else "")
                if right not in user.rights:
                    return _say(HTTPStatus.FORBIDDEN, f"{user.name} may not do this: {right}")
                return _answer(200, await work(user, request))
            except RefusedError as error:
                known = error.status in (401, 403, 404, 409, 422)
                return _say(error.status if known else HTTPStatus.BAD_GATEWAY, error.message)
            except UsageError as error:
                return _say(HTTPStatus.BAD_REQUEST, error.message)
            except CumuletError as error:
                return _say(HTTPStatus.CONFLICT, error.message)

        return handle

    async def overview(self, user: User, request: Request) -> Json:
        """Everything that is shown, as far as this user may see it."""
        fleet, now = self.hub.fleet, time.time()
        waiting = make_waiting(fleet.clusters.found, fleet.wishes.found.values()) if "waiting" in user.rights else []
        rollouts = make_rollouts(fleet.sets.found.values()) if "rollouts" in user.rights else []
        return {
            "user": user.name,
            "rights": sorted(user.rights),
            "hub": self.hub.kube.access.server,
            "time": now,
            "synced": fleet.synced,
            "tiers": make_tiers(fleet.all(), lambda name: self._hear(name, now)),
            "every_tier": list(reversed(TIERS)),
            "waiting": waiting,
            "rollouts": rollouts,
            "usage": make_usage(self.hub.pulses.total()),
        }

    def _hear(self, name: str, now: float) -> Heard:
        return Heard(self.hub.leases.silent_for(name), make_summary(self.hub.pulses.get(name), now))

    async def details(self, user: User, request: Request) -> Json:
        """The tasks of one cluster."""
        if self.hub.fleet.get(request.rest) is None:
            raise UsageError(f"{request.rest[:60]!r}: no such cluster")
        return make_details(self.hub.pulses.get(request.rest), self.hub.pulses.problem(request.rest))

    async def approve(self, user: User, request: Request) -> Json:
        """Let a cluster in, with the user's own rights, if the key that asks is the one that the user has compared."""
        form = await _read_form(request)
        candidate = await find_candidate(user.kube, str(form.get("cluster", "")))
        if list(candidate.keys) != form.get("keys"):
            raise UsageError(f"{candidate.cluster.name}: another key asks now; compare it again")
        granted = await approve(user.kube, candidate)
        log.info("%s let %s in by the page", user.name, candidate.cluster.name)
        return {"granted": len(granted)}

    async def reject(self, user: User, request: Request) -> Json:
        """Do not have a cluster under this hub."""
        name = str((await _read_form(request)).get("cluster", ""))
        await find_candidate(user.kube, name)
        await accept(user.kube, name, False)
        log.info("%s refused %s by the page", user.name, name)
        return {}

    async def deploy(self, user: User, request: Request) -> Json:
        """Roll an image out to the clusters of a selector."""
        placement, rollout = make_rollout(await _read_form(request))
        with self.hub.traces.span("deploy", rollout=rollout["metadata"]["name"], user=user.name) as span:
            return await self._roll_out(user, placement, with_trace(rollout, span.context))

    async def _roll_out(self, user: User, placement: Json, rollout: Json) -> Json:
        if await user.kube.find(NAMESPACES, NAMESPACE) is None:
            await user.kube.create(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        await user.kube.apply(PLACEMENTS, placement, owner=OWNER)
        await user.kube.apply(REPLICA_SETS, rollout, owner=OWNER)
        log.info("%s rolled %s out by the page", user.name, rollout["metadata"]["name"])
        return {"name": rollout["metadata"]["name"]}

    async def remove(self, user: User, request: Request) -> Json:
        """Take a roll-out of the page back."""
        name = str((await _read_form(request)).get("name", ""))
        gone = [await user.kube.delete(kind, name, NAMESPACE) for kind in (REPLICA_SETS, PLACEMENTS)]
        if not any(gone):
            raise UsageError(f"{name[:60]!r}: no such roll-out in {NAMESPACE}")
        log.info("%s took %s back by the page", user.name, name)
        return {}


async def _read_form(request: Request) -> dict[str, Any]:
    try:
        found = json.loads(await request.read(1 << 16))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UsageError("the body must be a JSON object")
    return found


def _answer(status: int, body: Json) -> Answer:
    return Answer(status, json.dumps(body).encode(), "application/json", {**SAFE, "cache-control": "no-store"})


def _say(status: int, message: str) -> Answer:
    return _answer(status, {"error": message})
