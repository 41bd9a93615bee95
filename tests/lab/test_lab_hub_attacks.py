"""What must not work at a hub, against a real API server: stolen certificates, used tokens, foreign names, floods."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hubs import (
    as_agent,
    let_in,
    make_config,
    open_agent,
    open_hub,
    refused,
    until,
    wait_for_condition,
    wait_for_work,
    write_token,
)

from cumulet.central.access import as_token, load_access
from cumulet.central.hub.requests import REFUSED
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.protocol import (
    AVAILABLE,
    CLUSTER_LABEL,
    CLUSTER_ROLES,
    CLUSTERS,
    CONFIG_MAPS,
    DECISIONS,
    EVERY_CLUSTER,
    LEASE,
    LEASES,
    NAMESPACES,
    PLACEMENTS,
    REPLICA_SETS,
    REQUESTS,
    ROLE_BINDINGS,
    SECRETS,
    SIGNER,
    USAGES,
    WORKS,
    make_group,
    make_user,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
FOREIGN: tuple[tuple[Resource, str], ...] = (
    (LEASES, LEASE),
    (WORKS, "secret-work"),
    (SECRETS, "token"),
    (CONFIG_MAPS, "settings"),
    (ROLE_BINDINGS, "open-cluster-management:managedcluster:b-1:work"),
    (PLACEMENTS, "p"),
    (DECISIONS, "p-decision-1"),
    (REPLICA_SETS, "s"),
)


def make_request(cluster: str, user: str, *groups: str, label: str = "", size: int = 0) -> Json:
    """A certificate request as somebody would write it by hand."""
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = made.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    text = signed.public_bytes(serialization.Encoding.PEM) + b"\n" * size
    return {
        "apiVersion": REQUESTS.api_version,
        "kind": REQUESTS.kind,
        "metadata": {"generateName": f"{cluster}-", "labels": {CLUSTER_LABEL: label or cluster}},
        "spec": {"signerName": SIGNER, "usages": list(USAGES), "request": base64.b64encode(text).decode()},
    }


def every_verb(kube: Kube, resource: Resource, name: str, namespace: str) -> dict[str, Callable[[], Awaitable[Any]]]:
    """A call for each verb on one object."""
    meta = {"name": name, **({"namespace": namespace} if resource.namespaced else {})}
    body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    query = Query(resource, namespace)

    async def watch() -> None:
        async for _ in kube.watch(query, ""):
            return

    return {
        "get": lambda: kube.get(resource, name, namespace),
        "list": lambda: kube.collect(query),
        "watch": watch,
        "create": lambda: kube.create(resource, body, namespace),
        "update": lambda: kube.replace(resource, body),
        "patch": lambda: kube.patch(resource, name, {"metadata": {"labels": {"x": "y"}}}, namespace),
        "apply": lambda: kube.apply(resource, {"metadata": meta}, owner="thief"),
        "delete": lambda: kube.delete(resource, name, namespace),
        "status": lambda: kube.patch(resource, name, {"status": {}}, namespace, sub="status"),
    }


def test_a_stolen_certificate_reads_nothing_of_another_cluster(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            first = make_config("a-1", [(planes["hub"], await write_token(hub, "a-1", tmp_path))], tmp_path)
            other = make_config("b-1", [(planes["hub"], await write_token(hub, "b-1", tmp_path))], tmp_path)
            async with open_agent(first, planes["edge"]) as agent, open_agent(other, planes["edge"]):
                for name in ("a-1", "b-1"):
                    await let_in(hub, name)
                    await wait_for_condition(hub, name, AVAILABLE, "True")
                thief = Kube(as_agent(agent))
                allowed = []
                for resource, name in FOREIGN:
                    for verb, call in every_verb(thief, resource, name, "b-1").items():
                        try:
                            await call()
                            allowed.append(f"{verb} {resource.plural} in b-1")
                        except RefusedError as error:
                            assert error.status == 403, (verb, resource.plural, error.message)
                for resource, name in (
                    (CLUSTERS, "b-1"),
                    (NAMESPACES, "b-1"),
                    (CLUSTER_ROLES, "x"),
                    (REQUESTS, "b-1-x"),
                ):
                    for verb, call in every_verb(thief, resource, name, "").items():
                        if (resource, verb) == (REQUESTS, "create"):
                            continue  # its own, which is another test
                        try:
                            await call()
                            allowed.append(f"{verb} {resource.plural}")
                        except RefusedError as error:
                            assert error.status == 403, (verb, resource.plural, error.message)
                assert allowed == []
                wishes = [each["metadata"]["name"] for each in await hub.kube.collect(Query(REQUESTS))]
                foreign = next(name for name in wishes if name.startswith("b-1-"))
                assert (await refused(thief.get(REQUESTS, foreign))).status == 403
                # Its own works, and no more than what it needs of them.
                await hub.kube.apply(WORKS, {"metadata": {"name": "w", "namespace": "a-1"}, "spec": {}}, owner="t")
                change: Json = {"spec": {"deleteOption": {"propagationPolicy": "Orphan"}}}
                stolen = thief.patch(WORKS, "w", change, "a-1")
                assert "an agent does not change its work" in (await refused(stolen)).message
                assert (await refused(thief.delete(WORKS, "w", "a-1"))).status == 403
                mine = await thief.get(CLUSTERS, "a-1")
                mine["metadata"].setdefault("labels", {})["tier"] = "central"
                assert "does not change its cluster's labels" in (await refused(thief.replace(CLUSTERS, mine))).message
                thief.close()

    asyncio.run(story())


def test_a_used_token_lets_only_its_own_device_back(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            token = await write_token(hub, "c-1", tmp_path)
            config = make_config("c-1", [(planes["hub"], token)], tmp_path)
            async with open_agent(config, planes["edge"]):
                await let_in(hub, "c-1")
                await wait_for_condition(hub, "c-1", AVAILABLE, "True")
            thief = Kube(as_token(load_access(planes["hub"].config), token.read_text()))

            async def narrowed() -> bool:
                try:
                    await thief.get(CLUSTERS, "c-1")
                except RefusedError as error:
                    return error.status == 403
                return False

            await until("the token is narrowed", narrowed)
            assert (await refused(thief.create(CLUSTERS, {"metadata": {"name": "c-1"}, "spec": {}}))).status == 403
            replayed = make_config("c-1", [(planes["hub"], token)], tmp_path / "thief")
            async with open_agent(replayed, planes["edge"]) as agent:

                async def denied() -> bool:
                    return "WrongKey" in agent.trouble

                await until("the replayed token is refused", denied)
                assert "c-1 has the key SHA256:" in agent.trouble
            assert (await wait_for_condition(hub, "c-1", REFUSED, "True"))["reason"] == "WrongKey"
            # Weeks later the certificate has run out; the device's key still opens the door.
            for path in config.state.rglob("agent.crt"):
                path.unlink()
            async with open_agent(config, planes["edge"]) as agent:

                async def back() -> bool:
                    return agent.word == "in touch"

                await until("the device is back", back)
            assert hub.requests.granted["DeviceReturned"] == 1
            thief.close()

    asyncio.run(story())


def test_a_request_with_a_foreign_name_is_refused_by_name(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            token = await write_token(hub, "d-1", tmp_path)
            nobody = Kube(as_token(load_access(planes["hub"].config), token.read_text()))
            spec: Json = {"hubAcceptsClient": False}
            head = {"apiVersion": CLUSTERS.api_version, "kind": CLUSTERS.kind}
            foreign = {**head, "metadata": {"name": "d-2"}, "spec": spec}
            assert "this token is for another cluster" in (await refused(nobody.create(CLUSTERS, foreign))).message
            eager = {**head, "metadata": {"name": "d-1"}, "spec": {"hubAcceptsClient": True}}
            assert "managedclusters/accept" in (await refused(nobody.create(CLUSTERS, eager))).message
            await nobody.create(CLUSTERS, {**head, "metadata": {"name": "d-1"}, "spec": spec})

            other = make_request("d-1", make_user("d-2", "agent"), make_group("d-2"), label="d-2")
            assert "for another cluster than one's own" in (await refused(nobody.create(REQUESTS, other))).message
            large = make_request("d-1", make_user("d-1", "agent"), make_group("d-1"), size=9000)
            assert "at most 8192 bytes" in (await refused(nobody.create(REQUESTS, large))).message
            wrong = make_request("d-1", make_user("d-1", "agent"), make_group("d-1"))
            wrong["spec"]["signerName"] = "kubernetes.io/kubelet-serving"
            assert "the signer of an agent" in (await refused(nobody.create(REQUESTS, wrong))).message

            for user, groups in (
                (make_user("d-2", "agent"), [make_group("d-2")]),
                (make_user("d-1", "agent"), [make_group("d-1"), make_group("d-2")]),
                (make_user("d-1", "agent"), [make_group("d-1"), "system:nodes"]),
                (make_user("d-1", "agent:more"), [make_group("d-1")]),
                ("system:admin", [make_group("d-1"), EVERY_CLUSTER]),
            ):
                made = await nobody.create(REQUESTS, make_request("d-1", user, *groups))
                name = made["metadata"]["name"]

                async def denied(name: str = name) -> Json | None:
                    found = await hub.kube.get(REQUESTS, name)
                    conditions = (found.get("status") or {}).get("conditions") or []
                    return next((each for each in conditions if each["type"] == "Denied"), None)

                condition = await until(f"{user} of {groups} is denied", denied)
                assert condition["reason"] == "ForeignName", condition
            named = await wait_for_condition(hub, "d-1", REFUSED, "True")
            assert named["reason"] == "ForeignName" and "asks for" in named["message"]
            assert "certificate" not in str(
                [each.get("status") for each in await hub.kube.collect(Query(REQUESTS, labels=f"{CLUSTER_LABEL}=d-1"))]
            )
            nobody.close()

    asyncio.run(story())


def test_a_flood_of_requests_ends_with_the_loss_of_the_token(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            good = make_config("e-1", [(planes["hub"], await write_token(hub, "e-1", tmp_path))], tmp_path)
            token = await write_token(hub, "e-2", tmp_path)
            nobody = Kube(as_token(load_access(planes["hub"].config), token.read_text()), links=4)
            await nobody.create(
                CLUSTERS,
                {"apiVersion": CLUSTERS.api_version, "kind": CLUSTERS.kind, "metadata": {"name": "e-2"}, "spec": {}},
            )
            statuses: list[int] = []

            async def ask(seconds: float) -> None:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    try:
                        await nobody.create(REQUESTS, make_request("e-2", make_user("e-2", "a"), make_group("e-2")))
                    except RefusedError as error:
                        statuses.append(error.status)
                        if error.status == 401:
                            return

            async with open_agent(good, planes["edge"]), asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(ask(30))
                await let_in(hub, "e-1")
                await wait_for_condition(hub, "e-1", AVAILABLE, "True")
            assert 401 in statuses, "the token still works"

            async def calm() -> bool:
                open_now = [each for each in hub.requests.waiting() if each.cluster == "e-2"]
                return len(open_now) <= 10 and hub.requests.queue.idle

            await until("ten requests are left", calm)
            assert hub.requests.refused["Flood"] >= 40
            assert (await wait_for_condition(hub, "e-2", REFUSED, "True"))["reason"] == "Flood"
            nobody.close()

    asyncio.run(story())


def test_huge_and_malformed_works_are_refused_and_named(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    def make(name: str, *manifests: object) -> Json:
        return {"metadata": {"name": name, "namespace": "f-1"}, "spec": {"workload": {"manifests": list(manifests)}}}

    def make_map(name: str, text: str = "x") -> Json:
        head = {"apiVersion": "v1", "kind": "ConfigMap"}
        return {**head, "metadata": {"name": name, "namespace": "default"}, "data": {"x": text}}

    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            config = make_config("f-1", [(planes["hub"], await write_token(hub, "f-1", tmp_path))], tmp_path)
            async with open_agent(config, planes["edge"]) as agent:
                await let_in(hub, "f-1")
                await wait_for_condition(hub, "f-1", AVAILABLE, "True")
                kube = hub.kube
                large = await refused(kube.apply(WORKS, make("large", make_map("a", "x" * 2_000_000)), owner="t"))
                assert large.status in (413, 500) or "too large" in large.message
                nameless: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"x": 1}}
                kindless: Json = {"metadata": {"name": "a"}}
                for wrong in (kindless, "text", {"apiVersion": "v1", "kind": "", "metadata": {"name": "a"}}):
                    body = {"apiVersion": WORKS.api_version, "kind": WORKS.kind, **make("wrong", wrong)}
                    assert (await refused(kube.create(WORKS, body, "f-1"))).status in (400, 422)
                await kube.apply(WORKS, make("big", make_map("a", "x" * 600_000)), owner="t")
                role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}}
                strange = {"apiVersion": "v7", "kind": "Strange", "metadata": {"name": "s"}}
                no_place = {**make_map("c"), "metadata": {"name": "c"}}
                invalid = {**make_map("Not_A_Name")}
                await kube.apply(
                    WORKS, make("mixed", nameless, role, strange, no_place, invalid, make_map("good")), owner="t"
                )
                big = await wait_for_work(hub, "f-1", "big", "Applied", "False")
                assert "bytes; 512000 are allowed" in read_messages(big)[0]
                mixed = await wait_for_work(hub, "f-1", "mixed", "Applied", "False")
                messages = read_messages(mixed)
                assert "metadata.name is missing" in messages[0]
                assert "kind rbac.authorization.k8s.io/ClusterRole is not among" in messages[1]
                assert "kind v7/Strange" in messages[2] or "kind Strange is not among" in messages[2]
                assert "metadata.namespace is missing" in messages[3]
                assert "Not_A_Name" in messages[4]
                assert messages[5] == "Apply manifest complete"
                assert (await agent.local.get(CONFIG_MAPS, "good", "default"))["data"] == {"x": "x"}
                assert agent.word == "in touch"

    asyncio.run(story())


def read_messages(work: Json) -> list[str]:
    """What is said of each manifest's application, in their order."""
    return [
        next(each["message"] for each in manifest["conditions"] if each["type"] == "Applied")
        for manifest in work["status"]["resourceStatus"]["manifests"]
    ]
