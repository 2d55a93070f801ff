"""Terms travel as the bytes that were signed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.federated_dp_llm.node.toy import Hospital

from federated_dp_llm.federation.messages import OpenSession
from federated_dp_llm.federation.signing import prompt_digest, verify_terms
from privacy_runtime.signing import KeyExpired, SignatureInvalid, TrustedKeys, UnknownKey


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("h"))


def test_what_was_signed_is_what_is_read(hospital: Hospital) -> None:
    terms = hospital.terms(clip=1.25, request_id="r-9")
    trusted = TrustedKeys([hospital.key.public])

    read = verify_terms(hospital.signed(terms).session("p"), trusted, now=hospital.clock.now())

    assert read == terms


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_no_byte_can_be_changed(hospital: Hospital, place: int, flip: int) -> None:
    ask = hospital.ask()
    for name in ("terms", "signature"):
        data = bytearray(getattr(ask, name))
        data[place % len(data)] ^= flip
        changed = msgspec.structs.replace(ask, **{name: bytes(data)})
        with pytest.raises(SignatureInvalid):
            verify_terms(changed, TrustedKeys([hospital.key.public]), now=hospital.clock.now())


def test_only_trusted_keys_that_are_valid_now_count(hospital: Hospital) -> None:
    ask, now = hospital.ask(), hospital.clock.now()
    trusted = TrustedKeys([hospital.key.public])

    with pytest.raises(UnknownKey):
        verify_terms(ask, TrustedKeys(), now=now)
    for when in (now - timedelta(days=1), now + timedelta(days=1000)):
        with pytest.raises(KeyExpired):
            verify_terms(ask, trusted, now=when)


@pytest.mark.parametrize(
    "terms",
    [b"", b"\xc0", msgspec.msgpack.encode({}), msgspec.msgpack.encode({"protocol": "1"})],
)
def test_signed_bytes_that_are_no_terms_are_refused(hospital: Hospital, terms: bytes) -> None:
    ask = OpenSession(
        terms=terms,
        signature=bytes.fromhex(hospital.key.sign(terms)),
        key_id=hospital.key.public.key_id,
        prompt="p",
    )

    with pytest.raises(SignatureInvalid):
        verify_terms(ask, TrustedKeys([hospital.key.public]), now=hospital.clock.now())


def test_an_unknown_field_is_refused(hospital: Hospital) -> None:
    fields = {**msgspec.structs.asdict(hospital.terms()), "more": 1}
    terms = msgspec.msgpack.encode(fields)
    ask = OpenSession(
        terms=terms,
        signature=bytes.fromhex(hospital.key.sign(terms)),
        key_id=hospital.key.public.key_id,
        prompt="p",
    )

    with pytest.raises(SignatureInvalid):
        verify_terms(ask, TrustedKeys([hospital.key.public]), now=hospital.clock.now())


def test_any_text_has_a_digest(tmp_path: Path) -> None:
    assert prompt_digest("a") != prompt_digest("b")
    assert len(prompt_digest("\ud800")) == 64
