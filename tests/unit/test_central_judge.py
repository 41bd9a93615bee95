"""Which certificate requests are granted, and the words for those that are not."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cumulet.central.hub.judge import Allowed, judge, read_request
from cumulet.central.hub.process import read_allowed
from cumulet.central.hub.records import Cluster, Wish, make_cluster, make_wish
from cumulet.central.hub.roles import make_cluster_role, make_namespace_roles, make_requests_role, stamp
from cumulet.central.hub.tokens import make_narrowing, make_token, make_token_secret
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    CLUSTER_LABEL,
    CONFIG_MAPS,
    CONTENT,
    DEVICE_KEY,
    EVERY_CLUSTER,
    RETURN_GROUP,
    SERIAL,
    SIGNER,
    make_group,
    make_user,
)

KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
GOOD = (make_user("pier-7", "agent"), (make_group("pier-7"), EVERY_CLUSTER))


def write_request(user: str, groups: tuple[str, ...], key: ec.EllipticCurvePrivateKey = KEY) -> str:
    """`spec.request`."""
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in groups]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def wish(request: str = "", user: str = "system:bootstrap:abc", groups: tuple[str, ...] = (), **notes: str) -> Wish:
    """A request in the name of pier-7."""
    meta = {
        "name": "pier-7-x",
        "labels": {CLUSTER_LABEL: "pier-7"},
        "annotations": notes,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    spec = {
        "request": request or write_request(*GOOD),
        "username": user,
        "groups": list(groups),
        "usages": ["digital signature", "key encipherment", "client auth"],
        "signerName": SIGNER,
    }
    found = make_wish({"metadata": meta, "spec": spec})
    assert found is not None
    return found


def cluster(accepted: bool = True, **notes: str) -> Cluster:
    """pier-7."""
    meta = {"name": "pier-7", "annotations": notes}
    return make_cluster({"metadata": meta, "spec": {"hubAcceptsClient": accepted}})


def fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    """The name of a key."""
    return read_request(write_request(*GOOD, key)).key


@pytest.mark.parametrize(
    ("user", "groups", "message"),
    [
        (make_user("pier-8", "agent"), GOOD[1], "asks for the name 'system:open-cluster-management:pier-8:agent'"),
        (make_user("pier-7", ""), GOOD[1], "asks for the name"),
        ("admin", GOOD[1], "asks for the name 'admin'"),
        (GOOD[0], (make_group("pier-8"),), "asks for system:open-cluster-management:pier-8"),
        (GOOD[0], (*GOOD[1], "system:masters"), "system:masters"),
        (GOOD[0], (EVERY_CLUSTER,), "asks for no group"),
    ],
)
def test_a_foreign_name_is_refused_whatever_it_is(user: str, groups: tuple[str, ...], message: str) -> None:
    verdict = judge(wish(write_request(user, groups)), cluster())
    assert (verdict.word, verdict.reason) == ("deny", "ForeignName") and message in verdict.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!!",
        base64.b64encode(b"x").decode(),
        base64.b64encode(b"-----BEGIN CERTIFICATE REQUEST-----\nQQ==\n").decode(),
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    verdict = judge(wish(text or "=="), cluster())
    assert (verdict.word, verdict.reason) == ("deny", "Malformed")


def test_an_agent_renews_its_own_certificate_as_long_as_it_is_accepted() -> None:
    own = wish(user=GOOD[0])
    assert judge(own, cluster()).reason == "AutoApproved"
    assert judge(own, cluster(accepted=False)).reason == "NotAccepted"
    assert judge(own, None).word == "deny"


def test_a_device_is_known_by_its_key() -> None:
    pinned = cluster(**{DEVICE_KEY: fingerprint(KEY)})
    thief = wish(write_request(*GOOD, OTHER), user=GOOD[0])
    assert judge(thief, pinned).reason == "WrongKey"
    assert judge(wish(groups=(f"{RETURN_GROUP}:pier-7",)), pinned).reason == "DeviceReturned"
    assert judge(wish(groups=(f"{RETURN_GROUP}:pier-7",)), cluster()).reason == "TokenUsed"
    lie = wish(**{DEVICE_KEY: fingerprint(OTHER)})
    assert judge(lie, cluster()).message.startswith("says that its key is SHA256:")


def test_a_newcomer_waits_for_a_person_unless_the_factory_knows_it() -> None:
    new = wish(groups=(f"{BOOTSTRAP_GROUP}:pier-7",), **{SERIAL: "SN1"})
    verdict = judge(new, cluster(accepted=False))
    assert verdict.word == "wait" and verdict.message == f"key {fingerprint(KEY)}, serial number SN1"
    known = {"SN1": [Allowed("SN1", fingerprint(KEY))]}
    assert judge(new, cluster(accepted=False), known).accept
    assert judge(new, cluster(accepted=False), {"SN1": [Allowed("SN1", fingerprint(OTHER))]}).word == "wait"
    assert judge(wish(groups=(f"{BOOTSTRAP_GROUP}:pier-8",)), cluster()).reason == "ForeignToken"


def test_only_client_certificates_are_granted() -> None:
    made = wish()
    server = Wish(**{**{name: getattr(made, name) for name in Wish.__slots__}, "usages": ("server auth",)})
    assert judge(server, cluster()).reason == "WrongUsage"


def test_requests_of_others_are_not_looked_at() -> None:
    plain: dict[str, Any] = {"metadata": {"name": "x", "creationTimestamp": ""}, "spec": {"request": ""}}
    assert make_wish(plain) is None
    addon = {CLUSTER_LABEL: "a", "open-cluster-management.io/addon-name": "b"}
    assert make_wish({**plain, "metadata": {**plain["metadata"], "labels": addon}}) is None


def test_the_list_of_devices_says_what_is_wrong_with_it() -> None:
    assert read_allowed('[{"serial": "SN1", "key": "SHA256:x"}]') == {"SN1": [Allowed("SN1", "SHA256:x")]}
    with pytest.raises(ValueError, match="not a device"):
        read_allowed('[{"serial": "SN1", "key": "x"}]')


# --- what the hub makes for a cluster


def read_rules(name: str, strict: bool) -> set[tuple[str, str]]:
    """Resource and verb of everything that a cluster's role allows without naming an object."""
    (_, role), _ = make_cluster_role(name, True, strict)
    return {
        (resource, verb)
        for rule in role["rules"]
        if "resourceNames" not in rule
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_an_agent_of_ours_lists_nothing_outside_of_its_namespace() -> None:
    assert read_rules("pier-7", True) == {
        ("certificatesigningrequests", "create"),
        ("managedclusters/clientcertificates", "renew"),
    }
    assert ("certificatesigningrequests", "list") in read_rules("pier-7", False)


def test_a_cluster_that_is_not_accepted_may_look_at_itself_only() -> None:
    (_, role), _ = make_cluster_role("pier-7", False, True)
    (rule,) = role["rules"]
    assert rule["resourceNames"] == ["pier-7"] and rule["verbs"] == ["get", "list", "watch"]


def test_bindings_are_for_the_groups_of_one_cluster() -> None:
    made = [*make_namespace_roles("pier-7"), *make_requests_role("pier-7", ["pier-7-x"])[1:]]
    names = {subject["name"] for _, body in made for subject in body["subjects"]}
    assert {name.split(":")[-1] for name in names} == {"pier-7"}
    assert all(body["metadata"].get("namespace", "pier-7") == "pier-7" for _, body in made)


def test_a_digest_changes_with_the_content_only() -> None:
    one = stamp(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}})[1]
    same = stamp(CONFIG_MAPS, {"data": {"y": "2", "x": "1"}, "metadata": {"name": "a"}})[1]
    other = stamp(CONFIG_MAPS, {"metadata": {"name": "a"}, "data": {"x": "2"}})[1]
    digests = [each["metadata"]["annotations"][CONTENT] for each in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_token_is_for_one_cluster_and_narrows_once_it_is_used() -> None:
    token = make_token("pier-7")
    found = make_token_secret(token, 3600, now=0)
    assert found["stringData"]["expiration"] == "1970-01-01T01:00:00Z"
    assert f"{BOOTSTRAP_GROUP}:pier-7," in found["stringData"]["auth-extra-groups"]
    assert len(token.text) == 23
    groups = base64.b64decode(make_narrowing("pier-7")["data"]["auth-extra-groups"]).decode().split(",")
    assert groups[0] == f"{RETURN_GROUP}:pier-7" and not any(BOOTSTRAP_GROUP in each for each in groups)
