"""Surrogates that a vault keeps: readable text out, the real values back."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.errors import ConfigurationError, WrongKey
from privacy_runtime.pseudonyms import RedactionKeys, SessionVault, VaultStore
from privacy_runtime.world import SystemClock, SystemEntropy

TEXT = "John Doe <doe@example.org> was born on 1959-03-12; his password: hunter2x9. John Doe paid."
VALUES = ("John Doe", "doe@example.org", "1959-03-12", "hunter2x9")


@pytest.fixture(scope="module")
def keys() -> RedactionKeys:
    return RedactionKeys.generate(SystemEntropy())


@pytest.fixture
def vault(tmp_path: Path, keys: RedactionKeys) -> Iterator[SessionVault]:
    with VaultStore(tmp_path / "vault.db", SystemClock()) as store:
        yield SessionVault(store, keys, "default", "a chat")


def test_surrogates_lead_back(make_guard: Any, vault: SessionVault) -> None:
    guard = make_guard("surrogate", reversible_redaction=True, vault=vault)

    protected = guard.protect(TEXT).protected_text

    assert not [value for value in VALUES if value in protected]
    assert "[PERSON" not in protected  # a reader sees names
    assert guard.reverse_protection(protected) == TEXT


def test_another_process_with_the_file_and_the_key_leads_back_too(
    make_guard: Any, vault: SessionVault, keys: RedactionKeys, tmp_path: Path
) -> None:
    protected = make_guard("surrogate", vault=vault).protect(TEXT).protected_text
    answer = "I wrote: " + protected

    with VaultStore(tmp_path / "vault.db", SystemClock()) as store:
        again = make_guard("surrogate", vault=SessionVault(store, keys, "default", "a chat"))
        assert again.reverse_protection(answer) == "I wrote: " + TEXT


def test_one_person_has_one_surrogate_in_all_texts(make_guard: Any, vault: SessionVault) -> None:
    guard = make_guard("surrogate", vault=vault)

    first, second = (guard.protect(f"{text} John Doe.").protected_text for text in ("A", "B"))

    assert first[1:] == second[1:]


def test_what_has_no_surrogate_gets_a_token_of_the_vault(
    make_guard: Any, vault: SessionVault
) -> None:
    guard = make_guard("surrogate", vault=vault)

    protected = guard.protect("password: hunter2x9").protected_text

    assert protected.startswith("password: [SECRET_")
    assert guard.reverse_protection(protected) == "password: hunter2x9"


def test_without_a_vault_surrogates_do_not_lead_back(make_guard: Any) -> None:
    with pytest.raises(ConfigurationError, match="vault"):
        make_guard("surrogate", reversible_redaction=True)


def test_another_key_opens_no_vault(make_guard: Any, vault: SessionVault) -> None:
    guard = make_guard("surrogate", vault=vault)
    protected = guard.protect(TEXT).protected_text

    with pytest.raises(WrongKey, match="nothing was revealed"):
        guard.reverse_protection(protected, "11" * 32)


def test_a_vault_is_the_guards_own(
    make_guard: Any, vault: SessionVault, keys: RedactionKeys
) -> None:
    with pytest.raises(ConfigurationError, match="tenant"):
        make_guard("surrogate", vault=vault, tenant="other")
    with pytest.raises(ConfigurationError, match="keys"):
        make_guard("surrogate", vault=vault, keys=RedactionKeys.generate(SystemEntropy()))


def test_a_vault_does_not_travel_and_does_not_stream(make_guard: Any, vault: SessionVault) -> None:
    guard = make_guard("surrogate", vault=vault)

    with pytest.raises(ConfigurationError, match="vault"):
        pickle.dumps(guard)
    with pytest.raises(ConfigurationError, match="reverse_protection"):
        guard.reveal_stream()
