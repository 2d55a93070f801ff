from __future__ import annotations

import pytest

from privacy_core.accounting.normal_form import Phase, describe, normal_form
from privacy_core.dp_events import (
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    PoissonSampled,
    SampledWithoutReplacement,
    SelfComposed,
    TruncatedPoissonSampled,
)


@pytest.mark.parametrize(
    ("event", "same"),
    [
        (SelfComposed(Gaussian(2.0), 4), Gaussian(1.0)),
        (Composed((Gaussian(2.0),) * 4), Gaussian(1.0)),
        (PoissonSampled(1.0, Gaussian(2.0)), Gaussian(2.0)),
        (
            PoissonSampled(0.5, PoissonSampled(0.5, Gaussian(2.0))),
            PoissonSampled(0.25, Gaussian(2.0)),
        ),
        (
            PoissonSampled(0.5, Composed((Gaussian(2.0),) * 4)),
            PoissonSampled(0.5, Gaussian(1.0)),
        ),
        (MixtureOfGaussians(3.0, (0.0, 1.5), (0.75, 0.25)), PoissonSampled(0.25, Gaussian(2.0))),
        (MixtureOfGaussians(3.0, (1.5,), (1.0,)), Gaussian(2.0)),
        (
            PoissonSampled(0.5, MixtureOfGaussians(4.0, (1.0, 2.0), (0.5, 0.5))),
            MixtureOfGaussians(2.0, (0.0, 0.5, 1.0), (0.5, 0.25, 0.25)),
        ),
        (TruncatedPoissonSampled(5, 0.5, 5, Gaussian(2.0)), PoissonSampled(0.5, Gaussian(2.0))),
        (Composed((Laplace(1.0), Laplace(1.0))), SelfComposed(Laplace(1.0), 2)),
    ],
)
def test_two_descriptions_have_one_normal_form(event: DpEvent, same: DpEvent) -> None:
    assert normal_form(event) == normal_form(same)


@pytest.mark.parametrize(
    ("event", "other"),
    [
        (PoissonSampled(0.5, SelfComposed(PoissonSampled(0.5, Gaussian(1.0)), 2)), 0.25),
        (SampledWithoutReplacement(10, 5, Gaussian(1.0)), 0.5),
        (TruncatedPoissonSampled(10, 0.5, 9, Gaussian(1.0)), 0.5),
    ],
)
def test_what_is_not_the_same_is_kept_apart(event: DpEvent, other: float) -> None:
    assert normal_form(event) != normal_form(PoissonSampled(other, Gaussian(1.0)))


def test_equal_phases_are_merged_and_counted() -> None:
    step = PoissonSampled(0.1, Gaussian(1.0))

    form = normal_form(Composed((SelfComposed(step, 3), Laplace(2.0), step)))

    assert form.phases == (Phase(event=step, count=4), Phase(event=Laplace(2.0), count=1))


def test_a_refusal_can_name_the_act_without_its_numbers() -> None:
    event = SelfComposed(PoissonSampled(0.1, Composed((Gaussian(1.0), Laplace(1.0)))), 3)

    assert describe(event) == "SelfComposed(PoissonSampled(Composed(Gaussian, Laplace)))"
