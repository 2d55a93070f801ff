"""Record files are read strictly, and errors say where, never what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from federated_dp_llm.node.records import Record, Records
from privacy_core.errors import InvalidParameter

GOOD = b'{"patient": "p-1", "text": "knee pain.", "cohort": "c"}'


def test_a_file_is_read_whole_and_in_order(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    file.write_bytes(GOOD + b'\n\n{"patient": "p-2", "text": ""}\r\n')

    records = Records.read(file)

    assert [r.patient for r in records.records] == ["p-1", "p-2"]
    assert records.cohorts == ("all", "c")
    assert records.patients == {"p-1", "p-2"}
    assert Records.of(records.records).records == records.records


def test_a_changed_file_has_another_fingerprint() -> None:
    assert Records.parse(GOOD).fingerprint != Records.parse(GOOD + b"\n").fingerprint


@pytest.mark.parametrize(
    "line",
    [
        b"not json with knee pain.",
        b'{"patient": "p-1"}',
        b'{"patient": "p-1", "text": 3}',
        b'{"patient": null, "text": "t"}',
        b'{"patient": "p-1", "text": "t", "knee pain.": 1}',
        b'["p-1", "knee pain."]',
        b'{"patient": "", "text": "t"}',
        b'{"patient": "p-1", "text": "t", "cohort": ""}',
        b'{"patient": "p-1", "text": "\xff"}',
        json.dumps({"patient": "p" * 201, "text": "t"}).encode(),
        json.dumps({"patient": "p", "text": "t" * ((1 << 20) + 1)}).encode(),
    ],
)
def test_a_line_that_is_no_record_is_named_by_its_number_alone(line: bytes) -> None:
    with pytest.raises(InvalidParameter) as caught:
        Records.parse(GOOD + b"\n" + line, name="r.jsonl")

    assert "r.jsonl, line 2" in str(caught.value)
    assert "knee" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_no_records_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter):
        Records.parse(b"\n\n")
    with pytest.raises(InvalidParameter):
        Records.read(tmp_path / "none.jsonl")


def test_a_record_shows_its_length_only() -> None:
    record = Record(patient="p-1", text="knee pain.")

    assert repr(record) == "Record(10 characters)"
    assert repr(Records.of([record])) == "Records(1)"
