from __future__ import annotations

import hashlib
import hmac
import json
import stat
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner.assessment.certificate_errors import NotACertificate
from privacy_finetuner.assessment.commitment import Opening
from privacy_finetuner.training.records import read_records
from privacy_runtime.testing import SeededEntropy

RECORDS = [{"text": "knee pain"}, {"text": "sleep"}]


def test_a_commitment_is_what_the_documentation_says() -> None:
    rows = sorted(hashlib.sha256(json.dumps(row).encode()).digest() for row in RECORDS)
    message = b"privacy-finetuner/records/1\0" + hashlib.sha256(b"".join(rows)).digest()
    opening = Opening.fresh(SeededEntropy(1))
    value = hmac.new(opening.key, message, hashlib.sha256).hexdigest()

    assert opening.commit(read_records(RECORDS).fingerprint)["value"] == value


def test_only_the_right_records_and_the_right_opening_fit() -> None:
    opening, other = Opening.fresh(SeededEntropy(1)), Opening.fresh(SeededEntropy(2))
    fingerprint = read_records(RECORDS).fingerprint
    commitment = opening.commit(fingerprint)

    assert opening.fits(commitment, read_records(RECORDS[::-1]).fingerprint)
    assert not opening.fits(commitment, read_records(RECORDS[:1]).fingerprint)
    assert not other.fits(commitment, fingerprint)


def test_two_commitments_to_the_same_records_have_nothing_in_common() -> None:
    fingerprint = read_records(RECORDS).fingerprint
    values = {Opening.fresh(SeededEntropy(s)).commit(fingerprint)["value"] for s in range(5)}

    assert len(values) == 5


def test_an_opening_is_for_its_owner_and_is_not_replaced(tmp_path: Path) -> None:
    opening, path = Opening.fresh(SeededEntropy(1)), tmp_path / "opening"
    opening.write(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Opening.read(path) == opening
    assert opening.key.hex() not in repr(opening)
    with pytest.raises(InvalidParameter, match="no file yet"):
        opening.write(path)


@pytest.mark.parametrize("text", ["", "{}", '{"scheme":"x","key":"00"}', "[]", "nothing"])
def test_a_file_that_is_no_opening_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "opening"
    path.write_text(text)

    with pytest.raises(NotACertificate):
        Opening.read(path)
