"""Anything, in any order: the invariants of the ledger hold after every step."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from privacy_core.budget import (
    ApproveVoid,
    Command,
    Commit,
    Currency,
    Entry,
    Expire,
    Grant,
    LedgerState,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reservation,
    Reserve,
    ResetClock,
    Scope,
    Signature,
    Status,
    Watermark,
    Window,
    charge_of,
    decide,
    fold,
    involved_scopes,
    protection,
    quota,
)
from privacy_core.budget.charges import SLOTS, fits
from privacy_core.dp_events import Gaussian, NonPrivate, SelfComposed
from privacy_core.errors import BudgetError, BudgetExhausted, IdempotencyConflict
from privacy_core.guarantee import Guarantee

BLOCKS = [protection("h", "1"), protection("h", "2"), protection("h", "2", "s")]
LEAVES = [quota("o", "d1", "ada"), quota("o", "d2")]
PEOPLE = [Signature(person, "because") for person in ("ada", "bob", "carol")]
CHARGES = {
    n: [charge_of(SelfComposed(Gaussian(25.0), n), delta=delta) for delta in (None, 1e-8)]
    for n in (1, 4, 12, 40)
}
PLAIN = [options[0] for options in CHARGES.values()]
KEYS = st.integers(0, 15).map("k{}".format)


def nothing(currency: Currency) -> list[int]:
    return [0] * SLOTS[currency]


class Ledger(RuleBasedStateMachine):
    """Decides on the whole state and on the part that a store would load; both must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.state = LedgerState()
        self.now_us = 1_700_000_000_000_000
        self.entries: list[Entry] = []
        self.done: list[Command] = []

    def do(self, command: Command) -> None:
        part = self.part_for(command)
        try:
            decision = decide(self.state, command, self.now_us)
        except BudgetError as refusal:
            with pytest.raises(type(refusal)):
                decide(part, command, self.now_us)
            if isinstance(refusal, BudgetExhausted):
                self.check_refusal(command)
            return
        assert decide(part, command, self.now_us) == decision
        if decision.is_replay:
            assert decision.entry in self.entries
            return
        after = self.state.after(decision.entry)
        if not isinstance(command, ResetClock):
            for scope, state in part.after(decision.entry).scopes.items():
                assert after.scopes[scope] == state
        self.state = after
        self.entries.append(decision.entry)
        self.done.append(command)

    def part_for(self, command: Command) -> LedgerState:
        key = getattr(command, "reservation", None)
        held: Reservation | None = self.state.reservations.get(key) if key else None
        wanted = involved_scopes(command, held)
        assert list(wanted) == sorted(wanted)
        known = self.state.entries.get(command.key)
        return LedgerState(
            scopes={s: self.state.scopes[s] for s in wanted if s in self.state.scopes},
            reservations={held.key: held} if held else {},
            entries={known.key: known} if known else {},
            clock_us=self.state.clock_us,
        )

    def check_refusal(self, command: Command) -> None:
        """It was refused because some account would have passed its cap, and for nothing else."""
        assert isinstance(command, Reserve)
        at_us = max(self.now_us, self.state.clock_us)
        accounts = [self.state.scopes[scope] for scope in command.scopes]
        assert not all(
            account.has_room_for(command.charge)
            and account.window_has_room_for(command.charge, at_us)
            for account in accounts
        )

    @initialize()
    def open_accounts(self) -> None:
        for i, scope in enumerate(
            sorted({*BLOCKS, *(a for s in LEAVES for a in s.with_ancestors)})
        ):
            is_leaf = scope in LEAVES
            self.do(
                OpenAccount(
                    key=f"open{i}",
                    scope=scope,
                    guarantee=Guarantee(epsilon=1.0 if scope in BLOCKS else 2.5, delta=1e-6),
                    currency=Currency.GDP if scope == BLOCKS[1] else Currency.RDP,
                    window=Window(length_s=3600, epsilon=1.2) if is_leaf else None,
                    signature=PEOPLE[0],
                )
            )

    @rule(
        key=KEYS,
        blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=3, unique=True),
        leaves=st.lists(st.sampled_from(LEAVES), max_size=2, unique=True),
        charge=st.sampled_from([c for options in CHARGES.values() for c in options]),
        ttl_s=st.sampled_from([1, 600, 7200]),
    )
    def reserve(self, key: str, blocks: Any, leaves: Any, charge: Any, ttl_s: int) -> None:
        self.do(
            Reserve(
                key=key, protection=tuple(blocks), quota=tuple(leaves), charge=charge, ttl_s=ttl_s
            )
        )

    @rule(key=KEYS)
    def reserve_an_unprotected_release(self, key: str) -> None:
        count = len(self.entries)
        command = Reserve(key=key, protection=(BLOCKS[0],), charge=charge_of(NonPrivate()), ttl_s=9)
        self.do(command)
        assert len(self.entries) == count

    def any_reservation(self, data: Any) -> str:
        """Mostly one that exists; sometimes none does."""
        return str(data.draw(st.sampled_from([*self.state.reservations, "never made"])))

    def any_charge(self, data: Any, held: str) -> Any:
        """Mostly one within the reservation, where there is one."""
        known = self.state.reservations.get(held)
        within = [c for c in PLAIN if known and c.is_within(known.charge)]
        return data.draw(st.sampled_from([*within, *within, PLAIN[-1]]))

    @rule(key=KEYS, data=st.data(), ttl_s=st.sampled_from([None, 9]))
    def watermark(self, key: str, data: Any, ttl_s: int | None) -> None:
        held = self.any_reservation(data)
        charge = self.any_charge(data, held)
        self.do(Watermark(key=f"w{key}", reservation=held, consumed=charge, ttl_s=ttl_s))

    @rule(key=KEYS, data=st.data(), is_all=st.booleans())
    def commit(self, key: str, data: Any, is_all: bool) -> None:
        held = self.any_reservation(data)
        actual = None if is_all else self.any_charge(data, held)
        self.do(Commit(key=f"c{key}", reservation=held, actual=actual))

    @rule(block=st.sampled_from(BLOCKS), leaf=st.sampled_from(LEAVES))
    def reserve_until_refused(self, block: Scope, leaf: Scope) -> None:
        for i in range(4):
            key = f"n{len(self.entries)}-{i}"
            self.do(
                Reserve(key=key, protection=(block,), quota=(leaf,), charge=PLAIN[2], ttl_s=900)
            )

    @rule(seconds=st.sampled_from([0, 901]))
    def sweep(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000
        for held in list(self.state.reservations.values()):
            if held.status is Status.OPEN:
                self.do(Expire(reservation=held.key))

    @rule(data=st.data(), lie=st.sampled_from(["refund", "less", "more"]))
    def announce_and_deny(self, data: Any, lie: str) -> None:
        """A process that releases, then says it did less, or claims more than it reserved."""
        held = self.any_reservation(data)
        number = len(self.entries)
        consumed = self.any_charge(data, held)
        self.do(Watermark(key=f"dw{number}", reservation=held, consumed=consumed, ttl_s=9))
        if lie == "refund":
            self.do(Refund(key=f"d{number}", reservation=held))
        else:
            told = PLAIN[0] if lie == "less" else PLAIN[-1]
            self.do(Commit(key=f"d{number}", reservation=held, actual=told))

    @rule(key=KEYS, data=st.data())
    def refund(self, key: str, data: Any) -> None:
        self.do(Refund(key=f"f{key}", reservation=self.any_reservation(data)))

    @rule(data=st.data())
    def expire(self, data: Any) -> None:
        self.do(Expire(reservation=self.any_reservation(data)))

    @rule(key=KEYS, data=st.data(), first=st.sampled_from(PEOPLE), second=st.sampled_from(PEOPLE))
    def void(self, key: str, data: Any, first: Signature, second: Signature) -> None:
        held = self.any_reservation(data)
        self.do(ProposeVoid(key=f"p{key}", reservation=held, signature=first))
        before = self.state
        self.do(ApproveVoid(key=f"a{key}", reservation=held, signature=second))
        if self.state is not before:
            assert before.reservations[held].void_proposed_by not in {None, second.person}

    @rule(key=KEYS, scope=st.sampled_from([*BLOCKS, *LEAVES]), epsilon=st.sampled_from([0.01, 0.3]))
    def grant(self, key: str, scope: Scope, epsilon: float) -> None:
        self.do(Grant(key=f"g{key}", scope=scope, epsilon=epsilon, signature=PEOPLE[1]))

    @rule(seconds=st.sampled_from([1, 59, 3600, -30, -5000, 40 * 86400, -40 * 86400]))
    def jump(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000

    @rule(key=KEYS)
    def reset_clock(self, key: str) -> None:
        self.do(ResetClock(key=f"t{key}", signature=PEOPLE[2]))

    @precondition(lambda self: self.done)
    @rule(data=st.data())
    def replay(self, data: Any) -> None:
        before = self.state
        for command in data.draw(st.lists(st.sampled_from(self.done), min_size=1, max_size=6)):
            self.do(command)
        assert self.state is before

    @precondition(lambda self: any(isinstance(c, Reserve) for c in self.done))
    @rule(data=st.data())
    def reuse_a_key(self, data: Any) -> None:
        first = data.draw(st.sampled_from([c for c in self.done if isinstance(c, Reserve)]))
        with pytest.raises(IdempotencyConflict):
            decide(self.state, dataclasses.replace(first, ttl_s=first.ttl_s + 1), self.now_us)

    @invariant()
    def nothing_is_overspent(self) -> None:
        for state in self.state.scopes.values():
            assert fits(state.currency, state.total, state.caps)
            assert min(state.committed) >= 0
            assert min(state.reserved) >= 0
            assert state.epsilon_if_all_commit <= state.guarantee.epsilon

    @invariant()
    def accounts_are_the_sums_of_their_reservations(self) -> None:
        for scope, state in self.state.scopes.items():
            sums = {name: nothing(state.currency) for name in ("committed", "reserved")}
            for held in self.state.reservations.values():
                if scope not in held.scopes:
                    continue
                name, charge = {
                    Status.OPEN: ("reserved", held.charge),
                    Status.COMMITTED: ("committed", held.settled),
                    Status.EXPIRED: ("committed", held.settled),
                }.get(held.status, ("", None))
                if charge is not None:
                    amounts = charge.in_currency(state.currency)
                    sums[name] = [a + b for a, b in zip(sums[name], amounts, strict=True)]
            assert state.committed == tuple(sums["committed"])
            assert state.reserved == tuple(sums["reserved"])

    @invariant()
    def what_was_released_is_charged(self) -> None:
        for held in self.state.reservations.values():
            if held.status is Status.EXPIRED:
                assert held.settled == held.charge
            if held.watermark is not None and held.status is not Status.OPEN:
                assert held.settled is not None
                assert held.watermark.is_within(held.settled)
            if held.settled is not None:
                assert held.settled.is_within(held.charge)
                assert held.settled.basic == held.charge.basic

    def teardown(self) -> None:
        """The entries alone give the same state, and every reservation ends."""
        assert fold(self.entries) == self.state
        self.now_us = max(self.now_us, self.state.clock_us) + 10**15
        for key in list(self.state.reservations):
            self.do(Expire(reservation=key))
        assert all(h.status is not Status.OPEN for h in self.state.reservations.values())
        self.nothing_is_overspent()
        self.what_was_released_is_charged()
        self.accounts_are_the_sums_of_their_reservations()


Ledger.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestLedger = Ledger.TestCase
