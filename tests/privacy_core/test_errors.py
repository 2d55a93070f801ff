from __future__ import annotations

import pytest

from privacy_core.errors import (
    CalibrationFailed,
    InvalidParameter,
    MalformedEvent,
    PrivacyError,
    UnsupportedEvent,
)

ERRORS = [
    InvalidParameter("delta", found=2, expected="a number in [0, 1]"),
    UnsupportedEvent(accountant="gdp", event="PoissonSampled(Gaussian)", reason="not Gaussian"),
    CalibrationFailed("noise_multiplier", lowest=0.01, highest=10, target="(1, 1e-05)-DP"),
    MalformedEvent("event is nested more than 32 deep"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_is_a_privacy_error_with_its_own_code(error: PrivacyError) -> None:
    assert isinstance(error, PrivacyError)
    assert error.code != PrivacyError.code


def test_codes_are_distinct() -> None:
    assert len({error.code for error in ERRORS}) == len(ERRORS)


def test_messages_say_what_was_found_what_was_expected_and_the_state() -> None:
    invalid, unsupported, failed, _ = (str(error) for error in ERRORS)

    assert invalid == "delta is 2, expected a number in [0, 1]"
    assert "'gdp' cannot price PoissonSampled(Gaussian): not Gaussian" in unsupported
    assert "between 0.01 and 10 meets (1, 1e-05)-DP; nothing was chosen" in failed


def test_callers_who_know_only_python_catch_value_errors() -> None:
    assert issubclass(InvalidParameter, ValueError)
    assert issubclass(MalformedEvent, ValueError)
