"""Only whoever shows a certificate of the router's authority gets a word out of a node."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from federated_dp_llm.node.server import NodeTls
from privacy_runtime.world import SystemClock


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Authority:
    """An authority that signs certificates of one host."""

    def __init__(self, folder: Path, title: str) -> None:
        self._folder, self._title = folder, title
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = self._write(f"{title}-ca", self._certificate(title, self._key, is_ca=True))

    def issue(self, title: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._write(title, self._certificate(title, key, is_ca=False))
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
        self, title: str, key: ec.EllipticCurvePrivateKey, *, is_ca: bool
    ) -> x509.Certificate:
        now = SystemClock().now()
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
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(own, critical=False)
            .add_extension(issuer, critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, title: str, certificate: x509.Certificate) -> Path:
        file = self._folder / f"{title}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return file


async def greeted(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What a caller hears."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(b"hello")
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            return await reader.read()
        finally:
            writer.close()
    except (ssl.SSLError, ConnectionError):
        return b""  # in TLS 1.3 a caller may think that it is in before it is refused
    finally:
        listening.close()


@pytest.mark.parametrize("caller", ["router", "nobody", "stranger", "old"])
def test_a_caller_is_heard_with_the_routers_certificate_and_tls_1_3(
    tmp_path: Path, caller: str
) -> None:
    ours, other = Authority(tmp_path, "ours"), Authority(tmp_path, "other")
    certificate, key = ours.issue("node")
    server = NodeTls(certificate=certificate, key=key, client_ca=ours.file).context()
    client = ssl.create_default_context(cafile=ours.file)
    if caller in ("router", "old"):
        client.load_cert_chain(*ours.issue("router"))
    if caller == "stranger":
        client.load_cert_chain(*other.issue("stranger"))
    if caller == "old":
        client.maximum_version = ssl.TLSVersion.TLSv1_2

    heard = asyncio.run(greeted(server, client))

    assert heard == (b"hello" if caller == "router" else b"")
