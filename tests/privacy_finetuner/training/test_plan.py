from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.dp_events import MalformedEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError, PrivacyBudgetExhaustedException
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.sampling import make_sampler
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

PRIVACY = PrivacyConfig(epsilon=3.0, delta=1e-5, accounting_mode="pld")
TRAINING = TrainingConfig(epochs=2, batch_size=50)


def plan_of(privacy: PrivacyConfig = PRIVACY, **options: Any) -> DPTrainingPlan:
    training = options.pop("training", TRAINING)
    return make_plan(privacy, training, examples=options.pop("examples", 1000), **options)


CASES: dict[str, dict[str, Any]] = {
    "adaptive": {},
    "fixed bound": {"privacy": replace(PRIVACY, adaptive_clipping=False)},
    "rdp": {"privacy": replace(PRIVACY, accounting_mode="rdp")},
    "replace one": {"privacy": replace(PRIVACY, relation=NeighbouringRelation.REPLACE_ONE)},
    "full batch": {"training": replace(TRAINING, batch_size=1000)},
    "users": {"unit": PrivacyUnit.USER, "max_examples_per_user": 3},
    "full batch of users": {
        "training": replace(TRAINING, batch_size=1000),
        "unit": PrivacyUnit.USER,
        "max_examples_per_user": 3,
    },
    "normalised": {"training": replace(TRAINING, clip_rule="normalise")},
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_run_costs_what_one_gaussian_a_step_costs_and_never_more_than_the_budget(
    case: str,
) -> None:
    options = dict(CASES[case])
    plan = plan_of(options.pop("privacy", PRIVACY), **options)
    whole = dp_sgd_event(
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sampling_probability,
        steps=plan.steps,
        max_examples_per_user=plan.max_examples_per_user,
    )
    expected = epsilon_of(whole, plan.delta, plan.accountant, relation=plan.relation)
    assert plan.epsilon() == pytest.approx(expected, rel=1e-9)
    assert plan.epsilon() <= 3.0
    assert plan.epsilon() >= 3.0 * 0.99


@pytest.mark.parametrize("case", CASES)
def test_a_plan_comes_back_from_json_as_it_was(case: str) -> None:
    options = dict(CASES[case])
    plan = plan_of(options.pop("privacy", PRIVACY), **options)
    assert DPTrainingPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "change",
    [{"version": 1}, {"steps": 1}, {"noise_multiplier": 9.0}, {"unknown": 1}, {"event": None}],
)
def test_a_plan_that_was_edited_is_refused(change: dict[str, Any]) -> None:
    document = json.loads(json.dumps(plan_of(CASES["users"].get("privacy", PRIVACY)).to_json()))
    changed = {**document, **change}
    if change.get("noise_multiplier"):
        changed["gradient_noise_multiplier"] = 9.0
    with pytest.raises((ConfigurationError, MalformedEvent)):
        DPTrainingPlan.from_json(changed)


@pytest.mark.parametrize("case", CASES)
def test_the_sampler_that_a_plan_names_is_the_one_it_was_priced_for(case: str) -> None:
    options = dict(CASES[case])
    plan = plan_of(options.pop("privacy", PRIVACY), **options)
    sampler = make_sampler(
        plan.sampler,
        dataset_size=plan.examples,
        sampling_probability=plan.sampling_probability,
        stream=KeyStream.fresh(SeededEntropy(0)),
    )
    assert sampler.event(plan.mechanism) == plan.step_event
    assert sampler.expected_batch_size == pytest.approx(plan.expected_batch_size)


def test_side_releases_are_paid_for_by_noisier_gradients() -> None:
    plan = plan_of()
    multipliers = [
        plan.gradient_noise_multiplier,
        plan.count_noise_multiplier,
        plan.statistics_noise_multiplier,
    ]
    precision = sum(m**-2 for m in multipliers if m is not None)
    assert precision == pytest.approx(plan.noise_multiplier**-2, rel=1e-9)
    assert precision <= plan.noise_multiplier**-2
    assert plan.noise_multiplier < plan.gradient_noise_multiplier < 1.02 * plan.noise_multiplier


def test_more_records_a_user_ask_for_more_noise() -> None:
    noises = [
        plan_of(unit=PrivacyUnit.USER, max_examples_per_user=k).noise_multiplier for k in (1, 2, 4)
    ]
    assert noises == sorted(noises)
    assert noises[2] > 1.5 * noises[0]


def test_given_noise_is_kept_where_it_is_enough() -> None:
    plan = plan_of(replace(PRIVACY, noise_multiplier=5.0))
    assert (plan.noise_multiplier, plan.steps) == (5.0, 40)
    assert plan.epsilon() < 3.0


def test_given_noise_ends_the_run_at_the_last_step_that_keeps_the_budget() -> None:
    plan = plan_of(replace(PRIVACY, noise_multiplier=0.75))
    assert 0 < plan.steps < plan.steps_asked == 40
    assert plan.epsilon() <= 3.0 < plan.epsilon(plan.steps + 1)


def test_noise_and_target_together_must_agree() -> None:
    with pytest.raises(ConfigurationError, match="use at least"):
        plan_of(replace(PRIVACY, noise_multiplier=0.6), must_fit=True)
    assert plan_of(replace(PRIVACY, noise_multiplier=5.0), must_fit=True).steps == 40


def test_noise_that_affords_not_one_step_is_refused() -> None:
    with pytest.raises(PrivacyBudgetExhaustedException):
        plan_of(replace(PRIVACY, epsilon=0.01, noise_multiplier=0.5))


def test_no_examples_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no examples"):
        plan_of(examples=0)


def test_a_batch_larger_than_the_data_is_the_data() -> None:
    plan = plan_of(examples=10)
    assert (plan.expected_batch_size, plan.sampler, plan.sampling_probability) == (
        10,
        "full_batch",
        1.0,
    )


def test_no_step_costs_nothing() -> None:
    assert plan_of().epsilon(0) == 0.0
