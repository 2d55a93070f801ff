from __future__ import annotations

import re
from pathlib import Path

import pytest

from privacy_core.redaction import recognizers
from privacy_core.redaction.calibration import (
    PRIOR_WEIGHT,
    RULES,
    SCORES,
    posterior,
    score,
    strength,
)
from privacy_core.redaction.precision_table import COUNTS

SOURCES = Path(recognizers.__file__).parent


def test_every_rule_a_recognizer_names_has_a_score() -> None:
    named: set[str] = set()
    for path in SOURCES.glob("*.py"):
        named |= set(re.findall(r'"([a-z]+\.[a-z_0-9]+)"', path.read_text(encoding="utf-8")))
    rules = {name for name in named if name.split(".")[0] in {r.split(".")[0] for r in RULES}}
    assert rules
    assert rules <= set(RULES), rules - set(RULES)


def test_every_count_belongs_to_a_rule_and_is_possible() -> None:
    assert set(COUNTS) <= set(RULES)
    assert all(0 <= right <= seen for right, seen in COUNTS.values())


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_score_lies_between_the_prior_and_what_was_counted(rule: str) -> None:
    right, seen = COUNTS.get(rule, (0, 0))
    prior = RULES[rule].prior
    measured = right / seen if seen else prior
    low, high = min(prior, measured), max(prior, measured)
    assert low - 1e-12 <= SCORES[rule] <= high + 1e-12


def test_the_posterior_is_the_mean_of_a_beta_distribution() -> None:
    # Beta(a, b) with a + b = weight has mean a / (a + b); observations add to a and b
    a, b = 0.8 * PRIOR_WEIGHT, 0.2 * PRIOR_WEIGHT
    assert posterior(0.8, 30, 40) == pytest.approx((a + 30) / (a + b + 40))
    assert posterior(0.8, 0, 0) == pytest.approx(0.8)


def test_a_checksum_is_worth_more_than_a_form() -> None:
    assert score("iban.checksum") > score("iban.context") > score("postal.netherlands")
    assert strength("iban.checksum") > strength("iban.context") > strength("date.year")


def test_a_rule_of_others_counts_as_form_alone() -> None:
    assert score("acme.badge") == 0.5
    assert strength("names.crf") == 1
