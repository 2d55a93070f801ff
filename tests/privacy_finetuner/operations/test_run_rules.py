"""Rules over one run, each against what it should and should not fire at."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_finetuner.operations.figures import RunFigures
from privacy_finetuner.operations.quarantine import SourceDigest
from privacy_finetuner.operations.run_rules import (
    RunFacts,
    SealedFact,
    fall_stds,
    judged_run,
    outlier_strengths,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def facts(figures: RunFigures | None = None, **given_: Any) -> RunFacts:
    return RunFacts(tenant="o_1", run="r", now=NOW, figures=figures or RunFigures(), **given_)


def rules(of: RunFacts) -> list[str]:
    return [each.rule for each in judged_run(of)]


def test_nothing_gives_no_alert() -> None:
    assert judged_run(facts()) == []


@pytest.mark.parametrize(
    ("norm", "std", "clip_norm", "fires"),
    [
        (3.1, None, None, True),
        (2.9, None, None, False),
        (6.5, None, 3.0, False),
        (1.3, 0.05, 1.0, True),
        (1.1, 0.05, 1.0, False),
    ],
)
def test_a_norm_is_compared_with_what_clipping_and_noise_admit(
    norm: float, std: float | None, clip_norm: float | None, fires: bool
) -> None:
    figures = RunFigures(gradient_norm=norm, gradient_norm_std=std, clip_norm=clip_norm)

    assert rules(facts(figures)) == (["gradient_bound"] if fires else [])


def test_a_fall_is_measured_in_the_noise_of_both_sides() -> None:
    figures = RunFigures(accuracy=0.7, accuracy_std=0.06)
    few = fall_stds(facts(figures, references=[(0.9, 0.06)]))
    many = fall_stds(facts(figures, references=[(0.9, 0.06)] * 9))
    assert few is not None
    assert many is not None

    assert few == pytest.approx(0.2 / np.sqrt(2 * 0.06**2 + 2 * 0.03**2))
    assert many > few
    assert fall_stds(facts(figures)) is None


def test_a_run_as_good_as_those_before_it_did_not_fall() -> None:
    figures = RunFigures(accuracy=0.88, accuracy_std=0.06)

    assert rules(facts(figures, references=[(0.9, 0.06)] * 2)) == []


def test_without_its_own_noise_a_figure_has_that_of_its_plan() -> None:
    given_ = [(0.9, 0.06), (0.9, 0.06)]
    silent = fall_stds(facts(RunFigures(accuracy=0.7), references=given_))

    assert silent == fall_stds(
        facts(RunFigures(accuracy=0.7, accuracy_std=0.06), references=given_)
    )


@given(st.integers(4, 12), st.integers(0, 11), st.integers(0, 2**31))
def test_one_long_update_is_the_outlier_whoever_sends_it(silos: int, place: int, seed: int) -> None:
    chance = np.random.RandomState(seed)  # noqa: TID251  any updates will do
    updates = {f"s{n}": chance.normal(size=16) for n in range(silos)}
    bad = f"s{place % silos}"
    updates[bad] = updates[bad] + 100.0
    found = outlier_strengths(updates)

    assert max(found, key=lambda silo: found[silo]) == bad
    assert found[bad] > 1


def test_three_silos_are_too_few_to_call_one_of_them_an_outlier() -> None:
    assert outlier_strengths({f"s{n}": np.full(4, 10.0**n) for n in range(3)}) == {}


def test_equal_updates_have_no_outlier() -> None:
    assert set(outlier_strengths({f"s{n}": np.ones(4) for n in range(5)}).values()) == {0.0}


@pytest.mark.parametrize("bad", [np.ones(3), np.array([np.nan] * 4)])
def test_updates_that_cannot_be_compared_are_refused(bad: Any) -> None:
    updates = {f"s{n}": np.ones(4) for n in range(5)}

    with pytest.raises(InvalidParameter):
        outlier_strengths({**updates, "s9": bad})


@pytest.mark.parametrize("is_changed", [True, False])
def test_a_source_is_judged_by_its_digests(is_changed: bool) -> None:
    source = SourceDigest(
        name="notes", registered="a" * 64, found=("b" if is_changed else "a") * 64
    )

    assert rules(facts(source=source)) == (["source_changed"] if is_changed else [])


@pytest.mark.parametrize("code", [None, "seal_broken", "rolled_back"])
def test_a_sealed_state_is_judged_by_what_verifying_it_found(code: str | None) -> None:
    found = judged_run(facts(sealed=[SealedFact(series="r", number=3, code=code)]))

    assert [each.severity for each in found] == ([] if code is None else ["critical"])


def test_an_alert_names_no_figure_but_the_released_ones() -> None:
    figures = RunFigures(epsilon_used=1.9, epsilon_total=2.0, accuracy=0.2, accuracy_std=0.06)
    found = judged_run(facts(figures, references=[(0.9, 0.06)] * 2))

    shown = {name for alert in found for name in alert.evidence[0]}
    assert shown == {"epsilon_used", "epsilon_total", "accuracy", "standard_deviations"}
