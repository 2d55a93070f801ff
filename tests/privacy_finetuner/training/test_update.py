"""From a noisy gradient to weights: what is settled, what follows the clip norm, what survives."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.engine import BatchRecord, BoundedSum, Clip
from privacy_finetuner.training.noise import ROUNDING_MARGIN
from privacy_finetuner.training.optimizers import NOISE_STD
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.public_rules import public_learning_rate, public_momentum
from privacy_finetuner.training.update import Update, learning_rate, make_update, settled


class Weights:
    """A gradient source that is only its parameters."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]

    def add(self, batch: Any, clip: Clip) -> BatchRecord:
        raise NotImplementedError

    def take(self, clip: Clip) -> BoundedSum:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


def plan_of(training: TrainingConfig, **privacy: Any) -> DPTrainingPlan:
    return make_plan(PrivacyConfig(epsilon=4.0, delta=1e-3, **privacy), training, examples=400)


def update_of(weights: Weights, **options: Any) -> Update:
    training = TrainingConfig(epochs=1, batch_size=20, **options)
    return make_update(training, plan_of(training), weights)


def steps(update: Update, weights: Weights, numbers: range, clip_norms: list[float]) -> None:
    """Steps on a gradient that scales with the clip norm, as clipped ones do."""
    for step in numbers:
        clip_norm = clip_norms[step]
        update.prepare(step, clip_norm)
        for parameter in weights.parameters:
            size = torch.arange(parameter.numel(), dtype=torch.float32).view_as(parameter)
            parameter.grad = clip_norm * torch.sin(size + step)
        update.optimizer.step()
        update.follow(step + 1)


@pytest.mark.parametrize("name", ["adamw", "adamax", "adambc"])
def test_adams_course_does_not_depend_on_how_the_clip_norm_moves(name: str) -> None:
    """Powers of two, so that the rescaling is exact but for the noise's variance."""
    options = {"eps": 1e-30} if name != "adambc" else {}
    kept, moving = Weights((3, 2)), Weights((3, 2))
    for weights, norms in ((kept, [1.0] * 10), (moving, [1, 2, 4, 4, 2, 8, 8, 0.5, 1, 1.0])):
        update = update_of(weights, optimizer=name, learning_rate=0.01, optimizer_options=options)
        steps(update, weights, range(10), norms)

    torch.testing.assert_close(kept.parameters, moving.parameters, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "adambc", "sgd"])
@pytest.mark.parametrize("average", ["polynomial", "ema"])
def test_half_and_half_is_the_whole(name: str, average: str) -> None:
    norms = [1.0, 1.5, 2.0, 2.0, 3.0, 2.5, 1.0, 0.7, 0.6, 0.5]
    options: dict[str, Any] = {
        "optimizer": name, "learning_rate": 0.01, "weight_average": average
    }  # fmt: skip
    whole, first, second = Weights((4,)), Weights((4,)), Weights((4,))
    undisturbed = update_of(whole, **options)
    steps(undisturbed, whole, range(10), norms)

    before = update_of(first, **options)
    steps(before, first, range(5), norms)
    after = update_of(second, **options)
    second.parameters[0].data.copy_(first.parameters[0].data)
    after.optimizer.load_state_dict(copy.deepcopy(before.optimizer.state_dict()))
    steps(after, second, range(5, 10), norms)

    assert torch.equal(whole.parameters[0], second.parameters[0])
    undisturbed.settle()
    after.settle()
    assert torch.equal(whole.parameters[0], second.parameters[0])


def test_adambc_is_told_the_noise_of_the_coming_step() -> None:
    training = TrainingConfig(epochs=1, batch_size=20, optimizer="adambc")
    plan = plan_of(training)
    update = make_update(training, plan, Weights((2,)))

    update.prepare(0, 3.0)

    expected = plan.gradient_noise_multiplier * (1 + ROUNDING_MARGIN) * 3.0 / 20
    assert update.optimizer.param_groups[0][NOISE_STD] == pytest.approx(expected)


def test_auto_settles_rate_momentum_and_average_from_shapes_and_steps() -> None:
    training = TrainingConfig(learning_rate="auto")

    found = settled(training, [(64, 64), (172, 64), (64, 64), (64,)], steps=40)

    assert found.learning_rate == pytest.approx(0.25 / 64)
    assert found.optimizer_options == {"betas": (0.75, 0.999)}
    assert found.weight_average == "polynomial"


def test_what_the_user_chose_stays() -> None:
    given = TrainingConfig(
        learning_rate="auto", weight_average="none", optimizer_options={"betas": (0.5, 0.9)}
    )
    number = TrainingConfig(learning_rate=0.1)

    assert settled(given, [(8, 8), (8, 8)], steps=40).optimizer_options == {"betas": (0.5, 0.9)}
    assert settled(given, [(8, 8), (8, 8)], steps=40).weight_average == "none"
    assert settled(number, [(8, 8)], steps=40).weight_average == "none"
    assert settled(number, [(8, 8)], steps=40).optimizer_options is None


def test_the_clip_rule_is_settled_with_the_rate() -> None:
    assert TrainOptions().training(learning_rate="auto").clip_rule == "normalise"
    assert TrainOptions().training(learning_rate=0.1).clip_rule == "bound"
    assert TrainOptions(clip_rule="bound").training(learning_rate="auto").clip_rule == "bound"


def test_the_public_rules_fall_with_width_and_run() -> None:
    narrow = public_learning_rate("adamw", [(64, 64)] * 3)
    wide = public_learning_rate("adamw", [(768, 768)] * 3)
    adapters = public_learning_rate("adamw", [(8, 768), (768, 8)] * 3)

    assert narrow == pytest.approx(12 * wide)
    assert wide < adapters < 0.02
    assert public_learning_rate("adamw", [(77, 384), (77,)]) == pytest.approx(6 / 384**0.5)
    assert public_learning_rate("adamw", [(16,), (4,)]) == pytest.approx(0.25 / 16)
    assert [public_momentum(n) for n in (5, 10, 40, 1000)] == [0.0, 0.0, 0.75, 0.9]


def test_what_has_no_rule_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="has a rule for"):
        settled(TrainingConfig(learning_rate="auto", optimizer="sgd"), [(8, 8)], steps=4)
    with pytest.raises(ConfigurationError, match="takes a plan"):
        learning_rate(TrainingConfig(learning_rate="auto"), step=0, steps=4)


def test_adambc_and_correlated_noise_are_refused_together() -> None:
    training = TrainingConfig(epochs=4, batch_size=20, optimizer="adambc")
    plan = plan_of(training, noise="banded", accounting_mode="pld")

    with pytest.raises(ConfigurationError, match="independent noise"):
        make_update(training, plan, Weights((2,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adamw"}, "expected 'sgd'"),
        ({"optimizer": "sgd", "weight_average": "ema"}, "second copy"),
        ({"optimizer": "sgd", "learning_rate": "auto"}, "no rule yet"),
        ({"optimizer": "sgd", "user_sampling": True}, "user_sampling"),
    ],
)
def test_zeroth_order_is_refused_what_it_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TrainingConfig(gradient="forward", **options)
