"""Passwords: what may be one, and that checking one tells nothing else."""

from __future__ import annotations

import time

import argon2
import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import Argon2Cost, PasswordRefused, WeakSecret, require_strong_secret
from privacy_runtime.identity.passwords import (
    MOST_BYTES,
    OWASP,
    Passwords,
    one_time_password,
    require_usable,
)
from privacy_runtime.testing import SeededEntropy
from privacy_runtime.world import SystemEntropy

CHEAP = Argon2Cost(memory_kib=8, passes=1)


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords(SystemEntropy(), CHEAP)


def test_the_default_is_what_owasp_asks_at_least() -> None:
    found = argon2.extract_parameters(Passwords(SystemEntropy()).hash("x"))

    assert (found.type, found.memory_cost, found.time_cost, found.parallelism) == (
        argon2.Type.ID,
        19_456,
        2,
        1,
    )
    assert (found.salt_len, found.hash_len) == (16, 32)
    assert Argon2Cost() == OWASP


def test_a_password_fits_its_hash_and_no_other(passwords: Passwords) -> None:
    kept = passwords.hash("quince umbrella 47 fjord")

    assert passwords.verify(kept, "quince umbrella 47 fjord")
    assert not passwords.verify(kept, "quince umbrella 47 fjorD")
    assert not passwords.verify(kept, "")
    assert kept != passwords.hash("quince umbrella 47 fjord")


def test_no_password_is_cut(passwords: Passwords) -> None:
    long = "x" * (MOST_BYTES - 1)

    assert not passwords.verify(passwords.hash(long + "a"), long + "b")
    with pytest.raises(PasswordRefused):
        passwords.hash(long + "ab")


def test_the_limit_counts_bytes() -> None:
    with pytest.raises(PasswordRefused, match="1028 bytes"):
        require_usable("é" * 514)


def test_two_ways_of_typing_one_character_are_one_password(passwords: Passwords) -> None:
    assert passwords.verify(passwords.hash("caf\u00e9 au lait 38"), "cafe\u0301 au lait 38")


@pytest.mark.parametrize("text", ["", "x" * 5000, "\ud800", "\x00", "whatever"])
def test_an_unknown_user_is_refused_whatever_is_typed(passwords: Passwords, text: str) -> None:
    assert not passwords.verify(None, text)


def test_the_password_of_the_dummy_opens_nothing(passwords: Passwords) -> None:
    assert not passwords.verify(None, "a password that nobody has")


def test_an_unknown_user_costs_as_much_as_a_known_one() -> None:
    # Medians of nine; wrong by more than half only if the work is skipped: it is 100 times less.
    passwords = Passwords(SystemEntropy(), Argon2Cost(memory_kib=4096, passes=2))
    kept = passwords.hash("quince umbrella 47 fjord")
    known = _median_s(lambda: passwords.verify(kept, "wrong"))
    unknown = _median_s(lambda: passwords.verify(None, "wrong"))
    too_long = _median_s(lambda: passwords.verify(kept, "x" * 5000))

    assert 0.5 < unknown / known < 2
    assert 0.5 < too_long / known < 2


def _median_s(work: object) -> float:
    times = []
    for _ in range(9):
        start = time.process_time()
        work()  # type: ignore[operator]
        times.append(time.process_time() - start)
    return sorted(times)[4]


def test_a_hash_of_lower_parameters_is_outdated() -> None:
    higher = Passwords(SystemEntropy(), Argon2Cost(memory_kib=16, passes=1))
    kept = Passwords(SystemEntropy(), CHEAP).hash("quince umbrella 47 fjord")

    assert higher.verify(kept, "quince umbrella 47 fjord")
    assert higher.is_outdated(kept)
    assert not higher.is_outdated(higher.hash("quince umbrella 47 fjord"))


@pytest.mark.parametrize("kept", ["", "x", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$", "5f4dcc3b"])
def test_a_damaged_hash_opens_nothing(passwords: Passwords, kept: str) -> None:
    assert not passwords.verify(kept, "password")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Passw0rd!2026",
        "P@$$w0rd1234",
        "passwordpassword",
        "admin1234567",
        "changeme12345",
        "correcthorsebatterystaple",
        "qwertyuiop123",
        "123456789012",
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "abcdefghijkl",
        "Summer2026!!!!",
        "WelcomeAdmin1",
        "letmeinletmein",
        "maria.lopez2026",
        "zepol...lopezmaria",
    ],
)
def test_what_guessers_try_early_is_refused(password: str) -> None:
    with pytest.raises(PasswordRefused) as refused:
        require_usable(password, about="maria.lopez@example.org zepol")

    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password",
    [
        "quince umbrella 47 fjord",
        "Tr7#kd93-Qm2x1",
        "my dragon sleeps in winter",
        "пароль от старой дачи",
        "            quietly so",
        "正しい馬の電池ホチキスですよね",
    ],
)
def test_other_passwords_are_taken_without_rules_of_composition(password: str) -> None:
    require_usable(password, about="maria.lopez@example.org")


def test_a_short_password_is_refused() -> None:
    with pytest.raises(PasswordRefused, match="11 characters"):
        require_usable("kd93-Qm2x1v")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(PasswordRefused):
        require_usable("quince umbrella \ud800")


def test_one_time_passwords_are_strong_different_and_usable() -> None:
    made = {one_time_password(SeededEntropy(seed)) for seed in range(50)}

    assert len(made) == 50
    for password in made:
        assert len(password) == 29
        assert not set(password) & set("01ilo")
        require_usable(password)


@pytest.mark.parametrize(
    "secret",
    ["", "secret", "your-jwt-token", "changeme" * 8, "x" * 64, "0123456789" * 5, "k9#Qz" * 5],
)
def test_weak_secrets_are_refused_outside_development(secret: str) -> None:
    with pytest.raises(WeakSecret) as refused:
        require_strong_secret("JWT_SECRET", secret)
    require_strong_secret("JWT_SECRET", secret, development=True)

    assert "JWT_SECRET" in str(refused.value)
    assert len(secret) < 10 or secret not in str(refused.value)


def test_a_random_secret_is_taken() -> None:
    require_strong_secret("key", SystemEntropy().token_bytes(32).hex())


@pytest.mark.parametrize("cost", [{"memory_kib": 7}, {"passes": 0}, {"lanes": 0}])
def test_parameters_that_argon2_does_not_have_are_refused(cost: dict[str, int]) -> None:
    with pytest.raises(InvalidParameter):
        Argon2Cost(**cost)
