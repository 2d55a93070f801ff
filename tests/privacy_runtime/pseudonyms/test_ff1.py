"""FF1 is the standard's, and refuses what the standard refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.pseudonyms.errors import DomainTooSmall
from privacy_runtime.pseudonyms.ff1 import FF1

NUMERALS = "0123456789abcdefghijklmnopqrstuvwxyz"
KEY_128 = "2B7E151628AED2A6ABF7158809CF4F3C"
KEY_192 = KEY_128 + "EF4359D8D580AA4F"
KEY_256 = KEY_192 + "7F036D6F04FC6A94"
TWEAK = "39383736353433323130"
LONG_TWEAK = "3737373770717273373737"
DIGITS, LETTERS = "0123456789", "0123456789abcdefghi"


@pytest.mark.parametrize(
    ("key", "radix", "tweak", "plain", "sealed"),
    [
        (KEY_128, 10, "", DIGITS, "2433477484"),
        (KEY_128, 10, TWEAK, DIGITS, "6124200773"),
        (KEY_128, 36, LONG_TWEAK, LETTERS, "a9tv40mll9kdu509eum"),
        (KEY_192, 10, "", DIGITS, "2830668132"),
        (KEY_192, 10, TWEAK, DIGITS, "2496655549"),
        (KEY_192, 36, LONG_TWEAK, LETTERS, "xbj3kv35jrawxv32ysr"),
        (KEY_256, 10, "", DIGITS, "6657667009"),
        (KEY_256, 10, TWEAK, DIGITS, "1001623463"),
        (KEY_256, 36, LONG_TWEAK, LETTERS, "xs8a0azh2avyalyzuwd"),
    ],
    ids=range(1, 10),
)
def test_the_nine_samples_of_the_standard(
    key: str, radix: int, tweak: str, plain: str, sealed: str
) -> None:
    cipher = FF1(bytes.fromhex(key), radix)
    numerals = [NUMERALS.index(letter) for letter in plain]
    done = cipher.encrypt(numerals, bytes.fromhex(tweak))

    assert "".join(NUMERALS[n] for n in done) == sealed
    assert cipher.decrypt(done, bytes.fromhex(tweak)) == numerals


@given(
    st.integers(2, 65_536).flatmap(
        lambda radix: st.tuples(
            st.just(radix), st.lists(st.integers(0, radix - 1), min_size=20, max_size=60)
        )
    ),
    st.binary(max_size=40),
)
def test_every_string_leads_back(drawn: tuple[int, list[int]], tweak: bytes) -> None:
    radix, numerals = drawn
    cipher = FF1(bytes(32), radix)
    done = cipher.encrypt(numerals, tweak)

    assert len(done) == len(numerals)
    assert all(0 <= numeral < radix for numeral in done)
    assert cipher.decrypt(done, tweak) == numerals


def test_another_tweak_or_key_is_another_permutation() -> None:
    numerals = [1, 2, 3, 4, 5, 6, 7, 8]
    done = {
        tuple(FF1(key).encrypt(numerals, tweak))
        for key in (bytes(32), bytes([1] * 32))
        for tweak in (b"", b"a")
    }

    assert len(done) == 4


@pytest.mark.parametrize(("radix", "length"), [(10, 5), (10, 0), (2, 19), (36, 3), (65_536, 1)])
def test_a_domain_below_a_million_is_refused(radix: int, length: int) -> None:
    with pytest.raises(DomainTooSmall, match="nothing was encrypted"):
        FF1(bytes(16), radix).encrypt([0] * length)


def test_a_domain_of_a_million_is_not() -> None:
    assert len(FF1(bytes(16)).encrypt([0] * 6)) == 6


def test_numerals_outside_the_radix_are_refused_and_not_shown() -> None:
    with pytest.raises(InvalidParameter) as caught:
        FF1(bytes(16)).encrypt([1, 2, 3, 4, 5, 4711])
    assert "4711" not in str(caught.value)
    for radix in (1, 65_537):
        with pytest.raises(InvalidParameter):
            FF1(bytes(16), radix)
    with pytest.raises(InvalidParameter):
        FF1(bytes(16)).encrypt([0] * 1_025)
