"""A bound is what its own counts come to, whatever made it; and a forged one is not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from privacy_core.auditing import (
    AuditFinding,
    Bonferroni,
    EpsilonBound,
    NamedThreshold,
    Ranks,
    Shape,
    Split,
    ceiling,
    clopper_pearson_epsilon,
    gaussian_estimate,
    judge,
    one_run_epsilon,
    one_run_f_dp_epsilon,
)
from privacy_core.auditing.guesses import choice_from_json, choice_to_json
from privacy_core.auditing.recount import count_faults, recounted, require_counted
from privacy_core.errors import InvalidParameter

DELTA = 1e-5
CHOICES = [Split(seed=4), Split(fraction=0.5, abstain_out=True), Ranks(k_in=50, k_out=20),
           Bonferroni(steps=3, seed=2)]  # fmt: skip
Made = Callable[[np.ndarray, np.ndarray], EpsilonBound]


def makers() -> list[Any]:
    found: list[Any] = []
    for choice in CHOICES:
        for name, by in (("one_run", one_run_epsilon), ("f_dp", one_run_f_dp_epsilon)):
            found.append(
                pytest.param(
                    lambda s, c, by=by, choice=choice: by(s, c, delta=DELTA, choice=choice),
                    id=f"{name}-{type(choice).__name__}",
                )
            )
    found += [
        pytest.param(
            lambda s, c: one_run_f_dp_epsilon(s, c, delta=DELTA, shape=Shape.APPROXIMATE),
            id="approximate",
        ),
        pytest.param(lambda s, c: one_run_epsilon(s, c, delta=0.0, confidence=0.9), id="pure"),
        pytest.param(lambda s, c: clopper_pearson_epsilon(s, c, delta=DELTA), id="rates"),
        pytest.param(
            lambda s, c: clopper_pearson_epsilon(s, c, delta=DELTA, choice=1.0, independent=True),
            id="rates of runs",
        ),
        pytest.param(lambda s, c: gaussian_estimate(s, c, delta=DELTA), id="estimate"),
    ]
    return found


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)  # noqa: TID251 -- scores of a test, the same every time
    included = generator.random(400) < 0.5
    return generator.normal(size=400) + 2 * included, included


@pytest.mark.parametrize("made", makers())
def test_every_bound_can_be_counted_again(made: Made, answers: Any) -> None:
    bound = made(*answers)

    assert bound.epsilon > 0
    assert recounted(bound) == (bound.epsilon, bound.mu)
    require_counted(bound)


CHANGES: list[dict[str, Any]] = [
    {"epsilon": 0.01}, {"epsilon": 30.0}, {"epsilon": math.nan}, {"correct": 60},
    {"guesses": 10**6}, {"counted": 399}, {"canaries": 800}, {"canaries": 10},
    {"level": 0.5}, {"level": 1.5}, {"confidence": 0.5001}, {"confidence": 1.0},
    {"delta": 0.01}, {"delta": 1.0}, {"delta_floor": 0.5}, {"mu": 0.3},
    {"choice": NamedThreshold(0.5)}, {"choice": Ranks(k_in=1, k_out=1)},
    {"counts": (200, 200, 0, 200)}, {"counts": (1, 2, 3, 4)},
    {"assumes": ("nothing at all",)},
]  # fmt: skip


@pytest.mark.parametrize("made", makers())
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_number_that_was_changed_does_not_follow(
    made: Made, answers: Any, change: dict[str, Any]
) -> None:
    """Unless it is the very same audit: another threshold, named, with the same four counts."""
    bound = made(*answers)
    forged = replace(bound, **change)
    if not count_faults(forged) and recounted(forged) == (forged.epsilon, forged.mu):
        assert recounted(bound) == (forged.epsilon, forged.mu)
        return

    with pytest.raises(InvalidParameter):
        require_counted(forged)


@pytest.mark.parametrize("choice", [*CHOICES, NamedThreshold(-0.5)], ids=str)
def test_a_choice_comes_back_from_json(choice: Any) -> None:
    assert choice_from_json(json.loads(json.dumps(choice_to_json(choice)))) == choice


@pytest.mark.parametrize(
    "data",
    [{}, {"kind": "best"}, {"kind": "split"}, {"kind": "split", "seed": 1, "fraction": "0.25",
     "abstain_out": False}, {"kind": "ranks", "k_in": True, "k_out": 1, "seed": 0},
     {"kind": "ranks", "k_in": 1, "k_out": 1, "seed": 0, "more": 1},
     {"kind": "split", "seed": 1, "fraction": 0.25, "abstain_out": 0},
     {"kind": "threshold", "value": math.inf}],
    ids=str,
)  # fmt: skip
def test_what_is_no_choice_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        choice_from_json(data)


def test_a_written_finding_is_counted_when_it_is_read(answers: Any) -> None:
    """The text may say the same lie as the number: the guesses do not."""
    bound = one_run_epsilon(*answers, delta=DELTA)
    finding = judge(
        replace(bound, epsilon=0.01),
        theory=8.0,
        ceiling=ceiling(8.0, DELTA, 400, trials=10),
    )

    with pytest.raises(InvalidParameter, match=r"bound\.epsilon"):
        AuditFinding.from_json(finding.to_json())
