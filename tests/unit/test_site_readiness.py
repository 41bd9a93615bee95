"""Certificates that kubelets ask for: who gets one, who does not. Tokens that let devices in."""

from __future__ import annotations

import base64
import ipaddress
import re
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cumulet.site.readiness import SIGNER, find_grants, read_names
from cumulet.site.tokens import make_token, make_token_manifest

NODES = {"p1": "10.0.0.11", "p2": "10.0.0.12"}
KEY = ec.generate_private_key(ec.SECP256R1())
OWN = (x509.DNSName("p1"), x509.IPAddress(ipaddress.ip_address("10.0.0.11")))


def make_request(*names: x509.GeneralName) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "system:node:p1")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    pem = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return base64.b64encode(pem).decode()


def make_item(request: str, /, **changes: Any) -> dict[str, Any]:
    spec = {"signerName": SIGNER, "username": "system:node:p1", "request": request}
    return {
        "kind": "CertificateSigningRequest",
        "metadata": {"name": "csr-1"},
        "spec": {**spec, **changes},
    }


@pytest.mark.parametrize("names", [OWN, OWN[:1], OWN[1:]])
def test_a_node_gets_a_certificate_for_its_own_name_and_address(names: tuple[x509.GeneralName, ...]) -> None:
    assert find_grants([make_item(make_request(*names))], NODES) == ["csr-1"]


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("p2"),),
        (x509.IPAddress(ipaddress.ip_address("10.0.0.12")),),
        (*OWN, x509.DNSName("kubernetes.default")),
        (*OWN, x509.IPAddress(ipaddress.ip_address("10.43.0.1"))),
        (*OWN, x509.UniformResourceIdentifier("https://p2")),
        (*OWN, x509.RFC822Name("root@p1")),
    ],
    ids=["none", "other name", "other address", "name more", "address more", "kind more", "mail more"],
)
def test_a_request_for_anything_else_is_left_to_a_person(names: tuple[x509.GeneralName, ...]) -> None:
    assert find_grants([make_item(make_request(*names))], NODES) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "system:node:p2"},
        {"username": "system:node:p3"},
        {"username": "p1"},
        {"username": "system:node:system:node:p1"},
        {"username": "system:bootstrap:abcdef"},
        {"signerName": "kubernetes.io/kube-apiserver-client"},
        {"request": "no base64"},
        {"request": base64.b64encode(b"no certificate").decode()},
        {"request": "ä"},
        {"request": ""},
    ],
)
def test_a_request_by_somebody_else_or_one_that_cannot_be_read_is_not_granted(changes: dict[str, str]) -> None:
    assert find_grants([make_item(make_request(*OWN), **changes)], NODES) == []


def test_what_is_decided_already_and_what_is_no_request_are_passed_over() -> None:
    decided = {**make_item(make_request(*OWN)), "status": {"conditions": [{"type": "Denied"}]}}
    node = {"kind": "Node", "metadata": {"name": "p1"}}
    assert find_grants([decided, node, make_item(make_request(*OWN))], NODES) == ["csr-1"]


def test_a_name_of_a_kind_that_no_certificate_of_ours_has_is_an_unreadable_request() -> None:
    """An x400Address in a request of a broken or hostile device must not end the bring-up."""
    der = base64.b64decode(make_request(x509.DNSName("p1x")))
    raw = x509.load_pem_x509_csr(der).public_bytes(serialization.Encoding.DER)
    changed = raw.replace(b"\x82\x03p1x", b"\xa3\x03p1x")
    assert changed != raw
    pem = (
        b"-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(changed) + b"-----END CERTIFICATE REQUEST-----\n"
    )
    assert read_names(base64.b64encode(pem).decode()) is None


def test_a_token_is_new_each_time_and_has_the_form_that_kubernetes_wants() -> None:
    tokens = {make_token() for _ in range(50)}
    assert len(tokens) == 50
    assert all(re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", each) for each in tokens)


def test_a_token_ends_after_its_life() -> None:
    secret = yaml.safe_load(make_token_manifest("abcdef.0123456789abcdef", 1800, 1_000_000_000))
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    values = secret["stringData"]
    assert (values["token-id"], values["token-secret"]) == ("abcdef", "0123456789abcdef")
    assert str(values["expiration"]) in ("2001-09-09T02:16:40Z", "2001-09-09 02:16:40+00:00")
    assert secret["type"] == "bootstrap.kubernetes.io/token"
