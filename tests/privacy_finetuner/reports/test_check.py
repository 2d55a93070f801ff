from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy_core import dp_events
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.reports import check, read_folder


def change(path: Path, *keys: str, value: object) -> None:
    document = json.loads(path.read_text())
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accounting_mode": "rdp"},
        {"relation": NeighbouringRelation.REPLACE_ONE},
        {"users": 3},
        {"noise_multiplier": 1.5, "epsilon": 50.0},
    ],
    ids=str,
)
def test_an_honest_run_agrees(finished: Any, options: dict[str, Any]) -> None:
    found = check(read_folder(finished(**options)))

    assert found.agrees, found.findings
    assert found.epsilon_recomputed == pytest.approx(found.epsilon_reported, rel=1e-9)


def test_the_other_accountant_is_asked(finished: Any) -> None:
    found = check(read_folder(finished()))

    assert found.accountant_other == "rdp"
    assert found.epsilon_other is not None
    assert found.epsilon_other > found.epsilon_reported


@pytest.mark.parametrize(
    ("file", "keys", "value", "finding"),
    [
        ("privacy_report.json", ("theoretical_guarantees", "epsilon"), 3.9, "report says"),
        ("training_result.json", ("epsilon",), 3.9, "training result says"),
        ("statement.json", ("guarantee", "epsilon"), 3.9, "statement says"),
    ],
)
def test_an_epsilon_that_was_lowered_is_found(
    finished: Any, file: str, keys: tuple[str, ...], value: float, finding: str
) -> None:
    folder = finished()
    change(folder / file, *keys, value=value)
    found = check(read_folder(folder))

    assert not found.agrees
    assert finding in found.findings[0]


def test_an_event_that_is_not_the_one_charged_is_found(finished: Any, write: Any) -> None:
    folder = finished()
    fewer = write.plan().event(4)
    change(folder / "privacy_report.json", "event", value=dp_events.to_json(fewer))
    found = check(read_folder(folder))

    assert not found.agrees
    assert any("not the one that the run record charges" in said for said in found.findings)


def test_an_unfinished_run_is_priced_as_its_plan(write: Any) -> None:
    plan = write.plan()
    write.run(plan, charged=8, finish=False)
    found = check(read_folder(write.folder))

    assert found.agrees
    assert found.epsilon_reported == plan.epsilon() > plan.epsilon(8)
