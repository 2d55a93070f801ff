"""Names of accounts: an organisation's name for it, the ledger's, and nobody else's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.accounts import (
    is_of,
    is_of_one_subject,
    ledger_account,
    ledger_quota,
    name_of,
    scope_of,
    tenant_of,
)
from privacy_runtime.budget_store import parse_scope

NORTH, SOUTH = "o_1", "o_2"


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("notes/2026", "protection/o_1:notes/2026"),
        ("notes/2026/ada", "protection/o_1:notes/2026/ada"),
        ("o_2:notes/2026", "protection/o_1:o_2:notes/2026"),
        ("quota", "quota/o_1"),
        ("quota/research/ada", "quota/o_1/research/ada"),
        ("quotas/2026", "protection/o_1:quotas/2026"),
    ],
)
def test_a_name_and_what_the_ledger_holds(name: str, held: str) -> None:
    scope = scope_of(NORTH, name)

    assert str(scope) == held
    assert name_of(scope, NORTH) == name
    assert is_of(scope, NORTH)
    assert not is_of(scope, SOUTH)
    assert tenant_of(scope) == NORTH


@pytest.mark.parametrize(
    "name", ["", "notes", "/", "a//b", "quota/", "quota//x", "a/b/c/d", "a/ b"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        scope_of(NORTH, name)


def test_another_organisations_account_has_no_name_here() -> None:
    with pytest.raises(InvalidParameter):
        name_of(scope_of(SOUTH, "notes/2026"), NORTH)


def test_an_account_of_the_command_line_is_nobodys() -> None:
    scope = parse_scope("protection/notes/2026")

    assert tenant_of(scope) is None
    assert not is_of(scope, NORTH)


def test_how_a_trainer_names_them() -> None:
    assert ledger_account(NORTH, "notes/2026") == "o_1:notes/2026"
    assert ledger_quota(NORTH, "research/ada") == "o_1/research/ada"
    assert ledger_quota(NORTH, "quota/research") == "o_1/research"
    assert ledger_quota(NORTH, "quota") == "o_1"
    with pytest.raises(InvalidParameter):
        ledger_account(NORTH, "quota/research")


def test_accounts_of_single_subjects_are_known_as_such() -> None:
    assert is_of_one_subject(scope_of(NORTH, "notes/2026/ada"))
    assert not is_of_one_subject(scope_of(NORTH, "notes/2026"))
    assert not is_of_one_subject(scope_of(NORTH, "quota/a/b"))


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_names_an_account_of_another_organisation(one: str, other: str) -> None:
    for text in (f"{one}/{other}", f"quota/{one}", f"{SOUTH}:{one}/{other}", one):
        try:
            scope = scope_of(NORTH, text)
        except InvalidParameter:
            continue
        assert tenant_of(scope) == NORTH
