"""What several attempts at one request cost: the dearest of them, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.federated_dp_llm.routing.world import CAP, NANO, Federation, question, run

from federated_dp_llm.core.query import Answer
from federated_dp_llm.errors import NodeUnavailable, PrivacyBudgetExceeded
from federated_dp_llm.federation.messages import PublicAsk, PublicDraft
from federated_dp_llm.federation.port import Node
from federated_dp_llm.routing.quotas import Quotas, department_account, user_account
from privacy_runtime.allowances import (
    AsyncAllowances,
    Balance,
    KeyReused,
    MemoryHome,
    MemoryRows,
    Store,
)
from privacy_runtime.testing import ManualClock, SeededEntropy

TTL_S = 60.0


class Books:
    """Accounts with room for 1,000; every `process` is another router before them."""

    def __init__(self) -> None:
        self.clock, self.rows, self.seed = ManualClock(), MemoryRows(), 0
        self.store = Store(MemoryHome(self.rows), clock=self.clock)
        accounts = (
            *map(user_account, ("ada", "a", "a/b")),
            *map(department_account, ("er", "icu")),
        )
        self.store.open_accounts(dict.fromkeys(accounts, 1000))

    def process(self) -> Quotas:
        self.seed += 1
        store = Store(MemoryHome(self.rows), clock=self.clock)
        return Quotas(AsyncAllowances(store), delta=1e-5, entropy=SeededEntropy(self.seed))

    def balance(self, account: str = user_account("ada")) -> Balance:
        return self.store.balances([account])[account]


async def attempt(
    quotas: Quotas, most: int, cost: int, *, user: str = "ada", name: str = "q"
) -> None:
    held = await quotas.reserve(name, user, "er", most, ttl_s=TTL_S)
    assert held.returned(cost) == held.owed(most)[held.user] - held.owed(cost)[held.user]
    await quotas.settle(held, cost)


@pytest.mark.parametrize("is_restarted", [False, True])
def test_attempts_at_one_request_cost_the_dearest_once(is_restarted: bool) -> None:
    async def main() -> None:
        books = Books()
        quotas = books.process()
        dearest = 0
        for most, cost in ((100, 30), (100, 50), (100, 10), (80, 0), (200, 130), (200, 130)):
            await attempt(quotas, most, cost)
            dearest = max(dearest, cost)
            for account in (user_account("ada"), department_account("er")):
                assert books.balance(account) == Balance(1000, dearest, 0)
            quotas = books.process() if is_restarted else quotas
        await attempt(quotas, 100, 40, name="another")
        assert books.balance().spent == dearest + 40

    run(main())


def test_while_an_attempt_is_made_its_highest_price_is_held() -> None:
    async def main() -> None:
        books = Books()
        quotas = books.process()
        await attempt(quotas, 100, 30)
        held = await quotas.reserve("q", "ada", "er", 100, ttl_s=TTL_S)
        assert books.balance() == Balance(1000, 30, 70)
        await quotas.settle(held, 100)
        assert books.balance() == Balance(1000, 100, 0)

        # 1,000 could never be held on top of 100; less what is paid it can.
        await attempt(quotas, 1000, 1000)
        assert books.balance() == Balance(1000, 1000, 0)
        with pytest.raises(PrivacyBudgetExceeded):
            await attempt(quotas, 1001, 0)

    run(main())


def test_an_attempt_of_a_dead_process_is_paid_in_full_and_its_retry_is_free() -> None:
    async def main() -> None:
        books = Books()
        dead = books.process()
        left = await dead.reserve("q", "ada", "er", 100, ttl_s=TTL_S)
        alive = books.process()
        held = await alive.reserve("q", "ada", "er", 100, ttl_s=TTL_S)
        assert books.balance() == Balance(1000, 100, 0)
        await alive.settle(held, 100)
        assert books.balance() == Balance(1000, 100, 0)

        # It was not dead, only slow: what it held is spent, and it cannot take it back.
        with pytest.raises(KeyReused):
            await dead.settle(left, 20)
        assert books.balance() == Balance(1000, 100, 0)

    run(main())


def test_a_deadline_that_passed_before_the_retry_counts_alike() -> None:
    async def main() -> None:
        books = Books()
        await books.process().reserve("q", "ada", "er", 100, ttl_s=TTL_S)
        books.clock.advance(TTL_S + 1)
        await attempt(books.process(), 100, 100)
        assert books.balance() == Balance(1000, 100, 0)

    run(main())


def test_an_attempt_waits_for_the_settling_of_the_one_before() -> None:
    async def main() -> None:
        books = Books()
        quotas = books.process()
        held = await quotas.reserve("q", "ada", "er", 100, ttl_s=TTL_S)
        quotas.settle_soon(held, 30)
        await attempt(quotas, 100, 10)
        assert books.balance() == Balance(1000, 30, 0)
        await quotas.aclose()

    run(main())


def test_attempts_that_do_not_know_of_each_other_pay_both() -> None:
    async def main() -> None:
        books = Books()
        one, other = books.process(), books.process()
        await asyncio.gather(attempt(one, 100, 70), attempt(other, 100, 60))
        balance = books.balance()
        assert 70 <= balance.spent <= 130
        assert balance.reserved == 0

    run(main())


def test_another_department_has_paid_nothing_yet() -> None:
    async def main() -> None:
        books = Books()
        quotas = books.process()
        await attempt(quotas, 100, 40)
        held = await quotas.reserve("q", "ada", "icu", 100, ttl_s=TTL_S)
        await quotas.settle(held, 60)
        assert books.balance(department_account("icu")).spent == 60
        assert books.balance(department_account("er")).spent == 40
        assert books.balance().spent == 60

    run(main())


def test_names_with_slashes_do_not_pay_for_each_other() -> None:
    async def main() -> None:
        books = Books()
        quotas = books.process()
        await attempt(quotas, 100, 40, user="a/b", name="c")
        await attempt(quotas, 100, 40, user="a", name="b/c")
        await attempt(quotas, 100, 40, user="a", name="b")
        assert books.balance(user_account("a/b")).spent == 40
        assert books.balance(user_account("a")).spent == 80
        assert books.balance(department_account("er")).spent == 120

    run(main())


class Spent:
    """A public model that answers so often and no more, whoever asks it."""

    def __init__(self, node: Node, drafts: int) -> None:
        self._node, self._left = node, drafts

    async def public(self, ask: PublicAsk) -> PublicDraft:
        if not self._left:
            raise NodeUnavailable("public", "gone")
        self._left -= 1
        return await self._node.public(ask)


@pytest.mark.parametrize("drafts", [1, 2])
def test_a_retry_at_other_nodes_costs_the_user_the_dearer_attempt_and_no_patient_both(
    tmp_path: Path, drafts: int
) -> None:
    async def main() -> None:
        federation = Federation(tmp_path, draft=2)
        nodes, coordinator = federation.nodes, federation.coordinator
        spent = Spent(nodes["north"].node, drafts)
        federation.nodes = {"north": nodes["north"]}
        federation.nodes["north"].public = coordinator.public = spent.public  # type: ignore[method-assign]
        broken = await federation.router()
        with pytest.raises(NodeUnavailable):
            await broken.answer(question())
        await broken.aclose()
        first = {who: paid for who, (paid, _) in federation.patients().items()}
        begun = federation.balance().spent
        assert 0 < begun < CAP
        assert {paid for who, paid in first.items() if who.startswith("north")} == {begun}

        federation.nodes = {"coast": nodes["coast"]}
        whole = await federation.router(seed=9)
        answer = await whole.answer(question())
        await whole.aclose()

        assert isinstance(answer, Answer)
        cost = round(answer.rho * NANO)
        for account in (user_account("ada"), department_account("er")):
            assert federation.balance(account) == Balance(CAP, max(begun, cost), 0)
        paid = {who: amount for who, (amount, _) in federation.patients().items()}
        assert {amount for who, amount in paid.items() if who.startswith("north")} == {begun}
        assert {amount for who, amount in paid.items() if who.startswith("coast")} == {cost}

    run(main())
