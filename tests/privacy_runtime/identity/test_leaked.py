"""Leaked passwords are found in a list of either form, whatever its size, and only there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity.errors import PasswordRefused
from privacy_runtime.identity.leaked import LeakedPasswords
from privacy_runtime.identity.passwords import Argon2Cost, Passwords
from privacy_runtime.world import SystemEntropy

WORDS = [f"umbrella quince {n} fjord" for n in range(500)]


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().upper()


def written(folder: Path, lines: list[str], end: str = "\n") -> LeakedPasswords:
    path = folder / "leaked.txt"
    path.write_text("".join(line + end for line in lines))
    return LeakedPasswords(path)


@pytest.fixture
def ordered(tmp_path: Path) -> LeakedPasswords:
    return written(tmp_path, [f"{h}:{n}" for n, h in enumerate(sorted(map(sha1, WORDS)))], "\r\n")


def test_every_hash_of_an_ordered_file_is_found(ordered: LeakedPasswords) -> None:
    assert all(ordered.has(word) for word in WORDS)
    assert not any(ordered.has(f"{word}!") for word in WORDS)


@given(count=st.integers(1, 40), asked=st.text(max_size=20))
@settings(max_examples=60, deadline=None)
def test_both_forms_agree(count: int, asked: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    hashes = written(tmp_path_factory.mktemp("h"), sorted(map(sha1, WORDS[:count])))
    plain = written(tmp_path_factory.mktemp("p"), WORDS[:count])

    for text in (*WORDS[: count + 1], asked):
        assert hashes.has(text) == plain.has(text) == (text.casefold() in WORDS[:count])


def test_capitals_and_other_spellings_of_a_letter_do_not_help(tmp_path: Path) -> None:
    listed = written(tmp_path, ["caf\N{LATIN SMALL LETTER E WITH ACUTE} umbrella 47"])

    assert listed.has("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE} Umbrella 47")
    assert listed.has("cafe\N{COMBINING ACUTE ACCENT} umbrella 47")


@pytest.mark.parametrize(
    "lines",
    [
        [],
        sorted(map(sha1, WORDS), reverse=True),
        [*sorted(map(sha1, WORDS)), "no hash"],
    ],
)
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(InvalidParameter):
        written(tmp_path, lines)


def test_a_file_that_is_missing_or_goes_away_lets_nothing_through(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        LeakedPasswords(tmp_path / "nothing")
    listed = written(tmp_path, sorted(map(sha1, WORDS)))
    (tmp_path / "leaked.txt").unlink()
    with pytest.raises(InvalidParameter):
        listed.has("anything at all")


def test_a_leaked_password_cannot_be_chosen(ordered: LeakedPasswords) -> None:
    cost = Argon2Cost(memory_kib=8, passes=1)
    passwords = Passwords(SystemEntropy(), cost, leaked=ordered)

    with pytest.raises(PasswordRefused, match="leaked"):
        passwords.require_usable(WORDS[7])
    passwords.require_usable("violin harbour 93 saddle")
    Passwords(SystemEntropy(), cost).require_usable(WORDS[7])
