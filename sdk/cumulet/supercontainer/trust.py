"""The certificates of one job: an authority of its own, whose key nobody keeps, and one certificate a member."""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from cumulet.supercontainer.inside.wire import name_member

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateBuilder, Name

DAYS_BEFORE: Final = 2
"""A device's clock may be behind."""
DAYS_AFTER: Final = 60


def make_trust(job: str, size: int) -> Mapping[str, bytes]:
    """File name -> content: `ca.crt`, `token`, and `N.crt` and `N.key` of every member N."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - slow to import

    authority, key = _make_authority(job)
    files = {"ca.crt": authority.public_bytes(form.Encoding.PEM), "token": secrets.token_hex(24).encode()}
    for index in range(size):
        certificate, own = _make_member(job, index, authority, key)
        files[f"{index}.crt"] = certificate.public_bytes(form.Encoding.PEM)
        files[f"{index}.key"] = own.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    return files


def _make_authority(job: str) -> tuple[Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415

    key = _make_key()
    name = _name(f"super container {job}")
    usage = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    made = _begin(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(usage, critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return made.sign(key, hashes.SHA256()), key


def _make_member(
    job: str, index: int, authority: Certificate, key: EllipticCurvePrivateKey
) -> tuple[Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID as Use  # noqa: PLC0415

    own = _make_key()
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    made = _begin(_name(f"{job} {name_member(index)}"), authority.subject, own)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(usage, critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage([Use.SERVER_AUTH, Use.CLIENT_AUTH]), critical=False)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name_member(index))]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    made = made.add_extension(identifier, critical=False)
    return made.sign(key, hashes.SHA256()), own


def _make_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - slow to import

    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> Name:
    from cryptography import x509  # noqa: PLC0415 - slow to import
    from cryptography.x509.oid import NameOID  # noqa: PLC0415

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _begin(subject: Name, issuer: Name, key: EllipticCurvePrivateKey) -> CertificateBuilder:
    from cryptography import x509  # noqa: PLC0415 - slow to import

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=DAYS_BEFORE))
        .not_valid_after(now + datetime.timedelta(days=DAYS_AFTER))
    )
