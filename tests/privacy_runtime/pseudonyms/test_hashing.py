"""One entity has one hash, which only the key can test."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.marks import MarkKind, find_marks
from privacy_core.redaction.operators import Scope
from privacy_runtime.pseudonyms import EntityHasher, RedactionKeys, base32
from privacy_runtime.pseudonyms.errors import TenantDestroyed
from privacy_runtime.testing import SeededEntropy

KEYS = RedactionKeys.generate(SeededEntropy(1), tenants=("other",))
HASHER = EntityHasher(KEYS)


@given(st.text(max_size=40), st.sampled_from(["PERSON", "EMAIL", "PHONE"]))
def test_a_hash_is_a_mark_and_always_the_same(value: str, label: str) -> None:
    stands = HASHER.hash(value, label)
    (mark,) = find_marks(stands)

    assert (mark.kind, mark.label, len(mark.code)) == (MarkKind.HASH, label, 16)
    assert EntityHasher(KEYS).hash(value, label) == stands


def test_spellings_agree_and_people_types_tenants_and_keys_differ() -> None:
    strangers = EntityHasher(RedactionKeys.generate(SeededEntropy(2)))

    assert HASHER.hash("Ann  LEE", "PERSON") == HASHER.hash("ann lee", "PERSON")
    assert HASHER.hash("(212) 664-7665", "PHONE") != HASHER.hash("+1 212 664 7665", "PHONE")
    regional = EntityHasher(KEYS, region="US")
    assert regional.hash("(212) 664-7665", "PHONE") == HASHER.hash("+12126647665", "PHONE")
    differing = {
        HASHER.hash("Ann Lee", "PERSON"),
        HASHER.hash("Ann Leo", "PERSON"),
        HASHER.hash("Ann Lee", "ORGANIZATION"),
        EntityHasher(KEYS, "other").hash("Ann Lee", "PERSON"),
        strangers.hash("Ann Lee", "PERSON"),
    }
    assert len(differing) == 5


def test_it_is_hmac_with_the_tenants_key_and_no_plain_hash() -> None:
    key = KEYS.derive("hash", size_bytes=32)
    code = HASHER.hash("Ann Lee", "PERSON")[8:-1]

    assert base32.encode(hmac.digest(key, b"PERSON\0ann lee", "sha256"))[:16] == code
    assert base32.encode(hashlib.sha256(b"PERSON\0ann lee").digest())[:16] != code


@pytest.mark.parametrize("bits", [0, 40, 75, 81, 256])
def test_fewer_than_80_bits_are_refused(bits: int) -> None:
    with pytest.raises(InvalidParameter):
        EntityHasher(KEYS, bits=bits)


def test_more_bits_make_longer_marks() -> None:
    stands = EntityHasher(KEYS, bits=255).hash("Ann", "PERSON")

    assert stands.startswith(HASHER.hash("Ann", "PERSON")[:-1])
    assert len(stands) == len("[PERSON#]") + 51
    assert [mark.kind for mark in find_marks(stands)] == [MarkKind.HASH]


def test_a_destroyed_tenant_hashes_nothing_more() -> None:
    keys = RedactionKeys.generate(SeededEntropy(3), tenants=("clinic",))
    hasher = EntityHasher(keys, "clinic")
    hasher.hash("Ann", "PERSON")
    keys.destroy("clinic")

    with pytest.raises(TenantDestroyed):
        hasher.replace("Ann", Finding(0, 3, "PERSON", 1.0, "test.rule"), Scope())
