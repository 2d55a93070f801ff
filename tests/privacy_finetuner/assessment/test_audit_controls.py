"""The audit finds what is broken, and accuses nobody who is honest.

Every faulty run claims an epsilon that its parts do not keep; the claims are those at which an
ideal attacker with 2000 canaries has power to spare (docs/auditing_a_run.md). Seeds are fixed, so a
test here does not fail by chance; what would happen with other seeds is in the slow tests.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.privacy_finetuner.assessment import faulty_runs
from tests.privacy_finetuner.assessment.faulty_runs import Fault, Setting, audit_of

from privacy_core.auditing import Verdict
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.training.baseline import fine_tune_without_privacy
from privacy_finetuner.training.datasets import TokenizedDataset
from privacy_finetuner.training.models import save_model
from privacy_runtime.testing import SeededEntropy


@pytest.mark.parametrize(
    "fault",
    [
        faulty_runs.noise_a_quarter,
        faulty_runs.clipping_off,
        faulty_runs.sampler_biased,
        pytest.param(faulty_runs.noise_off, marks=pytest.mark.slow),  # cli/test_audit.py has it too
    ],
)
def test_a_broken_part_is_a_violation(llama_folder: Path, tmp_path: Path, fault: Fault) -> None:
    audited = audit_of(llama_folder, tmp_path / "run", fault)

    assert audited.verdict is Verdict.VIOLATION, audited.findings[0].text


def test_an_honest_run_is_consistent_and_its_ceiling_is_shown(
    llama_folder: Path, tmp_path: Path
) -> None:
    setting = Setting(epsilon=4.0)

    audited = audit_of(llama_folder, tmp_path / "run", faulty_runs.no_fault, setting)

    assert audited.verdict is Verdict.CONSISTENT
    assert all(0 < f.ceiling.expected < audited.theory for f in audited.findings)
    assert audited.auc.low > 0.5  # it has power: it sees something
    assert not any("saw next to nothing" in note for note in audited.notes)
    json.dumps(audited.to_dict(), allow_nan=False)


def test_an_attacker_who_sees_nothing_says_so(llama_folder: Path, tmp_path: Path) -> None:
    """The verdict compares with an ideal attacker; this one told nobody apart."""
    setting = Setting(epsilon=8.0, canaries=400, scores="black-box", kind="random-token")

    audited = audit_of(llama_folder, tmp_path / "run", faulty_runs.no_fault, setting)

    assert audited.auc.low <= 0.5
    assert any("saw next to nothing" in note for note in audited.notes)
    assert audited.verdict is not Verdict.VIOLATION


@pytest.mark.slow
def test_an_ordinary_fine_tune_is_a_violation(llama_folder: Path, tmp_path: Path) -> None:
    setting = Setting(epsilon=8.0, scores="black-box", kind="new-token")

    audited = _without_privacy(llama_folder, tmp_path / "run", setting)

    assert audited.verdict is Verdict.VIOLATION


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random-token", "synthetic"])
def test_an_ordinary_fine_tune_is_seen_by_canaries_of_every_kind(
    llama_folder: Path, tmp_path: Path, kind: str
) -> None:
    setting = Setting(epsilon=1.0, scores="black-box", kind=kind, epochs=16)

    audited = _without_privacy(llama_folder, tmp_path / "run", setting)

    assert audited.verdict is Verdict.VIOLATION


@pytest.mark.slow
@pytest.mark.parametrize("fault", [faulty_runs.noise_a_quarter, faulty_runs.noise_off])
def test_noise_that_is_missing_shows_in_the_last_model_too(
    llama_folder: Path, tmp_path: Path, fault: Fault
) -> None:
    setting = Setting(epsilon=1.0, scores="black-box", kind="new-token")

    audited = audit_of(llama_folder, tmp_path / "run", fault, setting)

    assert audited.verdict is Verdict.VIOLATION


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_twenty_honest_runs_are_not_accused(
    llama_folder: Path, tmp_path: Path, epsilon: float
) -> None:
    """Each is accused with probability at most 5 %; the bounds are conservative, so far less."""
    accused = []
    for seed in range(10):
        for scores, kind in (("white-box", "random-token"), ("black-box", "new-token")):
            setting = Setting(epsilon=epsilon, scores=scores, kind=kind, seed=seed, epochs=4)
            audited = audit_of(
                llama_folder, tmp_path / f"{scores}-{seed}", faulty_runs.no_fault, setting
            )
            accused.append(audited.verdict is Verdict.VIOLATION)

    assert sum(accused) == 0


def _without_privacy(model: Path, folder: Path, setting: Setting) -> faulty_runs.Audit:
    """A folder whose run record claims epsilon and whose model was trained without privacy."""
    opened, _ = faulty_runs.opened_run(model, folder, setting)
    run = opened.run
    places = run.places
    assert places is not None
    present = places.seal.included.nonzero()[0] + places.records
    rows = np.concatenate([np.arange(places.records), present])
    run.gradient.close()
    fine_tune_without_privacy(
        run.loaded,
        _rows_of(run.dataset, rows),
        TrainingConfig(epochs=setting.epochs, batch_size=32, learning_rate=5e-3),
        entropy=SeededEntropy(7),
    )
    run.record.reserve(run.plan.steps)
    run.record.finish(run.plan.steps)
    run.record.close()
    save_model(run.loaded, folder)
    return faulty_runs.audit(folder, device="cpu")


def _rows_of(data: TokenizedDataset, rows: np.ndarray) -> TokenizedDataset:
    return replace(
        data,
        input_ids=tuple(data.input_ids[i] for i in rows),
        labels=tuple(data.labels[i] for i in rows),
        units=np.arange(len(rows)),
        unit_count=len(rows),
        lengths=data.lengths[rows],
    )
