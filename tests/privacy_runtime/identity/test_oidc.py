"""Logins at another issuer: verified claims make a principal, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import (
    ROLE_SCOPES,
    ExternalIssuer,
    ExternalLoginRefused,
    Method,
    Role,
    Scope,
    principal_of,
)
from privacy_runtime.identity.oidc import subject_id

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AT = int(NOW.timestamp())
KNOWN = ExternalIssuer(
    issuer="https://login.example",
    client_id="pf",
    tenant="o_1",
    roles={"ml": Role.TRAINER, "dpo": Role.PRIVACY_OFFICER, "ml-old": Role.TRAINER},
)
CLAIMS = {
    "iss": "https://login.example",
    "aud": "pf",
    "sub": "248289761001",
    "iat": AT - 5,
    "exp": AT + 300,
    "groups": ["everybody", "ml"],
}


def _made(**changes: Any) -> Any:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not ...}
    return principal_of(claims, KNOWN, now=NOW, session="s_1")


def test_claims_make_a_principal_of_the_configured_organisation() -> None:
    principal = _made(tenant="o_2", roles=["admin"], scope="users:write")

    assert principal.tenant == "o_1"
    assert principal.scopes == ROLE_SCOPES[Role.TRAINER]
    assert principal.method is Method.OIDC
    assert principal.authenticated_at.timestamp() == AT - 5


def test_a_role_that_needs_a_second_factor_needs_the_issuer_to_have_seen_one() -> None:
    assert _made(groups=["dpo"]).scopes == {Scope.ACCOUNT_SELF}
    assert _made(groups=["dpo"], amr=["pwd"]).scopes == {Scope.ACCOUNT_SELF}
    assert Scope.BUDGETS_GRANT in _made(groups=["dpo"], amr=["pwd", "otp"]).scopes


def test_two_groups_of_one_role_are_one_role() -> None:
    assert _made(groups=["ml", "ml-old"]).scopes == ROLE_SCOPES[Role.TRAINER]


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://login.example/"},
        {"iss": ...},
        {"aud": "other"},
        {"aud": ...},
        {"aud": ["pf", "other"]},
        {"aud": ["pf", "other"], "azp": "other"},
        {"azp": "other"},
        {"sub": ...},
        {"sub": ""},
        {"sub": "x" * 256},
        {"sub": 7},
        {"exp": AT - 30},
        {"exp": ...},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": 10**15},
        {"iat": AT + 31},
        {"iat": ...},
        {"auth_time": AT - 3631},
        {"auth_time": AT + 31},
        {"auth_time": "now"},
        {"groups": ...},
        {"groups": []},
        {"groups": "ml"},
        {"groups": ["ML"]},
        {"groups": ["ml", "dpo"]},
        {"groups": [["ml"], None]},
    ],
    ids=str,
)
def test_other_claims_make_nobody(changes: dict[str, Any]) -> None:
    with pytest.raises(ExternalLoginRefused) as refused:
        _made(**changes)

    assert "248289761001" not in str(refused.value)


def test_several_audiences_are_taken_when_we_are_the_party() -> None:
    assert _made(aud=["pf", "other"], azp="pf").tenant == "o_1"


@given(st.text(), st.text(), st.text(), st.text())
def test_two_people_are_never_one_subject(i: str, s: str, j: str, t: str) -> None:
    assert (subject_id(i, s) == subject_id(j, t)) == ((i, s) == (j, t))


def test_an_issuer_without_https_is_refused() -> None:
    with pytest.raises(InvalidParameter):
        ExternalIssuer(issuer="http://login.example", client_id="pf", tenant="o_1", roles={})
