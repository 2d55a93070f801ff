from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy_core import dp_events
from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.privacy_book import PrivacyBook, Release
from privacy_finetuner.training.run_record import RunRecord

NOON = "2030-01-02T12:00:00+00:00"
JOB = "0123456789abcdef"


class Writer:
    """Writes what a run leaves behind, without training anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def plan(self, *, users: int = 1, **privacy: Any) -> DPTrainingPlan:
        return make_plan(
            PrivacyConfig(**{"epsilon": 4.0, "delta": 1e-5, "accounting_mode": "pld"} | privacy),
            TrainingConfig(epochs=2, batch_size=25),
            examples=200,
            unit=PrivacyUnit.USER if users > 1 else PrivacyUnit.EXAMPLE,
            max_examples_per_user=users,
        )

    def run(self, plan: DPTrainingPlan, *, charged: int | None = None, finish: bool = True) -> None:
        steps = plan.steps if charged is None else charged
        with RunRecord(self.folder) as record:
            record.plan(plan.to_json(), JOB)
            record.reserve(steps)
            if finish:
                record.settle(steps)
                record.finish(steps)

    def results(self, plan: DPTrainingPlan, *, reason: str = "privacy configuration") -> None:
        epsilon, event = plan.epsilon(), dp_events.to_json(plan.event())
        book = PrivacyBook()
        book.grant(plan.epsilon() * 1.5, plan.delta, reason=reason, at=NOON)
        book.add(Release(what="training", job_id=JOB, epsilon=epsilon, delta=plan.delta, at=NOON))
        spent = {"epsilon": epsilon, "delta": plan.delta}
        self.write(
            "privacy_report.json",
            {
                "event": event,
                "theoretical_guarantees": {"epsilon": epsilon, "delta": plan.delta},
                "privacy_spent": spent,
                "privacy_remaining": {"epsilon": 0.0, "delta": 0.0},
                "lifetime_spent": spent,
            },
        )
        self.write(
            "privacy_state.json",
            {"version": 1, "training": book.to_json(), "evaluations": PrivacyBook().to_json()},
        )
        self.write("statement.json", {"guarantee": {"epsilon": epsilon}, "weights": {}})
        self.write(
            "training_result.json",
            {"job_id": JOB, "epsilon": epsilon, "notes": ["a note"], "history": epochs(plan)},
        )

    def write(self, name: str, document: object) -> None:
        (self.folder / name).write_text(json.dumps(document))


def epochs(plan: DPTrainingPlan) -> list[dict[str, Any]]:
    return [
        {
            "epoch": number, "step": number * 8, "epsilon": plan.epsilon(number * 8),
            "loss": 3.0 - number / 2, "loss_std": 0.1, "accuracy": 0.2 * number,
            "accuracy_std": 0.02, "clip_norm": 1.0 + number, "mean_gradient_norm": 2.0,
            "mean_gradient_norm_std": 0.2, "clipping_rate": 0.5, "clipping_rate_std": 0.05,
        }
        for number in (1, 2)
    ]  # fmt: skip


@pytest.fixture(scope="session")
def writer_in() -> type[Writer]:
    return Writer


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "run")


@pytest.fixture
def finished(write: Writer) -> Callable[..., Path]:
    def make(**options: Any) -> Path:
        plan = write.plan(**options)
        write.run(plan)
        write.results(plan)
        return write.folder

    return make
