"""Transformers' callbacks around private runs: what they see, what they may ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
    EarlyStoppingCallback,
    TrainerCallback,
)

from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.errors import ConfigurationError

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
PUBLIC = [{"text": "a public note"}, {"text": "and one more"}]
EVENTS = [name for name in dir(TrainerCallback) if name.startswith("on_")]


class Listener(TrainerCallback):
    """Writes down every event with the step it came at."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.details: list[dict[str, Any]] = []

    def hear(self, event: str, state: Any, details: dict[str, Any]) -> None:
        self.heard.append((event, state.global_step))
        self.details.append(details)

    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


def _listen(event: str) -> Any:
    def method(self: Listener, args: Any, state: Any, control: Any, **details: Any) -> None:
        self.hear(event, state, details)

    return method


for _event in EVENTS:
    setattr(Listener, _event, _listen(_event))


class StopAfter(TrainerCallback):
    def __init__(self, step: int, wish: str = "should_training_stop") -> None:
        self.step, self.wish = step, wish

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            setattr(control, self.wish, True)


def train(model: Path, folder: Path, *callbacks: Any, **options: Any) -> TrainingResult:
    arguments = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, **options}
    return PrivateTrainer(str(model), PRIVACY, device="cpu").train(
        RECORDS, output_dir=str(folder), callbacks=callbacks, **arguments
    )


def test_events_come_in_the_order_of_transformers(llama_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    train(llama_folder, tmp_path, listener)
    step = ["on_step_begin", "on_pre_optimizer_step", "on_optimizer_step", "on_step_end"]
    epoch = ["on_epoch_begin", *step * 4, "on_epoch_end", "on_log"]
    assert listener.names() == ["on_init_end", "on_train_begin", *epoch * 2, "on_train_end"]
    ends = [at for name, at in listener.heard if name == "on_step_end"]
    assert ends == list(range(1, 9))


def test_a_callback_is_handed_no_private_data(llama_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    train(llama_folder, tmp_path, listener, eval_steps=4, eval_dataset=PUBLIC)
    assert all(details["train_dataloader"] is None for details in listener.details)
    given = {name for details in listener.details for name in details}
    assert given == {
        "model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader",
        "eval_dataloader", "logs", "metrics",
    }  # fmt: skip


def test_public_scores_reach_on_evaluate(llama_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = train(llama_folder, tmp_path, listener, eval_steps=4, eval_dataset=PUBLIC)
    scores = [d["metrics"]["eval_loss"] for d in listener.details if "metrics" in d]
    assert scores == [e["loss"] for e in result.training_history.evaluations]
    assert len(scores) == 2


def test_logs_are_the_released_figures(llama_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    result = train(llama_folder, tmp_path, listener)
    logged = [d["logs"]["loss"] for d in listener.details if "logs" in d]
    assert logged == result.training_history.loss


def test_a_stop_ends_the_run_in_order(llama_folder: Path, tmp_path: Path) -> None:
    result = train(llama_folder, tmp_path, StopAfter(3))
    assert result.steps == 3
    assert (tmp_path / "statement.json").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_stop_that_may_follow_from_releases_costs_no_less_than_is_sound(
    llama_folder: Path, tmp_path: Path
) -> None:
    whole = train(llama_folder, tmp_path / "whole")
    stopped = train(llama_folder, tmp_path / "stopped", StopAfter(7))
    assert stopped.privacy_spent.epsilon <= whole.privacy_spent.epsilon
    # One step less: what the tight accountant would say for seven fixed steps is not sound here.
    assert stopped.privacy_spent.epsilon > whole.privacy_spent.epsilon * 0.98


def test_early_stopping_of_transformers_watches_public_scores(
    llama_folder: Path, tmp_path: Path
) -> None:
    patient = EarlyStoppingCallback(early_stopping_patience=2, early_stopping_threshold=1e9)
    result = train(
        llama_folder, tmp_path, patient, epochs=10, eval_steps=1, eval_dataset=PUBLIC
    )  # fmt: skip
    assert result.steps == 3  # the first score is the best one; two that are no better follow


def test_saving_and_scoring_on_request(llama_folder: Path, tmp_path: Path) -> None:
    listener = Listener()
    asks = [StopAfter(2, "should_save"), StopAfter(3, "should_evaluate")]
    result = train(
        llama_folder, tmp_path, *asks, listener, eval_steps=1000, eval_dataset=PUBLIC
    )  # fmt: skip
    assert ("on_save", 2) in listener.heard
    assert ("on_evaluate", 3) in listener.heard
    assert [e["step"] for e in result.training_history.evaluations] == [3]


def test_cutting_an_epoch_short_is_refused(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="should_epoch_stop"):
        train(llama_folder, tmp_path, StopAfter(1, "should_epoch_stop"))


class Watches(TrainerCallback):
    """What `wandb.watch` does."""

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        next(model.parameters()).register_hook(lambda gradient: None)


def test_hooks_on_the_weights_are_refused_before_the_first_step(
    llama_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="before the noise"):
        train(llama_folder, tmp_path, Watches())


def test_what_is_not_a_callback_is_refused_before_the_start(
    llama_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="nothing was started"):
        train(llama_folder, tmp_path, print)
    assert not (tmp_path / "run.jsonl").exists()


def test_a_model_object_is_trained_in_place(
    llama_folder: Path, tmp_path: Path, byte_tokenizer: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("norm" in name)
    trainer = PrivateTrainer(model, PRIVACY, device="cpu", tokenizer=byte_tokenizer)
    result = trainer.train(RECORDS, epochs=1, learning_rate=1e-2, output_dir=str(tmp_path))
    assert result.final_model is model
    changed = {n for n, p in model.named_parameters() if not p.detach().equal(before[n])}
    assert changed == {name for name in before if "norm" in name}
    model.generate(max_new_tokens=2, do_sample=False, pad_token_id=0)


def test_a_model_object_needs_its_tokenizer_and_something_to_train(
    llama_folder: Path, byte_tokenizer: Any
) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    with pytest.raises(ConfigurationError, match="tokenizer"):
        PrivateTrainer(model, PRIVACY, device="cpu")
    model.requires_grad_(False)
    with pytest.raises(ConfigurationError, match="requires_grad"):
        PrivateTrainer(model, PRIVACY, device="cpu", tokenizer=byte_tokenizer)
