from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy

from privacy_core.accounting import epsilon_of
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation
from privacy_core.mechanisms import add_noise
from privacy_runtime.testing import SeededEntropy


@pytest.mark.parametrize("relation", list(NeighbouringRelation))
@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 7.0])
def test_an_answer_says_what_it_cost_and_that_is_what_was_asked(
    epsilon: float, mechanism: str, relation: NeighbouringRelation
) -> None:
    answer = add_noise(
        20.0, 2.0, epsilon=epsilon, delta=1e-6, mechanism=mechanism, relation=relation,
        entropy=SeededEntropy(1),
    )  # fmt: skip

    assert isinstance(answer.value, float)
    assert 0.99 * epsilon < answer.guarantee.epsilon <= epsilon
    assert answer.guarantee.relation is relation
    assert answer.guarantee.delta == (1e-6 if mechanism == "gaussian" else 0.0)
    priced = epsilon_of(answer.event, answer.guarantee.delta, relation=relation)
    assert priced == answer.guarantee.epsilon


def test_a_vector_gets_noise_in_every_place() -> None:
    answer = add_noise(np.zeros(5000), 1.0, epsilon=2.0, delta=1e-5, entropy=SeededEntropy(2))

    sigma = 1 / answer.event.noise_multiplier  # type: ignore[union-attr]
    assert isinstance(answer.value, np.ndarray)
    p = scipy.stats.kstest(answer.value, scipy.stats.norm(0, 1 / sigma).cdf).pvalue
    assert p > 1e-7  # false alarms: one in ten million


def test_the_documents_noise_test_passes_every_time_at_its_rate() -> None:
    """The documents draw 1000 answers and ask for a mean and deviation within a hair: 32 % pass.

    Here the mean of 1000 is within 5.5 standard errors: a false alarm in 26 million.
    """
    entropy = SeededEntropy(3)
    answers = [add_noise(100.0, 1.0, epsilon=1.0, delta=1e-5, entropy=entropy) for _ in range(1000)]

    sigma = answers[0].event.noise_multiplier  # type: ignore[union-attr]
    values = np.array([answer.value for answer in answers])
    assert abs(values.mean() - 100) < 5.5 * sigma / math.sqrt(1000)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"mechanism": "exponential"}, "chooses among candidates"),
        ({"mechanism": "uniform"}, "'gaussian' or 'laplace'"),
        ({"query_result": "text"}, "vector of numbers"),
        ({"query_result": ["a"]}, "vector of numbers"),
        ({"query_result": math.nan}, "finite"),
        ({"query_result": np.zeros((2, 2))}, "vector of numbers"),
        ({"sensitivity": 0.0}, "sensitivity"),
        ({"sensitivity": math.inf}, "sensitivity"),
        ({"epsilon": -1.0}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"relation": "any"}, "relation"),
    ],
)
def test_what_cannot_be_protected_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {
        "query_result": 1.0, "sensitivity": 1.0, "epsilon": 1.0, "delta": 1e-5, **change,
    }  # fmt: skip

    with pytest.raises(InvalidParameter, match=match):
        add_noise(**arguments, entropy=SeededEntropy(0))
