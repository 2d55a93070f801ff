"""Whole runs with each way to a gradient: priced as what it is, and finished in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training import run_record
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.testing import SeededEntropy

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3, accounting_mode="pld")
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5), "who": f"u{i % 12}"} for i in range(36)]


def train(model: Path, folder: Path, **options: Any) -> tuple[TrainingResult, PrivateTrainer]:
    trainer = PrivateTrainer(
        str(model), PRIVACY, "cpu", enable_context_guard=False, entropy=SeededEntropy(1)
    )
    arguments = {"epochs": 2, "batch_size": 6, "learning_rate": 1e-3, **options}
    return trainer.train(RECORDS, output_dir=str(folder), **arguments), trainer


def plan_in(folder: Path) -> DPTrainingPlan:
    state = run_record.read_state(folder)
    assert state is not None
    assert state.plan is not None
    return DPTrainingPlan.from_json(dict(state.plan))


def test_sampled_users_are_priced_as_examples_are(llama_folder: Path, tmp_path: Path) -> None:
    result, _ = train(
        llama_folder, tmp_path, unit="user", user_field="who", max_examples_per_user=3,
        user_sampling=True,
    )  # fmt: skip
    plan = plan_in(tmp_path)

    assert (plan.examples, plan.expected_batch_size, plan.steps) == (12, 6, 4)
    assert plan.unit is PrivacyUnit.USER
    as_examples = dp_sgd_event(noise_multiplier=plan.noise_multiplier, sample_rate=0.5, steps=4)
    assert plan.epsilon() == pytest.approx(epsilon_of(as_examples, 1e-3, "pld"), rel=1e-6)
    assert result.guarantee.unit is PrivacyUnit.USER
    assert "a user" in result.engine


def test_an_evaluation_after_user_sampling_covers_all_examples_of_a_user(
    llama_folder: Path, tmp_path: Path
) -> None:
    user = {"unit": "user", "user_field": "who", "max_examples_per_user": 3}
    _, trainer = train(
        llama_folder, tmp_path, user_sampling=True, target_epsilon=2.0, target_delta=5e-4, **user
    )

    spread = trainer.evaluate(RECORDS, epsilon=0.5, delta=1e-4, **user).loss_std
    single = trainer.evaluate(
        [{"text": r["text"]} for r in RECORDS], epsilon=0.5, delta=1e-4
    ).loss_std

    assert spread == pytest.approx(3 * single)


def test_zeroth_order_runs_saves_and_resumes(llama_folder: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(record: Any) -> None:
        if record.step == 3:
            raise Stopped

    options = {
        "gradient": "forward", "directions": 2, "optimizer": "sgd", "learning_rate": 1e-6,
        "save_steps": 2,
    }  # fmt: skip
    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, on_step=stop, **options)

    result, _ = train(llama_folder, tmp_path, resume=True, **options)

    assert result.engine == "zeroth order, 2 directions a step"
    assert result.steps == plan_in(tmp_path).steps
    assert plan_in(tmp_path).epsilon() <= 4.0


def test_views_train_in_one_backward_pass(llama_folder: Path, tmp_path: Path) -> None:
    result, _ = train(llama_folder, tmp_path, views=2, epochs=1)
    assert result.engine.startswith("one backward pass")
    with pytest.raises(ConfigurationError, match="same view"):
        train(llama_folder, tmp_path / "b", views=2, gradient="forward", optimizer="sgd")


def test_the_average_is_handed_over_and_survives_an_interruption(
    llama_folder: Path, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(record: Any) -> None:
        if record.step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, weight_average="ema", on_step=stop, save_steps=4)

    result, trainer = train(llama_folder, tmp_path, weight_average="ema", resume=True, save_steps=4)

    newest = Path(result.checkpoints[-1])
    newest = newest if newest.is_absolute() else tmp_path / newest.name
    kept = torch.load(newest / "optimizer.pt", weights_only=True)["state"]
    parameters = [p for p in result.final_model.parameters() if p.requires_grad]
    assert len(kept) == len(parameters)
    for number, parameter in enumerate(parameters):
        assert torch.equal(parameter, kept[number]["weight_average"])
    assert trainer.evaluate(RECORDS, privacy_safe=False).loss < 7.0


def test_auto_runs_end_to_end(llama_folder: Path, tmp_path: Path) -> None:
    rates = []
    result, _ = train(
        llama_folder,
        tmp_path,
        learning_rate="auto",
        on_step=lambda r: rates.append(r.learning_rate),
    )
    assert 1e-3 < rates[0] < 0.1
    assert plan_in(tmp_path).clip_rule == "normalise"
    assert result.privacy_spent.epsilon <= 4.0


def test_drawing_users_without_the_unit_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unit 'user'"):
        train(llama_folder, tmp_path, user_sampling=True)


def test_layers_clipped_one_by_one_are_priced_as_a_whole_gradient_is(
    llama_folder: Path, tmp_path: Path
) -> None:
    result, _ = train(llama_folder, tmp_path, clip_rule="bound_layers")
    plan = plan_in(tmp_path)

    assert (plan.clip_rule, plan.count_noise_multiplier) == ("bound_layers", None)
    as_usual = dp_sgd_event(
        noise_multiplier=plan.noise_multiplier, sample_rate=6 / 36, steps=plan.steps
    )
    assert plan.epsilon() == pytest.approx(epsilon_of(as_usual, 1e-3, "pld"), rel=1e-6)
    assert all(epoch.clipping_rate is None for epoch in result.training_history.epochs)


@pytest.mark.parametrize(
    "options",
    [
        {"gradient": "forward", "optimizer": "sgd"},
        {"unit": "user", "user_field": "who", "max_examples_per_user": 3, "user_sampling": True},
    ],
)
def test_layers_cannot_be_clipped_one_by_one_where_there_are_none(
    options: dict[str, Any], llama_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="bound_layers"):
        train(llama_folder, tmp_path, clip_rule="bound_layers", **options)
    state = run_record.read_state(tmp_path)
    assert state is None or state.charged_steps == 0
