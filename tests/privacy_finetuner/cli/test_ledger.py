"""`train` and `evaluate` with a ledger, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GRANT = ("--delta", "1e-3", "--by", "A. Officer", "--reason", "ethics vote 17")


@pytest.fixture
def ledger(cli: Any, tmp_path: Path) -> Path:
    """A ledger that an officer opened, with an account of (8, 1e-3)."""
    path = tmp_path / "ledger.db"
    cli.document("budget", "grant", "notes/2026", "--epsilon", 8, *GRANT, "--ledger", path)
    return path


@pytest.fixture
def train(model: str, records: Path, tmp_path: Path) -> tuple[object, ...]:
    return (
        "train", "--model", model, "--data", records, "--epsilon", 8, "--delta", "1e-3",
        "--epochs", 1, "--max-length", 12, "--output", tmp_path / "out",
    )  # fmt: skip


def shown(cli: Any, ledger: Path) -> dict[str, Any]:
    (account,) = cli.document("budget", "show", "notes/2026", "--ledger", ledger)["accounts"]
    return account


def test_a_run_is_charged_to_the_account_and_the_next_is_refused(
    cli: Any, ledger: Path, train: tuple[object, ...], tmp_path: Path
) -> None:
    named = ("--ledger", ledger, "--account", "notes/2026")
    planned = cli.document(*train, *named, "--dry-run")
    assert not (tmp_path / "out").exists()
    result = cli.document(*train, *named)
    assert planned["delta"] == result["delta"] == 5e-4
    assert planned["epsilon"] == result["epsilon"]
    assert any("promises epsilon 8 at delta 0.001" in note for note in result["notes"])
    report = json.loads((tmp_path / "out" / "privacy_report.json").read_text())
    account = shown(cli, ledger)
    assert report["privacy_spent"]["epsilon"] == account["epsilon_spent"]
    assert report["privacy_remaining"]["epsilon"] == account["epsilon_remaining"]

    refused = cli.document(*train[:-1], tmp_path / "second", *named, code=3)
    assert refused["error"]["code"] == "privacy_budget_exhausted"
    assert "budget grant notes/2026" in refused["error"]["message"]
    assert shown(cli, ledger) == account


def test_the_environment_names_the_account(
    cli: Any,
    ledger: Path,
    train: tuple[object, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRIVACY_FINETUNER_LEDGER", str(ledger))
    no_account = cli.document(*train, code=2)
    assert "whose budget is spent?" in no_account["error"]["message"]
    monkeypatch.setenv("PRIVACY_FINETUNER_ACCOUNT", "notes/2026")
    assert cli.document(*train, "--dry-run")["delta"] == 5e-4


def test_an_evaluation_is_charged_to_the_account_that_is_named(
    cli: Any, ledger: Path, model: str, records: Path
) -> None:
    command = ("evaluate", "--model", model, "--data", records, "--max-length", 12)
    price = ("--epsilon", 0.5, "--delta", "1e-4")
    unknown = cli.document(*command, *price, "--ledger", ledger, "--account", "notes/2027", code=2)
    assert "no account protection/notes/2027" in unknown["error"]["message"]
    result = cli.document(*command, *price, "--ledger", ledger, "--account", "notes/2026")
    assert result["notes"] == ["the price is charged to account notes/2026 of the ledger"]
    spent = shown(cli, ledger)["epsilon_spent"]
    assert 0 < spent <= 0.5 * 1.001
    cli.document(*command, "--exact", "--ledger", ledger, "--account", "notes/2026")
    assert shown(cli, ledger)["epsilon_spent"] == spent


def test_a_command_to_resume_never_shows_the_address_of_a_database(tmp_path: Path) -> None:
    from privacy_finetuner.cli.request import TrainRequest

    request = TrainRequest(
        model="m", data=tmp_path, epsilon=1.0, output=tmp_path, account="notes/2026",
        ledger="postgresql://ada:secret@host/db",
    )  # fmt: skip
    assert "secret" not in request.command(resume=True)
    assert "--account notes/2026" in request.command(resume=True)
