"""What an audit says must be about this run, this promise, and hold against the best attack."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from tests.privacy_finetuner.assessment.findings import a_finding, written
from torch import Tensor, nn

from privacy_core.auditing.guesses import Tally
from privacy_core.auditing.one_run import approximate_inverse, one_run_p_value, refutes_trade_off
from privacy_finetuner import PrivacyConfig, PrivacyValidator, PrivateTrainer
from privacy_finetuner.assessment.audit import audit
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import CheckpointError, ConfigurationError
from privacy_finetuner.results import TrainingHistory
from privacy_finetuner.training.canary_gradient import SCORES_FILE
from privacy_finetuner.training.dp_step import dp_step
from privacy_finetuner.training.engine import Clip, make_gradient
from privacy_finetuner.training.noise import GaussianNoise
from privacy_finetuner.training.objectives import Objective, public_probe
from privacy_finetuner.training.plan import make_plan
from privacy_runtime.testing import SeededEntropy

PRIVACY = PrivacyConfig(epsilon=4.0, delta=1e-3, accounting_mode="pld")
RECORDS = [{"text": f"n {i}"} for i in range(40)]


def train(model: Path, folder: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"epochs": 2, "batch_size": 10, "audit_canaries": 100} | options
    trainer = PrivateTrainer(str(model), PRIVACY, "cpu", enable_context_guard=False)
    return trainer.train(RECORDS, output_dir=str(folder), **given)


@pytest.mark.parametrize("kind", ["random-token", "synthetic"])
def test_canaries_fit_into_batches_of_one_public_width(
    kind: str, llama_folder: Path, tmp_path: Path
) -> None:
    """One that did not ended the run in its middle, at a step that its coin and draw decided."""
    result = train(
        llama_folder, tmp_path / "run", precision="bfloat16", max_length=6, audit_kind=kind
    )
    assert result.examples == len(RECORDS)


def test_the_model_of_another_run_is_not_audited(llama_folder: Path, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    train(llama_folder, run)
    shutil.copytree(run, other)
    shutil.copy(llama_folder / "model.safetensors", other / "model.safetensors")

    audit(run, device="cpu")
    with pytest.raises(CheckpointError, match="changed after the run"):
        audit(other, device="cpu")


def test_white_box_scores_that_were_rewritten_are_not_audited(
    llama_folder: Path, tmp_path: Path
) -> None:
    """Zeros in place of the scores: nobody is told apart, and any claim is "consistent"."""
    run = tmp_path / "run"
    train(llama_folder, run, audit_scores="white-box")
    document = json.loads((run / SCORES_FILE).read_text())
    (run / SCORES_FILE).write_text(json.dumps(document | {"scores": [0.0] * 100}))
    with pytest.raises(CheckpointError):
        audit(run, device="cpu")


def test_a_witness_does_not_see_in_how_many_pieces_a_sum_was_made(make_model: Any) -> None:
    """One micro-batch is summed in float32, two in float64: their number is private."""
    model = make_model("llama")
    objective = Objective("causal_lm", 40)
    probe = public_probe(objective, vocabulary=40, device=torch.device("cpu"), examples=4)
    plan = make_plan(PRIVACY, TrainingConfig(epochs=1, batch_size=10), examples=40)
    gradient, _ = make_gradient(model, objective, probe)
    seen: list[list[torch.dtype]] = []
    pieces = [{n: v[k : k + 2] for n, v in probe.items()} for k in (0, 2)]
    for batches in ([], pieces[:1], pieces):
        dp_step(
            gradient, batches, clip=Clip(1.0), plan=plan,
            noise=GaussianNoise.secure(SeededEntropy(1)),
            optimizer=torch.optim.SGD(gradient.parameters, lr=0.1), loss_cap=objective.loss_cap,
            witness=lambda updates: seen.append([u.dtype for u in updates]),
        )  # fmt: skip

    assert seen[0] == seen[1] == seen[2] == [p.dtype for p in gradient.parameters]


# The promise -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "theory", "delta", "is_fine"),
    [(180, 4.0, 1e-3, True), (200, 8.0, 1e-3, False), (180, 4.0, 1e-9, False)],
    ids=["its own", "of a weaker claim", "of a smaller delta"],
)
def test_an_audit_verifies_only_the_promise_that_it_was_held_against(
    correct: int, theory: float, delta: float, llama_folder: Path, tmp_path: Path, *, is_fine: bool
) -> None:
    result = train(llama_folder, tmp_path / "run", audit_canaries=0)
    report = written(a_finding(correct, theory=theory, delta=delta))
    history: TrainingHistory = replace(result.training_history, audit={"findings": [report]})
    found = PrivacyValidator().validate_privacy_guarantees(
        result.final_model, history, PRIVACY, "empirical"
    )

    assert found.guarantee_verified is is_fine, found.faults


def test_a_smaller_promise_than_the_audited_one_is_not_verified(
    llama_folder: Path, tmp_path: Path
) -> None:
    """The run costs 4, its audit found 1.4 of 4, and 1 is what was promised."""
    result = train(llama_folder, tmp_path / "run", audit_canaries=0)
    report = written(a_finding(190, theory=4.0, delta=1e-3))
    history = replace(result.training_history, audit={"findings": [report]})
    promised = PrivacyConfig(epsilon=1.0, delta=1e-3, accounting_mode="pld")
    found = PrivacyValidator().validate_privacy_guarantees(
        result.final_model, history, promised, "empirical"
    )

    assert not found.guarantee_verified


# The theorem -------------------------------------------------------------------------------------


def best_attack(coins: int, correct: int, epsilon: float, delta: float) -> float:
    """The largest chance of `correct` right guesses that any (epsilon, delta)-DP answer gives.

    A linear program over how likely each number of wrong guesses is: by symmetry nothing else
    matters (exchange the coins, or their sides, at random: chance and privacy stay).
    """
    count = coins + 1 + 2 * coins
    patterns = np.array([math.comb(coins, wrong) for wrong in range(coins + 1)], dtype=float)
    rows, limits, budget = [], [], np.zeros(count)
    for wrong in range(coins):
        shared = math.comb(coins - 1, wrong)
        for side, (more, less) in enumerate(((wrong, wrong + 1), (wrong + 1, wrong))):
            slack = coins + 1 + 2 * wrong + side
            row = np.zeros(count)
            row[more] = shared / patterns[more]
            row[less] = -math.exp(epsilon) * shared / patterns[less]
            row[slack], budget[slack] = -1, 1
            rows.append(row)
            limits.append(0.0)
    wanted = np.zeros(count)
    wanted[: coins - correct + 1] = -1
    found = scipy.optimize.linprog(
        wanted, A_ub=np.array([*rows, budget]), b_ub=[*limits, delta],
        A_eq=np.array([[1.0] * (coins + 1) + [0.0] * 2 * coins]), b_eq=[1.0],
    )  # fmt: skip
    return float(-found.fun)


@pytest.mark.parametrize("coins", [2, 5, 12, 25])
def test_no_answer_however_its_coins_hang_together_beats_a_bound(coins: int) -> None:
    """Where a p-value is below one half, as in every bound, no mechanism at all goes above it."""
    asked = 0
    for epsilon in (0.0, 0.3, 1.0, 2.5):
        for correct in range(max(1, int(coins / (1 + math.exp(-epsilon)))), coins + 1):
            for delta in (1e-4, 0.01, 0.1):
                tally = Tally(coins, coins, correct)
                limit = one_run_p_value(tally, epsilon, delta)
                if limit > 0.5:
                    continue
                chance = best_attack(coins, correct, epsilon, delta)
                inverse = approximate_inverse(np.array([epsilon]), delta)
                asked += 1

                assert chance <= limit * (1 + 1e-6) + 1e-9
                assert not refutes_trade_off(tally, inverse, chance * (1 - 1e-6))[0]
    assert asked > 3


def test_a_p_value_is_never_below_the_chance_of_the_best_attack() -> None:
    """Three coins, delta 0.05: any answer but "all wrong" a little likelier. 0.91875 > 0.9125.

    Checked by hand: P[answer | coins] = 0.13125, but 0.08125 where every guess is wrong. Settings
    one coin apart differ in two answers by 0.05 each: (0, 0.05)-DP. A right guess: 1 - 0.08125.
    """
    assert best_attack(3, 1, 0.0, 0.05) == pytest.approx(0.91875)
    assert one_run_p_value(Tally(3, 3, 1), 0.0, 0.05) >= 0.91875


# Losses that are no numbers ----------------------------------------------------------------------


def broken(model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """NaN in loss and accuracy of the examples with one certain token."""
    losses_B, hits_B = Objective("causal_lm", 40)(model, batch)
    bad_B = (batch["input_ids"] == 39).any(dim=1)
    nan_B = torch.where(bad_B, torch.nan, 1.0)
    return losses_B * nan_B, hits_B * nan_B


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("noise", ["independent", "banded", "blt"])
def test_nothing_of_a_step_is_lost_to_an_example_that_is_no_number(
    noise: Any, adaptive: bool, make_model: Any
) -> None:
    """Weights, count and statistics stay finite, and move by what one example may move."""
    from privacy_finetuner.training.correlated_noise import CorrelatedNoise

    model = make_model("llama")
    probe = public_probe(
        Objective("causal_lm", 40), vocabulary=40, device=torch.device("cpu"), examples=4
    )
    bad = {name: values.clone() for name, values in probe.items()}
    bad["input_ids"][1, 0] = 39
    privacy = PrivacyConfig(
        epsilon=4.0, delta=1e-3, accounting_mode="pld", noise=noise, adaptive_clipping=adaptive
    )
    plan = make_plan(privacy, TrainingConfig(epochs=3, batch_size=10), examples=40)
    gradient, _ = make_gradient(model, broken, probe)
    correlated = None
    if plan.correlation is not None:
        correlated = CorrelatedNoise(plan.correlation, plan.fresh_noise_multiplier)
    for _ in range(3):
        release = dp_step(
            gradient, [bad, bad], clip=Clip(1.0), plan=plan, correlated=correlated,
            noise=GaussianNoise.secure(SeededEntropy(1)),
            optimizer=torch.optim.SGD(gradient.parameters, lr=1e-3), loss_cap=3.0,
        )  # fmt: skip

        assert all(torch.isfinite(p).all() for p in gradient.parameters)
        figures = [release.loss, release.accuracy, release.norm]
        figures += [] if release.below_bound is None else [release.below_bound]
        assert all(math.isfinite(figure) for figure in figures)
        assert (release.below_bound is not None) is adaptive


# Attacks -----------------------------------------------------------------------------------------


def test_a_classifier_that_knows_nothing_leaks_no_attribute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attacker's prior was fitted to the members: their commonest values were "recovered".

    500 values, 500 records on each side, from one law. An honest interval is above zero in one try
    of forty, so more than two of eight have probability 9e-4; with the members' prior five were.
    """
    from privacy_finetuner.assessment import inversion

    monkeypatch.setattr(inversion, "require_match", lambda *_: None)
    monkeypatch.setattr(
        inversion, "_class_log_probs", lambda _m, _t, texts: np.zeros((len(texts), 2))
    )
    values = [f"v{k}" for k in range(500)]
    generator = np.random.default_rng(5)  # noqa: TID251 -- which values, the same every time
    alarms = 0
    for _ in range(8):
        drawn = generator.integers(500, size=1000)
        records = [
            inversion.AttributeRecord(template="{}", value=values[k], label=0) for k in drawn
        ]
        found = inversion.attribute_inversion(
            None, None, records[:500], values, nonmembers=records[500:]
        )
        assert found.excess is not None
        alarms += found.excess.low > 0
    assert alarms <= 2


def test_a_loss_without_an_interval_is_no_utility(tmp_path: Path) -> None:
    """Its spread over the sample is neither public nor paid for, so "95 %" would be a word."""
    from privacy_finetuner.assessment import optimization

    with pytest.raises(ConfigurationError, match="utility_metric"):
        optimization.Comparison(
            model="m", dataset=RECORDS, public_dataset=RECORDS, folder=tmp_path, metric="loss",
            constraints=optimization.PrivacyConstraints(max_epsilon=1.0, levels=(1.0,)),
        )  # fmt: skip
