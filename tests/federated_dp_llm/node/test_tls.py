"""Only whoever shows a certificate of the router's authority gets a word out of a node."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.federated_dp_llm.federation.authority import Authority
from tests.federated_dp_llm.node.serving import served
from tests.federated_dp_llm.node.toy import PROMPT, Hospital, opened

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.certificates import TlsFiles
from federated_dp_llm.federation.channel import CLASSICAL, HYBRID, Channel, NoHybridGroup
from federated_dp_llm.federation.client import NodeClient
from federated_dp_llm.federation.messages import Commit, PublicAsk
from federated_dp_llm.node.server import NodeTls
from privacy_core.errors import InvalidParameter

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def node(ours: Authority) -> NodeTls:
    certificate, key = ours.issue("node")
    return NodeTls(certificate=certificate, key=key, client_ca=ours.file)


@pytest.fixture(scope="module")
def router(ours: Authority) -> TlsFiles:
    certificate, key = ours.issue("router")
    return TlsFiles(certificate=certificate, key=key, authority=ours.file)


def channel(files: TlsFiles, *, require_pq: bool = False) -> Channel:
    return Channel(files, server_side=False, require_pq=require_pq)


def classical(files: TlsFiles) -> ssl.SSLContext:
    """A caller with Python's own TLS, which has X25519 and no hybrid group."""
    context = ssl.create_default_context(cafile=files.authority)
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        context.set_ecdh_curve("X25519")
    return context


async def greeted(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What a caller hears: an echo of 200,000 bytes, in many records."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(200_000))
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        try:
            writer.write(b"hello" * 40_000)
            return await reader.read()
        finally:
            writer.close()
    except (ssl.SSLError, ConnectionError):
        return b""  # in TLS 1.3 a caller may think that it is in before it is refused
    finally:
        listening.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_two_channels_agree_on_the_hybrid_group(run: Run, node: NodeTls, router: TlsFiles) -> None:
    server, client = node.context(), channel(router, require_pq=True)

    assert run(greeted(server, client)) == b"hello" * 40_000
    assert server.groups == client.groups == {HYBRID: 1}


@pytest.mark.parametrize("caller", ["router", "nobody", "stranger", "old"])
def test_a_caller_is_heard_with_the_routers_certificate_and_tls_1_3(
    tmp_path: Path, node: NodeTls, router: TlsFiles, caller: str
) -> None:
    client = classical(router if caller != "nobody" else TlsFiles(authority=router.authority))
    if caller == "stranger":
        client.load_cert_chain(*Authority(tmp_path, "other").issue("stranger"))
    if caller == "old":
        client.maximum_version = ssl.TLSVersion.TLSv1_2
    server = node.context()

    heard = asyncio.run(greeted(server, client))

    assert heard == (b"hello" * 40_000 if caller == "router" else b"")
    assert server.groups == ({CLASSICAL: 1} if caller == "router" else {})


def test_a_node_that_requires_it_hears_nobody_without_the_hybrid_group(
    node: NodeTls, router: TlsFiles
) -> None:
    strict = NodeTls(
        certificate=node.certificate, key=node.key, client_ca=node.client_ca, require_pq=True
    ).context()

    assert asyncio.run(greeted(strict, classical(router))) == b""
    assert (strict.refused, strict.groups) == (1, {})


def test_a_router_that_requires_it_shows_a_classical_node_not_even_its_certificate(
    node: NodeTls, router: TlsFiles
) -> None:
    plain = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.load_cert_chain(node.certificate, node.key)
    plain.load_verify_locations(node.client_ca)
    plain.verify_mode = ssl.CERT_REQUIRED
    if ssl.OPENSSL_VERSION_INFO >= (3, 5):
        plain.set_ecdh_curve("X25519")
    client = channel(router, require_pq=True)

    assert asyncio.run(greeted(plain, client)) == b""
    assert client.refused == 1
    assert asyncio.run(greeted(plain, channel(router))) == b"hello" * 40_000


def test_before_the_refusal_neither_end_has_shown_a_certificate(
    node: NodeTls, router: TlsFiles
) -> None:
    """By the bytes that left: nothing of a strict node, the first flight of a strict router."""
    strict = NodeTls(
        certificate=node.certificate, key=node.key, client_ca=node.client_ca, require_pq=True
    ).context()
    to_node, from_node = ssl.MemoryBIO(), ssl.MemoryBIO()
    to_caller, from_caller = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = classical(router).wrap_bio(to_caller, from_caller, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        caller.do_handshake()
    to_node.write(from_caller.read())
    with pytest.raises(NoHybridGroup):
        strict.wrap_bio(to_node, from_node, server_side=True).do_handshake()
    assert from_node.pending == 0

    plain = classical_node(node).wrap_bio(to_node, from_node, server_side=True)
    asking = channel(router, require_pq=True).wrap_bio(
        to_caller, from_caller, server_hostname="127.0.0.1"
    )
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    to_node.write(from_caller.read())
    with pytest.raises(ssl.SSLWantReadError):
        plain.do_handshake()
    to_caller.write(from_node.read())
    with pytest.raises(NoHybridGroup):
        asking.do_handshake()
    assert from_caller.pending == 0


def test_another_hosts_certificate_is_refused(ours: Authority, router: TlsFiles) -> None:
    certificate, key = ours.issue("elsewhere", host="elsewhere.example")
    server = NodeTls(certificate=certificate, key=key, client_ca=ours.file).context()

    assert asyncio.run(greeted(server, channel(router))) == b""


async def asked(hospital: Hospital, server: Channel, client: Channel) -> NodeClient:
    """A node, and one answer of it over TLS; returns the client, closed."""
    async with served(hospital, server) as endpoint:
        caller = NodeClient("north", endpoint, ssl=client)
        try:
            ask = PublicAsk(prompt=PROMPT, released=(), draft=1, candidates=4, reach_logits=0.1)
            await caller.public(ask)
            handle = await opened(caller, hospital.ask())
            await caller.commit(Commit(handle=handle, tokens=0, voted=False))
        finally:
            await caller.aclose()
    return caller


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_group_of_a_nodes_connection_is_seen_at_both_ends(
    run: Run, tmp_path: Path, node: NodeTls, router: TlsFiles
) -> None:
    hospital = Hospital(tmp_path)
    caller = run(asked(hospital, node.context(), channel(router, require_pq=True)))

    assert caller.tls_group == HYBRID
    assert caller.peer_ends is not None
    (noted,) = [e.body for e in hospital.audited() if e.type == "session.opened"]
    assert noted["tls_group"] == HYBRID


def test_a_node_without_the_group_is_refused_by_its_name(
    tmp_path: Path, node: NodeTls, router: TlsFiles
) -> None:
    plain = classical_node(node)
    client = channel(router, require_pq=True)

    with pytest.raises(NodeRefused, match="post_quantum"):
        asyncio.run(asked(Hospital(tmp_path), plain, client))


def classical_node(node: NodeTls) -> Any:
    """What serves a node with Python's own TLS."""
    plain: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    plain.load_cert_chain(node.certificate, node.key)
    plain.load_verify_locations(node.client_ca)
    plain.verify_mode = ssl.CERT_REQUIRED
    plain.tell, plain.renew = (lambda _: None), (lambda: False)
    return plain


def test_an_authority_that_is_not_ours_is_no_reason_to_speak(
    tmp_path: Path, node: NodeTls, router: TlsFiles
) -> None:
    other = Authority(tmp_path, "other")
    suspicious = TlsFiles(certificate=router.certificate, key=router.key, authority=other.file)

    with pytest.raises(NodeUnavailable):
        asyncio.run(asked(Hospital(tmp_path), node.context(), channel(suspicious)))


def test_files_that_are_no_certificates_start_nothing(tmp_path: Path) -> None:
    nothing = tmp_path / "none.pem"
    nothing.write_text("none")

    with pytest.raises(InvalidParameter, match="nothing was started"):
        channel(TlsFiles(certificate=nothing, key=nothing, authority=nothing))
