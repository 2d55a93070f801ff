"""Private answers over real nodes in process: what is released is paid, what is not is not."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.federated_dp_llm.routing.world import (
    CAP,
    NANO,
    RECORDS,
    Fault,
    Federation,
    parts_of,
    question,
    run,
)

from federated_dp_llm.caching import ReleasedAnswers
from federated_dp_llm.core.query import Piece
from federated_dp_llm.errors import (
    BudgetTooSmall,
    ConsensusUnavailable,
    NodeRefused,
    NodeUnavailable,
    PrivacyBudgetExceeded,
)
from federated_dp_llm.routing.quotas import department_account
from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances import UnknownAccount


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


def test_a_private_answer_is_paid_by_user_department_and_every_matching_patient_alike(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        answer = await router.answer(question())
        await router.aclose()

        assert answer.mechanism == "private_decoding"
        assert answer.node_id == "coast+north"
        assert answer.slots == 16
        paid = round(answer.rho * NANO)
        assert paid > 0
        for account in (None, department_account("er")):
            balance = federation.balance(account)
            assert (balance.spent, balance.reserved) == (paid, 0)
        assert set(federation.patients().values()) == {(paid, 0)}

    run(main())


def test_pieces_add_up_to_the_answer_and_their_tokens_to_its_tokens(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        pieces, answer = await parts_of(router, question())
        await router.aclose()

        assert "".join(piece.text for piece in pieces) == answer.response
        # An end token that comes alone has no text, and so no piece.
        assert len(answer.tokens) - sum(piece.tokens for piece in pieces) in (0, 1)
        assert len(answer.tokens) > 1
        assert 0 < answer.round_trips <= len(answer.tokens)

    run(main())


def test_the_cost_never_exceeds_the_request_and_is_what_the_tokens_cost(tmp_path: Path) -> None:
    async def main() -> None:
        for seed in range(8):
            folder = tmp_path / str(seed)
            folder.mkdir()
            federation = Federation(folder, seed=seed)
            router = await federation.router()
            answer = await router.answer(question(privacy_budget=3.0))
            await router.aclose()

            assert 0 < answer.privacy_cost <= 3.0
            assert answer.remaining_budget > 0

    run(main())


def test_a_public_answer_asks_one_node_opens_no_session_and_costs_nothing(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        answer = await router.answer(question(context="none", privacy_budget=0.1))
        await router.aclose()

        assert (answer.mechanism, answer.privacy_cost, answer.rho) == ("public", 0.0, 0.0)
        assert answer.node_id in ("coordinator", "coast", "north")
        assert not any(node.calls for node in federation.nodes.values())
        assert federation.balance().spent == 0

    run(main())


def test_a_greedy_public_answer_is_the_public_models_own(federation: Federation) -> None:
    async def main() -> None:
        router = await federation.router()
        answer = await router.answer(question(context="none", temperature=0.0))
        model = federation.models["north"]
        tokens: list[int] = []
        while len(tokens) < 12 and (not tokens or tokens[-1] != 0):
            tokens.append(int(model.logits(question().prompt, tokens, None).argmax()))

        assert list(answer.tokens) == tokens

    run(main())


def test_a_budget_that_buys_too_little_is_refused_with_one_that_does(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        with pytest.raises(BudgetTooSmall) as caught:
            await router.answer(question(privacy_budget=0.05))
        assert federation.balance().spent == federation.balance().reserved == 0
        assert not any(node.calls for node in federation.nodes.values())

        least = caught.value.least
        answer = await router.answer(question(request_id="r-2", privacy_budget=least))
        assert answer.privacy_cost <= least
        with pytest.raises(BudgetTooSmall):
            await router.answer(question(request_id="r-3", privacy_budget=least * 0.99))
        await router.aclose()

    run(main())


@pytest.mark.parametrize("consensus", [False, True])
def test_the_least_epsilon_that_is_named_is_enough_for_labels_and_consensus(
    tmp_path: Path, consensus: bool
) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, slots=64)
        router = await federation.router()
        asks = [question(labels=("amber", "birch"), require_consensus=consensus)]
        if consensus:
            asks.append(question())
        for place, ask in enumerate(asks):
            small = question(
                labels=ask.labels, require_consensus=consensus, privacy_budget=1e-4,
                request_id=f"small-{place}",
            )  # fmt: skip
            with pytest.raises((BudgetTooSmall, ConsensusUnavailable)) as caught:
                await router.answer(small)
            least = caught.value.least
            assert least is not None
            enough = question(
                labels=ask.labels, require_consensus=consensus, privacy_budget=least,
                request_id=f"enough-{place}",
            )  # fmt: skip
            try:
                answer = await router.answer(enough)
            except BudgetTooSmall as error:  # enough for the flag, not yet for the text
                enough = question(
                    require_consensus=True, privacy_budget=error.least, request_id="text"
                )
                answer = await router.answer(enough)
            assert answer.privacy_cost <= enough.privacy_budget
        await router.aclose()

    run(main())


def test_one_vote_of_four_slots_is_no_consensus_at_any_price(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, slots=2)
        router = await federation.router()
        with pytest.raises(ConsensusUnavailable) as caught:
            await router.answer(question(require_consensus=True, privacy_budget=1.0))

        assert caught.value.slots == 4
        assert federation.balance().reserved == 0

    run(main())


def test_a_label_costs_its_vote_and_draws_no_token(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, slots=64)
        router = await federation.router()
        query = question(labels=("amber", "birch"), privacy_budget=2.0)
        answer = await router.answer(query)
        await router.aclose()

        assert answer.mechanism == "noisy_vote"
        assert answer.response in query.labels
        assert answer.tokens == ()
        assert 1.99 < answer.privacy_cost <= 2.0
        assert set(federation.patients().values()) == {(federation.balance().spent, 0)}

    run(main())


def test_consensus_adds_its_price_and_says_its_interval(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, slots=64)
        router = await federation.router()
        answer = await router.answer(question(require_consensus=True))
        await router.aclose()

        assert answer.confidence_score is not None
        assert answer.confidence_interval is not None
        low, high = answer.confidence_interval
        assert low <= answer.confidence_score <= high
        assert answer.consensus_reached in (True, False)
        assert answer.privacy_cost <= 8.0
        assert federation.balance().spent == round(answer.rho * NANO)

    run(main())


def test_an_exhausted_account_is_refused_before_any_node_is_asked(federation: Federation) -> None:
    async def main() -> None:
        federation.store.spend("before", {department_account("er"): CAP - 10})
        router = await federation.router()
        with pytest.raises(PrivacyBudgetExceeded) as caught:
            await router.answer(question())

        assert caught.value.user_id == "er"
        assert caught.value.requested > caught.value.available >= 0
        assert not any(node.calls for node in federation.nodes.values())
        assert federation.balance().spent == federation.balance().reserved == 0

    run(main())


def test_an_unknown_user_is_asked_for_nothing(federation: Federation) -> None:
    async def main() -> None:
        router = await federation.router()
        with pytest.raises(UnknownAccount):
            await router.answer(question(user_id="mallory"))
        assert not any(node.calls for node in federation.nodes.values())

    run(main())


def test_the_same_request_is_answered_and_paid_once(federation: Federation) -> None:
    async def main() -> None:
        router = await federation.router()
        both = await asyncio.gather(router.answer(question()), router.answer(question()))
        third = await router.answer(question())
        await router.aclose()

        assert both[0] == both[1] == third
        assert federation.balance().spent == round(third.rho * NANO)
        with pytest.raises(InvalidParameter, match="request_id"):
            await router.answer(question(prompt="another question"))

    run(main())


def test_after_a_restart_the_nodes_refuse_a_request_that_they_answered(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        first = await router.answer(question())
        await router.aclose()
        again = await federation.router(seed=99)
        with pytest.raises(NodeRefused, match="replayed"):
            await again.answer(question())
        await again.aclose()

        assert federation.balance().spent == round(first.rho * NANO)
        assert federation.balance().reserved == 0

    run(main())


def test_a_cached_answer_is_free_says_so_and_stays_in_its_department(
    federation: Federation,
) -> None:
    async def main() -> None:
        federation.store.open_accounts({department_account("icu"): CAP})
        router = await federation.router(cache=ReleasedAnswers())
        first = await router.answer(question())
        spaced = question(request_id="r-2", prompt=f"  {question().prompt}\n")
        second = await router.answer(spaced)
        other = await router.answer(question(request_id="r-3", department="icu"))
        await router.aclose()

        assert (second.cached, second.privacy_cost, second.rho) == (True, 0.0, 0.0)
        assert (second.response, second.request_id) == (first.response, "r-2")
        assert not other.cached
        assert federation.balance().spent == round((first.rho + other.rho) * NANO)

    run(main())


def test_who_leaves_early_pays_for_what_was_drawn_and_gets_the_rest_back(
    federation: Federation,
) -> None:
    async def main() -> None:
        router = await federation.router()
        seen = 0
        async with aclosing(router.stream(question())) as stream:
            async for part in stream:
                assert isinstance(part, Piece)
                seen += part.tokens
                break
        await router.aclose()

        balance = federation.balance()
        assert balance.reserved == 0
        assert set(federation.patients().values()) == {(balance.spent, 0)}
        assert balance.spent > 0
        assert seen > 0

    run(main())


@pytest.mark.parametrize("turns", range(0, 60, 4))
def test_a_cancelled_asker_leaves_no_reservation_open(tmp_path: Path, turns: int) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        router = await federation.router()
        task = asyncio.create_task(router.answer(question()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await router.aclose()

        assert federation.balance().reserved == 0
        assert router.queue.length == 0

    run(main())


def test_a_public_tail_is_marked_and_free(tmp_path: Path) -> None:
    async def main() -> None:
        for seed in range(12):  # until an answer does not end by itself first
            folder = tmp_path / str(seed)
            folder.mkdir()
            federation = Federation(folder, seed=seed, least_tokens=1)
            router = await federation.router()
            query = question(privacy_budget=0.35, max_tokens=40, public_tail=True)
            answer = await router.answer(query)
            await router.aclose()
            if answer.finish_reason == "stop":
                continue
            assert answer.finish_reason == "public_tail"
            assert answer.public_from is not None
            assert answer.public_from < len(answer.tokens)
            assert answer.privacy_cost <= 0.35
            return
        raise AssertionError("every answer ended before its budget did")

    run(main())


def test_a_budget_that_ends_first_is_the_reason_given(tmp_path: Path) -> None:
    async def main() -> None:
        reasons = set()
        for seed in range(12):
            folder = tmp_path / str(seed)
            folder.mkdir()
            federation = Federation(folder, seed=seed, least_tokens=1)
            router = await federation.router()
            answer = await router.answer(question(privacy_budget=0.35, max_tokens=40))
            await router.aclose()
            assert answer.privacy_cost <= 0.35
            assert answer.public_from is None
            reasons.add(answer.finish_reason)
        assert reasons <= {"privacy_budget", "stop"}
        assert "privacy_budget" in reasons

    run(main())


def test_nobody_to_ask_is_said_by_name_and_costs_nothing(federation: Federation) -> None:
    async def main() -> None:
        router = await federation.router()
        for name in federation.nodes:
            federation.registry.drain(name)
        with pytest.raises(NodeUnavailable, match="north is draining"):
            await router.answer(question())
        assert federation.balance().reserved == 0

    run(main())


def test_a_node_that_is_lost_leaves_empty_slots_and_the_same_price(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, faults=[(), [Fault.NONE, Fault.AWAY]])
        router = await federation.router()
        answer = await router.answer(question())
        await router.aclose()

        assert answer.slots == 16
        assert answer.node_id == "coast+north"
        assert federation.balance().spent == round(answer.rho * NANO)
        assert set(federation.patients().values()) == {(federation.balance().spent, 0)}

    run(main())


@pytest.mark.parametrize("fault", [Fault.WILD, Fault.SHORT])
def test_a_node_that_breaks_the_protocol_is_ejected_and_named(tmp_path: Path, fault: Fault) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, faults=[(), [Fault.NONE, fault]])
        router = await federation.router()
        await router.answer(question())
        second = await router.answer(question(request_id="r-2"))
        await router.aclose()

        assert federation.registry.get("coast").state == "ejected"
        assert second.node_id == "north"
        assert second.slots == 8

    run(main())


def test_all_nodes_lost_before_a_session_costs_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, faults=[[Fault.AWAY], [Fault.AWAY]])
        router = await federation.router()
        with pytest.raises(NodeUnavailable, match="nothing was spent"):
            await router.answer(question())
        await router.aclose()

        assert federation.balance().spent == federation.balance().reserved == 0

    run(main())


def test_masked_nodes_answer_together_and_not_without_each_other(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, masked=True)
        router = await federation.router()
        answer = await router.answer(question())
        assert len(answer.tokens) > 0
        await router.aclose()

        folder = tmp_path / "lost"
        folder.mkdir()
        broken = Federation(folder, masked=True, faults=[(), [Fault.NONE, Fault.AWAY]])
        router = await broken.router()
        with pytest.raises(NodeUnavailable, match="masks do not cancel"):
            await router.answer(question())
        await router.aclose()
        assert broken.balance().spent == broken.balance().reserved == 0

    run(main())


def test_masked_and_open_nodes_release_the_same_answer(tmp_path: Path) -> None:
    async def main() -> None:
        told = []
        for masked in (False, True):
            folder = tmp_path / str(masked)
            folder.mkdir()
            router = await Federation(folder, masked=masked).router()
            told.append(await router.answer(question()))
            await router.aclose()
        assert told[0] == told[1]

    run(main())


def test_a_longer_answer_than_the_nodes_have_room_for_is_made_shorter(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        for model in federation.models.values():
            model.context_length = 64
        router = await federation.router()
        answer = await router.answer(question(max_tokens=512, privacy_budget=20.0))
        await router.aclose()

        assert len(answer.tokens) <= 64 - 32
        assert federation.balance().spent == round(answer.rho * NANO)
        assert federation.balance().reserved == 0

    run(main())


def test_everybody_is_an_empty_slot_once_patients_have_paid_their_promise(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, promise=1)
        router = await federation.router()
        answer = await router.answer(question())
        await router.aclose()

        assert answer.rho > 0  # whether anybody had room is not shown
        assert set(federation.patients().values()) == {(0, 0)}
        assert len(federation.patients()) == len(RECORDS)

    run(main())


def test_tokens_that_the_router_cannot_read_are_not_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        federation = Federation(tmp_path)
        for model in federation.models.values():
            model.tokenizer = "u" * 64
        router = await federation.router()
        with pytest.raises(NodeRefused, match="tokenizer"):
            await router.answer(question())
        await router.aclose()

        assert not any(node.calls for node in federation.nodes.values())
        assert federation.balance().reserved == 0

    run(main())
