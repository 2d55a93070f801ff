"""Sealed secrets open for their owner and purpose only."""

from __future__ import annotations

import pytest

from privacy_runtime.identity.errors import SealBroken
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.testing import SeededEntropy


@pytest.fixture
def keys() -> RedactionKeys:
    return RedactionKeys.generate(SeededEntropy(1))


def test_what_was_sealed_opens(keys: RedactionKeys) -> None:
    seal = Seal(keys, SeededEntropy(2))
    sealed = seal.seal(b"seed", purpose="totp", owner="u_1")

    assert seal.open(sealed, purpose="totp", owner="u_1") == b"seed"
    assert b"seed" not in sealed
    assert sealed != seal.seal(b"seed", purpose="totp", owner="u_1")


@pytest.mark.parametrize(
    ("purpose", "owner"), [("totp", "u_2"), ("other", "u_1"), ("totp|u", "_1")]
)
def test_it_opens_for_nobody_else(keys: RedactionKeys, purpose: str, owner: str) -> None:
    seal = Seal(keys, SeededEntropy(2))
    sealed = seal.seal(b"seed", purpose="totp", owner="u_1")

    with pytest.raises(SealBroken):
        seal.open(sealed, purpose=purpose, owner=owner)


def test_no_byte_of_it_can_be_changed_or_left_out(keys: RedactionKeys) -> None:
    seal = Seal(keys, SeededEntropy(2))
    sealed = seal.seal(b"seed", purpose="totp", owner="u_1")

    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        for wrong in (bytes(changed), sealed[:position]):
            with pytest.raises(SealBroken):
                seal.open(wrong, purpose="totp", owner="u_1")


def test_an_older_master_opens_until_it_is_retired(tmp_path: object) -> None:
    keys = RedactionKeys.generate(SeededEntropy(1), f"{tmp_path}/keys.json")
    seal = Seal(keys, SeededEntropy(2))
    old = keys.key_id
    sealed = seal.seal(b"seed", purpose="totp", owner="u_1")
    keys.rotate(SeededEntropy(3))

    assert seal.open(sealed, purpose="totp", owner="u_1") == b"seed"
    keys.retire(old)
    with pytest.raises(SealBroken):
        seal.open(sealed, purpose="totp", owner="u_1")


def test_pseudonyms_differ_by_purpose_and_by_master(keys: RedactionKeys) -> None:
    seal, other = Seal(keys, SeededEntropy(2)), RedactionKeys.generate(SeededEntropy(9))
    name = seal.pseudonym("198.51.100.7", purpose="source")

    assert name == seal.pseudonym("198.51.100.7", purpose="source")
    assert name != seal.pseudonym("198.51.100.7", purpose="account")
    assert name != Seal(other, SeededEntropy(2)).pseudonym("198.51.100.7", purpose="source")
