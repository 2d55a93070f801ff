"""Runs that are stopped, killed, resumed, and runs that must not start."""

from __future__ import annotations

import multiprocessing
import os
import random  # noqa: TID251 -- when to kill
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from privacy_finetuner import PrivacyConfig, PrivateTrainer, TrainingResult
from privacy_finetuner.errors import (
    CheckpointError,
    ConfigurationError,
    ModelTrainingException,
    NonFiniteWeights,
)
from privacy_finetuner.training import loop, run_record
from privacy_finetuner.training.session import RESUME_FILE
from privacy_runtime.append_log import RunRecordLocked

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3)
RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
FORK = multiprocessing.get_context("fork")
"""Children that share what is loaded: a fresh interpreter would take seconds for each kill."""


def train(model: Path, folder: Path, *, resume: bool = False, **options: Any) -> TrainingResult:
    trainer = PrivateTrainer(str(model), PRIVACY, device="cpu")
    arguments: dict[str, Any] = {
        "dataset": RECORDS,
        "epochs": 10,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "save_steps": 5,
        **options,
    }
    return trainer.train(output_dir=str(folder), resume=resume, **arguments)


def charged(folder: Path) -> int:
    state = run_record.read_state(folder)
    return 0 if state is None else state.charged_steps


def in_child(action: Callable[[Any], None]) -> tuple[Any, Any]:
    """Start a process that runs `action(write_end)`; returns it with the read end."""
    reader, writer = FORK.Pipe(duplex=False)
    process = FORK.Process(target=action, args=(writer,))
    process.start()
    writer.close()
    return process, reader


def steps_seen(reader: Any, count: int) -> int:
    """Wait until the child has reported `count` steps or is gone; returns the last one."""
    last = 0
    try:
        for _ in range(count):
            last = reader.recv()
    except EOFError:
        pass
    return last


def killed_and_resumed(model: Path, folder: Path, kills: int, epochs: int) -> TrainingResult:
    chance = random.Random(kills)  # noqa: S311
    before = 0
    for attempt in range(kills):

        def run(writer: Any, resume: bool = attempt > 0) -> None:
            train(
                model, folder, resume=resume, epochs=epochs,
                on_step=lambda s: writer.send(s.step),
            )  # fmt: skip
            os._exit(0)

        process, reader = in_child(run)
        taken = steps_seen(reader, chance.randint(1, 8))
        time.sleep(chance.random() * 0.05)
        process.kill()
        process.join()
        while reader.poll():
            try:
                taken = max(taken, reader.recv())
            except EOFError:
                break
        assert charged(folder) >= max(taken, before)
        before = charged(folder)
    return train(model, folder, resume=True, epochs=epochs)


def check_killed_run(model: Path, folder: Path, kills: int, epochs: int) -> None:
    undisturbed = train(model, folder / "undisturbed", epochs=epochs)
    result = killed_and_resumed(model, folder / "killed", kills, epochs)
    assert undisturbed.privacy_spent.epsilon <= result.privacy_spent.epsilon <= 4.0
    assert result.steps == undisturbed.steps
    state = run_record.read_state(folder / "killed")
    assert state is not None
    assert (state.charged_steps, state.is_finished) == (result.steps, True)
    again = PrivateTrainer(str(folder / "killed"), PRIVACY, device="cpu")
    score = again.evaluate(RECORDS, privacy_safe=False)
    assert score.loss < 7.0
    assert isinstance(again.generate("note", max_new_tokens=3), str)


def test_a_run_killed_twice_ends_with_no_less_epsilon(llama_folder: Path, tmp_path: Path) -> None:
    check_killed_run(llama_folder, tmp_path, kills=2, epochs=10)


@pytest.mark.slow
def test_a_run_killed_ten_times_ends_with_no_less_epsilon(
    llama_folder: Path, tmp_path: Path
) -> None:
    check_killed_run(llama_folder, tmp_path, kills=10, epochs=50)


def test_ctrl_c_saves_and_the_run_goes_on_later(llama_folder: Path, tmp_path: Path) -> None:
    def run(writer: Any) -> None:
        try:
            train(llama_folder, tmp_path, save_steps=500, on_step=lambda s: writer.send(s.step))
        except ModelTrainingException as error:
            os._exit(3 if "continue with resume" in str(error) else 4)
        os._exit(0)

    process, reader = in_child(run)
    steps_seen(reader, 3)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 3
    state = run_record.read_state(tmp_path)
    assert state is not None
    assert state.checkpoint == f"checkpoint-{state.charged_steps}"
    result = train(llama_folder, tmp_path, resume=True, save_steps=500)
    assert f"resumed from step {state.charged_steps}" in result.notes


class Stopped(Exception):
    """What a test raises to end a run in the middle."""


def stop_after(step: int) -> Callable[[loop.StepRecord], None]:
    def stop(record: loop.StepRecord) -> None:
        if record.step == step:
            raise Stopped

    return stop


def stopped_run(model: Path, folder: Path, step: int = 12, **options: Any) -> None:
    with pytest.raises(Stopped):
        train(model, folder, on_step=stop_after(step), **options)


def test_reserved_steps_that_never_ran_count_as_taken(llama_folder: Path, tmp_path: Path) -> None:
    stopped_run(llama_folder, tmp_path)
    before = charged(tmp_path)
    assert before > 12
    taken: list[int] = []
    result = train(llama_folder, tmp_path, resume=True, on_step=lambda s: taken.append(s.step))
    assert taken == list(range(before + 1, result.steps + 1))  # none of them is taken twice
    assert "resumed from step 10" in result.notes
    assert any("they count as spent" in note for note in result.notes)


REFUSALS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "other data": ({"dataset": [*RECORDS[:-1], {"text": "x"}]}, CheckpointError, "data set"),
    "fewer data": ({"dataset": RECORDS[:-1]}, ConfigurationError, "configuration differs"),
    "more epochs": ({"epochs": 11}, ConfigurationError, "configuration differs"),
    "less noise": ({"noise_multiplier": 9.0}, ConfigurationError, "configuration differs"),
    "other clipping": ({"max_grad_norm": 3.0}, ConfigurationError, "configuration differs"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_run_is_not_resumed_as_another(case: str, llama_folder: Path, tmp_path: Path) -> None:
    options, kind, message = REFUSALS[case]
    stopped_run(llama_folder, tmp_path)
    before = charged(tmp_path)
    with pytest.raises(kind, match=message):
        train(llama_folder, tmp_path, resume=True, **options)
    assert charged(tmp_path) == before
    train(llama_folder, tmp_path, resume=True)


def test_a_run_without_its_data_mark_is_not_resumed(llama_folder: Path, tmp_path: Path) -> None:
    stopped_run(llama_folder, tmp_path)
    (tmp_path / RESUME_FILE).unlink()
    with pytest.raises(CheckpointError):
        train(llama_folder, tmp_path, resume=True)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_resumed(
    llama_folder: Path, tmp_path: Path
) -> None:
    stopped_run(llama_folder, tmp_path, save_steps=5)
    cut_short(tmp_path / "checkpoint-10" / "optimizer.pt")
    result = train(llama_folder, tmp_path, resume=True, save_steps=5)
    assert "resumed from step 5" in result.notes
    assert any("checkpoint-10" in note for note in result.notes)
    assert any("steps are lost" in note for note in result.notes)
    state = run_record.read_state(tmp_path)
    assert state is not None
    assert (state.charged_steps, state.damaged) == (result.steps, ("checkpoint-10",))
    assert (tmp_path / "checkpoint-10.damaged").is_dir()


def test_a_run_whose_only_checkpoint_is_damaged_goes_on_from_the_model_it_began_with(
    llama_folder: Path, tmp_path: Path
) -> None:
    stopped_run(llama_folder, tmp_path, save_steps=10)
    cut_short(tmp_path / "checkpoint-10" / "optimizer.pt")
    result = train(llama_folder, tmp_path, resume=True, save_steps=10)
    assert "resumed from step 0" in result.notes


def test_without_an_intact_checkpoint_and_with_older_ones_gone_nothing_is_loaded(
    llama_folder: Path, tmp_path: Path
) -> None:
    stopped_run(llama_folder, tmp_path, save_steps=5, keep_checkpoints=1)
    cut_short(tmp_path / "checkpoint-10" / "optimizer.pt")
    with pytest.raises(CheckpointError, match=r"no checkpoint of this run.*optimizer\.pt"):
        train(llama_folder, tmp_path, resume=True, save_steps=5, keep_checkpoints=1)


def test_a_whole_older_checkpoint_in_the_place_of_the_newest_is_damage(
    llama_folder: Path, tmp_path: Path
) -> None:
    stopped_run(llama_folder, tmp_path, save_steps=4)
    shutil.rmtree(tmp_path / "checkpoint-12")
    shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "checkpoint-12")
    result = train(llama_folder, tmp_path, resume=True, save_steps=4)
    assert "resumed from step 8" in result.notes


def test_there_must_be_something_to_resume(llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no run to resume"):
        train(llama_folder, tmp_path / "empty", resume=True)


def test_an_unfinished_run_is_not_overwritten(llama_folder: Path, tmp_path: Path) -> None:
    stopped_run(llama_folder, tmp_path)
    with pytest.raises(ConfigurationError, match="unfinished"):
        train(llama_folder, tmp_path)


def test_two_processes_in_one_folder_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    """Also where the first has reserved nothing yet: then its record was once taken away."""
    with run_record.RunRecord(tmp_path) as first:
        first.plan({}, "job")
        for resume in (False, True):
            with pytest.raises(RunRecordLocked):
                train(llama_folder, tmp_path, resume=resume)
    assert charged(tmp_path) == 0


def test_a_finished_run_may_be_followed_by_another_in_its_folder(
    llama_folder: Path, tmp_path: Path
) -> None:
    """The checkpoints of the longer first run once outlived those of the second."""
    train(llama_folder, tmp_path, epochs=10)
    with pytest.raises(Stopped):
        train(llama_folder, tmp_path, epochs=8, on_step=stop_after(12))
    result = train(llama_folder, tmp_path, epochs=8, resume=True)
    assert "resumed from step 10" in result.notes
    assert (tmp_path / "run-0001" / "run.jsonl").is_file()


def test_a_run_that_died_before_its_results_were_written_still_gives_them(
    llama_folder: Path, tmp_path: Path
) -> None:
    first = train(llama_folder, tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    (tmp_path / "training_result.json").unlink()
    result = train(llama_folder, tmp_path, resume=True)
    assert (tmp_path / "model.safetensors").is_file()
    assert result.privacy_spent == first.privacy_spent
    assert result.job_id == first.job_id
    ours, theirs = (r.final_model.state_dict() for r in (result, first))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_noise_is_not_repeated_by_a_resumed_run(llama_folder: Path, tmp_path: Path) -> None:
    ends = []
    for name in ("a", "b"):
        torch.manual_seed(0)  # noqa: TID251 -- that it is ignored is what is tested
        result = train(llama_folder, tmp_path / name, epochs=1)
        ends.append(torch.cat([p.detach().flatten() for p in result.final_model.parameters()]))
    assert not torch.equal(*ends)


def test_broken_weights_stop_the_run_and_what_ran_is_charged(
    llama_folder: Path, tmp_path: Path
) -> None:
    def poison(step: loop.StepRecord) -> None:
        if step.step == 5:  # an epoch ends with step 8, and is not waited for
            with torch.no_grad():
                next(trainer._loaded.model.parameters()).fill_(float("nan"))  # type: ignore[union-attr]

    trainer = PrivateTrainer(str(llama_folder), PRIVACY, device="cpu")
    with pytest.raises(NonFiniteWeights):
        trainer.train(
            RECORDS, epochs=10, batch_size=8, save_steps=5, output_dir=str(tmp_path), on_step=poison
        )
    state = run_record.read_state(tmp_path)
    assert state is not None
    assert (state.charged_steps, state.checkpoint) == (6, "checkpoint-5")
    assert 0 < trainer.get_privacy_report().privacy_spent.epsilon < 4.0
    result = train(llama_folder, tmp_path, resume=True)
    assert "resumed from step 5" in result.notes
    assert all(bool(torch.isfinite(p).all()) for p in result.final_model.parameters())


def test_a_model_that_mixes_examples_is_refused_before_anything_is_written(
    llama_folder: Path, tmp_path: Path
) -> None:
    from privacy_finetuner.errors import UnsupportedLayer

    trainer = PrivateTrainer(str(llama_folder), PRIVACY, device="cpu")
    trainer.generate("a", max_new_tokens=1)
    assert trainer._loaded is not None
    trainer._loaded.model.model.layers[0].mixer = nn.BatchNorm1d(2)
    with pytest.raises(UnsupportedLayer, match="BatchNorm1d"):
        trainer.train(RECORDS, output_dir=str(tmp_path))
    assert charged(tmp_path) == 0
    assert trainer.get_privacy_report().privacy_spent.epsilon == 0


def test_a_full_disk_at_the_end_leaves_the_last_checkpoint_to_resume_from(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, os.strerror(28))

    def fill(step: loop.StepRecord) -> None:
        if step.step == 12:
            monkeypatch.setattr(torch, "save", full)

    with pytest.raises(CheckpointError, match="intact"):
        train(llama_folder, tmp_path, on_step=fill)
    monkeypatch.undo()
    result = train(llama_folder, tmp_path, resume=True)
    assert "resumed from step 10" in result.notes
