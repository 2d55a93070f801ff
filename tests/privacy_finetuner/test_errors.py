from __future__ import annotations

import pickle

import pytest

from privacy_finetuner import errors
from privacy_finetuner.errors import (
    ModelTrainingException,
    NonFiniteWeights,
    PrivacyBudgetExhaustedException,
    PrivacyError,
    UnsupportedLayer,
)


def test_every_error_is_in_the_tree_and_has_a_code_of_its_own() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, PrivacyError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert issubclass(NonFiniteWeights, ModelTrainingException)


def test_a_refused_layer_is_named() -> None:
    text = str(UnsupportedLayer("encoder.3", "BatchNorm1d", "it mixes"))
    assert text == "layer 'encoder.3' (BatchNorm1d): it mixes; nothing was spent"


def test_an_exhausted_budget_says_what_was_asked_what_is_left_and_the_state() -> None:
    error = PrivacyBudgetExhaustedException(
        epsilon_requested=2.0, epsilon_remaining=0.5, delta_requested=1e-5, delta_remaining=0.0
    )
    assert error.result is None
    assert all(part in str(error) for part in ("2", "0.5", "1e-05", "nothing was spent"))


def test_a_refused_layer_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UnsupportedLayer("a", "b", "c")))  # noqa: S301
    assert str(error) == str(UnsupportedLayer("a", "b", "c"))


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_says_what_it_means(name: str) -> None:
    assert getattr(errors, name).__doc__
