"""Messages do not go into the network that the service stands in, whatever the address says."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from privacy_runtime.notify import AddressRefused, Notifier, Posting
from privacy_runtime.notify.addresses import is_allowed, require_url, target_of

REFUSED = [
    "0.0.0.0",  # noqa: S104  refused, not bound
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.8.9.1",
    "169.254.169.254",
    "169.254.1.1",
    "172.16.0.1",
    "192.168.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "192.0.0.192",
    "::",
    "::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "::127.0.0.1",
]
FINE = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", FINE)
def test_public_addresses_are_fine(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address))


def test_an_operator_may_allow_a_network_but_never_the_metadata_service() -> None:
    allowed = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("169.254.0.0/16")]

    assert is_allowed(ipaddress.ip_address("10.1.2.3"), allowed)
    assert is_allowed(ipaddress.ip_address("::ffff:10.1.2.3"), allowed)
    assert not is_allowed(ipaddress.ip_address("169.254.169.254"), allowed)
    assert not is_allowed(ipaddress.ip_address("192.168.0.1"), allowed)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://h/",
        "https://",
        "https:///x",
        "https://user:pw@example.org/",
        "https://user@example.org/",
        "https://example.org/#x",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://[fe80::1%25eth0]/",
        "https://exa mple.org/",
        "https://example.org/\r\nHost: x",
        "https://example.org\\@127.0.0.1/",
        "https://éxample.org/",
        "https://127.0.0.1/",
        "https://[::1]:8443/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[64:ff9b::a00:1]/",
        "https://example.org/" + "x" * 3000,
        "javascript:alert(1)",
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(AddressRefused):
        require_url(url)


def resolves_to(*answers: str) -> object:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return answers

    return resolve


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost"])
def test_numbers_in_disguise_are_resolved_and_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        asyncio.run(target_of(f"https://{host}/"))


def test_one_bad_answer_refuses_the_name() -> None:
    with pytest.raises(AddressRefused):
        asyncio.run(target_of("https://h.example/", resolve=resolves_to("1.1.1.1", "10.0.0.1")))  # type: ignore[arg-type]
    with pytest.raises(AddressRefused):
        asyncio.run(target_of("https://h.example/", resolve=resolves_to()))  # type: ignore[arg-type]


def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    found = asyncio.run(
        target_of("https://h.example:8443/a?b=c", resolve=resolves_to("2606:4700::1111", "1.1.1.1"))  # type: ignore[arg-type]
    )

    assert found.url == "https://[2606:4700::1111]:8443/a?b=c"
    assert (found.host, found.authority) == ("h.example", "h.example:8443")


def test_a_refused_address_is_never_connected_to(notifier: Notifier) -> None:
    with pytest.raises(AddressRefused):
        notifier.add(tenant="o_1", url="https://10.0.0.1/", events=["job_failed"])


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A key with its own certificate for a name, in one file, and who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)  # noqa: TID251  TLS looks at the machine's clock
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    trust = ssl.create_default_context(cafile=str(path))
    return path, trust


class Listener:
    """An HTTPS server for one answer; remembers what the client said."""

    def __init__(self, pem: Path) -> None:
        self.heard = b""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem)
        self._ready = threading.Event()
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        async with server:
            await self._over.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        finally:
            writer.close()


@pytest.mark.parametrize(("asked", "reason"), [("hooks.example", None), ("other.example", "tls")])
def test_the_certificate_is_checked_against_the_name_not_the_address(
    tmp_path: Path, asked: str, reason: str | None
) -> None:
    pem, trust = certificate(tmp_path, "hooks.example")
    with Listener(pem) as server:
        posting = Posting(
            allowed=[ipaddress.ip_network("127.0.0.0/8")],
            trust=trust,
            resolve=resolves_to("127.0.0.1"),  # type: ignore[arg-type]
            limit_s=5,
        )
        found = posting.post(f"https://{asked}:{server.port}/x", b"{}", {}, 0.0)

    assert found.reason == reason
    assert found.is_delivered == (reason is None)
    if reason is None:
        assert f"host: {asked}:{server.port}".encode() in server.heard.lower()


def test_a_receiver_that_drips_does_not_hold_the_sender() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(200):
                writer.write(b"H")
                await asyncio.sleep(0.05)
        finally:
            writer.close()

    ready, port, over = threading.Event(), [0], threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(drip, "127.0.0.1", 0)
        port[0] = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.to_thread(over.wait, 20)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait(5)
    posting = Posting(allowed=[ipaddress.ip_network("127.0.0.0/8")], allow_http=True, limit_s=0.3)
    found = posting.post(f"http://127.0.0.1:{port[0]}/", b"{}", {}, 0.0)
    over.set()
    thread.join(15)

    assert found.reason == "timeout"
