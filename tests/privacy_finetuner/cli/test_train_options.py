"""Options that change utility: how they reach the trainer, and what is settled for whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.cli.options import OptimizerName
from privacy_finetuner.cli.request import Settings, TrainRequest
from privacy_finetuner.domains import OPTIMIZERS


def settings(folder: Path, **changes: Any) -> Settings:
    path = folder / "r.jsonl"
    rows = [{"text": "a b", "who": f"u{n // 4}"} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"model": "m", "data": path, "epsilon": 3.0, "output": Path("out"), **changes}
    return Settings.of(TrainRequest(**values))


def test_every_optimizer_has_a_name_on_the_command_line() -> None:
    assert {name.value for name in OptimizerName} == set(OPTIMIZERS)


def test_by_default_the_public_rules_settle_rate_average_and_clipping(tmp_path: Path) -> None:
    keywords = settings(tmp_path).keywords()

    assert keywords["learning_rate"] == "auto"
    assert keywords["weight_average"] == "auto"
    assert keywords["clip_rule"] == "normalise"


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"learning_rate": "0.002"}, "bound"),
        ({"learning_rate": "0.002", "normalise": True}, "normalise"),
        ({"fixed_clipping": True}, "bound"),
    ],
)
def test_a_choice_of_ones_own_stays(tmp_path: Path, changes: dict[str, Any], rule: str) -> None:
    asked = settings(tmp_path, **changes)

    assert asked.keywords()["clip_rule"] == rule
    assert asked.plan().clip_rule == rule


def test_sampled_users_are_what_a_step_draws(tmp_path: Path) -> None:
    asked = settings(
        tmp_path, unit="user", user_field="who", max_examples_per_user=4, user_sampling=True
    )
    plan = asked.plan()

    assert (asked.batch_size, plan.examples, plan.max_examples_per_user) == (8, 10, 1)
    assert asked.keywords()["user_sampling"] is True


def test_the_command_to_resume_repeats_what_was_asked(tmp_path: Path) -> None:
    words = settings(
        tmp_path, learning_rate="0.0020", views=2, weight_average="ema"
    ).request.command(resume=True)

    assert "--learning-rate 0.0020" in words
    assert "--views 2" in words
    assert "--weight-average ema" in words


def test_a_rate_that_is_neither_auto_nor_a_number_is_bad_input(
    cli: Any, model: str, records: Path, tmp_path: Path
) -> None:
    result = cli(
        "train", "--model", model, "--data", records, "--epsilon", 3, "--output", tmp_path,
        "--learning-rate", "fast",
    )  # fmt: skip

    assert result.exit_code == 2
