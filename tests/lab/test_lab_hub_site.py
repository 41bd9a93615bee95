"""A real site under a real hub: bring-up gives it its agent, the hub lets it in, and gives it work that runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from api_servers import ApiServer
from hubs import let_in, open_hub, until, wait_for_condition, wait_for_work, write_token
from sites import get, up
from wires import open_wire

from cumulet.central.kube import Json
from cumulet.central.protocol import AVAILABLE, CLUSTERS, WORKS
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
SITE = """\
version: 1
site: quay-3
distribution: kubeadm
nodes:
  - {{name: n1, address: 10.88.0.11, role: single}}
ssh: {{key: {key}, known_hosts: {known}}}
central: {{hub: "{hub}", token: {token}, authority: {authority}, claims: {{gpu: none}}}}
"""


def make_job(cluster: str) -> Json:
    """A work with a job that any node can run without fetching anything."""
    container = {"name": "task", "image": "localhost/pause:none", "imagePullPolicy": "Never"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    meta = {"name": "task", "namespace": "default"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": {"template": template, "suspend": True}}
    identifier = {"group": "batch", "resource": "jobs", **meta}
    option = {"resourceIdentifier": identifier, "feedbackRules": [{"type": "WellKnownStatus"}]}
    spec = {"workload": {"manifests": [job]}, "manifestConfigs": [option]}
    return {"metadata": {"name": "task", "namespace": cluster}, "spec": spec}


def test_a_site_registers_by_its_bring_up_and_takes_work(
    lab: MakeLab, planes: dict[str, ApiServer], tmp_path: Path
) -> None:
    async def story(found: Lab) -> None:
        gateway = "10.88.0.1"
        async with open_hub(planes["hub"]) as hub, open_wire(planes["hub"].ports[0], gateway) as wire:
            token = await write_token(hub, "quay-3", tmp_path)
            path = tmp_path / "site.yaml"
            names = {"key": found.key, "known": found.known_hosts, "hub": wire.address, "token": token}
            path.write_text(SITE.format(**names, authority=planes["hub"].folder / "ca.crt"))
            steps = await asyncio.to_thread(up, path)
            assert "register.agent@n1" in steps
            assert await asyncio.to_thread(up, path) == []
            await let_in(hub, "quay-3")
            await wait_for_condition(hub, "quay-3", AVAILABLE, "True", 120)

            async def amounts() -> bool:
                return "cpu" in ((await hub.kube.get(CLUSTERS, "quay-3"))["status"].get("capacity") or {})

            await until("its amounts are told", amounts, 90)
            await hub.kube.apply(WORKS, make_job("quay-3"), owner="t")
            await wait_for_work(hub, "quay-3", "task", "Applied")
            job = await asyncio.to_thread(get, found, "job", "task", on="n1")
            assert job["spec"]["suspend"] is True
            memory = found.node("n1").run("systemctl", "show", "-p", "MainPID", "--value", "cumulet-agent.service").out
            status = found.node("n1").run("cat", f"/proc/{memory.strip()}/status").out
            resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
            assert resident < 40 * 1024, f"{resident} KiB"

    with lab("hub", 1, "10.88.0.0/24") as found:
        asyncio.run(story(found))
