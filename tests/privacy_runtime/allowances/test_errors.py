"""The tree of errors is the one that is drawn, and each error says what state things are in."""

from __future__ import annotations

import inspect

from privacy_core.errors import PrivacyError
from privacy_runtime.allowances import errors
from privacy_runtime.allowances.errors import (
    AllowanceExhausted,
    AllowancesUnavailable,
    InvalidAmount,
    KeyReused,
    ReservationEnded,
    UnknownAccount,
    UnknownReservation,
)


def test_every_error_is_in_the_tree_with_a_code_of_its_own() -> None:
    found = [
        member
        for member in vars(errors).values()
        if inspect.isclass(member) and issubclass(member, errors.AllowancesError)
    ]
    below = [member for member in found if member is not errors.AllowancesError]

    assert [c.__name__ for c in below if f"+-- {c.__name__} " not in (errors.__doc__ or "")] == []
    assert len({c.code for c in found}) == len(found) >= 8
    assert all(issubclass(c, PrivacyError) for c in found)


def test_every_message_ends_with_the_state_and_holds_no_key() -> None:
    refusals = (
        AllowancesUnavailable("store", reason="reason"),
        AllowanceExhausted({"a": (5, 2)}),
        UnknownAccount(["a"]),
        KeyReused("request-77"),
        ReservationEnded("request-77"),
        UnknownReservation("request-77"),
        UnknownReservation("request-77", expired=True),
        InvalidAmount("an amount is -1", expected="more"),
    )
    for refusal in refusals:
        assert str(refusal).endswith(("nothing was changed", "nothing was held"))
        assert "request-77" not in f"{refusal!s} {refusal!r}"


def test_a_message_names_a_few_accounts_and_counts_the_others() -> None:
    shortages = {f"p{k}": (5, k) for k in range(200)}

    assert str(AllowanceExhausted(shortages)).count("was asked for") == 8
    assert "and 192 more; nothing was held" in str(AllowanceExhausted(shortages))
    assert "p7 and 192 more" in str(UnknownAccount(list(shortages)))
