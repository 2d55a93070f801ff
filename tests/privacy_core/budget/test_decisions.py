from __future__ import annotations

import math
from typing import Any

import pytest

from privacy_core import errors
from privacy_core.accounting import calibrate_noise_multiplier, dp_sgd_event
from privacy_core.budget import (
    ApproveVoid,
    Commit,
    Currency,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reserve,
    ResetClock,
    Scope,
    Signature,
    Status,
    Watermark,
    Window,
    charge_of,
    declared_target,
    protection,
    quota,
)
from privacy_core.dp_events import Gaussian, Laplace, NonPrivate, PoissonSampled
from privacy_core.errors import (
    AccountExists,
    BudgetError,
    BudgetExhausted,
    ClockWentBack,
    CommitOutOfBounds,
    IdempotencyConflict,
    InvalidParameter,
    NotAuthorised,
    RefundAfterRelease,
    ReservationClosed,
    ScopeMismatch,
    UnknownReservation,
    UnknownScope,
    UnsupportedEvent,
)
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit

BOB = Signature("bob", "nothing left the machine")
ADA = Signature("ada", "the job never started")


def test_a_commit_charges_what_happened_and_gives_back_the_rest(book: Any, run: Any) -> None:
    book.reserve("r", run(10))
    book.do(Commit(key="c", reservation="r", actual=run(4)))

    assert book.block.reserved == (0,) * 14
    assert book.block.committed[:12] == run(4).rdp
    assert book.state.reservations["r"].status is Status.COMMITTED


def test_a_commit_gives_nothing_back_in_basic_composition(book: Any) -> None:
    whole = dp_sgd_event(noise_multiplier=2.0, sample_rate=0.01, steps=100)
    part = dp_sgd_event(noise_multiplier=2.0, sample_rate=0.01, steps=10)
    declared = charge_of(whole, delta=1e-7)
    book.reserve("r", declared)
    book.do(Commit(key="c", reservation="r", actual=charge_of(part, delta=1e-7)))

    assert book.block.committed[12:] == declared.basic
    assert book.block.committed[:12] == charge_of(part).rdp


def test_a_refund_gives_everything_back(book: Any, run: Any) -> None:
    before = book.block
    book.reserve("r", run(10), quota=(quota("clinic", "research"),))
    book.do(Refund(key="f", reservation="r"))

    assert (book.block.committed, book.block.reserved) == (before.committed, before.reserved)
    assert all(not any(state.total) for state in book.state.scopes.values())


def test_a_quota_leaf_is_charged_with_its_ancestors(book: Any, run: Any, team: Scope) -> None:
    book.reserve("r", run(3), quota=(team,))

    charged = {str(s) for s, state in book.state.scopes.items() if any(state.reserved)}
    assert charged == {"protection/hospital-a/2026-08", "quota/clinic", "quota/clinic/research"}


def test_every_scope_must_have_room(book: Any, run: Any, team: Scope) -> None:
    book.open(protection("hospital-b", "2026-08"), 0.05)
    before = book.state

    with pytest.raises(BudgetExhausted) as refusal:
        book.reserve(
            "r",
            run(10),
            protection=(protection("hospital-a", "2026-08"), protection("hospital-b", "2026-08")),
            quota=(team,),
        )

    (short,) = refusal.value.shortages
    assert (short.scope, short.limit) == ("protection/hospital-b/2026-08", "lifetime")
    assert short.epsilon_requested > short.epsilon_remaining == 0.05
    assert "nothing was spent" in str(refusal.value)
    assert book.state is before


def test_a_refusal_leaves_no_entry_and_its_key_free(book: Any, run: Any, signed: Any) -> None:
    with pytest.raises(BudgetExhausted):
        book.reserve("r", run(2000))
    count = len(book.entries)
    book.do(
        Grant(key="g", scope=protection("hospital-a", "2026-08"), epsilon=40.0, signature=signed)
    )
    book.reserve("r", run(2000))

    assert len(book.entries) == count + 2


def test_an_unprotected_release_never_fits(book: Any) -> None:
    with pytest.raises(BudgetExhausted) as refusal:
        book.reserve("r", charge_of(NonPrivate()))

    assert refusal.value.shortages[0].epsilon_requested == math.inf


def test_a_declared_plan_calibrated_to_the_target_fills_an_unused_account(book: Any) -> None:
    epsilon, delta = declared_target(book.block.guarantee)
    sigma = calibrate_noise_multiplier(epsilon=epsilon, delta=delta, sample_rate=0.01, steps=300)
    plan = dp_sgd_event(noise_multiplier=sigma, sample_rate=0.01, steps=300)

    book.reserve("plan", charge_of(plan, delta=delta))

    assert 1.9 < book.block.epsilon_if_all_commit <= 2.0
    with pytest.raises(BudgetExhausted):
        book.reserve("more", charge_of(plan, delta=delta))


def test_without_a_declared_delta_the_same_plan_is_too_much(book: Any) -> None:
    epsilon, delta = declared_target(book.block.guarantee)
    sigma = calibrate_noise_multiplier(epsilon=epsilon, delta=delta, sample_rate=0.01, steps=300)

    with pytest.raises(BudgetExhausted):
        book.reserve(
            "r", charge_of(dp_sgd_event(noise_multiplier=sigma, sample_rate=0.01, steps=300))
        )


def test_a_gaussian_account_is_filled_exactly(gaussian_book: Any) -> None:
    cap = gaussian_book.block.caps[0] / 2**40
    quarter = Gaussian((cap / 4 * (1 - 1e-10)) ** -0.5)
    for i in range(4):
        gaussian_book.reserve(f"r{i}", charge_of(quarter))

    assert gaussian_book.block.epsilon_if_all_commit == pytest.approx(2.0, rel=1e-8)
    with pytest.raises(BudgetExhausted):
        gaussian_book.reserve("r4", charge_of(Gaussian(1e4)))


def test_an_account_refuses_what_its_currency_cannot_price(gaussian_book: Any) -> None:
    with pytest.raises(UnsupportedEvent, match="'gdp' cannot price PoissonSampled"):
        gaussian_book.reserve("r", charge_of(PoissonSampled(0.1, Gaussian(5.0))))


def test_a_price_of_another_relation_or_unit_is_refused(book: Any) -> None:
    for terms in (
        {"relation": NeighbouringRelation.REPLACE_ONE},
        {"unit": PrivacyUnit.USER},
    ):
        with pytest.raises(ScopeMismatch, match="nothing was spent"):
            book.reserve("r", charge_of(Gaussian(50.0), **terms))


def test_unknown_scopes_and_reservations_are_refused(book: Any, run: Any, signed: Any) -> None:
    nowhere = protection("hospital-z", "2026-08")
    with pytest.raises(UnknownScope, match="hospital-z"):
        book.reserve("r", run(1), protection=(nowhere,))
    with pytest.raises(UnknownScope, match="quota/other"):
        book.reserve("r", run(1), quota=(quota("other"),))
    with pytest.raises(UnknownScope):
        book.do(Grant(key="g", scope=nowhere, epsilon=1.0, signature=signed))
    for command in (
        Commit(key="c", reservation="no"),
        Refund(key="c", reservation="no"),
        Watermark(key="c", reservation="no", consumed=run(1)),
        Expire(reservation="no"),
        ProposeVoid(key="c", reservation="no", signature=signed),
        ApproveVoid(key="c", reservation="no", signature=signed),
    ):
        with pytest.raises(UnknownReservation):
            book.do(command)


def test_an_account_opens_once(book: Any, signed: Any, block: Scope) -> None:
    with pytest.raises(AccountExists):
        book.do(
            OpenAccount(
                key="again",
                scope=block,
                guarantee=Guarantee(epsilon=9.0, delta=1e-6),
                signature=signed,
            )
        )


@pytest.mark.parametrize("bad", [-1.0, 0.0, math.nan, math.inf])
def test_a_grant_is_finite_and_above_zero(bad: float, signed: Any, block: Scope) -> None:
    with pytest.raises(InvalidParameter):
        Grant(key="g", scope=block, epsilon=bad, signature=signed)


@pytest.mark.parametrize("currency", list(Currency))
def test_a_grant_raises_every_cap_and_the_guarantee(
    empty_book: Any, signed: Any, block: Scope, currency: Currency
) -> None:
    empty_book.open(block, currency=currency)
    before = empty_book.block
    empty_book.do(Grant(key="g", scope=block, epsilon=1.5, signature=signed))
    after = empty_book.block

    assert after.guarantee.epsilon == 3.5
    assert after.guarantee.delta == before.guarantee.delta
    slots = after.caps[:-1] if currency is Currency.RDP else after.caps
    assert all(new > old for new, old in zip(slots, before.caps, strict=False))


def test_only_authorisers_grant(empty_book: Any, block: Scope) -> None:
    empty_book.open(block, authorisers=("Carol",))

    with pytest.raises(NotAuthorised, match="not an authoriser"):
        empty_book.do(Grant(key="g", scope=block, epsilon=1.0, signature=ADA))
    empty_book.do(Grant(key="g", scope=block, epsilon=1.0, signature=Signature("carol", "more")))


def test_a_commit_above_the_reservation_is_refused(book: Any, run: Any) -> None:
    book.reserve("r", run(5))

    with pytest.raises(CommitOutOfBounds, match="more than was reserved"):
        book.do(Commit(key="c", reservation="r", actual=run(6)))
    other = charge_of(Gaussian(1e3), relation=NeighbouringRelation.REPLACE_ONE)
    with pytest.raises(CommitOutOfBounds, match="in other terms"):
        book.do(Commit(key="c", reservation="r", actual=other))
    assert book.state.reservations["r"].status is Status.OPEN


def test_a_watermark_is_a_floor(book: Any, run: Any) -> None:
    book.reserve("r", run(9))
    book.do(Watermark(key="w1", reservation="r", consumed=run(3)))
    book.do(Watermark(key="w2", reservation="r", consumed=run(6)))

    with pytest.raises(CommitOutOfBounds, match="less than the watermark"):
        book.do(Watermark(key="w3", reservation="r", consumed=run(5)))
    with pytest.raises(CommitOutOfBounds, match="less than the watermark"):
        book.do(Commit(key="c", reservation="r", actual=run(5)))
    with pytest.raises(RefundAfterRelease, match="nothing was refunded"):
        book.do(Refund(key="f", reservation="r"))
    book.do(Commit(key="c", reservation="r", actual=run(6)))


def test_a_reservation_ends_once(book: Any, run: Any) -> None:
    book.reserve("r", run(2))
    book.do(Commit(key="c", reservation="r"))

    for command in (
        Commit(key="d", reservation="r"),
        Refund(key="d", reservation="r"),
        Watermark(key="d", reservation="r", consumed=run(2)),
        Expire(reservation="r"),
    ):
        with pytest.raises(ReservationClosed, match="committed"):
            book.do(command)


def test_a_reservation_whose_time_ran_out_is_committed_in_full(book: Any, run: Any) -> None:
    book.reserve("r", run(7))
    with pytest.raises(ReservationClosed, match="still open"):
        book.do(Expire(reservation="r"))
    book.wait_s(3600)

    for late in (Commit(key="c", reservation="r", actual=run(1)), Refund(key="f", reservation="r")):
        with pytest.raises(ReservationClosed, match="expired"):
            book.do(late)
    book.do(Expire(reservation="r"))
    assert book.block.committed[:12] == run(7).rdp
    assert book.do(Expire(reservation="r")).is_replay


def test_a_sign_of_life_keeps_a_reservation_open(book: Any, run: Any) -> None:
    book.reserve("r", run(7), ttl_s=60)
    for i in range(1, 6):
        book.wait_s(50)
        book.do(Watermark(key=f"w{i}", reservation="r", consumed=run(i), ttl_s=60))

    book.do(Commit(key="c", reservation="r", actual=run(5)))


def test_a_void_takes_two_persons(book: Any, run: Any) -> None:
    book.reserve("r", run(7))
    with pytest.raises(ReservationClosed, match="still open"):
        book.do(ProposeVoid(key="p", reservation="r", signature=ADA))
    book.do(Commit(key="c", reservation="r"))

    with pytest.raises(NotAuthorised, match="nobody has proposed"):
        book.do(ApproveVoid(key="a", reservation="r", signature=BOB))
    book.do(ProposeVoid(key="p", reservation="r", signature=ADA))
    with pytest.raises(NotAuthorised, match="second person"):
        book.do(ApproveVoid(key="a", reservation="r", signature=Signature(" Ada ", "again")))
    assert any(book.block.committed)
    book.do(ApproveVoid(key="a", reservation="r", signature=BOB))
    assert not any(book.block.total)
    with pytest.raises(ReservationClosed, match="voided"):
        book.do(ProposeVoid(key="p2", reservation="r", signature=ADA))


def test_the_same_key_a_hundred_times_charges_once(book: Any, run: Any) -> None:
    first = book.reserve("r", run(7))
    again = [book.reserve("r", run(7)) for _ in range(100)]

    assert all(decision.is_replay and decision.entry == first.entry for decision in again)
    assert book.block.reserved[:12] == run(7).rdp


def test_replays_in_any_order_answer_as_the_first_time(book: Any, run: Any) -> None:
    commands = [
        Reserve(
            key="r", protection=(protection("hospital-a", "2026-08"),), charge=run(5), ttl_s=60
        ),
        Watermark(key="w", reservation="r", consumed=run(2)),
        Commit(key="c", reservation="r", actual=run(3)),
    ]
    with pytest.raises(UnknownReservation):
        book.do(commands[2])
    answers = [book.do(command).entry for command in commands]
    state = book.state
    book.wait_s(10_000)

    assert [book.do(command).entry for command in reversed(commands)] == answers[::-1]
    assert book.state is state


def test_a_key_belongs_to_one_request(book: Any, run: Any) -> None:
    book.reserve("r", run(7))

    with pytest.raises(IdempotencyConflict, match="another request"):
        book.reserve("r", run(8))
    with pytest.raises(IdempotencyConflict, match="Reserve"):
        book.do(Commit(key="r", reservation="r"))


def test_a_window_throttles_and_never_raises_the_cap(empty_book: Any, run: Any, block: Any) -> None:
    book, org = empty_book, quota("clinic")
    book.open(block, 2.0)
    book.open(org, 100.0, window=Window(length_s=3600, epsilon=1.0))
    reserved = 0
    for hour in range(40):
        for i in range(40):
            try:
                book.reserve(f"{hour}-{i}", run(3), quota=(org,))
                reserved += 1
            except BudgetExhausted as refusal:
                limits = {s.limit for s in refusal.shortages}
                break
        if hour == 0:
            first_hour = reserved
            assert limits == {"window"}
        book.wait_s(3600)

    assert 0 < first_hour < reserved
    assert limits == {"lifetime"}
    assert book.block.epsilon_if_all_commit <= 2.0


def test_a_clock_that_went_back_may_not_reserve_but_may_end(book: Any, run: Any) -> None:
    book.reserve("r", run(1))
    book.wait_s(-200)
    at_us = book.reserve("close", run(1)).entry.at_us
    book.wait_s(-200)

    assert at_us == book.state.clock_us
    with pytest.raises(ClockWentBack, match="400 s behind"):
        book.reserve("s", run(1))
    book.do(Commit(key="c", reservation="r"))
    assert book.entries[-1].at_us == at_us


def test_a_clock_that_ran_ahead_commits_and_after_its_reset_refills_nothing(
    empty_book: Any, run: Any, block: Any, signed: Any
) -> None:
    book, org, year_s = empty_book, quota("clinic"), 366 * 86400
    book.open(block, 9.0)
    book.open(org, 9.0, window=Window(length_s=3600, epsilon=1.0))
    book.reserve("before", run(4), quota=(org,))
    book.wait_s(year_s)
    book.reserve("ahead", run(4), quota=(org,))
    used = book.state.scopes[org].window_used
    book.wait_s(-year_s)
    book.do(ResetClock(key="reset", signature=signed))

    account, held = book.state.scopes[org], book.state.reservations
    assert account.used_in_window(book.now_us) == used
    assert held["before"].status_at(book.now_us) is Status.EXPIRED
    assert held["ahead"].expires_at_us == book.now_us + 3600 * 1_000_000
    book.reserve("after", run(1))


@pytest.mark.parametrize(
    "change",
    [
        {"key": ""},
        {"key": "expiry:r"},
        {"key": "a\nb"},
        {"ttl_s": 0},
        {"ttl_s": 1.5},
        {"ttl_s": True},
        {"protection": ()},
        {"protection": (quota("clinic"),)},
        {"quota": (quota("clinic"), quota("clinic"))},
    ],
)
def test_a_reservation_outside_its_domain_cannot_be_made(
    change: dict[str, Any], run: Any, block: Any
) -> None:
    with pytest.raises(InvalidParameter):
        Reserve(**{"key": "r", "protection": (block,), "charge": run(1), "ttl_s": 60, **change})


@pytest.mark.parametrize(
    ("epsilon", "delta", "more"),
    [
        (math.inf, 1e-6, {}),
        (1.0, 1.0, {}),
        (1.0, 1e-6, {"currency": "euro"}),
        (1.0, 1e-6, {"window": Window(length_s=60, epsilon=1.0)}),
        (1.0, 1e-6, {"caps": (1,) * 14}),
        (1.0, 1e-6, {"authorisers": (" ",)}),
    ],
)
def test_an_account_outside_its_domain_cannot_be_opened(
    epsilon: float, delta: float, more: dict[str, Any], block: Any, signed: Any
) -> None:
    with pytest.raises(InvalidParameter):
        OpenAccount(
            key="o",
            scope=block,
            guarantee=Guarantee(epsilon=epsilon, delta=delta),
            signature=signed,
            **more,
        )


@pytest.mark.parametrize(("length_s", "epsilon"), [(0, 1.0), (60, -1.0), (60, math.nan)])
def test_a_window_outside_its_domain_cannot_be_made(length_s: int, epsilon: float) -> None:
    with pytest.raises(InvalidParameter):
        Window(length_s=length_s, epsilon=epsilon)


def test_a_signature_has_a_person_and_a_reason() -> None:
    for person, reason in (("", "why"), ("ada", " ")):
        with pytest.raises(InvalidParameter):
            Signature(person, reason)


def test_a_pure_act_fits_a_pure_account(empty_book: Any, block: Any) -> None:
    empty_book.open(block, 1.0, delta=0.0)
    empty_book.reserve("r", charge_of(Laplace(2.001)))

    with pytest.raises(BudgetExhausted):
        empty_book.reserve("s", charge_of(Laplace(1.9)))
    assert empty_book.block.epsilon_if_all_commit == pytest.approx(1 / 2.001)


def test_every_refusal_has_its_own_code_and_is_in_the_tree() -> None:
    tree = (errors.__doc__ or "").partition("BudgetError")[2]
    refusals = BudgetError.__subclasses__()

    assert len({kind.code for kind in (BudgetError, *refusals)}) == len(refusals) + 1
    core = [kind for kind in refusals if kind.__module__ == errors.__name__]
    assert [kind.__name__ for kind in core if f"+-- {kind.__name__} " not in tree] == []
