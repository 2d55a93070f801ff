"""One-time codes against the published vectors."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlparse

import pytest

from privacy_runtime.identity.codes import (
    code_at,
    enrolment_of,
    matching_step,
    new_recovery_codes,
    recovery_hash,
    step_of,
)
from privacy_runtime.testing import SeededEntropy

DIGITS = b"1234567890"
# RFC 6238, appendix B (with the seeds of erratum 2866: 20, 32 and 64 bytes).
RFC_6238 = [
    (59, "94287082", "46119246", "90693936"),
    (1111111109, "07081804", "68084774", "25091201"),
    (1111111111, "14050471", "67062674", "99943326"),
    (1234567890, "89005924", "91819424", "93441116"),
    (2000000000, "69279037", "90698825", "38618901"),
    (20000000000, "65353130", "77737706", "47863826"),
]
# RFC 4226, appendix D.
RFC_4226 = [
    "755224",
    "287082",
    "359152",
    "969429",
    "338314",
    "254676",
    "287922",
    "162583",
    "399871",
    "520489",
]
SEED = DIGITS * 2
NOW = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize("vector", RFC_6238, ids=lambda v: str(v[0]))
def test_codes_are_those_of_rfc_6238(vector: tuple[int, str, str, str]) -> None:
    time_s, *expected = vector
    step = step_of(datetime.fromtimestamp(time_s, UTC))
    seeds = [DIGITS * 2, (DIGITS * 4)[:32], (DIGITS * 7)[:64]]
    digests = [hashlib.sha1, hashlib.sha256, hashlib.sha512]

    found = [
        code_at(seed, step, digits=8, digest=digest)
        for seed, digest in zip(seeds, digests, strict=True)
    ]
    assert found == expected


def test_codes_are_those_of_rfc_4226() -> None:
    assert [code_at(SEED, count) for count in range(10)] == RFC_4226


@pytest.mark.parametrize(
    ("away", "fits"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_a_code_fits_one_step_either_way(away: int, fits: bool) -> None:
    code = code_at(SEED, step_of(NOW) + away)

    found = matching_step(SEED, code, now=NOW, used=-1)
    assert found == (step_of(NOW) + away if fits else None)


def test_a_step_that_was_used_and_all_before_it_are_spent() -> None:
    step = step_of(NOW)

    for used in (step, step + 1):
        assert matching_step(SEED, code_at(SEED, step), now=NOW, used=used) is None
    later = NOW + timedelta(seconds=30)
    assert matching_step(SEED, code_at(SEED, step + 1), now=later, used=step) == step + 1


def test_blanks_in_a_code_do_not_count() -> None:
    code = code_at(SEED, step_of(NOW))

    assert matching_step(SEED, f" {code[:3]} {code[3:]}\n", now=NOW, used=-1) is not None


@pytest.mark.parametrize(
    "code",
    ["", "0", "00000000", "\uff11\uff12\uff13\uff14\uff15\uff16", "abcdef", "\ud800", "9" * 9999],
)
def test_what_is_no_code_fits_nothing(code: str) -> None:
    assert matching_step(SEED, code, now=NOW, used=-1) is None


def test_an_authenticator_reads_the_link() -> None:
    link = enrolment_of(SEED, account="maria@example.org", issuer="Privacy Finetuner").link
    parsed = urlparse(link.reveal())

    assert (parsed.scheme, parsed.netloc) == ("otpauth", "totp")
    assert parse_qs(parsed.query)["secret"] == ["GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"]


def test_recovery_codes_are_ten_and_hash_with_their_owner() -> None:
    codes = new_recovery_codes(SeededEntropy(1))

    assert len(set(codes)) == 10
    assert {len(code) for code in codes} == {27}
    assert recovery_hash("u_1", codes[0]) == recovery_hash(
        "u_1", codes[0].upper().replace("-", " ")
    )
    assert recovery_hash("u_1", codes[0]) != recovery_hash("u_2", codes[0])
