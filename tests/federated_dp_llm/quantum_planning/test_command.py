"""`federated-dp-llm plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tests.federated_dp_llm.quantum_planning.problems import random_problem
from typer.testing import CliRunner

from federated_dp_llm.cli.plan import plan
from federated_dp_llm.quantum_planning import write_problem

app = typer.Typer()
app.command()(plan)


@pytest.fixture
def problem_file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.json"
    path.write_bytes(write_problem(random_problem(1, slack=1.6)))
    return path


def run(*words: str, **options: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [*words], **options)  # type: ignore[arg-type]
    return done.exit_code, done.stdout, done.stderr


def test_a_plan_is_shown_with_what_is_proved(problem_file: Path) -> None:
    code, shown, _ = run(str(problem_file), "--solver", "milp")

    assert code == 0
    assert "optimal: nothing that fits costs less" in shown
    assert "no quantum hardware" in shown
    assert all(f"n{number}" in shown for number in range(3))


def test_json_is_one_document_and_can_be_had_again(problem_file: Path) -> None:
    words = (str(problem_file), "--json", "--solver", "potts_annealing", "--time-limit", "5")
    _, first, _ = run(*words, "--seed", "7", "--sweeps", "20")
    code, again, _ = run(*words, "--seed", "7", "--sweeps", "20")

    assert code == 0
    assert json.loads(first)["assignment"] == json.loads(again)["assignment"]
    assert json.loads(first)["seed"] == 7


def test_a_problem_comes_from_the_standard_input_too() -> None:
    code, shown, _ = run("-", "--json", input=write_problem(random_problem(1, slack=1.6)))

    assert code == 0
    assert json.loads(shown)["feasible"]


def test_a_plan_that_does_not_fit_says_so_and_ends_with_1() -> None:
    document = '{"tasks": [{"task_id": "t"}], "nodes": [{"node_id": "n", "capacity": 0}]}'
    code, shown, _ = run("-", input=document)

    assert code == 1
    assert "DOES NOT FIT: n is given demand 1 of 0" in shown


@pytest.mark.parametrize(
    ("document", "words", "wrong"),
    [
        ("{}", (), "problem"),
        ('{"tasks": [{"task_id": "t", "home": "x"}], "nodes": [{"node_id": "n"}]}', (), "'x'"),
        ('{"tasks": [], "nodes": [{"node_id": "n"}]}', ("--solver", "x"), "solver"),
        ('{"tasks": [], "nodes": [{"node_id": "n"}]}', ("--time-limit", "0"), "time_limit_s"),
    ],
)
def test_wrong_input_ends_with_2_and_one_line(
    document: str, words: tuple[str, ...], wrong: str
) -> None:
    code, shown, fault = run("-", *words, input=document)

    assert code == 2
    assert shown == ""
    assert wrong in fault
    assert fault.count("\n") == 1


def test_a_file_that_is_not_there_ends_with_1_and_is_named(tmp_path: Path) -> None:
    code, shown, fault = run(str(tmp_path / "none.json"))

    assert (code, shown) == (1, "")
    assert "none.json" in fault
