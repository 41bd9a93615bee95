"""The Kubernetes objects of a super container, compared with a file that a person has read.

After a wanted change, write it anew and look at the difference:

    CUMULET_WRITE_GOLDEN=1 pytest tests/golden/test_super_objects.py && git diff tests/golden
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from cumulet.core.errors import UsageError
from cumulet.packing import Amounts, Decision, Need
from cumulet.supercontainer import SuperTask, make_job, make_secret, make_service, make_super_task, make_trust
from cumulet.tasks import parse_profile

DATA = Path(__file__).parent / "test_super_data/objects.yaml"
TEXT = """
version: 1
task: huge
image: registry.example/huge@sha256:0123
command: [python3, -m, huge]
environment: {THREADS: "4"}
cpu: 250
gpu: 150
memory: 2GiB
mergeable: true
runs: once
deadline: 20m
data: {input: /var/lib/frames}
"""


def make_task(text: str = TEXT, kind: str = "super", **more: str) -> SuperTask:
    profile = parse_profile(text, "huge.yaml")
    need = Need("huge", Amounts(5000, 150, 2 << 30), mergeable=True)
    decision = Decision(need, kind, ("p1", "p2", "p4"), Amounts(1800, 100, 1 << 30), "because")  # type: ignore[arg-type]
    return make_super_task(profile, decision, "vision", **more)


def test_the_objects_are_those_in_the_file() -> None:
    task = make_task()
    trust = {"0.crt": b"certificate", "0.key": b"key", "ca.crt": b"authority", "token": b"token"}
    text = yaml.safe_dump_all([make_service(task), make_secret(task, trust), make_job(task)], sort_keys=True)
    if os.environ.get("CUMULET_WRITE_GOLDEN"):
        DATA.write_text(text)
    assert text == DATA.read_text()


def test_every_member_has_a_certificate_that_is_its_own_and_nobody_has_the_authoritys_key() -> None:
    from cryptography import x509

    trust = make_trust("huge", 2)
    assert sorted(trust) == ["0.crt", "0.key", "1.crt", "1.key", "ca.crt", "token"]
    authority = x509.load_pem_x509_certificate(trust["ca.crt"])
    for index in range(2):
        found = x509.load_pem_x509_certificate(trust[f"{index}.crt"])
        found.verify_directly_issued_by(authority)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [f"member-{index}"]


def test_a_result_that_is_to_be_stored_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="huge: there is no folder to store the result in"):
        make_task(keep="stored")
    assert make_task(TEXT.replace("{input", "{output: /var/lib/out, input"), keep="stored").keep == "stored"
