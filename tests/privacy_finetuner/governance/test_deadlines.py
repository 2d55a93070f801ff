"""Deadlines: the calendar against another calendar, and the table against what is written of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_finetuner.governance.deadlines import RequestType, Span, Unit, law
from privacy_finetuner.governance.errors import UnknownLaw

INSTANTS = st.integers(0, 40 * 365 * 86_400).map(
    lambda seconds: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)


@pytest.mark.parametrize(
    ("received", "due"),
    [
        ("2026-01-31", "2026-02-28"),
        ("2028-01-31", "2028-02-29"),
        ("2026-01-15", "2026-02-15"),
        ("2026-12-31", "2027-01-31"),
        ("2026-03-31", "2026-04-30"),
    ],
)
def test_a_month_ends_on_the_same_day_or_the_months_last(received: str, due: str) -> None:
    start = datetime.fromisoformat(f"{received}T17:30:00+00:00")
    assert Span(amount=1, unit=Unit.MONTHS).after(start).isoformat() == f"{due}T17:30:00+00:00"


@given(INSTANTS, st.integers(1, 40))
def test_months_agree_with_another_calendar(start: datetime, months: int) -> None:
    other = pd.Timestamp(start) + pd.DateOffset(months=months)
    assert Span(amount=months, unit=Unit.MONTHS).after(start) == other.to_pydatetime(warn=False)


@given(INSTANTS, st.integers(1, 60))
def test_business_days_agree_with_another_calendar(start: datetime, days: int) -> None:
    other = pd.Timestamp(start) + pd.offsets.BDay(days)
    ours = Span(amount=days, unit=Unit.BUSINESS_DAYS).after(start)
    assert ours.date() == other.date()
    assert ours.weekday() < 5


@given(INSTANTS)
def test_a_deadline_is_never_before_the_request_and_an_extension_never_shortens(
    start: datetime,
) -> None:
    for cell in law().cells.values():
        due, later = cell.due(start), cell.due_extended(start)
        assert due > start
        assert later is None or later > due


@pytest.mark.parametrize(
    ("request_type", "region", "days"),
    [
        ("access", "California", 45),
        ("access", "Canada", 30),
        ("access", "US_Healthcare", 30),
        ("access", "Brazil", 15),
        ("rectification", "US_Healthcare", 60),
    ],
)
def test_what_the_laws_say_in_days(request_type: str, region: str, days: int) -> None:
    start = datetime(2026, 1, 5, 9, tzinfo=UTC)
    (cell,) = law().applying(request_type, region)
    assert cell.due(start) == start + timedelta(days=days)


def test_gdpr_is_one_month_and_three_with_the_extension() -> None:
    (cell,) = law().applying("erasure", "EU")
    start = datetime(2026, 11, 30, tzinfo=UTC)
    assert cell.due(start).isoformat() == "2026-12-30T00:00:00+00:00"
    # Three months from receipt, not two months from a date that was cut short.
    extended = cell.due_extended(start)
    assert extended is not None
    assert extended.isoformat() == "2027-02-28T00:00:00+00:00"


def test_where_two_laws_apply_both_are_named() -> None:
    assert [cell.regime for cell in law().applying("access", "Quebec")] == ["quebec_25", "pipeda"]


@pytest.mark.parametrize(
    ("request_type", "region"), [("access", "Mars"), ("opt_out_sale", "EU"), ("erasure", "Canada")]
)
def test_what_is_not_known_is_refused_and_never_thirty_days(request_type: str, region: str) -> None:
    with pytest.raises(UnknownLaw) as refused:
        law().applying(request_type, region)
    assert "one is known" in str(refused.value)


def test_every_cell_names_its_source_and_how_sure_we_are() -> None:
    for (_, request), cell in law().cells.items():
        assert request in set(RequestType)
        assert cell.source
        assert cell.confidence in {"high", "medium", "low"}
        assert cell.kind in {"statute", "regulation", "guidance", "house"}
        assert (cell.extension is None) == (cell.notice == "")


def test_every_region_and_configured_framework_is_in_the_table() -> None:
    from privacy_finetuner.environment.sections import FRAMEWORKS

    table = law()
    assert set(FRAMEWORKS) <= set(table.regimes)
    assert all(set(regimes) <= set(table.regimes) for regimes in table.regions.values())
