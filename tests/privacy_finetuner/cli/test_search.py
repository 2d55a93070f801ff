from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy_core import dp_events
from privacy_core.accounting import epsilon_of
from privacy_finetuner.errors import TrainingInterrupted
from privacy_finetuner.training import session

QUICK = ("--delta", "1e-3", "--epochs", 1, "--max-length", 12, "--learning-rates", "1e-3,1e-2,auto")


def test_a_search_leaves_the_best_model_and_its_price(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    document = cli.document(
        "search", "--model", model, "--data", records, "--epsilon", 8, "--output", folder,
        "--method", "random", "--mean-trials", 1.2, *QUICK,
    )  # fmt: skip

    assert 7.99 < document["epsilon"] <= 8
    assert document["best"]["learning_rate"] in (1e-3, 1e-2, "auto")
    assert document["shown"] == []
    event = dp_events.from_json(document["event"])
    assert epsilon_of(event, 1e-3, "rdp") == document["epsilon"]
    assert json.loads((folder / "search.json").read_text())["is_finished"]
    generated = cli("generate", "--model", folder, "--prompt", "Visit", "--max-new-tokens", 4)
    assert generated.exit_code == 0, generated.output
    again = cli("search", "--model", model, "--data", records, "--epsilon", 8, "--output", folder,
                *QUICK)  # fmt: skip
    assert again.exit_code == 2
    assert "holds a search already" in again.output


def test_each_candidate_is_shown_in_words(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    result = cli(
        "search", "--model", model, "--data", records, "--epsilon", 8, "--output",
        tmp_path / "out", "--method", "each", "--public-data", records, *QUICK,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert "best learning rate" in result.output
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    assert len(document["shown"]) == 3
    assert document["score_std"] == 0


def test_a_dry_run_prices_and_spends_nothing(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    document = cli.document(
        "search", "--model", model, "--data", records, "--epsilon", 8, "--output",
        tmp_path / "out", "--dry-run", "--unit", "user", "--user-field", "user_id",
        "--max-examples-per-user", 2, *QUICK,
    )  # fmt: skip

    assert 7.99 < document["epsilon"] <= 8
    assert document["method"] == "each"
    assert document["unit"] == "user"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rates", ["1e-3", "fast,slow"])
def test_candidates_that_are_none_are_bad_input(
    cli: Any, model: str, records: Path, tmp_path: Path, rates: str
) -> None:
    result = cli("search", "--model", model, "--data", records, "--epsilon", 8, "--output",
                 tmp_path / "out", "--learning-rates", rates)  # fmt: skip

    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_a_search_is_charged_to_the_account_whole_and_once(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger.db"
    granted = cli("budget", "grant", "notes/2026", "--ledger", ledger, "--epsilon", 8, "--delta",
                  "2e-3", "--by", "officer", "--reason", "test")  # fmt: skip
    assert granted.exit_code == 0, granted.output
    ask = ("search", "--model", model, "--data", records, "--epsilon", 8, "--ledger", ledger,
           "--account", "notes/2026", "--method", "random", "--mean-trials", 1.2,
           *QUICK)  # fmt: skip

    document = cli.document(*ask, "--output", tmp_path / "first")
    refused = cli.document(*ask, "--output", tmp_path / "second", code=3)

    assert document["epsilon"] <= 8
    assert refused["error"]["code"] == "privacy_budget_exhausted"
    assert not (tmp_path / "second").exists()
    history = cli.document("budget", "history", "notes/2026", "--ledger", ledger)
    kinds = [entry["kind"] for entry in history["entries"]]
    assert kinds.count("Committed") == 1


def test_a_stopped_search_says_what_it_cost(
    cli: Any, model: str, records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise TrainingInterrupted("after step 2 of 4")

    monkeypatch.setattr(session, "drive", stopped)
    document = cli.document(
        "search", "--model", model, "--data", records, "--epsilon", 8, "--output",
        tmp_path / "out", "--method", "random", *QUICK, code=130,
    )  # fmt: skip

    assert document["error"]["message"] == (
        "the search was interrupted; all of it is charged and nothing was released"
    )
