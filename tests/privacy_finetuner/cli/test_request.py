from __future__ import annotations

import json
from pathlib import Path

import pytest

from privacy_finetuner.cli.request import Settings, TrainRequest
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.sizes import default_batch_size, default_delta


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    rows = [{"text": "a b", "who": "one" if n < 7 else f"u{n}"} for n in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def request(data: Path, **changes: object) -> TrainRequest:
    values = {"model": "m", "data": data, "epsilon": 3.0, "output": Path("out")} | changes
    return TrainRequest(**values)  # type: ignore[arg-type]  # names are checked by the class


@pytest.mark.parametrize(
    ("units", "delta"),
    [(1, 1e-5), (2000, 1e-5), (10_000, 1e-5), (10_001, 9e-6), (30_000, 3e-6), (10**6, 1e-7)],
)
def test_the_default_delta_is_a_tenth_of_one_over_n_rounded_down(units: int, delta: float) -> None:
    assert default_delta(units) == pytest.approx(delta, rel=1e-9)
    assert default_delta(units) <= 1 / (10 * units) * (1 + 1e-12)


@pytest.mark.parametrize(("n", "size"), [(3, 8), (128, 8), (2000, 125), (10**6, 512)])
def test_the_default_batch_is_a_sixteenth_within_bounds(n: int, size: int) -> None:
    assert default_batch_size(n) == size


def test_users_are_counted_with_their_cap(data: Path) -> None:
    asked = request(data, unit="user", user_field="who", max_examples_per_user=2)
    sizes = Settings.of(asked).sizes

    assert (sizes.examples, sizes.units) == (5, 4)


def test_user_level_without_a_cap_is_refused(data: Path) -> None:
    with pytest.raises(ConfigurationError, match="max-examples-per-user"):
        Settings.of(request(data, unit="user", user_field="who"))


def test_a_delta_above_one_over_n_is_explained(data: Path) -> None:
    (warning,) = Settings.of(request(data, delta=0.2)).warnings

    assert "0.2 is larger than 1/n = 0.1" in warning
    assert not Settings.of(request(data, delta=0.05)).warnings


def test_the_resume_command_repeats_what_was_asked(data: Path) -> None:
    asked = request(data, epsilon=0.1234567, lora_rank=4, strict=True, output=Path("a b"))

    assert asked.command(resume=True) == (
        f"privacy-finetuner train --model m --data {data} --epsilon 0.1234567 --output 'a b' "
        "--lora-rank 4 --strict --resume"
    )
