from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_issue import issue
from privacy_finetuner.config import PrivacyConfig, TrainingConfig
from privacy_finetuner.training import statement
from privacy_finetuner.training.plan import DPTrainingPlan, make_plan
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.files import write_atomic
from privacy_runtime.signing import SigningKey, TrustedKeys, readable_bytes
from privacy_runtime.testing import SeededEntropy

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
JOB = "0123456789abcdef"
RECEIPT = {
    "account": "protection/notes/2026",
    "guarantee": {
        "epsilon": 8.0, "delta": 1e-5, "relation": "add_or_remove_one", "unit": "example",
    },
    "reservation": f"training:{JOB}",
    "status": "committed",
    "scopes": ["protection/notes/2026", "quota/clinic"],
    "entry": {"seq": 7, "hash": "ab" * 32},
}  # fmt: skip


@dataclass
class Certified:
    """A run folder, a key, and the certificate of one by the other."""

    folder: Path
    key: SigningKey
    plan: DPTrainingPlan

    def issue(self, **options: Any) -> Certificate:
        arguments = {"now": NOON, "entropy": SeededEntropy(3)} | options
        return issue(self.folder, self.key, **arguments)

    @property
    def trusted(self) -> TrustedKeys:
        return TrustedKeys([self.key.public])


def write_run(
    folder: Path,
    *,
    ledger: dict[str, Any] | None = None,
    charged: int | None = None,
    finish: bool = True,
    users: int = 1,
    epochs: float = 2,
    **privacy: Any,
) -> DPTrainingPlan:
    """What a run leaves behind that a certificate is made from, without training anything."""
    plan = make_plan(
        PrivacyConfig(**{"epsilon": 4.0, "delta": 1e-5, "accounting_mode": "pld"} | privacy),
        TrainingConfig(epochs=epochs, batch_size=25),
        examples=200,
        unit=PrivacyUnit.USER if users > 1 else PrivacyUnit.EXAMPLE,
        max_examples_per_user=users,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model-00001.safetensors", "model-00002.safetensors"):
        (folder / name).write_bytes(name.encode())
    steps = plan.steps if charged is None else charged
    with RunRecord(folder) as record:
        record.plan(plan.to_json(), JOB)
        record.reserve(steps)
        if finish:
            record.settle(steps)
            record.finish(steps)
            document = statement.statement_of(
                plan,
                charged_steps=steps,
                folder=folder,
                engine="one backward pass",
                record_head=record.head,
                ledger=ledger,
            )
            write_atomic(folder / statement.FILE_NAME, readable_bytes(document))
    return plan


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    path = tmp_path_factory.mktemp("keys") / "key.pem"
    return SigningKey.create(path, SeededEntropy(1), now=NOON)


@pytest.fixture(scope="session")
def shared_run(signing_key: SigningKey, tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """A certified run with a ledger. Read only."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    return Certified(folder, signing_key, write_run(folder, ledger=RECEIPT))


@pytest.fixture(scope="session")
def genuine(shared_run: Certified) -> Certificate:
    return shared_run.issue()


@pytest.fixture
def made(signing_key: SigningKey, tmp_path: Path) -> Callable[..., Certified]:
    def make(**options: Any) -> Certified:
        folder = tmp_path / "run"
        return Certified(folder, signing_key, write_run(folder, **options))

    return make


@pytest.fixture(scope="session")
def noon() -> datetime:
    return NOON
