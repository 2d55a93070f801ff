"""The client over TLS: a backend is believed by its certificate."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.federated_dp_llm.gateway.parts import Server, answer, says

from federated_dp_llm.gateway.client import Pool
from federated_dp_llm.gateway.faults import ConnectFailed


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody else signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "backend")])
    now = datetime.now(UTC)  # noqa: TID251  OpenSSL looks at the real clock
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    held = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(pem)
    path = folder / "backend.pem"
    path.write_bytes(held)
    return path


async def asked(pem: Path, tls: ssl.SSLContext | None) -> tuple[list[int], int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = Server(says(answer(b"hello")))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    port = listening.sockets[0].getsockname()[1]
    pool = Pool("b", f"https://127.0.0.1:{port}", tls=tls)
    head = pool.head("/v1/x") + b"content-length: 2\r\n\r\n"
    try:
        return [(await pool.ask(head, b"hi")).status for _ in range(3)], server.connections
    finally:
        await pool.aclose()
        listening.close()


def test_a_backend_with_a_known_certificate_is_asked_over_one_connection(tmp_path: Path) -> None:
    pem = certificate(tmp_path)

    statuses, connections = asyncio.run(asked(pem, ssl.create_default_context(cafile=str(pem))))

    assert (statuses, connections) == ([200] * 3, 1)


def test_nothing_is_sent_to_a_backend_with_an_unknown_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed) as refused:
        asyncio.run(asked(certificate(tmp_path), None))

    assert not refused.value.is_sent
