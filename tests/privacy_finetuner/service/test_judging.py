"""Released figures of jobs become facts, and the rules over one run judge them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner.jobs import Jobs, TrainingSpec
from privacy_finetuner.jobs.claims import Ending
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.model import EventKind, JobState
from privacy_finetuner.operations.quarantine import digest_of
from privacy_finetuner.operations.run_rules import judged_run
from privacy_finetuner.service.judging import JudgedRuns
from privacy_runtime.journal import Journal
from privacy_runtime.testing import ManualClock, MemoryHome, MemoryRows, SeededEntropy

TENANT = "o_1"
SPEC = TrainingSpec(
    model="sample:model",
    dataset="notes.jsonl",
    privacy={"epsilon": 8, "delta": 1e-5},
    training={"epochs": 2, "task": "sequence_classification"},
)


class Mill:
    """Jobs that release what they are told to; nothing is trained."""

    def __init__(self, folder: Path) -> None:
        clock = ManualClock()
        self.folder = folder
        self.jobs = Jobs.open(
            str(folder / "jobs.db"),
            Journal(MemoryHome(MemoryRows()), clock=clock),
            runs=folder / "runs",
            clock=clock,
            entropy=SeededEntropy(5),
        )
        self.clock = clock
        self._leases = Leases(self.jobs.store, lease_s=30.0)

    def records(self, name: str, tenant: str) -> Path:
        path = self.folder / name
        if not path.exists():
            raise InvalidParameter("dataset", found=name, expected="a file")
        return path

    def run(
        self, *accuracies: float, spec: TrainingSpec = SPEC, ends: bool = True, **more: Any
    ) -> str:
        """One job that released an accuracy after each epoch."""
        job = self.jobs.submit(spec, tenant=TENANT, owner="u_1", name="a job")
        claim = self._leases.claim("worker_1")
        assert claim is not None
        for epoch, accuracy in enumerate(accuracies, 1):
            body = {
                "epoch": epoch, "accuracy": accuracy, "accuracy_std": 0.04, "clip_norm": 1.0,
                "gradient_norm": 0.9, "gradient_norm_std": 0.05, **more,
            }  # fmt: skip
            self.clock.advance(60)
            self._leases.renew(claim)
            self._leases.tell(claim, [(EventKind.EPOCH, body)], epoch=epoch, step=epoch, steps=2)
        if ends:
            self._leases.finish(claim, Ending(state=JobState.SUCCEEDED))
        return job.id


@pytest.fixture
def mill(tmp_path: Path) -> Iterator[Mill]:
    made = Mill(tmp_path)
    yield made
    made.jobs.close()


def rules_of(judged: JudgedRuns) -> dict[str, list[str]]:
    """The rules that fire, by job."""
    alerts = [alert for facts in judged.of(TENANT) for alert in judged_run(facts)]
    return {
        job: sorted(alert.rule for alert in alerts if alert.about["job"] == job)
        for job in {alert.about["job"] for alert in alerts}
    }


def test_a_last_accuracy_far_below_earlier_runs_of_the_plan_is_told(mill: Mill) -> None:
    (mill.folder / "notes.jsonl").write_text('{"text": "a"}\n')
    judged = JudgedRuns(mill.jobs, mill.records)
    mill.run(0.7, 0.9)
    mill.run(0.6, 0.91)
    assert rules_of(judged) == {}
    fallen = mill.run(0.7, 0.6)

    (facts,) = (facts for facts in judged.of(TENANT) if facts.run == fallen)
    assert rules_of(judged) == {fallen: ["scores_fell"]}
    (alert,) = judged_run(facts)
    assert alert.about["sha256"] == digest_of(mill.folder / "notes.jsonl")
    assert alert.at == facts.now


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "other.jsonl"},
        {"model": "sample:other"},
        {"privacy": {"epsilon": 1, "delta": 1e-5}},
        {"training": {"epochs": 2, "learning_rate": 1.0}},
    ],
)
def test_runs_of_another_plan_are_no_references(mill: Mill, changes: dict[str, Any]) -> None:
    mill.run(0.7, 0.9)
    mill.run(0.6, 0.91)
    mill.run(0.3, 0.2, spec=replace(SPEC, **changes))

    assert rules_of(JudgedRuns(mill.jobs, mill.records)) == {}


def test_an_accuracy_on_the_way_is_not_compared_with_final_ones(mill: Mill) -> None:
    mill.run(0.7, 0.9)
    mill.run(0.6, 0.91)
    mill.run(0.3, ends=False)

    assert rules_of(JudgedRuns(mill.jobs, mill.records)) == {}


def test_one_earlier_run_is_too_few(mill: Mill) -> None:
    mill.run(0.7, 0.9)
    mill.run(0.6, 0.2)

    assert rules_of(JudgedRuns(mill.jobs, mill.records)) == {}


def test_records_that_are_gone_are_no_error(mill: Mill) -> None:
    for accuracies in ((0.7, 0.9), (0.6, 0.9), (0.2, 0.3)):
        mill.run(*accuracies)
    newest = JudgedRuns(mill.jobs, mill.records).of(TENANT)[0]

    (alert,) = judged_run(newest)
    assert alert.rule == "scores_fell"
    assert "sha256" not in alert.about


def test_a_released_norm_beyond_clipping_is_told_while_the_job_runs(mill: Mill) -> None:
    judged = JudgedRuns(mill.jobs, mill.records)
    job = mill.run(0.7, ends=False, gradient_norm=4.0)

    assert rules_of(judged) == {job: ["gradient_bound"]}
