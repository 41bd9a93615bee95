"""The hub's page in a real browser, at a real hub and API server: what each token may see and do, on desk and phone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_servers import ApiServer
from hubs import make_config, open_agent, open_hub, refused, until, wait_for_condition, write_token
from playwright.async_api import Browser, Page, async_playwright

from cumulet.central.agent.told import set_pulse
from cumulet.central.hub.process import Hub
from cumulet.central.hub.pulses import list_pulses
from cumulet.central.kube import Kube, Resource
from cumulet.central.page import add_page
from cumulet.central.protocol import (
    AVAILABLE,
    CLUSTER_BINDINGS,
    CLUSTER_ROLES,
    CLUSTERS,
    JOINED,
    LEASE,
    LEASES,
    make_condition,
)
from cumulet.central.pulse import LinkPulse, Pulse, TaskPulse

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
EVIL = "<img src=x onerror='window.evil=1'>"
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


async def make_user(kube: Kube, name: str, role: str) -> str:
    """A service account with a cluster role (or none), and its token."""
    await kube.apply(ACCOUNTS, {"metadata": {"name": name, "namespace": "default"}}, owner="t")
    if role:
        subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        body = {"metadata": {"name": f"page-{name}"}, "subjects": [subject], "roleRef": reference}
        await kube.apply(CLUSTER_BINDINGS, body, owner="t")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    made = await kube.create(ACCOUNTS, asked, "default", name, "token")
    return str(made["status"]["token"])


async def make_cluster(kube: Kube, name: str, tier: str, available: str = "True", **claims: str) -> None:
    """A cluster that is as if its agent had reported."""
    await kube.apply(CLUSTERS, {"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}}, owner="t")
    conditions = [
        make_condition(JOINED, "True", "Joined", "it has come"),
        make_condition(AVAILABLE, available, "Reported", "two of its nodes do not answer"),
    ]
    status = {
        "conditions": conditions,
        "version": {"kubernetes": "v1.36.3"},
        "capacity": {"cpu": "40", "memory": "64Gi"},
        "allocatable": {"cpu": "31", "memory": "48Gi"},
        "clusterClaims": [
            {"name": key.replace("_", "."), "value": text} for key, text in {"tier": tier, **claims}.items()
        ],
    }
    await kube.patch(CLUSTERS, name, {"status": status}, sub="status")


def make_pulse(wanted: int, ready: int) -> Pulse:
    """What a site says that has one task."""
    now = int(time.time())
    task = TaskPulse("default/detect", 1, wanted, ready, ready, 2600, 900, {"yolo@4f53cda18c2b": 1})
    links = {"5g": LinkPulse(1, 0, 0, 61), "ethernet": LinkPulse(0, 0, 1)}
    return Pulse(now, 1, (31, 60, 44), (5, 5), (now + 7200, 1800), 1, (3, 15), (task,), links)


async def tell(hub: Hub, name: str, pulse: Pulse) -> None:
    """A cluster tells its hub what its tasks use, as its agent does."""

    async def told() -> bool:
        lease = await hub.kube.find(LEASES, LEASE, name)
        if lease is not None:
            set_pulse(lease, pulse)
            await hub.kube.replace(LEASES, lease)
        return lease is not None

    await until(f"{name} has a lease", told)


async def look_at_usage(page: Page, url: str) -> None:
    """What tasks use, their models, links and the next quiet stretch, as a whole, of one site, and for Prometheus."""
    card = page.locator("#tasks li", has_text="detect")
    await card.get_by_text("5 of 6 ready").wait_for()
    await card.get_by_text("yolo@4f53cda18c2b").wait_for()
    site = page.locator(".site", has_text="quay-0")
    await site.get_by_text("5g 61 %").wait_for()
    await site.get_by_text("1 task, 1 replica missing").wait_for()
    await site.get_by_text("quiet ").wait_for()
    await site.click()
    await page.locator("#detail li", has_text="2.6 cores, 900 MiB in 3 containers").wait_for()
    await page.get_by_role("button", name="Close").click()
    async with httpx.AsyncClient(base_url=url) as client:
        text = (await client.get("/metrics")).text
    assert 'cumulet_task_replicas_ready{cluster="quay-0",task="default/detect"} 3\n' in text
    assert 'cumulet_site_links{cluster="quay-0",kind="5g",state="used"} 1\n' in text


async def log_in(page: Page, token: str) -> None:
    await page.get_by_label("Kubernetes token").fill(token)
    await page.get_by_role("button", name="Log in").click()


async def take_pictures(browser: Browser, url: str, token: str, folder: Path) -> None:
    """The page at each size, light and dark; nothing may be wider than the screen, or too small for a finger."""
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = await browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,  # type: ignore[arg-type]
                has_touch=size == "phone",
            )
            page = await context.new_page()
            await page.goto(url)
            await page.screenshot(path=folder / f"login-{size}-{scheme}.png")
            await log_in(page, token)
            await page.locator(".site").first.wait_for()
            wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide == 0, f"{size}: {wide} pixels too wide"
            small = await page.evaluate(
                "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 40).length"
            )
            assert small == 0
            await page.screenshot(path=folder / f"page-{size}-{scheme}.png", full_page=True)
            await page.locator(".site", has_text="harbour-3").click()
            await page.screenshot(path=folder / f"detail-{size}-{scheme}.png")
            await context.close()


async def check_rights(page: Page, url: str, tokens: dict[str, str]) -> None:
    """Nobody sees anything, who may look only looks; the entry says the same to who comes without the page."""
    await page.goto(url)
    await log_in(page, "no.such.token")
    await page.get_by_role("alert").get_by_text("Unauthorized").wait_for()
    await log_in(page, tokens["nobody"])
    await page.get_by_role("alert").get_by_text("system:serviceaccount:default:nobody may not do this: see").wait_for()
    assert not await page.locator("#app").is_visible()
    await log_in(page, tokens["viewer"])
    await page.locator(".site", has_text="harbour-3").wait_for()
    assert not await page.locator("#waiting").is_visible()
    assert not await page.get_by_role("button", name="New").is_visible()
    async with httpx.AsyncClient(base_url=url) as client:
        for path, body in (("approve", {"cluster": "pier-7", "keys": []}), ("deploy", {}), ("remove", {"name": "x"})):
            for name, status in (("viewer", 403), ("nobody", 403), ("", 401)):
                headers = {"authorization": f"Bearer {tokens[name]}"} if name else {}
                answer = await client.post(f"/api/{path}", json=body, headers=headers)
                assert answer.status_code == status, answer.text
        found = await client.get("/api/overview", headers={"authorization": f"Bearer {tokens['viewer']}"})
        assert (found.json()["waiting"], found.json()["rollouts"], found.json()["rights"]) == ([], [], ["see"])
        assert (await client.get("/")).headers["content-security-policy"].startswith("default-src 'none'")
    await page.get_by_role("button", name="Log out").click()
    await page.get_by_label("Kubernetes token").wait_for()
    assert await page.evaluate("sessionStorage.length") == 0


async def approve_and_deploy(page: Page, hub: Hub, edge: Kube, tokens: dict[str, str]) -> None:
    """The administrator compares a key, lets the site in and rolls something out to it."""
    await log_in(page, tokens["admin"])
    card = page.locator("#waiting li", has_text="pier-7")
    await card.get_by_text("SHA256:").wait_for()
    page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
    await card.get_by_role("button", name="Let in").click()
    await page.locator("#message", has_text="pier-7 is let in").wait_for()
    await wait_for_condition(hub, "pier-7", AVAILABLE, "True")
    await page.locator(".site.ready", has_text="pier-7").wait_for(timeout=20_000)

    await page.get_by_role("button", name="New").click()
    form = page.locator("#deploy-form")
    await form.get_by_label("Name").fill("detect")
    await form.get_by_label("Image").fill("hub.example/detect:3")
    await form.get_by_label("Where").fill("tier")
    await form.get_by_role("button", name="Roll out").click()
    await form.get_by_text("'tier' is not name=value").wait_for()
    await form.get_by_label("Where").fill("tier=edge,gpu=adreno-630")
    await form.get_by_role("button", name="Roll out").click()
    await page.locator("#rollouts li", has_text="1 applied, 1 sites").wait_for(timeout=30_000)
    made = await edge.get(DEPLOYMENTS, "detect", "tasks")
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "hub.example/detect:3"


async def take_back(page: Page, edge: Kube) -> None:
    """What was rolled out goes again."""
    await page.get_by_role("button", name="Take back").click()
    await page.locator("#message", has_text="detect is taken back").wait_for()

    async def gone() -> bool:
        return await edge.find(DEPLOYMENTS, "detect", "tasks") is None

    await until("the deployment is gone", gone)


def test_the_page_of_a_hub(planes: dict[str, ApiServer], tmp_path: Path, need: Callable[[str], str]) -> None:
    chromium, wrong = need("chromium"), list[str]()
    pictures = Path(os.environ.get("CUMULET_PICTURES", tmp_path))

    async def story() -> None:
        async with open_hub(planes["hub"]) as hub, async_playwright() as player:
            served = add_page(hub)
            url = f"http://127.0.0.1:{await hub.web.start('127.0.0.1', 0)}"
            looks = {"apiGroups": [CLUSTERS.group], "resources": [CLUSTERS.plural], "verbs": ["list"]}
            role = {"metadata": {"name": "page-looks"}, "rules": [looks]}
            await hub.kube.apply(CLUSTER_ROLES, role, owner="t")
            roles = {"admin": "cluster-admin", "viewer": "page-looks", "nobody": ""}
            tokens = {name: await make_user(hub.kube, name, role) for name, role in roles.items()}
            await make_cluster(hub.kube, "region-east", "regional", hub_cumulet_io="true", clusters_cumulet_io="48",
                               available_cumulet_io="46")  # fmt: skip
            await make_cluster(hub.kube, "mast-12", "station", hub_cumulet_io="true", clusters_cumulet_io="6")
            await make_cluster(hub.kube, "harbour-3", "edge", "False", gpu="adreno-630x", model=EVIL)
            for number in range(8):
                await make_cluster(hub.kube, f"quay-{number}", "edge", gpu="mali-g610")
            secret = await write_token(hub, "pier-7", tmp_path)
            config = make_config("pier-7", [(planes["hub"], secret)], tmp_path, claims={"gpu": "adreno-630"})
            browser = await player.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = await browser.new_page()
            page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            async with open_agent(config, planes["edge"]) as agent:
                await check_rights(page, url, tokens)
                await approve_and_deploy(page, hub, agent.local, tokens)
                await tell(hub, "quay-0", make_pulse(4, 3))
                await tell(hub, "quay-1", make_pulse(2, 2))
                await look_at_usage(page, url)
                assert sorted(await list_pulses(hub.kube)) == ["quay-0", "quay-1"]
                await page.locator(".site", has_text="harbour-3").click()
                await page.locator("dialog dd", has_text=EVIL).wait_for()
                assert await page.evaluate("window.evil") is None
                await page.get_by_role("button", name="Close").click()
                await take_pictures(browser, url, tokens["admin"], pictures)
                await take_back(page, agent.local)
            as_viewer = Kube(access_of(hub, tokens["viewer"]))
            await refused(as_viewer.patch(CLUSTERS, "quay-1", {"spec": {"hubAcceptsClient": False}}))
            as_viewer.close()
            await browser.close()
            served.close()
            await hub.web.stop()

    asyncio.run(story())
    # The browser itself tells of answers that refuse; nothing else may be there.
    assert [line for line in wrong if "status of 40" not in line] == []


def access_of(hub: Hub, token: str) -> Any:
    """The hub's API server, as who has a token."""
    from cumulet.central import Access

    return Access(hub.kube.access.server, hub.kube.access.authority, token)
