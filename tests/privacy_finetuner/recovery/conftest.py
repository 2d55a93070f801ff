from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy_core.guarantee import Guarantee
from privacy_finetuner import PrivacyConfig, PrivateTrainer
from privacy_finetuner.recovery import FailureRecoverySystem, Sealing
from privacy_runtime.blobs import SealKeys
from privacy_runtime.budget_store import BudgetStore, Signature, protection
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keys import FileKeyring
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import ManualClock, SeededEntropy

RECORDS = [{"text": f"note {i}: " + "ab" * (i % 5)} for i in range(32)]
BLOCK = protection("notes", "2026")


@pytest.fixture
def sealing(tmp_path: Path) -> Sealing:
    clock, entropy = ManualClock(), SeededEntropy(3)
    keyring = FileKeyring.create(tmp_path / "wrapping-keys", clock=clock, entropy=entropy)
    signing = SigningKey.create(tmp_path / "signing.pem", entropy, now=clock.now())
    journal = Journal(SqliteHome(tmp_path / "memory.db"), clock=clock)
    return Sealing(SealKeys(keyring, signing, TrustedKeys([signing.public])), journal)


@pytest.fixture
def waits() -> list[float]:
    """How long a system waited, in order; nobody waits."""
    return []


@pytest.fixture
def make_system(tmp_path: Path, waits: list[float]) -> Callable[..., FailureRecoverySystem]:
    def make(folder: str = "recovery", **options: Any) -> FailureRecoverySystem:
        given = {"pause": waits.append, "clock": ManualClock(), "entropy": SeededEntropy(5)}
        return FailureRecoverySystem(str(tmp_path / folder), **{**given, **options})

    return make


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """A ledger with an account of (8, 1e-3)."""
    (tmp_path / "books").mkdir()
    where = str(tmp_path / "books" / "ledger.db")
    with BudgetStore.open(where) as store:
        store.open_account(
            "open", BLOCK, Guarantee(epsilon=8.0, delta=1e-3),
            signature=Signature("A. Officer", "ethics vote 17"),
        )  # fmt: skip
    return where


@pytest.fixture
def train(llama_folder: Path, tmp_path: Path, ledger: str) -> Callable[..., Any]:
    """Train the tiny model for 40 steps, a checkpoint every 8."""

    def run(**options: Any) -> Any:
        where = options.pop("ledger", ledger)
        trainer = PrivateTrainer(
            str(llama_folder), PrivacyConfig(epsilon=8.0, delta=1e-3), device="cpu",
            ledger=where, account=None if where is None else "notes/2026",
        )  # fmt: skip
        arguments: dict[str, Any] = {
            "epochs": 10, "batch_size": 8, "learning_rate": 1e-3, "save_steps": 8,
            "output_dir": str(tmp_path / "run"), **options,
        }  # fmt: skip
        return trainer.train(RECORDS, **arguments)

    return run
