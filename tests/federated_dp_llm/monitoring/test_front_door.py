"""Clients reach the router over a hybrid channel, and with `require_pq` in no other way."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from tests.federated_dp_llm.federation.authority import Authority
from tests.federated_dp_llm.gateway.parts import chat, until
from tests.federated_dp_llm.gateway.test_front import Place, one_answer, request, told

from federated_dp_llm.api.app import create_app
from federated_dp_llm.api.records import ROUTER
from federated_dp_llm.api.service import Service
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.federation.certificates import TlsFiles
from federated_dp_llm.federation.channel import HYBRID, Channel
from privacy_core.errors import InvalidParameter
from privacy_runtime.http.server import PatientConfig, ServerOptions
from privacy_runtime.settings.faults import SettingsRefused


class Site:
    """An authority, a router's certificate, and its home."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ours = folder, Authority(folder, "ours")
        self.certificate, self.key = self.ours.issue("router")

    def service(self, **server: Any) -> Service:
        files = {"certificate": str(self.certificate), "key": str(self.key)}
        config = RouterConfig.read(
            None,
            variables={},
            environment="testing",
            store={"home": str(self.folder / "home")},
            server={**files, **server},
        )
        return Service.open(config)

    def hybrid(self) -> Channel:
        return Channel(TlsFiles(authority=self.ours.file), server_side=False, require_pq=True)

    def classical(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ours.file)
        if ssl.OPENSSL_VERSION_INFO >= (3, 5):
            context.set_ecdh_curve("X25519")
        return context


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def asked(service: Service, *clients: ssl.SSLContext) -> list[int | None]:
    """The status that each client is told; None: it was not let in."""
    options = ServerOptions(port=0, tls=service.front_door.channel)
    server = uvicorn.Server(PatientConfig(create_app(service), options))
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    found: list[int | None] = []
    for context in clients:
        try:
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                answer = await client.get(f"https://127.0.0.1:{port}/v1/health")
                found.append(answer.status_code)
        except (httpx.TransportError, ssl.SSLError):
            found.append(None)
    server.should_exit = True
    await running
    return found


def test_a_hybrid_client_has_the_hybrid_group_and_another_one_x25519(site: Site) -> None:
    with site.service() as service:
        assert asyncio.run(asked(service, site.hybrid(), site.classical())) == [200, 200]
        shown = service.figures.metrics.exposition()[0].decode()

    assert f'client_channels{{group="{HYBRID}"}} 1.0' in shown
    assert 'client_channels{group="X25519"} 1.0' in shown
    assert 'client_channels{group="refused"} 0.0' in shown


def test_where_the_hybrid_group_is_required_nobody_else_is_heard(site: Site) -> None:
    with site.service(require_pq=True) as service:
        said = asyncio.run(asked(service, site.classical(), site.hybrid()))
        shown = service.figures.metrics.exposition()[0].decode()

    assert said == [None, 200]
    assert 'client_channels{group="refused"} 1.0' in shown
    assert 'client_channels{group="X25519"} 0.0' in shown


def test_it_cannot_be_required_of_a_proxys_clients(site: Site) -> None:
    plain = {"certificate": None, "key": None, "require_pq": True, "behind_tls_proxy": True}
    with pytest.raises((SettingsRefused, InvalidParameter), match=r"server\.require_pq"):
        site.service(**plain)


def test_a_renewed_certificate_is_taken_and_written_down(site: Site) -> None:
    with site.service() as service:
        before = service.front_door.channel
        assert before is not None
        ended = before.not_after
        for new, old in zip(
            site.ours.issue("renewed", days=9), (site.certificate, site.key), strict=True
        ):
            shutil.copy(new, old)
        service.front_door.look()
        assert before.not_after != ended
        kinds = [entry.type for entry in service.journal.read(ROUTER)]

    assert "router.certificate_renewed" in kinds


def test_the_gateways_short_way_speaks_through_it_too(site: Site) -> None:
    async def story(place: Place) -> list[int]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", place.port, ssl=site.hybrid(), server_hostname="127.0.0.1"
        )
        found = []
        for _ in range(3):
            writer.write(request(chat()))
            found.append((await one_answer(reader))[0])
        assert place.holders() == {"Front"}
        writer.close()
        return found

    files = TlsFiles(certificate=site.certificate, key=site.key)
    channel = Channel(files, server_side=True, asks_certificate=False, require_pq=True)

    assert told(story, options={"tls": channel}) == [200, 200, 200]
    assert channel.groups[HYBRID] == 1
