from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    DatasetError,
    ModelTrainingException,
    PrivacyBudgetExhaustedException,
)
from privacy_finetuner.training.loop import StepRecord
from privacy_runtime.testing import ManualClock, SeededEntropy

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8}


@pytest.fixture
def trainer(llama_folder: Path) -> PrivateTrainer:
    return make(llama_folder)


def make(model: Path, privacy: PrivacyConfig = PRIVACY, **options: Any) -> PrivateTrainer:
    return PrivateTrainer(str(model), privacy, device="cpu", **options)


def weights(trainer: PrivateTrainer) -> torch.Tensor:
    assert trainer._loaded is not None
    return torch.cat([p.detach().flatten() for p in trainer._loaded.model.parameters()])


def test_a_run_returns_what_it_promises(trainer: PrivateTrainer, tmp_path: Path) -> None:
    result = trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK)
    assert 0 < result.privacy_spent.epsilon <= 4.0
    assert result.privacy_spent.delta == 1e-3
    assert result.guarantee.epsilon == result.privacy_spent.epsilon
    assert (result.steps, result.sample_rate, result.examples) == (8, 0.25, 32)
    assert [Path(p).name for p in result.checkpoints] == ["checkpoint-8"]
    assert len(result.training_history.loss) == 2
    assert result.training_history.epsilon[-1] == result.privacy_spent.epsilon
    document = json.loads((tmp_path / "training_result.json").read_text())
    assert document["epsilon"] == result.privacy_spent.epsilon
    assert {"truncated", "dropped", "unsupervised"}.isdisjoint(document)


def test_a_trained_model_is_left_ready_for_use(trainer: PrivateTrainer, tmp_path: Path) -> None:
    model = trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK).final_model
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_second_run_without_budget_spends_nothing(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.train(RECORDS, output_dir=str(tmp_path / "a"), **QUICK)
    before = trainer.get_privacy_report()
    kept = weights(trainer)
    with pytest.raises(PrivacyBudgetExhaustedException):
        trainer.train(RECORDS, output_dir=str(tmp_path / "b"), **QUICK)
    assert trainer.get_privacy_report().lifetime_spent == before.lifetime_spent
    assert torch.equal(weights(trainer), kept)
    assert not (tmp_path / "b").exists()


def test_a_new_budget_keeps_the_lifetime(trainer: PrivateTrainer, tmp_path: Path) -> None:
    first = trainer.train(RECORDS, output_dir=str(tmp_path / "a"), **QUICK)
    trainer.reset_privacy_budget(2.0, 1e-3)
    report = trainer.get_privacy_report()
    assert report.privacy_spent.epsilon == 0
    assert report.privacy_remaining.epsilon == 2.0
    second = trainer.train(RECORDS, output_dir=str(tmp_path / "b"), **QUICK)
    assert second.privacy_spent.epsilon <= 2.0
    total = first.privacy_spent.epsilon + second.privacy_spent.epsilon
    assert trainer.get_privacy_report().lifetime_spent.epsilon == pytest.approx(total)


def test_the_budget_stops_the_run_before_the_step_that_would_exceed_it(
    llama_folder: Path, tmp_path: Path
) -> None:
    trainer = make(llama_folder, PrivacyConfig(epsilon=4.0, delta=1e-3, noise_multiplier=1.2))
    with pytest.raises(PrivacyBudgetExhaustedException) as caught:
        trainer.train(RECORDS, epochs=50, batch_size=8, output_dir=str(tmp_path))
    result = caught.value.result
    assert result is not None
    assert 0 < result.steps < 200
    assert result.privacy_spent.epsilon <= 4.0 < caught.value.epsilon_requested
    assert (tmp_path / "model.safetensors").is_file()
    assert (tmp_path / "privacy_report.json").is_file()


def test_a_target_that_came_to_nothing_raises_no_budget(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    """Once a mistyped path with target_epsilon=100 left a budget of 100 for the next run."""
    with pytest.raises(DatasetError):
        trainer.train(str(tmp_path / "missing.jsonl"), target_epsilon=100.0)
    assert trainer.get_privacy_report().privacy_remaining.epsilon == 4.0
    assert len(trainer.get_privacy_report().grants) == 1


def test_a_target_is_kept_and_granted(trainer: PrivateTrainer, tmp_path: Path) -> None:
    result = trainer.train(RECORDS, target_epsilon=6.0, output_dir=str(tmp_path), **QUICK)
    assert 4.0 < result.privacy_spent.epsilon <= 6.0
    grants = trainer.get_privacy_report().grants
    assert [g["epsilon"] for g in grants] == [4.0, 6.0]


def test_a_run_stopped_in_this_object_goes_on_in_this_object(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    """A begun run has spent its plan; going on with it costs nothing more."""
    import os
    import signal

    def stop(step: Any) -> None:
        if step.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(ModelTrainingException):
        trainer.train(RECORDS, output_dir=str(tmp_path), on_step=stop, **QUICK)
    part = trainer.get_privacy_report().privacy_spent.epsilon
    result = trainer.train(RECORDS, output_dir=str(tmp_path), resume=True, **QUICK)
    spent = trainer.get_privacy_report().privacy_spent.epsilon
    assert 0 < part == spent == result.privacy_spent.epsilon <= 4.0


def test_a_delta_above_one_over_n_is_explained(llama_folder: Path, tmp_path: Path) -> None:
    trainer = make(llama_folder, PrivacyConfig(epsilon=4.0, delta=0.1))
    result = trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK)
    assert any("above 1/n for n = 32" in note for note in result.notes)


def test_a_fitting_delta_needs_no_note(llama_folder: Path, tmp_path: Path) -> None:
    trainer = make(llama_folder, enable_context_guard=False)
    result = trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK)
    assert not any("delta" in note or "redaction" in note for note in result.notes)


def test_seeded_entropy_repeats_a_run_and_the_system_does_not(
    llama_folder: Path, tmp_path: Path
) -> None:
    ends = []
    for index, entropy in enumerate((SeededEntropy(1), SeededEntropy(1), None, None)):
        torch.manual_seed(0)  # noqa: TID251 -- that it is ignored is what is tested
        trainer = make(llama_folder, entropy=entropy, clock=ManualClock())
        trainer.train(RECORDS, epochs=1, batch_size=8, output_dir=str(tmp_path / str(index)))
        ends.append(weights(trainer))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[2], ends[3])


@pytest.mark.parametrize("privacy_safe", [True, False])
def test_an_evaluation_says_what_it_cost(privacy_safe: bool, trainer: PrivateTrainer) -> None:
    result = trainer.evaluate(RECORDS, privacy_safe=privacy_safe)
    assert result.outside_guarantee is not privacy_safe
    assert result.privacy_spent.epsilon == (0.4 if privacy_safe else 0.0)
    assert (result.loss_std > 0) is privacy_safe
    assert trainer.get_privacy_report().privacy_spent.epsilon == 0  # these are not trained on


def test_an_evaluation_on_the_training_records_is_charged_to_them(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    result = trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK)
    with pytest.raises(PrivacyBudgetExhaustedException):
        trainer.evaluate(RECORDS)
    trainer.reset_privacy_budget(1.0, 1e-3)
    trainer.evaluate(RECORDS)
    lifetime = trainer.get_privacy_report().lifetime_spent.epsilon
    assert lifetime == pytest.approx(result.privacy_spent.epsilon + 0.4)


def test_evaluations_of_the_same_records_add_up_until_none_is_left(
    trainer: PrivateTrainer,
) -> None:
    trainer.evaluate(RECORDS, epsilon=3.0, delta=5e-4)
    with pytest.raises(PrivacyBudgetExhaustedException):
        trainer.evaluate(RECORDS, epsilon=3.0, delta=1e-4)


def spread(trainer: PrivateTrainer, **options: Any) -> float:
    return trainer.evaluate(RECORDS, epsilon=0.3, delta=1e-5, **options).accuracy_std


def test_an_evaluation_is_as_noisy_as_the_relation_and_the_unit_ask_for(
    llama_folder: Path, trainer: PrivateTrainer
) -> None:
    """Once it was priced for adding one record, whatever the configuration promised."""
    replacing = make(
        llama_folder,
        PrivacyConfig(epsilon=4.0, delta=1e-3, relation=NeighbouringRelation.REPLACE_ONE),
    )
    plain = spread(trainer)
    assert spread(replacing) == pytest.approx(2 * plain, rel=0.01)
    users = [{**record, "user": f"u{i // 3}"} for i, record in enumerate(RECORDS)]
    by_user = trainer.evaluate(
        users, epsilon=0.3, delta=1e-5, unit="user", user_field="user", max_examples_per_user=3
    )
    assert by_user.accuracy_std == pytest.approx(3 * plain, rel=0.01)
    with pytest.raises(ConfigurationError, match="max_examples_per_user"):
        trainer.evaluate(users, unit="user", user_field="user")


def test_the_privacy_state_makes_a_round_trip(
    llama_folder: Path, trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.train(RECORDS, output_dir=str(tmp_path / "run"), **QUICK)
    trainer.save_model(str(tmp_path / "saved"))
    other = make(llama_folder)
    other.load_model(str(tmp_path / "saved"))
    assert torch.equal(weights(other), weights(trainer))
    ours, theirs = trainer.get_privacy_report(), other.get_privacy_report()
    assert theirs.lifetime_spent == ours.lifetime_spent
    assert theirs.releases == ours.releases
    with pytest.raises(PrivacyBudgetExhaustedException):
        other.train(RECORDS, output_dir=str(tmp_path / "again"), **QUICK)


def test_loading_an_older_state_forgets_nothing_this_object_spent(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.save_model(str(tmp_path / "fresh"))
    result = trainer.train(RECORDS, output_dir=str(tmp_path / "run"), **QUICK)
    trainer.load_model(str(tmp_path / "fresh"))
    lifetime = trainer.get_privacy_report().lifetime_spent
    assert lifetime == result.privacy_spent


def test_a_model_saved_without_its_state_says_so_when_it_is_asked_for(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.save_model(str(tmp_path), include_privacy_state=False)
    with pytest.raises(CheckpointError, match="restore_privacy_state=False"):
        trainer.load_model(str(tmp_path))
    trainer.load_model(str(tmp_path), restore_privacy_state=False)


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 9}', '{"version": 1}'])
def test_a_damaged_privacy_state_leaves_the_trainer_as_it_was(
    content: str, trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.save_model(str(tmp_path))
    (tmp_path / "privacy_state.json").write_text(content)
    before, name = trainer._loaded, trainer.model_name
    with pytest.raises(CheckpointError):
        trainer.load_model(str(tmp_path))
    assert (trainer._loaded, trainer.model_name) == (before, name)


def test_published_files_hold_no_fingerprint_of_the_records(
    trainer: PrivateTrainer, tmp_path: Path
) -> None:
    trainer.train(RECORDS, output_dir=str(tmp_path), **QUICK)
    mark = trainer._trained_on.encode()
    assert len(mark) == 64
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or mark not in path.read_bytes(), path.name


def test_users_are_protected_as_whole(llama_folder: Path, tmp_path: Path) -> None:
    users = [{**record, "user": f"u{i // 4}"} for i, record in enumerate(RECORDS)]
    trainer = make(llama_folder)
    result = trainer.train(
        users, unit="user", user_field="user", max_examples_per_user=2,
        output_dir=str(tmp_path), **QUICK,
    )  # fmt: skip
    assert result.guarantee.unit.value == "user"
    assert (result.examples, result.dropped) == (16, 16)
    with pytest.raises(ConfigurationError, match="max_examples_per_user"):
        trainer.train(users, unit="user", user_field="user", output_dir=str(tmp_path))


BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unit": ({"unit": "person"}, ConfigurationError, "unit is 'person'"),
    "micro batch": ({"micro_batch_tokens": 0}, ConfigurationError, "micro_batch_tokens"),
    "checkpoints": ({"keep_checkpoints": -1}, ConfigurationError, "keep_checkpoints"),
    "epochs": ({"epochs": 0}, ConfigurationError, "epochs"),
    "no noise": ({"noise_multiplier": 0.0}, ConfigurationError, "noise_multiplier"),
    "no epsilon": ({"target_epsilon": 0.0}, ConfigurationError, "epsilon"),
    "no delta": ({"target_delta": 0.0}, ConfigurationError, "delta"),
    "eval_steps": ({"eval_steps": 3}, ConfigurationError, "belong together"),
    "gateway": ({"dataset": "mcp://host/data"}, DatasetError, "mcp://"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_is_refused_before_anything_is_spent(
    case: str, trainer: PrivateTrainer, tmp_path: Path
) -> None:
    options, kind, message = BAD_CALLS[case]
    arguments = {"dataset": RECORDS, "output_dir": str(tmp_path / "out"), **QUICK, **options}
    with pytest.raises(kind, match=message):
        trainer.train(**arguments)
    assert trainer.get_privacy_report().lifetime_spent.epsilon == 0
    assert not (tmp_path / "out" / "run.jsonl").exists()


def test_public_scores_during_training_are_marked(trainer: PrivateTrainer, tmp_path: Path) -> None:
    result = trainer.train(
        RECORDS, eval_dataset=RECORDS[:4], eval_steps=4, output_dir=str(tmp_path), **QUICK
    )
    assert [e["step"] for e in result.training_history.evaluations] == [4, 8]
    assert all(e["outside_guarantee"] for e in result.training_history.evaluations)


def test_lora_trains_adapters_only(trainer: PrivateTrainer, tmp_path: Path) -> None:
    result = trainer.train(RECORDS, lora_rank=2, output_dir=str(tmp_path), **QUICK)
    trained = [n for n, p in result.final_model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    assert "one backward pass" in result.engine


@pytest.mark.parametrize(
    ("options", "trained"),
    [
        ({"adapter": "lora"}, "lora_"),
        ({"adapter": "dora", "lora_rank": 2}, "lora_"),
        ({"adapter": "prompt", "prompt_tokens": 3}, "prompt_"),
        ({"adapter": "head"}, "lm_head"),
        ({"adapter": "ia3"}, "ia3_"),
    ],
)
def test_an_adapter_is_chosen_by_name(
    trainer: PrivateTrainer, tmp_path: Path, options: dict[str, Any], trained: str
) -> None:
    result = trainer.train(RECORDS, output_dir=str(tmp_path), **options, **QUICK)
    names = [n for n, p in result.final_model.named_parameters() if p.requires_grad]
    assert names
    assert all(trained in name for name in names)


def test_a_resumed_run_of_the_last_layers_trains_them_alone(
    trainer: PrivateTrainer, llama_folder: Path, tmp_path: Path
) -> None:
    def stop(step: StepRecord) -> None:
        if step.step == 4:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"adapter": "last_layers", "output_dir": str(tmp_path), **QUICK}
    with pytest.raises(KeyboardInterrupt):
        trainer.train(RECORDS, on_step=stop, save_steps=2, **options)
    result = make(llama_folder).train(RECORDS, resume=True, save_steps=2, **options)
    names = {n for n, p in result.final_model.named_parameters() if p.requires_grad}
    assert "model.embed_tokens.weight" not in names
    assert any(".1." in name for name in names)


@pytest.mark.parametrize(
    "options",
    [
        {"adapter": "lara"},
        {"adapter": "ia3", "lora_rank": 4},
        {"lora_alpha": 2.0},
        {"prompt_tokens": 4},
        {"adapter": "head", "trained_layers": 2},
    ],
)
def test_settings_of_another_adapter_are_refused(
    trainer: PrivateTrainer, options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        trainer.train(RECORDS, **options, **QUICK)


def test_a_classifier_is_trained_from_labels(llama_folder: Path, tmp_path: Path) -> None:
    records = [{"text": "ab" * (i % 4 + 1), "label": ("yes", "no")[i % 2]} for i in range(32)]
    trainer = make(llama_folder)
    result = trainer.train(records, output_dir=str(tmp_path), **QUICK)
    assert result.final_model.config.num_labels == 2
    assert trainer.evaluate(records, privacy_safe=False).perplexity is None


def test_importing_the_package_loads_no_torch_and_is_quick() -> None:
    code = (
        "import time; start = time.process_time(); import privacy_finetuner, sys;"
        "print(time.process_time() - start, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        time_s, *loaded = done.stdout.split()
        assert loaded == ["False", "False"]
        seconds.append(float(time_s))
    assert min(seconds) < 0.5
