"""Public drafts: who is asked, who follows, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.federated_dp_llm.routing.world import run

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.messages import PublicAsk, PublicDraft
from federated_dp_llm.routing.drafting import Drafting, read_draft, support
from privacy_runtime.resilience import Hedge

ASK = PublicAsk(prompt="x", released=(), draft=2, candidates=3, reach_logits=0.1)
GOOD = PublicDraft(
    draft=(4, 5),
    candidates=((4, 1), (5, 2, 3), (7,)),
    logits=tuple(
        np.array(row, dtype="<f4").tobytes() for row in ([2.0, 1.0], [3.0, 3.0, -1.0], [0.5])
    ),
)


class Drafter:
    def __init__(self, name: str, answer: Callable[[], Any]) -> None:
        self.node_id, self._answer, self.asked = name, answer, 0

    async def public(self, ask: PublicAsk) -> PublicDraft:
        self.asked += 1
        return await self._answer()


async def good() -> PublicDraft:
    return GOOD


async def away() -> PublicDraft:
    raise NodeUnavailable("a", "away")


async def silent() -> PublicDraft:
    return await asyncio.Event().wait()  # type: ignore[return-value]  # never


def test_a_failed_drafter_is_followed_by_the_next_and_asked_last_from_then_on() -> None:
    async def main() -> None:
        bad, fine = Drafter("a", away), Drafter("b", good)
        drafting = Drafting([bad, fine], 1.0)  # type: ignore[list-item]  # drafts alone
        for _ in range(3):
            assert (await drafting.draft(ASK))[0] == GOOD
        assert (bad.asked, fine.asked) == (1, 3)

    run(main())


def test_a_slow_drafter_is_joined_by_the_next() -> None:
    async def main() -> None:
        slow, fine = Drafter("a", silent), Drafter("b", good)
        drafting = Drafting([slow, fine], 30.0, Hedge(0.01))  # type: ignore[list-item]  # as above
        assert (await drafting.draft(ASK))[0] == GOOD
        assert (slow.asked, fine.asked) == (1, 1)

    run(main())


def test_nobody_who_answers_is_said() -> None:
    async def main() -> None:
        for drafters in ([], [Drafter("a", away)], [Drafter("a", silent)]):
            drafting = Drafting(drafters, 0.01, Hedge(5.0))  # type: ignore[arg-type]  # as above
            with pytest.raises(NodeUnavailable):
                await drafting.draft(ASK)

    run(main())


def _row(*logits: float) -> bytes:
    return np.array(logits, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"draft": (4, 5, 6)}, "longer draft"),
        ({"candidates": GOOD.candidates[:2]}, "number of positions"),
        ({"logits": GOOD.logits[:2]}, "number of positions"),
        ({"candidates": ((4,), (5, 2, 3), (7,))}, "do not fit"),
        ({"candidates": ((4, 4), (5, 2, 3), (7,))}, "do not fit"),
        ({"candidates": ((4, 1), (2, 3, 8), (7,))}, "not among"),
        ({"candidates": ((4, 1), (5, 2, 3), ())}, "number of candidates"),
        ({"candidates": ((4, 1), (5, 2, 3, 9), (7,))}, "number of candidates"),
        ({"logits": (_row(1, 2), *GOOD.logits[1:])}, "not sorted"),
        ({"logits": (_row(float("nan"), 1), *GOOD.logits[1:])}, "not finite"),
        ({"logits": (*GOOD.logits[:2], _row(float("inf")))}, "not finite"),
        ({"logits": (*GOOD.logits[:2], b"abc")}, "do not fit"),
    ],
)
def test_a_draft_that_is_not_what_was_asked_is_refused_by_name(
    changes: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(NodeRefused, match=f"somebody.*{wrong}"):
        read_draft("somebody", ASK, msgspec.structs.replace(GOOD, **changes))


def test_support_is_a_log_probability_among_the_candidates() -> None:
    rows = read_draft("a", ASK, GOOD)
    shares = [np.exp(support(GOOD.candidates[1], rows[1], token)) for token in (5, 2, 3)]

    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] == shares[1] > shares[2]


def test_whose_draft_breaks_the_protocol_is_named_and_who_is_away_is_not() -> None:
    async def wild() -> PublicDraft:
        return msgspec.structs.replace(GOOD, logits=(_row(float("nan"), 1), *GOOD.logits[1:]))

    async def main() -> None:
        lost: list[tuple[str, str]] = []
        drafters = [Drafter("a", away), Drafter("b", wild), Drafter("c", good)]
        drafting = Drafting(drafters, 1.0, lost=lambda *what: lost.append(what))  # type: ignore[arg-type]  # as above
        assert (await drafting.draft(ASK))[0] == GOOD
        assert [name for name, _ in lost] == ["b"]

    run(main())
