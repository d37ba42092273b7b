"""Certificates for one run, which encrypt the transport where it leaves this computer.

Each station makes its own key and certificate when it starts. The certificate reaches the others
through Ray, and they accept no other one from that station, so that no certificate authority is
needed.
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LASTS: Final = timedelta(days=30)  # longer than any run
EARLIER: Final = timedelta(days=1)  # valid from then on, since two computers' clocks may differ


@dataclass(frozen=True)
class Identity:
    """A private key, which never leaves its process, and its certificate; both in PEM form."""

    key: bytes
    certificate: bytes


def make_identity(address: str) -> Identity:
    """Return a new identity for a process that listens at an IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lrpc link")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + LASTS)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(private, certificate.public_bytes(serialization.Encoding.PEM))


def is_loopback(address: str) -> bool:
    """Return whether an IP address is this computer's own, whose traffic stays here."""
    return ipaddress.ip_address(address).is_loopback
