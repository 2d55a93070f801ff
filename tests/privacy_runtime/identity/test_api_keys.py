"""API keys: shown once, weaker than their owner, and gone when they should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import (
    PEOPLE_ONLY,
    ApiKeyRefused,
    Method,
    NotAllowed,
    Principal,
    Role,
    Scope,
    UnknownAccount,
    is_key_text,
)
from privacy_runtime.identity.api_keys import new_key_text
from privacy_runtime.testing import SeededEntropy

JOBS = [Scope.JOBS_READ, Scope.JOBS_WRITE]


@pytest.fixture
def where(tmp_path: Path) -> str:
    """SQLite; `test_store.py` takes the same acts to PostgreSQL."""
    return str(tmp_path / "identity.db")


@pytest.fixture
def tom(house: Any, admin: Principal) -> Principal:
    """A trainer."""
    return house.user(admin, "tom", Role.TRAINER)


def _key(house: Any, owner: Principal, **options: Any) -> tuple[str, str]:
    issued = house.identity.api_keys.issue(owner, label="ci", **{"scopes": JOBS} | options)
    return issued.text.reveal(), issued.key.id


def test_a_key_says_whose_it_is_and_what_it_may(house: Any, tom: Principal) -> None:
    text, key_id = _key(house, tom)
    principal = house.identity.api_keys.authenticate(text)

    assert (principal.subject, principal.tenant) == (tom.subject, tom.tenant)
    assert principal.scopes == set(JOBS)
    assert (principal.method, principal.session) == (Method.API_KEY, key_id)
    assert text.startswith(f"pf_{key_id}_")
    assert is_key_text(text)


@given(data=st.data())
def test_no_character_of_a_key_can_be_mistyped(data: st.DataObject) -> None:
    text = new_key_text(SeededEntropy(data.draw(st.integers(0, 9))))
    where = data.draw(st.integers(0, len(text) - 1))
    sign = data.draw(st.sampled_from("abcdefgh234567_AZ01 é\n").filter(lambda s: s != text[where]))

    assert is_key_text(text)
    assert not is_key_text(text[:where] + sign + text[where + 1 :])
    assert not is_key_text(text + sign)


@pytest.mark.parametrize("wrong", ["", "pf_", "x" * 500, "\ud800", "Bearer abc"])
def test_what_is_no_key_is_refused(small_house: Any, wrong: str) -> None:
    with pytest.raises(ApiKeyRefused):
        small_house.identity.api_keys.authenticate(wrong)


def test_another_secret_under_a_known_id_is_refused(house: Any, tom: Principal) -> None:
    from privacy_runtime.identity.api_keys import _checksum

    text, key_id = _key(house, tom)
    other = new_key_text(SeededEntropy(5))
    forged = f"pf_{key_id}_{other[20:72]}"
    with pytest.raises(ApiKeyRefused):
        house.identity.api_keys.authenticate(forged + _checksum(forged))
    with pytest.raises(ApiKeyRefused):
        house.identity.api_keys.authenticate(other)

    house.identity.api_keys.authenticate(text)


def test_no_key_carries_what_asks_for_a_person(house: Any, admin: Principal) -> None:
    everything = replace(admin, scopes=frozenset(Scope))

    for scope in PEOPLE_ONLY:
        with pytest.raises(NotAllowed):
            _key(house, everything, scopes=[scope])


def test_a_key_may_no_more_than_its_owner(house: Any, admin: Principal, tom: Principal) -> None:
    with pytest.raises(NotAllowed):
        _key(house, tom, scopes=[Scope.AUDIT_READ])
    text, _ = _key(house, tom)
    house.identity.accounts.set_role(admin, tom.subject, Role.ANALYST)

    assert house.identity.api_keys.authenticate(text).scopes == {Scope.JOBS_READ}


def test_a_viewer_and_a_key_make_no_key(house: Any, admin: Principal, tom: Principal) -> None:
    vera = house.user(admin, "vera", Role.VIEWER)
    by_key = house.identity.api_keys.authenticate(_key(house, tom)[0])

    for principal in (vera, by_key):
        with pytest.raises(NotAllowed):
            _key(house, principal, scopes=[Scope.JOBS_READ])


def test_a_key_expires(house: Any, tom: Principal) -> None:
    text, _ = _key(house, tom, valid_days=1)
    house.clock.advance(86_399)
    house.identity.api_keys.authenticate(text)
    house.clock.advance(1)

    with pytest.raises(ApiKeyRefused):
        house.identity.api_keys.authenticate(text)


def test_a_key_is_revoked_by_its_owner_or_an_administrator(
    house: Any, admin: Principal, tom: Principal
) -> None:
    revoke = house.identity.api_keys.revoke
    other = house.user(admin, "theo", Role.TRAINER)
    for by in (tom, admin):
        text, key_id = _key(house, tom)
        with pytest.raises(NotAllowed):
            revoke(other, key_id)
        with pytest.raises(UnknownAccount):
            revoke(replace(admin, tenant="o_2"), key_id)
        house.identity.api_keys.authenticate(text)
        revoke(by, key_id)
        with pytest.raises(ApiKeyRefused):
            house.identity.api_keys.authenticate(text)


def test_the_keys_of_a_disabled_user_open_nothing(
    house: Any, admin: Principal, tom: Principal
) -> None:
    text, _ = _key(house, tom)
    house.identity.accounts.disable(admin, tom.subject)

    with pytest.raises(ApiKeyRefused):
        house.identity.api_keys.authenticate(text)


def test_the_last_use_is_kept_to_the_hour(house: Any, tom: Principal) -> None:
    text, _ = _key(house, tom)
    assert house.identity.api_keys.keys(tom)[0].used_at is None
    house.clock.advance(3725)
    house.identity.api_keys.authenticate(text)

    used = house.identity.api_keys.keys(tom)[0].used_at
    assert used == house.clock.now().replace(minute=0, second=0, microsecond=0)


def test_lists_show_ones_own_keys_or_the_organisations(
    house: Any, admin: Principal, tom: Principal
) -> None:
    theo = house.user(admin, "theo", Role.TRAINER)
    text, key_id = _key(house, tom)
    _key(house, theo)

    assert [key.id for key in house.identity.api_keys.keys(tom)] == [key_id]
    assert len(house.identity.api_keys.keys(admin)) == 2
    assert house.identity.api_keys.keys(replace(admin, tenant="o_2")) == []
    assert text[20:] not in repr(house.identity.api_keys.keys(admin))


def test_a_key_without_scope_end_or_label_is_refused(house: Any, tom: Principal) -> None:
    wrong = [{"scopes": []}, {"valid_days": 0}, {"valid_days": 367}, {"label": ""}, {"label": "\n"}]
    for options in wrong:
        with pytest.raises(InvalidParameter):
            house.identity.api_keys.issue(tom, **{"label": "ci", "scopes": JOBS} | options)
