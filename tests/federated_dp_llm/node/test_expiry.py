"""Sessions that are over, ended by several calls at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.federated_dp_llm.node.toy import Hospital, opened

from federated_dp_llm.federation.amounts import price_of


def test_many_calls_that_find_the_same_sessions_over_all_get_their_answer(tmp_path: Path) -> None:
    """Found by killing routers: whoever opened a session while others ended old ones got a 503."""

    async def main() -> None:
        hospital = Hospital(tmp_path)
        for number in range(4):
            await opened(hospital.agent, hospital.ask(f"old-{number}"))
        hospital.clock.advance(121)

        handles = await asyncio.gather(
            *(opened(hospital.agent, hospital.ask(f"new-{number}")) for number in range(8))
        )

        assert len(set(handles)) == 8
        whole = price_of(hospital.terms(), tokens=24, voted=True)
        assert hospital.spent() == (4 * whole, 8 * whole)
        await hospital.agent.aclose()

    asyncio.run(main())
