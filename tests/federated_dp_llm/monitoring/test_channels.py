"""The router sees which key exchange its nodes have, writes it down, and can insist on one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.federated_dp_llm.federation.authority import Authority
from tests.federated_dp_llm.node.serving import served
from tests.federated_dp_llm.node.test_tls import classical_node
from tests.federated_dp_llm.node.toy import Hospital

from federated_dp_llm.api.records import ROUTER
from federated_dp_llm.api.service import Service
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.federation.channel import HYBRID
from federated_dp_llm.node.server import NodeTls
from privacy_core.errors import InvalidParameter


class Site:
    """Certificates of a node and a router, and a router's home."""

    def __init__(self, folder: Path) -> None:
        self.folder, ours = folder, Authority(folder, "ours")
        certificate, key = ours.issue("node")
        self.node = NodeTls(certificate=certificate, key=key, client_ca=ours.file)
        shown, held = ours.issue("router")
        self.security = {
            "require_pq": True,
            "node_ca": str(ours.file),
            "node_certificate": str(shown),
            "node_key": str(held),
        }

    def router(self, **nodes: str) -> Service:
        file = self.folder / "router.yaml"
        lines = [f'  {name}: {{endpoint: "{endpoint}"}}' for name, endpoint in nodes.items()]
        file.write_text("\n".join(["nodes:", *lines]) if nodes else "{}")
        config = RouterConfig.read(
            file,
            variables={},
            environment="testing",
            store={"home": str(self.folder / "home")},
            security=self.security,
        )
        return Service.open(config)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def looked(site: Site, channel: Any) -> tuple[Any, str, list[Any]]:
    """How a router sees one node after one look: standing, figures, audit."""
    hospital_folder = site.folder / "hospital"
    hospital_folder.mkdir()

    async def main() -> tuple[Any, str, list[Any]]:
        async with served(Hospital(hospital_folder), channel) as endpoint:
            with site.router(north=endpoint) as service:
                await service.fleet._look()
                await service.fleet._look()
                ((_, standing),) = service.fleet.standing()
                figures = service.figures.exposition()[0].decode()
                entries = list(service.journal.read(ROUTER))
                await service.fleet.aclose()
        return standing, figures, [entry for entry in entries if "channel" in entry.type]

    return asyncio.run(main())


def test_the_group_is_in_the_standing_the_figures_and_the_audit_once(site: Site) -> None:
    standing, figures, noted = looked(site, site.node.context())

    assert standing.is_ready
    assert standing.tls_group == HYBRID
    assert f'node_channels{{group="{HYBRID}"}} 1.0' in figures
    for whose in ("router", "north"):
        (line,) = (x for x in figures.splitlines() if f'expiry_seconds{{whose="{whose}"}}' in x)
        assert 0 < float(line.split()[-1]) <= 86400
    (entry,) = noted
    assert entry.body == {"node_id": "north", "tls_group": HYBRID}


def test_a_node_without_the_group_stays_away(site: Site) -> None:
    standing, figures, noted = looked(site, classical_node(site.node))

    assert not standing.is_ready
    assert standing.tls_group is None
    assert 'node_channels{group="X25519"} 0.0' in figures
    assert noted == []


def test_a_node_without_tls_is_not_even_configured(site: Site) -> None:
    with pytest.raises(InvalidParameter, match="north without TLS"):
        site.router(north="http://127.0.0.1:1")
