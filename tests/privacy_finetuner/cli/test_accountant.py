from __future__ import annotations

from typing import Any

import pytest

RUN = ("--sample-rate", 0.01, "--steps", 1000, "--delta", "1e-5")


def test_epsilon_of_the_reference_run(cli: Any) -> None:
    document = cli.document(
        "accountant", "epsilon", "--accountant", "pld", "--noise-multiplier", 1.0, *RUN
    )

    assert document["epsilon"] == pytest.approx(1.828, abs=1e-3)
    assert (document["relation"], document["unit"]) == ("add_or_remove_one", "example")


def test_noise_is_at_most_a_thousandth_above_the_least(cli: Any) -> None:
    document = cli.document("accountant", "noise", "--epsilon", 8, *RUN)

    assert 0.58626 <= document["noise_multiplier"] <= 0.58626 * 1.001
    assert document["epsilon"] <= 8


@pytest.mark.parametrize(
    ("options", "unit", "relation"),
    [
        (("--max-examples-per-user", 3), "user", "add_or_remove_one"),
        (("--relation", "replace_one"), "example", "replace_one"),
        (("--accountant", "rdp"), "example", "add_or_remove_one"),
    ],
)
def test_the_noise_printed_keeps_the_budget_when_priced_again(
    cli: Any, options: tuple[Any, ...], unit: str, relation: str
) -> None:
    found = cli.document("accountant", "noise", "--epsilon", 4, *RUN, *options)
    noise = repr(found["noise_multiplier"])
    again = cli.document("accountant", "epsilon", "--noise-multiplier", noise, *RUN, *options)

    assert again["epsilon"] <= 4
    assert (again["unit"], again["relation"]) == (unit, relation)


def test_compare_shows_why_an_accountant_refuses(cli: Any) -> None:
    document = cli.document("accountant", "compare", "--noise-multiplier", 1.0, *RUN)
    rows = {row["accountant"]: row for row in document["accountants"]}

    assert rows["gdp"]["epsilon"] is None
    assert "not a bound" in rows["gdp"]["refused"].replace("\n", " ")
    assert rows["pld"]["epsilon"] < rows["rdp"]["epsilon"]


def test_gdp_prices_full_batches(cli: Any) -> None:
    document = cli.document(
        "accountant", "epsilon", "--accountant", "gdp", "--noise-multiplier", 20,
        "--sample-rate", 1, "--steps", 10, "--delta", "1e-5",
    )  # fmt: skip

    assert 0 < document["epsilon"] < 1


def test_an_infinite_epsilon_is_null_in_json(cli: Any) -> None:
    document = cli.document(
        "accountant", "epsilon", "--noise-multiplier", 1, "--sample-rate", 0.1, "--steps", 2,
        "--delta", 0,
    )  # fmt: skip

    assert document["epsilon"] is None


def test_bad_input_is_one_line_and_exit_code_two(cli: Any) -> None:
    result = cli("accountant", "epsilon", "--noise-multiplier", -1, *RUN)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error [invalid_parameter]: noise_multiplier is -1.0")
    assert len(result.stderr.splitlines()) == 1


def test_people_get_a_table(cli: Any) -> None:
    result = cli("accountant", "epsilon", "--noise-multiplier", 1, *RUN)

    assert "1.82872" in result.stdout
