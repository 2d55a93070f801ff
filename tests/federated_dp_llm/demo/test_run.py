"""The demonstration as a whole, with the real model; one process, then four."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from federated_dp_llm.demo.run import RESULT, DemoSettings, run_demo


def held(document: dict[str, Any]) -> None:
    """What must hold of any run, whatever was drawn."""
    settings = document["settings"]
    for row in (*document["questions"], document["label"], document["consensus"]):
        assert 0 < row["epsilon"] <= settings["epsilon"]
    assert document["refused"]["least"] > settings["too_small"]
    assert document["label"]["answer"] in document["label"]["labels"]
    paid = [amount for hospital in document["patients"] for amount, _ in hospital["amounts"]]
    assert 0 < max(paid) <= settings["patient_epsilon"]
    for hospital in document["patients"]:
        assert sum(count for _, count in hospital["amounts"]) == 192


@pytest.mark.slow
@pytest.mark.parametrize("processes", [False, True])
def test_the_demonstration_answers_refuses_and_shows_what_was_paid(
    tmp_path: Path, processes: bool
) -> None:
    settings = DemoSettings(questions=1, processes=processes)

    document = run_demo(tmp_path / "out", console=Console(quiet=True), settings=settings)

    held(document)
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == json.loads(json.dumps(document))
