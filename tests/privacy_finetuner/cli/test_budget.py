"""The officer's desk: grants, reservations, refusals, checks, as a user types them."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from privacy_core import dp_events
from privacy_core.dp_events import DpEvent, Gaussian, NonPrivate, SelfComposed
from privacy_runtime.budget_store import BudgetStore, Signature, parse_scope
from privacy_runtime.testing import ManualClock
from privacy_runtime.world import SystemClock

NOTES = "hospital-notes/2026"
SIGNED = ("--by", "A. Officer", "--reason", "ethics vote 17")


@pytest.fixture
def ledger(cli: Any, tmp_path: Path) -> Path:
    """A ledger with one account of (8, 1e-6)."""
    path = tmp_path / "ledger.db"
    cli.document(
        "budget", "grant", NOTES, "--epsilon", 8, "--delta", "1e-6", *SIGNED, "--ledger", path
    )
    return path


def event_file(folder: Path, event: DpEvent, name: str = "event.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(dp_events.to_json(event)))
    return path


def balance(cli: Any, ledger: Path) -> dict[str, Any]:
    (account,) = cli.document("budget", "show", NOTES, "--ledger", ledger)["accounts"]
    assert isinstance(account, dict)
    return account


def reserve(
    cli: Any, ledger: Path, event: DpEvent, *options: Any, code: int = 0, key: str = "count-17"
) -> dict[str, Any]:
    document = cli.document(
        "budget", "reserve", NOTES, "--event", event_file(ledger.parent, event), "--key", key,
        "--delta", "1e-7", "--ledger", ledger, *options, code=code,
    )  # fmt: skip
    assert isinstance(document, dict)
    return document


def test_a_grant_opens_and_a_later_one_raises(cli: Any, ledger: Path) -> None:
    assert balance(cli, ledger)["epsilon_remaining"] == 8
    raised = cli.document("budget", "grant", NOTES, "--epsilon", 2, *SIGNED, "--ledger", ledger)
    assert (raised["epsilon"], raised["delta"]) == (10, 1e-6)


def test_a_grant_without_delta_does_not_make_a_ledger(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "mistyped.db"
    document = cli.document(
        "budget", "grant", NOTES, "--epsilon", 8, *SIGNED, "--ledger", path, code=2
    )
    assert "an existing file" in document["error"]["message"]
    assert not path.exists()


def test_reserve_commit_and_what_is_left(cli: Any, ledger: Path) -> None:
    assert reserve(cli, ledger, Gaussian(2.0))["status"] == "open"
    held = balance(cli, ledger)
    assert held["epsilon_spent"] == 0 < held["epsilon_if_all_commit"]
    assert cli.document("budget", "commit", "count-17", "--ledger", ledger)["status"] == "committed"
    spent = balance(cli, ledger)
    assert spent["epsilon_spent"] == held["epsilon_if_all_commit"]
    assert spent["epsilon_spent"] + spent["epsilon_remaining"] == pytest.approx(8)


def test_a_smaller_act_than_reserved_returns_the_rest(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, SelfComposed(Gaussian(4.0), 10))
    before = balance(cli, ledger)["epsilon_if_all_commit"]
    actual = event_file(ledger.parent, SelfComposed(Gaussian(4.0), 1), "actual.json")
    cli.document("budget", "commit", "count-17", "--event", actual, "--ledger", ledger)
    assert balance(cli, ledger)["epsilon_spent"] < before / 2


def test_more_than_reserved_is_refused(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(4.0))
    actual = event_file(ledger.parent, Gaussian(3.0), "actual.json")
    document = cli.document(
        "budget", "commit", "count-17", "--event", actual, "--ledger", ledger, code=2
    )
    assert document["error"]["code"] == "commit_out_of_bounds"


def test_a_refund_returns_everything_once(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(2.0))
    for _ in range(2):
        cli.document("budget", "refund", "count-17", "--ledger", ledger)
    assert balance(cli, ledger)["epsilon_remaining"] == 8


@pytest.mark.parametrize("event", [Gaussian(0.1), NonPrivate()])
def test_what_does_not_fit_is_refused_with_the_amounts(
    cli: Any, ledger: Path, event: DpEvent
) -> None:
    document = reserve(cli, ledger, event, code=3)
    assert document["error"]["code"] == "budget_exhausted"
    assert "nothing was spent" in document["error"]["message"]
    assert balance(cli, ledger)["epsilon_remaining"] == 8


def test_the_same_key_charges_once(cli: Any, ledger: Path) -> None:
    for _ in range(5):
        reserve(cli, ledger, Gaussian(2.0))
    once = balance(cli, ledger)["epsilon_if_all_commit"]
    reserve(cli, ledger, Gaussian(2.0), key="another")
    assert balance(cli, ledger)["epsilon_if_all_commit"] > once


def test_void_takes_two_persons(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(2.0))
    cli.document("budget", "commit", "count-17", "--ledger", ledger)
    void = ("budget", "void", "count-17", "--reason", "never ran", "--ledger", ledger)
    cli.document(*void, "--by", "A. Officer")
    again = cli.document(*void, "--by", "A. Officer", code=2)
    assert again["error"]["code"] == "not_authorised"
    assert balance(cli, ledger)["epsilon_spent"] > 0
    assert cli.document(*void, "--by", "B. Director")["status"] == "voided"
    assert balance(cli, ledger)["epsilon_spent"] == 0


def test_history_names_who_and_why(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(2.0))
    entries = cli.document("budget", "history", NOTES, "--ledger", ledger)["entries"]
    assert [entry["kind"] for entry in entries] == ["AccountOpened", "Reserved"]
    assert (entries[0]["by"], entries[0]["reason"]) == ("A. Officer", "ethics vote 17")


def test_verify_names_the_broken_entry(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(2.0))
    assert cli.document("budget", "verify", "--ledger", ledger)["intact"]
    database = sqlite3.connect(ledger)
    with database:
        database.execute(
            "update journal_entries set body_text = replace(body_text, 'vote 17', 'vote 18')"
        )
    database.close()
    document = cli.document("budget", "verify", "--ledger", ledger, code=1)
    assert document["error"]["code"] == "chain_broken"
    assert "entry 1" in document["error"]["message"]
    assert "expected hash" in document["error"]["message"]


def test_an_export_is_checked_without_the_database(cli: Any, ledger: Path) -> None:
    key, heads = ledger.parent / "key.pem", ledger.parent / "heads"
    cli.document("budget", "anchor", heads, "--signing-key", key, "--ledger", ledger)
    path = ledger.parent / "ledger.jsonl"
    made = cli.document("budget", "export", path, "--signing-key", key, "--ledger", ledger)
    ledger.unlink()
    verify = ("budget", "verify", "--export", path, "--public-key", made["public_key"])
    assert cli.document(*verify)["signed"]
    path.write_text(path.read_text().replace("ethics vote 17", "ethics vote 18"))
    assert cli.document(*verify, code=1)["error"]["code"] == "chain_broken"


def test_an_older_copy_is_recognised_by_the_anchor(cli: Any, ledger: Path) -> None:
    key, heads = ledger.parent / "key.pem", ledger.parent / "heads"
    older = ledger.read_bytes()
    reserve(cli, ledger, Gaussian(2.0))
    cli.document("budget", "anchor", heads, "--signing-key", key, "--ledger", ledger)
    for leftover in ledger.parent.glob("ledger.db-*"):
        leftover.unlink()
    ledger.write_bytes(older)
    document = cli.document(
        "budget", "verify", "--anchor", heads, "--signing-key", key, "--ledger", ledger, code=1
    )
    assert document["error"]["code"] == "journal_went_back"


def test_a_picture_of_one_account(cli: Any, ledger: Path) -> None:
    reserve(cli, ledger, Gaussian(2.0))
    path = ledger.parent / "account.png"
    cli.document("budget", "show", NOTES, "--plot", path, "--ledger", ledger)
    assert path.read_bytes().startswith(b"\x89PNG")
    document = cli.document(
        "budget", "show", NOTES, "--plot", ledger.parent / "account.txt", "--ledger", ledger, code=2
    )
    assert document["error"]["code"] == "invalid_parameter"


def test_a_ledger_from_the_future_reserves_again_once_somebody_resets_its_time(
    cli: Any, ledger: Path
) -> None:
    ahead = ManualClock(SystemClock().now() + timedelta(hours=26))
    with BudgetStore.open(ledger, clock=ahead) as store:
        scope = parse_scope(f"protection/{NOTES}")
        store.grant("ahead", scope, epsilon=1.0, signature=Signature("A. Officer", "vote 18"))
    refused = reserve(cli, ledger, Gaussian(8.0), code=2)
    assert refused["error"]["code"] == "clock_went_back"
    done = cli.document("budget", "reset-clock", *SIGNED, "--ledger", ledger)
    assert done["by"] == "A. Officer"
    reserve(cli, ledger, Gaussian(8.0))
    assert cli.document("budget", "verify", "--ledger", ledger)["intact"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("show", "nobody/here"), "unknown_scope"),
        (("show", "one-part"), "invalid_parameter"),
        (("commit", "unknown"), "unknown_reservation"),
        (("grant", NOTES, "--epsilon", -1, *SIGNED), "invalid_parameter"),
        (("grant", NOTES, "--epsilon", "nan", *SIGNED), "invalid_parameter"),
        (("grant", NOTES, "--epsilon", 1, "--delta", "1e-6", *SIGNED), "account_exists"),
        (("repair", *SIGNED), "invalid_parameter"),
    ],
)
def test_refusals_change_nothing(
    cli: Any, ledger: Path, arguments: tuple[Any, ...], code: str
) -> None:
    head = cli.document("budget", "show", "--ledger", ledger)["head"]
    document = cli.document("budget", *arguments, "--ledger", ledger, code=2)
    assert document["error"]["code"] == code
    assert cli.document("budget", "show", "--ledger", ledger)["head"] == head
