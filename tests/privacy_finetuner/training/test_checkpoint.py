from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from privacy_finetuner.errors import CheckpointError
from privacy_finetuner.results import EpochRecord
from privacy_finetuner.training.checkpoint import (
    EpochSums,
    LoopState,
    load_checkpoint,
    read_checkpoint,
    remove_old,
    save_checkpoint,
)
from privacy_finetuner.training.models import LoadedModel, adopt_model, load_model

EPOCH = EpochRecord(
    epoch=1, step=4, epsilon=0.5, loss=1.0, loss_std=0.1, accuracy=0.5, accuracy_std=0.1,
    mean_gradient_norm=1.0, mean_gradient_norm_std=0.1, clipping_rate=None,
    clipping_rate_std=None, clip_norm=0.7,
)  # fmt: skip
STATE = LoopState(step=4, clip_norm=0.7, sums=EpochSums(steps=1, loss=2.0), epochs=[EPOCH])


@pytest.fixture
def loaded(make_model: Any, byte_tokenizer: Any) -> LoadedModel:
    return adopt_model(make_model("llama", vocabulary=259), byte_tokenizer, device="cpu")


def stepped(loaded: LoadedModel) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=0.1)
    for parameter in loaded.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def test_model_optimizer_and_state_come_back(tmp_path: Path, loaded: LoadedModel) -> None:
    optimizer = stepped(loaded)
    path = save_checkpoint(tmp_path, loaded, optimizer, STATE)
    assert path.name == "checkpoint-4"
    again = load_model(path, device="cpu")
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)
    other = torch.optim.AdamW(again.model.parameters(), lr=0.1)
    assert load_checkpoint(path, again, other) == STATE
    for p, q in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(optimizer.state[p]["exp_avg"], other.state[q]["exp_avg"])


def test_a_checkpoint_holds_neither_keys_nor_a_fingerprint(
    tmp_path: Path, loaded: LoadedModel
) -> None:
    path = save_checkpoint(tmp_path, loaded, stepped(loaded), STATE)
    document = json.loads((path / "state.json").read_text())
    assert set(document["state"]) == {"step", "clip_norm", "sums", "epochs", "evaluations"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "config.json"])
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path, loaded: LoadedModel) -> None:
    path = save_checkpoint(tmp_path, loaded, stepped(loaded), STATE)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"version": 99}', "version 99"),
        ("[]", "version None"),
        ("{", "not JSON"),
        (None, "not a checkpoint"),
        ('{"version": 1}', "damaged"),
        ('{"version": 1, "digests": {}, "state": {"sums": {}, "epochs": [{}]}}', "damaged"),
    ],
)
def test_a_foreign_state_is_refused(
    content: str | None, message: str, tmp_path: Path, loaded: LoadedModel
) -> None:
    path = save_checkpoint(tmp_path, loaded, stepped(loaded), STATE)
    (path / "state.json").unlink()
    if content is not None:
        (path / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_another_models_optimizer_is_refused(
    tmp_path: Path, loaded: LoadedModel, make_model: Any, byte_tokenizer: Any
) -> None:
    path = save_checkpoint(tmp_path, loaded, stepped(loaded), STATE)
    other = adopt_model(make_model("gpt2", vocabulary=259), byte_tokenizer, device="cpu")
    optimizer = torch.optim.AdamW(other.model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(path, other, optimizer)


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["torch.save", "os.fsync", "pathlib.Path.rename"])
def test_a_full_disk_leaves_the_checkpoint_before_as_it_was(
    place: str, tmp_path: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = stepped(loaded)
    first = save_checkpoint(tmp_path, loaded, optimizer, STATE)
    with monkeypatch.context() as patch:
        patch.setattr(place, full_disk)
        with pytest.raises(CheckpointError, match="intact"):
            save_checkpoint(tmp_path, loaded, optimizer, LoopState(step=8))
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-4"]
    assert read_checkpoint(first) == STATE


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (2, 10, 9, 1):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-notes").mkdir()
    (tmp_path / ".checkpoint-11.partial").mkdir()
    assert [p.name for p in remove_old(tmp_path, 2)] == ["checkpoint-9", "checkpoint-10"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint-9",
        "checkpoint-10",
        "checkpoint-notes",
    }
