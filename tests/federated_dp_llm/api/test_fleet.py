"""The nodes that a deployment names, over restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.federated_dp_llm.api.conftest import config_in
from tests.federated_dp_llm.routing.world import Federation, Words

from federated_dp_llm.api.service import Service
from federated_dp_llm.config import NodeSpec


async def standing(home: Path, federation: Federation, endpoint: str) -> list[tuple[str, str]]:
    """Start a router whose configuration names one node; how that node stands, and where."""
    with Service.open(config_in(home), vocabulary=Words()) as service:
        spec = NodeSpec(node_id="north", endpoint=endpoint)
        service.fleet.want(spec, federation.nodes["north"])
        await service.fleet.start()
        found = [(spec.endpoint, how.name) for spec, how in service.fleet.standing()]
        await service.fleet.aclose()
    return found


def test_where_a_node_is_says_the_configuration_and_not_what_was_kept(tmp_path: Path) -> None:
    async def main() -> None:
        for endpoint in ("http://a:1", "http://b:2"):
            federation = Federation(tmp_path)
            found = await standing(tmp_path / "home", federation, endpoint)
            assert found == [(endpoint, "healthy")]
            (tmp_path / "router.pem").unlink()

    asyncio.run(main())
