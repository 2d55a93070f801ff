"""Who may what: the whole matrix, written out a second time by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from privacy_runtime.identity import (
    PEOPLE_ONLY,
    ROLE_SCOPES,
    Method,
    NotAllowed,
    Principal,
    Role,
    Scope,
    StaleLogin,
    WrongTenant,
    require,
    require_fresh,
)
from privacy_runtime.identity.scopes import scopes_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)

# viewer, analyst, trainer, privacy officer, admin
MATRIX = """
account:self               v a t p A
keys:own                   - a t - A
jobs:read                  v a t p A
jobs:write                 - - t - -
results:read               v a t p A
results:outside_guarantee  - - - p -
models:read                v a t p A
models:query               - a t - -
models:export              - - t - -
datasets:read              - a t p -
datasets:write             - - t - -
budgets:read               v a t p A
budgets:request            - a t - -
budgets:grant              - - - p -
redaction:use              - a t p -
redaction:reveal           - - - p -
compliance:read            - - - p -
compliance:write           - - - p -
audit:read                 - - - p A
security:read              - - - p A
security:act               - - - - A
scaling:read               - - t - A
users:read                 - - - p A
users:write                - - - - A
keys:all                   - - - - A
settings:write             - - - - A
"""
ROLES = [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.PRIVACY_OFFICER, Role.ADMIN]
CELLS = [
    (role, Scope(line.split()[0]), sign != "-")
    for line in MATRIX.strip().splitlines()
    for role, sign in zip(ROLES, line.split()[1:], strict=True)
]


def _principal(role: Role, **fields: object) -> Principal:
    principal = Principal(
        subject="u_1",
        tenant="o_1",
        scopes=ROLE_SCOPES[role],
        method=Method.PASSWORD_AND_CODE,
        authenticated_at=NOW,
        session="s_1",
    )
    return replace(principal, **fields)  # type: ignore[arg-type]


def test_the_matrix_names_every_scope_and_every_role_once() -> None:
    assert [scope for _, scope, _ in CELLS[:: len(ROLES)]] == list(Scope)
    assert list(Role) == ROLES


@pytest.mark.parametrize(("role", "scope", "may"), CELLS, ids=str)
def test_a_role_may_what_the_matrix_says(role: Role, scope: Scope, may: bool) -> None:
    if may:
        require(_principal(role), scope, tenant="o_1")
    else:
        with pytest.raises(NotAllowed):
            require(_principal(role), scope, tenant="o_1")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("scope", list(Scope))
def test_nobody_may_anything_in_another_organisation(role: Role, scope: Scope) -> None:
    with pytest.raises(WrongTenant) as refused:
        require(_principal(role), scope, tenant="o_2")

    assert refused.value.public == "not found"


def test_nobody_both_trains_and_grants_or_makes_users_and_does_either() -> None:
    duties = {Scope.JOBS_WRITE, Scope.BUDGETS_GRANT, Scope.USERS_WRITE}

    assert all(len(duties & scopes) <= 1 for scopes in ROLE_SCOPES.values())


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ROLE_SCOPES[Role.VIEWER] = frozenset(Scope)  # type: ignore[index]


def test_what_is_outside_the_guarantee_is_for_people_only() -> None:
    assert {Scope.RESULTS_OUTSIDE_GUARANTEE, Scope.BUDGETS_GRANT, Scope.USERS_WRITE} <= PEOPLE_ONLY


def test_a_role_that_needs_a_code_may_only_enrol_without_one() -> None:
    needs = frozenset({Role.ADMIN})

    assert scopes_of(Role.ADMIN, Method.PASSWORD, needs) == {Scope.ACCOUNT_SELF}
    assert scopes_of(Role.ADMIN, Method.PASSWORD_AND_CODE, needs) == ROLE_SCOPES[Role.ADMIN]
    assert scopes_of(Role.VIEWER, Method.PASSWORD, needs) == ROLE_SCOPES[Role.VIEWER]


@pytest.mark.parametrize(
    "fields",
    [
        {"authenticated_at": NOW - timedelta(seconds=301)},
        {"authenticated_at": NOW + timedelta(seconds=1)},
        {"method": Method.PASSWORD},
        {"method": Method.API_KEY},
    ],
)
def test_an_act_hard_to_undo_asks_for_a_login_just_now(fields: dict[str, object]) -> None:
    principal = _principal(Role.PRIVACY_OFFICER)
    require_fresh(principal, Scope.BUDGETS_GRANT, tenant="o_1", now=NOW)

    with pytest.raises(StaleLogin):
        require_fresh(replace(principal, **fields), Scope.BUDGETS_GRANT, tenant="o_1", now=NOW)  # type: ignore[arg-type]
