from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privacy_core.accounting import dp_sgd_event, epsilon_of

SIZES = ("--examples", 5000, "--batch-size", 100, "--delta", "1e-5")
RUN = (*SIZES, "--steps", 100, "--epsilon", 4)


@pytest.fixture(scope="module")
def plan(cli: Any) -> dict[str, Any]:
    document: dict[str, Any] = cli.document("accountant", "plan", *RUN, "--records-per-user", 4)
    return document


def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in document["alternatives"]}


def test_the_yardstick_is_poisson_by_pld_and_keeps_the_target(plan: dict[str, Any]) -> None:
    noise = plan["yardstick_noise_multiplier"]
    event = dp_sgd_event(noise_multiplier=noise, sample_rate=0.02, steps=100)

    for name in ("poisson", "pld"):
        row = rows(plan)[name]
        assert row["noise_multiplier"] == pytest.approx(noise)
        assert row["relative_error"] == pytest.approx(1.0)
    assert 3.99 <= epsilon_of(event, 1e-5) <= 4


def test_every_alternative_has_figures_or_a_reason(plan: dict[str, Any]) -> None:
    for row in plan["alternatives"]:
        has_figures = row["noise_multiplier"] is not None or (
            row["epsilon_at_yardstick_noise"] is not None
        )
        assert has_figures != bool(row["refused"]), row


def test_what_is_priced_dearer_asks_for_more_noise(plan: dict[str, Any]) -> None:
    found = rows(plan)

    for name in ("poisson, cut at 110", "cyclic poisson, 4 groups", "shuffle", "rdp"):
        assert found[name]["relative_error"] > 1.01
        assert found[name]["epsilon_at_yardstick_noise"] > 4.02
    assert found["shuffle"]["epsilon_at_yardstick_noise"] > 10
    assert 4 <= found["gdp, dominating"]["epsilon_at_yardstick_noise"] < 5


def test_what_has_no_price_is_refused_by_name(plan: dict[str, Any]) -> None:
    assert "central-limit" in rows(plan)["gdp"]["refused"]
    assert "add_or_remove_one" in rows(plan)["fixed size"]["refused"]


def test_a_fixed_size_is_priced_when_records_are_exchanged(cli: Any) -> None:
    document = cli.document("accountant", "plan", *RUN, "--relation", "replace_one")

    assert (
        rows(document)["fixed size"]["noise_multiplier"]
        > rows(document)["poisson"]["noise_multiplier"]
    )


def test_users_cost_more_with_each_record_and_less_than_the_group_bound(
    plan: dict[str, Any],
) -> None:
    found = rows(plan)
    noises = [found[f"at most {n}"]["noise_multiplier"] for n in ("1 record", "2 records")]
    noises += [found[n]["noise_multiplier"] for n in ("at most 4 records", "group of 4 records")]

    assert noises == sorted(noises)
    assert len(set(noises)) == 4
    assert found["at most 2 records"]["unit"] == "user"
    # Whether few or all users are above the cap, the noise printed as most is enough.
    capped = found["at most 1 record"]
    assert capped["noise_multiplier"] < capped["noise_multiplier_most"] <= noises[2] * 1.01


def test_users_are_left_out_unless_asked_for(cli: Any) -> None:
    document = cli.document("accountant", "plan", *RUN)

    assert {row["unit"] for row in document["alternatives"]} == {"example"}


def test_epochs_are_turned_into_steps(cli: Any) -> None:
    document = cli.document("accountant", "plan", *SIZES, "--epochs", 1.5, "--epsilon", 4)

    assert document["steps"] == 75


def test_the_plot_is_a_picture(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "plan.png"

    document = cli.document("accountant", "plan", *RUN, "--plot", path)

    assert document["plot"] == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_bands_can_beat_independent_noise_and_are_refused_without_a_proof(cli: Any) -> None:
    sizes = ("--examples", 50_000, "--batch-size", 500, "--epochs", 10, "--delta", "1e-5")
    run = (*sizes, "--epsilon", 4)

    found = rows(cli.document("accountant", "plan", *run))
    exchanged = rows(cli.document("accountant", "plan", *run, "--relation", "replace_one"))

    # An independent library: 10.44 against 16.44, mean prefix-sum error in units of the clip norm.
    assert found["16 bands"]["relative_error"] == pytest.approx(10.44 / 16.44, rel=5e-3)
    assert "no price is proved" in exchanged["16 bands"]["refused"]


def test_people_get_a_table_with_every_group(cli: Any) -> None:
    result = cli("accountant", "plan", *RUN, "--records-per-user", 2)

    for heading in ("How batches are made", "Who does the sums", "Whom it protects"):
        assert heading in result.stdout


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((*SIZES, "--epsilon", 4), "steps is 'neither'"),
        ((*RUN, "--epochs", 1), "steps is 'both'"),
        ((*SIZES, "--epsilon", 4, "--epochs", 0), "epochs is 0.0"),
        ((*SIZES, "--epsilon", 4, "--epochs", "nan"), "epochs is nan"),
        ((*SIZES, "--epsilon", -1, "--steps", 5), "epsilon is -1.0"),
        ((*SIZES, "--epsilon", 4, "--steps", 0), "steps is 0"),
        ((*RUN, "--records-per-user", 0), "records_per_user is 0"),
        ((*RUN, "--plot", "plan.txt"), "plot is 'plan.txt'"),
        ((*RUN, "--plot", "no/such/plan.png"), "plot is 'no/such/plan.png'"),
        (
            ("--examples", 10, "--batch-size", 11, "--steps", 1, "--epsilon", 1, "--delta", 0.1),
            "batch_size is 11",
        ),
    ],
)
def test_bad_input_is_refused_by_name(cli: Any, options: tuple[Any, ...], named: str) -> None:
    result = cli("accountant", "plan", *options)

    assert result.exit_code == 2
    assert named in result.stderr
