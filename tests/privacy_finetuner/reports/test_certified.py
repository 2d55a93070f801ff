"""What a report says of the certificate that lies with a run."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.assessment.certificate_issue import issue
from privacy_finetuner.reports import certified, check, read_folder, write_html
from privacy_finetuner.training import statement
from privacy_finetuner.training.run_record import RunRecord
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import SeededEntropy

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.create(tmp_path / "key.pem", SeededEntropy(1), now=NOON)


@pytest.fixture
def run(finished: Any, write: Any) -> Path:
    """A finished run with weights and a whole statement."""
    folder: Path = finished()
    (folder / "model.safetensors").write_bytes(b"weights")
    with RunRecord(folder) as record:
        document = statement.statement_of(
            write.plan(), charged_steps=record.state.charged_steps, folder=folder,
            engine="loop", record_head=record.head,
        )  # fmt: skip
    write.write("statement.json", document)
    return folder


def _certify(run: Path, key: SigningKey, target: Path) -> None:
    target.write_bytes(issue(run, key, now=NOON, entropy=SeededEntropy(2)).content)


def test_without_a_certificate_nobody_has_signed(run: Path) -> None:
    assert certified(read_folder(run), trusted=TrustedKeys(), now=NOON) is None
    assert "Nobody has signed" in write_html(run).read_text()


@pytest.mark.parametrize("place", ["certificate.json", "../certificate.json"])
def test_a_certificate_in_the_folder_or_beside_it_is_checked(
    run: Path, key: SigningKey, place: str
) -> None:
    _certify(run, key, run / place)
    found = certified(read_folder(run), trusted=TrustedKeys([key.public]), now=NOON)
    unknown = certified(read_folder(run), trusted=TrustedKeys(), now=NOON)

    assert found is not None
    assert unknown is not None
    assert (found.is_genuine, found.is_forged) == (True, False)
    assert (unknown.is_genuine, unknown.is_forged) == (False, False)
    assert "do not trust" in unknown.verdict


def test_a_certificate_beside_it_of_another_run_is_not_taken(run: Path, key: SigningKey) -> None:
    _certify(run, key, run.parent / "certificate.json")
    other = run.parent / "other"
    shutil.copytree(run, other)
    with RunRecord(other) as record:
        record.finish(16)

    assert certified(read_folder(other), trusted=TrustedKeys([key.public]), now=NOON) is None
    shutil.copy(run.parent / "certificate.json", other)
    found = certified(read_folder(other), trusted=TrustedKeys([key.public]), now=NOON)
    assert found is not None
    assert found.is_forged
    assert "another run" in found.verdict


def test_a_changed_certificate_is_a_forgery(run: Path, key: SigningKey) -> None:
    path = run / "certificate.json"
    _certify(run, key, path)
    path.write_bytes(path.read_bytes().replace(b'"examples":200', b'"examples":201'))
    found = certified(read_folder(run), trusted=TrustedKeys([key.public]), now=NOON)

    assert found is not None
    assert found.is_forged


def test_weights_that_were_changed_contradict_the_report(run: Path) -> None:
    agreed = check(read_folder(run))
    (run / "model.safetensors").write_bytes(b"other weights")
    found = check(read_folder(run))

    assert agreed.agrees
    assert any("all weight files (1)" in said for said in agreed.findings)
    assert not found.agrees
    assert found.findings == ["the weight file model.safetensors was changed after the run"]
