"""Files on disk: the CA and server certificate (trustme), and the certificate of the registered application."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

_DAYS = 365


@dataclass(frozen=True)
class Certificates:
    """Paths and facts a server and its clients need.

    Attributes:
        ca_bundle: PEM of the CA that clients must trust.
        server: PEM with key and chain of `localhost` and `127.0.0.1`.
        application: PEM with key and certificate of the registered application (certificate grant).
        thumbprint: SHA-1 of the application's certificate, upper-case hexadecimal, as the portal shows it.
    """

    ca_bundle: Path
    server: Path
    application: Path
    thumbprint: str

    def application_certificate(self) -> x509.Certificate:
        """The application's certificate."""
        return x509.load_pem_x509_certificate(self.application.read_bytes())


def prepare(directory: Path) -> Certificates:
    """Certificates in this folder: the ones found there while valid, else new ones."""
    directory.mkdir(parents=True, exist_ok=True)
    ca_bundle, server, application = (directory / name for name in ("ca.pem", "server.pem", "application.pem"))
    if not (ca_bundle.exists() and server.exists() and _matches(ca_bundle, server)):
        authority = trustme.CA(organization_name="Stand-in for Dynamics 365")
        leaf = authority.issue_cert("localhost", "127.0.0.1", not_after=datetime.now(UTC) + timedelta(days=_DAYS))
        ca_bundle.write_bytes(authority.cert_pem.bytes())
        _write_private(server, leaf.private_key_and_cert_chain_pem.bytes())
    if not (application.exists() and _valid(application)):
        _write_private(application, _self_signed())
    certificate = x509.load_pem_x509_certificate(application.read_bytes())
    # SHA-1 is what Entra calls the thumbprint; it names the certificate, it protects nothing.
    thumbprint = certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303
    return Certificates(ca_bundle, server, application, thumbprint)


def _valid(path: Path) -> bool:
    now = datetime.now(UTC) + timedelta(days=1)
    found = x509.load_pem_x509_certificates(path.read_bytes())
    return bool(found) and all(c.not_valid_before_utc <= now < c.not_valid_after_utc for c in found)


def _matches(ca_bundle: Path, server: Path) -> bool:
    try:
        context = ssl.create_default_context(cafile=str(ca_bundle))
        context.load_cert_chain(server)
        authority = x509.load_pem_x509_certificate(ca_bundle.read_bytes())
        leaf = x509.load_pem_x509_certificates(server.read_bytes())[0]
        leaf.verify_directly_issued_by(authority)
        return _valid(ca_bundle) and _valid(server)
    except (ssl.SSLError, ValueError, TypeError):
        return False


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _self_signed() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opportunity-sync stand-in application")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=_DAYS))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem + certificate.public_bytes(serialization.Encoding.PEM)
