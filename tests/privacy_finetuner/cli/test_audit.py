"""`audit`: what it refuses, what it prints, what it writes, and what it exits with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.assessment import faulty_runs
from tests.privacy_finetuner.assessment.faulty_runs import Setting, audit_of
from typer.testing import CliRunner

from privacy_finetuner.assessment.audit_claims import faults_of_findings, findings_in
from privacy_finetuner.cli.app import app
from privacy_finetuner.training.canaries import SEAL_FILE

RUN = CliRunner()


@pytest.fixture(scope="module")
def violated(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose noise is off."""
    folder = tmp_path_factory.mktemp("violated") / "run"
    audit_of(llama_folder, folder, faulty_runs.noise_off)
    return folder


@pytest.fixture(scope="module")
def honest(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest black-box run."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    setting = Setting(epsilon=4.0, canaries=200, scores="black-box", epochs=2)
    audit_of(llama_folder, folder, faulty_runs.no_fault, setting)
    return folder


def test_a_violation_has_an_exit_code_of_its_own_and_findings_a_certificate_takes(
    violated: Path, tmp_path: Path
) -> None:
    target, html = tmp_path / "audit.json", tmp_path / "audit.html"

    result = RUN.invoke(
        app, ["audit", str(violated), "--json", "--output", str(target), "--html", str(html)]
    )

    assert result.exit_code == 4
    document = json.loads(result.stdout)
    assert document == json.loads(target.read_text())
    assert document["verdict"] == "violation"
    assert document["outside_guarantee"] is True
    assert len(findings_in(document)) == 2
    assert faults_of_findings(findings_in(document)) == []
    page = html.read_text()
    assert "The claim is refuted" in page
    assert "http" not in page
    assert "<script" not in page


def test_an_honest_run_exits_with_zero_and_writes_nothing(honest: Path) -> None:
    before = sorted(path.name for path in honest.rglob("*"))

    result = RUN.invoke(app, ["audit", str(honest)])

    assert result.exit_code == 0, result.output
    assert "an ideal attacker" in " ".join(result.stdout.split())
    assert sorted(path.name for path in honest.rglob("*")) == before


def test_no_coin_or_score_is_in_the_document(honest: Path) -> None:
    document = json.loads(RUN.invoke(app, ["audit", str(honest), "--json"]).stdout)
    included = json.loads((honest / SEAL_FILE).read_text())["included"]

    assert included not in json.dumps(document)
    assert "scores_of_canaries" not in json.dumps(document)


def test_a_changed_seal_is_refused(honest: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(honest, copy)
    seal = json.loads((copy / SEAL_FILE).read_text())
    seal["protocol"]["seed"] += 1
    (copy / SEAL_FILE).write_text(json.dumps(seal, sort_keys=True))

    result = RUN.invoke(app, ["audit", str(copy), "--json"])

    assert result.exit_code == 1
    assert "changed after training" in json.loads(result.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("options", "word"),
    [([], "holds no run"), (["--members", "x.jsonl"], "belong together")],
)
def test_what_cannot_be_audited_is_bad_input(tmp_path: Path, options: list[str], word: str) -> None:
    result = RUN.invoke(app, ["audit", str(tmp_path), "--json", *options])

    assert result.exit_code == 2
    assert word in json.loads(result.stdout)["error"]["message"]


def test_members_and_non_members_are_attacked(
    honest: Path, llama_folder: Path, tmp_path: Path
) -> None:
    def written(name: str, start: int) -> Path:
        path = tmp_path / name
        rows: list[dict[str, Any]] = [{"text": f"note {i}: bed {i * 37 % 91}"} for i in range(60)]
        path.write_text("\n".join(json.dumps(r) for r in rows[start : start + 30]))
        return path

    result = RUN.invoke(
        app,
        [
            "audit", str(honest), "--json", "--base", str(llama_folder), "--members",
            str(written("in.jsonl", 0)), "--non-members", str(written("out.jsonl", 30)),
        ],
    )  # fmt: skip

    attacks = json.loads(result.stdout)["attacks"]
    assert {"loss", "reference_ratio"} <= {attack["name"] for attack in attacks["attacks"]}
    assert attacks["void"]  # thirty texts a side are too few to mean anything, and it says so
