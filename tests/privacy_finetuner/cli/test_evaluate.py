from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def folder(trained: Any, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(trained[0], copy)
    return copy


def spent(folder: Path) -> list[float]:
    state = json.loads((folder / "privacy_state.json").read_text())
    return [release["epsilon"] for release in state["evaluations"]["releases"]]


def test_a_priced_evaluation_is_remembered_and_runs_out(
    cli: Any, folder: Path, records: Path
) -> None:
    command = ("evaluate", "--model", folder, "--data", records, "--max-length", 12)
    document = cli.document(*command, "--epsilon", 5, "--delta", "1e-4")
    refused = cli.document(*command, "--epsilon", 5, "--delta", "1e-4", code=3)

    assert document["outside_guarantee"] is False
    assert document["privacy_spent"]["epsilon"] == 5
    assert document["loss_std"] > 0
    assert refused["error"]["code"] == "privacy_budget_exhausted"
    assert spent(folder) == [5]


def test_an_exact_evaluation_says_so_and_spends_nothing(
    cli: Any, folder: Path, records: Path
) -> None:
    document = cli.document(
        "evaluate", "--model", folder, "--data", records, "--max-length", 12, "--exact"
    )

    assert document["outside_guarantee"] is True
    assert "outside the guarantee" in document["notes"][0]
    assert spent(folder) == []


def test_a_model_without_a_state_is_not_changed(cli: Any, model: str, records: Path) -> None:
    before = sorted(path.name for path in Path(model).iterdir())
    document = cli.document("evaluate", "--model", model, "--data", records, "--max-length", 12)

    assert "not remembered" in document["notes"][0]
    assert sorted(path.name for path in Path(model).iterdir()) == before
