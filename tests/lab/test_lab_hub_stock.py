"""A stock agent at our hub: the calls of Open Cluster Management's klusterlet, in its order and with its rights."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from api_servers import ApiServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hubs import let_in, open_hub, refused, until, wait_for_condition

from cumulet.central.access import as_token, as_user, load_access
from cumulet.central.crds import ADDONS
from cumulet.central.hub.process import Hub
from cumulet.central.hub.tokens import make_token, publish_token
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.protocol import (
    ACCEPTED,
    AVAILABLE,
    CLUSTER_LABEL,
    CLUSTERS,
    EVERY_CLUSTER,
    JOINED,
    LEASE,
    LEASES,
    REQUESTS,
    SIGNER,
    USAGES,
    WORK_FINALIZER,
    WORKS,
    make_condition,
    make_group,
    make_time,
    make_user,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(200)]
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
NAME = "stock-1"


def make_request() -> tuple[str, str]:
    """A request as the klusterlet makes it, and the key, which it makes anew each time."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in (make_group(NAME), EVERY_CLUSTER)]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, make_user(NAME, "x7k2p"))])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode(), text.decode()


async def ask(kube: Kube) -> tuple[str, str]:
    """Send a request, the way it does: counting its own first. Gives back name and key."""
    mine = await kube.collect(Query(REQUESTS, labels=f"{CLUSTER_LABEL}={NAME}"))
    assert len(mine) < 10
    text, key = make_request()
    body = {
        "apiVersion": REQUESTS.api_version,
        "kind": REQUESTS.kind,
        "metadata": {"generateName": f"{NAME}-", "labels": {CLUSTER_LABEL: NAME}},
        "spec": {"signerName": SIGNER, "usages": list(USAGES), "request": text},
    }
    return (await kube.create(REQUESTS, body))["metadata"]["name"], key


async def wait_for_certificate(kube: Kube, name: str) -> str:
    """The certificate, watched for among all requests with its label."""

    async def look() -> str:
        found = next(
            each
            for each in await kube.collect(Query(REQUESTS, labels=f"{CLUSTER_LABEL}={NAME}"))
            if each["metadata"]["name"] == name
        )
        return str((found.get("status") or {}).get("certificate") or "")

    return base64.b64decode(await until(f"{name} is granted", look)).decode()


async def register(hub: Hub, server: ApiServer) -> tuple[Kube, str]:
    """From the token to the certificate."""
    token = make_token("")
    await publish_token(hub.kube, token, 3600)
    newcomer = Kube(as_token(load_access(server.config), token.text))
    assert (await refused(newcomer.get(CLUSTERS, NAME))).status == 404
    head = {"apiVersion": CLUSTERS.api_version, "kind": CLUSTERS.kind, "metadata": {"name": NAME}}
    urls = [{"url": "https://stock.example:6443"}]
    made = await newcomer.create(CLUSTERS, {**head, "spec": {"managedClusterClientConfigs": urls}})
    made["spec"]["managedClusterClientConfigs"].append({"url": "https://other.example:6443"})
    await newcomer.replace(CLUSTERS, made)
    name, key = await ask(newcomer)
    await let_in(hub, NAME)
    certificate = await wait_for_certificate(newcomer, name)
    newcomer.close()
    return Kube(as_user(load_access(server.config), certificate, key)), key


async def work(hub: Hub, kube: Kube) -> None:
    """Finalizer, status and removal of a work."""
    await hub.kube.apply(WORKS, {"metadata": {"name": "w", "namespace": NAME}, "spec": {}}, owner="t")
    (found,) = await kube.collect(Query(WORKS, NAME))
    meta = {"uid": found["metadata"]["uid"], "resourceVersion": found["metadata"]["resourceVersion"]}
    await kube.patch(WORKS, "w", {"metadata": {**meta, "finalizers": [WORK_FINALIZER]}}, NAME)
    done: Json = {"status": {"conditions": [make_condition("Applied", "True", "AppliedManifestWorkComplete", "")]}}
    await kube.patch(WORKS, "w", done, NAME, sub="status")
    await hub.kube.delete(WORKS, "w", NAME)
    await kube.patch(WORKS, "w", {"metadata": {"finalizers": None}}, NAME)
    assert await hub.kube.find(WORKS, "w", NAME) is None


def test_a_stock_agent_can_do_all_that_it_does(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            kube, _ = await register(hub, planes["hub"])
            await wait_for_condition(hub, NAME, ACCEPTED, "True")

            async def may_list() -> bool:
                try:
                    await kube.collect(Query(REQUESTS, labels=f"{CLUSTER_LABEL}={NAME}"))
                except RefusedError as error:
                    assert error.status == 403
                    return False
                return True

            await until("its rights have come", may_list)
            (own,) = await kube.collect(Query(CLUSTERS, fields=f"metadata.name={NAME}"))
            conditions = own["status"]["conditions"]
            for kind in (JOINED, AVAILABLE):
                conditions.append(make_condition(kind, "True", "ManagedClusterJoined", ""))
            status = {"conditions": conditions, "capacity": {"cpu": "4"}, "version": {"kubernetes": "v1.36.3"}}
            await kube.patch(CLUSTERS, NAME, {"status": status}, sub="status")
            await wait_for_condition(hub, NAME, AVAILABLE, "True")
            lease = await kube.get(LEASES, LEASE, NAME)
            lease["spec"]["renewTime"] = make_time(micro=True)
            await kube.replace(LEASES, lease)
            assert await kube.collect(Query(ADDONS, NAME)) == []
            event = {
                "apiVersion": EVENTS.api_version,
                "kind": EVENTS.kind,
                "metadata": {"generateName": "e-", "namespace": NAME},
                "eventTime": make_time(micro=True),
                "reportingController": "klusterlet",
                "reportingInstance": "k",
                "action": "Join",
                "reason": "Joined",
                "type": "Normal",
                "regarding": {"kind": "ManagedCluster", "name": NAME, "namespace": NAME},
            }
            await kube.create(EVENTS, event, NAME)
            await work(hub, kube)
            # Its next certificate, with another key, as it does in its last quarter.
            name, key = await ask(kube)
            certificate = await wait_for_certificate(kube, name)
            renewed = Kube(as_user(load_access(planes["hub"].config), certificate, key))
            assert (await renewed.get(CLUSTERS, NAME))["metadata"]["name"] == NAME
            assert hub.requests.granted["AutoApproved"] == 1
            renewed.close()
            kube.close()

    asyncio.run(story())
