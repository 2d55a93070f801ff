"""Canaries: coins nobody knows, places that do not depend on them, a seal, dictated gradients."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.assessment.audit import audit
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import CheckpointError, ConfigurationError, TrainingInterrupted
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training import inputs, run_record
from privacy_finetuner.training.canaries import (
    SEAL_FILE,
    Places,
    Seal,
    draw_coins,
    read_seal,
)
from privacy_finetuner.training.canary_gradient import SCORES_FILE, CanaryGradient, read_scores
from privacy_finetuner.training.canary_records import make_seal, with_canaries
from privacy_finetuner.training.datasets import IGNORED
from privacy_finetuner.training.engine import Clip, ClipRule
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

RECORDS = [{"text": f"note {i}: bed {i % 7}"} for i in range(40)]
PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3, accounting_mode="pld")


def stream(seed: int = 0) -> KeyStream:
    return KeyStream.fresh(SeededEntropy(seed))


def seal_of(count: int = 100, seed: int = 0, **values: Any) -> Seal:
    return Seal(
        **{
            "kind": "gradient",
            "task": "causal_lm",
            "included": draw_coins(count, stream(seed)),
            "coordinates": tuple(range(count)),
            "salt": "00",
            **values,
        }
    )


def train(model: Path, folder: Path, **options: Any) -> PrivateTrainer:
    trainer = PrivateTrainer(str(model), PRIVACY, "cpu", enable_context_guard=False)
    given = {"epochs": 3, "batch_size": 10, "learning_rate": 1e-3, "audit_canaries": 100}
    trainer.train(RECORDS, output_dir=str(folder), **{**given, **options})
    return trainer


def loaded_and_data(model: Path, **options: Any) -> tuple[Any, Any, TrainOptions]:
    chosen = TrainOptions(audit_canaries=100, task="causal_lm", **options)
    loaded, data = inputs.prepare(
        RECORDS, chosen, model_name=str(model), adopted=None, device="cpu"
    )
    return loaded, data, chosen


def test_coins_are_fair_and_take_nothing_from_torch_or_numpy() -> None:
    torch.manual_seed(1)  # noqa: TID251 -- must not matter
    first = draw_coins(100_000, stream(3))
    torch.manual_seed(2)  # noqa: TID251 -- must not matter
    again = draw_coins(100_000, stream(3))

    assert np.array_equal(first, again)
    # A fair coin fails this with probability 6e-7 (five standard deviations).
    assert abs(first.mean() - 0.5) < 5 * 0.5 / math.sqrt(100_000)


def test_a_plan_does_not_depend_on_the_coins_and_draws_each_record_as_often() -> None:
    training = TrainingConfig(epochs=3, batch_size=10)
    plain = make_plan(PRIVACY, training, examples=40)
    plan = make_plan(PRIVACY, training, examples=40, canaries=100)

    assert (plan.examples, plan.canaries, plan.places) == (90, 100, 140)
    assert plan.sampling_probability == pytest.approx(plain.sampling_probability, rel=0.05)
    assert plan.steps <= plain.steps
    assert plan.epsilon() <= PRIVACY.epsilon
    assert DPTrainingPlan.from_json(plan.to_json()) == plan


def test_a_plan_written_before_there_were_audits_is_read() -> None:
    plan = make_plan(PRIVACY, TrainingConfig(epochs=3, batch_size=10), examples=40)
    document = plan.to_json()
    del document["canaries"]

    assert DPTrainingPlan.from_json(document) == plan


def test_a_canary_that_is_out_is_never_seen_and_records_do_not_depend_on_coins() -> None:
    drawn = np.array([0, 3, 7, 10, 11, 12, 19])
    included = np.arange(10) % 2 == 0
    for coins in (included, ~included):
        places = Places(seal_of(10, kind="random-token", included=coins), records=10, examples=10)

        admitted = places.admit(drawn)

        assert admitted[admitted < 10].tolist() == [0, 3, 7]
        assert all(coins[k - 10] for k in admitted if k >= 10)
    assert places.admit(np.zeros(0, dtype=np.int64)).size == 0


def test_canaries_stand_behind_the_records_each_a_unit_of_its_own(llama_folder: Path) -> None:
    loaded, data, options = loaded_and_data(llama_folder)
    seal = make_seal(data, loaded, options, SeededEntropy(0))

    joined = with_canaries(data, seal)

    assert len(joined) == len(data) + 100
    assert joined.unit_count == data.unit_count + 100
    assert joined.fingerprint == data.fingerprint
    assert len(set(joined.units.tolist())) == joined.unit_count
    assert len({ids for ids in seal.tokens}) > 95  # drawn apart
    assert len(seal.first_losses) == 100


def test_a_new_token_is_a_row_of_its_own_and_the_only_thing_learned(llama_folder: Path) -> None:
    loaded, data, options = loaded_and_data(llama_folder, audit_kind="new-token")
    before = loaded.model.get_input_embeddings().weight.shape[0]
    seal = make_seal(data, loaded, options, SeededEntropy(0))

    labels = with_canaries(data, seal).labels[len(data)]

    assert loaded.model.get_input_embeddings().weight.shape[0] == before + 100
    assert [ids[-1] for ids in seal.tokens] == list(range(before, before + 100))
    assert (labels[:-1] == IGNORED).all()
    assert labels[-1] == before
    assert loaded.model.generation_config.suppress_tokens == list(range(before, before + 100))
    losses = np.array(seal.first_losses)
    assert losses.std() < losses.mean()  # all new rows are alike before training


@pytest.mark.parametrize("kind", ["random-token", "synthetic"])
def test_canaries_of_text_are_within_the_tokenizer(llama_folder: Path, kind: str) -> None:
    loaded, data, options = loaded_and_data(llama_folder, audit_kind=kind)

    seal = make_seal(data, loaded, options, SeededEntropy(0))

    assert all(0 <= token < len(loaded.tokenizer) for ids in seal.tokens for token in ids)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"audit_canaries": 99}, "even"),
        ({"audit_canaries": 10}, "even"),
        ({"audit_kind": "new-token", "lora_rank": 4}, "adapter"),
        (
            {
                "audit_scores": "white-box",
                "gradient": "forward",
                "optimizer": "sgd",
                "learning_rate": 1e-3,
            },
            "forward",
        ),
        ({"unit": "user", "user_field": "text", "max_examples_per_user": 3}, "user_sampling"),
        ({"audit_canaries": 100_000, "audit_scores": "white-box"}, "trains"),
    ],
)
def test_a_run_that_cannot_carry_canaries_is_refused_before_it_starts(
    llama_folder: Path, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(ConfigurationError, match=word):
        train(llama_folder, tmp_path / "run", **options)

    assert run_record.read_state(tmp_path / "run") is None


def test_the_seal_is_for_its_owner_and_bound_to_the_run_record(
    llama_folder: Path, tmp_path: Path
) -> None:
    train(llama_folder, tmp_path)
    state = run_record.read_state(tmp_path)
    assert state is not None
    assert state.audit is not None
    path = tmp_path / SEAL_FILE

    assert path.stat().st_mode & 0o777 == 0o600
    assert read_seal(tmp_path, digest=state.audit["seal"]).count == 100
    document = json.loads(path.read_text())
    flipped = document["included"].translate(str.maketrans("01", "10"))
    path.write_text(json.dumps({**document, "included": flipped}, sort_keys=True))
    with pytest.raises(CheckpointError, match="changed after"):
        read_seal(tmp_path, digest=state.audit["seal"])


def test_the_repr_of_a_seal_shows_no_coin() -> None:
    assert repr(seal_of(100)) == "Seal(kind='gradient', count=100)"


@pytest.mark.parametrize("options", [{"audit_kind": "new-token"}, {"audit_scores": "white-box"}])
def test_a_resumed_run_keeps_its_coins_and_its_scores(
    llama_folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    def stop(step: Any) -> None:
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        train(llama_folder, tmp_path, save_steps=3, on_step=stop, **options)
    begun = (tmp_path / SEAL_FILE).read_bytes()

    train(llama_folder, tmp_path, save_steps=3, resume=True, **options)

    seal = read_seal(tmp_path)
    assert (tmp_path / SEAL_FILE).read_bytes() == begun
    if seal.is_white_box:
        _, steps = read_scores(tmp_path, seal.digest)
        state = run_record.read_state(tmp_path)
        assert state is not None
        # Steps that were reserved by the stopped process count as taken and were not observed.
        assert 3 <= steps < state.charged_steps
        assert (tmp_path / SCORES_FILE).stat().st_mode & 0o777 == 0o600


def test_users_are_drawn_and_every_canary_is_a_user(llama_folder: Path, tmp_path: Path) -> None:
    records = [{**row, "user_id": f"u{i // 2}"} for i, row in enumerate(RECORDS)]
    users = {"unit": "user", "user_field": "user_id", "max_examples_per_user": 2}
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, "cpu", enable_context_guard=False)

    result = trainer.train(
        records,
        epochs=1,
        batch_size=5,
        output_dir=str(tmp_path),
        user_sampling=True,
        audit_canaries=100,
        **users,
    )

    state = run_record.read_state(tmp_path)
    assert state is not None
    assert state.plan is not None
    assert (state.plan["examples"], state.plan["canaries"]) == (20 + 50, 100)
    assert result.examples == 40


def test_canaries_of_a_classifier_have_random_classes(llama_folder: Path, tmp_path: Path) -> None:
    records = [{**row, "label": "ab"[i % 2]} for i, row in enumerate(RECORDS)]
    trainer = PrivateTrainer(str(llama_folder), PRIVACY, "cpu", enable_context_guard=False)

    trainer.train(records, epochs=1, batch_size=10, output_dir=str(tmp_path), audit_canaries=100)

    seal = read_seal(tmp_path)
    # All hundred alike has probability 2^-99.
    assert set(seal.classes) == {0, 1}
    assert audit(tmp_path, device="cpu").seal.task == "sequence_classification"


def test_another_seal_is_refused_at_resume(llama_folder: Path, tmp_path: Path) -> None:
    def stop(step: Any) -> None:
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, TrainingInterrupted)):
        train(llama_folder, tmp_path, save_steps=3, on_step=stop)
    seal = read_seal(tmp_path)
    replace(seal, included=~seal.included).write(tmp_path)

    with pytest.raises(CheckpointError, match="not the seal"):
        train(llama_folder, tmp_path, save_steps=3, resume=True)


def test_a_new_run_in_the_folder_puts_the_old_seal_aside(
    llama_folder: Path, tmp_path: Path
) -> None:
    train(llama_folder, tmp_path)
    old = (tmp_path / SEAL_FILE).read_bytes()

    train(llama_folder, tmp_path, audit_canaries=0)

    assert (tmp_path / "run-0001" / SEAL_FILE).read_bytes() == old
    assert not (tmp_path / SEAL_FILE).exists()


class StillSource:
    """An engine whose records have no gradient."""

    def __init__(self) -> None:
        self.parameters = [
            torch.nn.Parameter(torch.zeros(3, 20)),
            torch.nn.Parameter(torch.zeros(60)),
        ]

    def add(self, batch: Any, clip: Clip) -> Any:
        raise AssertionError

    def take(self, clip: Clip) -> Any:
        from privacy_finetuner.training.engine import BoundedSum

        return BoundedSum([torch.zeros_like(p.data) for p in self.parameters], clip.clip_norm)

    def close(self) -> None:
        pass


def white_box(seal: Seal) -> tuple[CanaryGradient, Places]:
    plan = make_plan(
        replace(PRIVACY, adaptive_clipping=False),
        TrainingConfig(epochs=3, batch_size=10),
        examples=40,
        canaries=seal.count,
    )
    places = Places(seal, records=40, examples=40)
    return CanaryGradient(StillSource(), places, plan), places


@pytest.mark.parametrize("rule", [ClipRule.BOUND, ClipRule.NORMALISE])
def test_a_dictated_gradient_has_the_clip_norm_and_no_more(rule: ClipRule) -> None:
    seal = seal_of(100, included=np.ones(100, dtype=bool))
    gradient, places = white_box(seal)
    clip = Clip(0.7, rule)

    places.admit(np.array([40, 99, 139]))
    bounded = gradient.take(clip)

    flat = torch.cat([t.flatten() for t in bounded.tensors])
    assert bounded.sensitivity == 0.7
    assert flat.nonzero().flatten().tolist() == [0, 59, 99]
    assert float(flat.max()) <= 0.7
    assert float(flat.max()) == pytest.approx(0.7, rel=1e-4)


def test_a_canary_that_is_out_adds_nothing_and_an_empty_draw_neither() -> None:
    gradient, places = white_box(seal_of(100, included=np.zeros(100, dtype=bool)))
    for drawn in (np.arange(140), np.zeros(0, dtype=np.int64)):
        places.admit(drawn)

        bounded = gradient.take(Clip(1.0))

        assert not any(t.any() for t in bounded.tensors)


def test_the_observer_reads_the_noisy_mean_at_each_coordinate() -> None:
    seal = seal_of(100)
    gradient, places = white_box(seal)
    plan = make_plan(
        replace(PRIVACY, adaptive_clipping=False),
        TrainingConfig(epochs=3, batch_size=10),
        examples=40,
        canaries=100,
    )
    places.admit(np.zeros(0, dtype=np.int64))
    gradient.take(Clip(0.5))
    updates = [torch.zeros(3, 20), torch.zeros(60)]
    updates[1][7] = 0.5 / plan.expected_batch_size  # canary 67 stands here: x = 1

    gradient.observe(updates)

    q, s = plan.sampling_probability, plan.gradient_noise_multiplier
    expected = math.log(1 - q + q * math.exp(1 / (2 * s**2)))
    assert gradient.scores[67] == pytest.approx(expected)
    assert gradient.scores[66] == pytest.approx(math.log(1 - q + q * math.exp(-1 / (2 * s**2))))
    assert gradient.steps == 1
