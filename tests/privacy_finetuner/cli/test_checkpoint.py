from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An account of its own, and a working folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    state = tmp_path / "run" / "checkpoint-4"
    state.mkdir(parents=True)
    (state / "weights").write_bytes(os.urandom(5_000))
    return tmp_path


def test_a_checkpoint_is_sealed_listed_verified_and_restored(cli: Any, home: Path) -> None:
    sealed = cli.document("checkpoint", "seal", "run/checkpoint-4", "--label", "step=4")
    (row,) = cli.document("checkpoint", "list")["sets"]
    genuine = cli.document("checkpoint", "verify")
    restored = cli.document("checkpoint", "restore", "run", "--output", "back")

    assert sealed["name"] == row["name"] == restored["name"] == "run/000001"
    assert row["labels"] == {"step": "4"}
    assert genuine["genuine"] is True
    assert filecmp.cmp("back/weights", "run/checkpoint-4/weights", shallow=False)


def test_with_a_ledger_its_head_is_signed(cli: Any, home: Path) -> None:
    cli.document(
        "budget", "grant", "notes/2026", "--epsilon", 8, "--delta", "1e-5", "--by", "A. Officer",
        "--reason", "vote 17", "--ledger", "ledger.db",
    )  # fmt: skip
    sealed = cli.document("checkpoint", "seal", "run/checkpoint-4", "--ledger", "ledger.db")

    assert sealed["ledger"]["seq"] >= 1
    assert len(sealed["ledger"]["hash"]) == 64


def test_a_changed_byte_is_found_and_nothing_is_restored(cli: Any, home: Path) -> None:
    cli.document("checkpoint", "seal", "run/checkpoint-4")
    path = home / "sealed" / "run" / "000001" / "weights.sealed"
    data = bytearray(path.read_bytes())
    data[2_000] ^= 1
    path.write_bytes(bytes(data))

    found = cli.document("checkpoint", "verify", code=4)
    refused = cli.document("checkpoint", "restore", "run", "--output", "back", code=1)

    assert found["genuine"] is False
    assert "is not the one that was sealed" in found["sets"][0]["problem"]
    assert refused["error"]["code"] == "seal_broken"
    assert not (home / "back").exists()


def test_a_newest_set_that_is_gone_is_said_and_an_older_one_needs_its_number(
    cli: Any, home: Path
) -> None:
    for _ in range(2):
        cli.document("checkpoint", "seal", "run/checkpoint-4")
    shutil.rmtree(home / "sealed" / "run" / "000002")

    assert cli.document("checkpoint", "verify", code=4)["genuine"] is False
    refused = cli.document("checkpoint", "restore", "run", "--output", "back", code=1)
    assert refused["error"]["code"] == "rolled_back"
    restored = cli.document("checkpoint", "restore", "run", "--number", 1, "--output", "back")
    assert restored["number"] == 1


def test_a_replica_holds_what_is_restored(cli: Any, home: Path) -> None:
    (home / "second").mkdir()
    sealed = cli.document("checkpoint", "seal", "run/checkpoint-4", "--replica", "second")
    shutil.rmtree(home / "sealed")

    restored = cli.document("checkpoint", "restore", "run", "--store", "second", "--output", "back")
    assert restored["digest"] == sealed["digest"]


def test_a_rotation_wraps_anew_and_everything_still_opens(cli: Any, home: Path) -> None:
    cli.document("checkpoint", "seal", "run/checkpoint-4")
    before = cli.document("keys", "list")
    rotated = cli.document("keys", "rotate", "--store", "sealed")

    assert rotated["rewrapped"] == 1
    assert [key["is_current"] for key in rotated["keys"]] == [False, True]
    assert before["keys"][0]["id"] == rotated["keys"][0]["id"] != rotated["made"]
    assert cli.document("checkpoint", "verify")["genuine"] is True
    assert cli("keys", "list").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("seal", "nothing-here"), 2),
        (("seal", "run/checkpoint-4", "--label", "no equals"), 2),
        (("seal", "run/checkpoint-4", "--keyring", "ftp:x"), 1),
        (("restore", "unknown", "--output", "back"), 1),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    cli: Any, arguments: tuple[str, ...], code: int
) -> None:
    refused = cli.document("checkpoint", *arguments, code=code)

    assert refused["error"]["message"]
    assert not Path("back").exists()
