"""An authority of a test, and certificates of one host that it signs."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy_runtime.world import SystemClock


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """An authority that signs certificates of one host."""

    def __init__(self, folder: Path, title: str) -> None:
        self._folder, self._title = folder, title
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write(f"{title}-ca", self._certificate(title, self._key, is_ca=True))

    def issue(self, title: str, *, days: float = 1, host: str | None = None) -> tuple[Path, Path]:
        """A certificate and its key; it ends after so many days, or ended before."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._write(
            title, self._certificate(title, key, is_ca=False, days=days, host=host)
        )
        file = self._folder / f"{title}.key"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, file

    def _certificate(
        self,
        title: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_ca: bool,
        days: float = 1,
        host: str | None = None,
    ) -> x509.Certificate:
        now = SystemClock().now()
        named: x509.GeneralName = (
            x509.IPAddress(ip_address("127.0.0.1")) if host is None else x509.DNSName(host)
        )
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        usage = x509.KeyUsage(
            digital_signature=not is_ca,
            key_cert_sign=is_ca,
            crl_sign=is_ca,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        return (
            x509.CertificateBuilder()
            .subject_name(name(title))
            .issuer_name(name(self._title))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(x509.SubjectAlternativeName([named]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, title: str, certificate: x509.Certificate) -> Path:
        file = self._folder / f"{title}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file
