from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privacy_runtime.signing import KeyHome


@pytest.fixture(scope="module")
def issued(cli: Any, trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("issued") / "certificate.json"
    cli.document("certificate", "issue", trained[0], "--output", file)
    return file


def test_what_was_issued_here_is_genuine_here(cli: Any, trained: Any, issued: Path) -> None:
    document = cli.document("certificate", "verify", issued, "--run", trained[0])

    assert document["genuine"] is True
    assert document["signed_by"] == "this account's own key"
    assert document["epsilon"] == trained[1]["epsilon"]
    assert document["key_id"] in KeyHome.of(os.environ).key_file.with_suffix(".pem.pub").read_text()


def test_the_key_is_made_in_a_stated_place_for_its_owner(
    cli: Any, trained: Any, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "mine.pem"
    options = ("--key-file", key, "--output", tmp_path / "c.json")
    first = cli.document("certificate", "issue", trained[0], *options)
    second = cli.document("certificate", "issue", trained[0], *options)

    assert (first["key_was_made"], second["key_was_made"]) == (True, False)
    assert first["key_file"] == str(key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert first["key_id"] == second["key_id"]
    shown = cli("certificate", "issue", trained[0], *options).stdout
    assert "mine.pem" in "".join(shown.split())


def test_a_run_that_cannot_be_certified_makes_no_key(cli: Any, tmp_path: Path) -> None:
    key, file = tmp_path / "key.pem", tmp_path / "c.json"
    cli.document("certificate", "issue", tmp_path, "--output", file, "--key-file", key, code=1)

    assert not key.exists()
    assert not file.exists()


def test_a_changed_byte_is_exit_code_one(cli: Any, issued: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.json"
    forged.write_bytes(issued.read_bytes().replace(b'"delta":0.001', b'"delta":0.002'))
    document = cli.document("certificate", "verify", forged, code=1)

    assert document["error"]["code"] == "signature_invalid"


def test_an_unknown_key_is_exit_code_one_unless_it_is_allowed(
    cli: Any, issued: Path, tmp_path: Path
) -> None:
    nobody = tmp_path / "trusted.json"
    nobody.write_text('{"version":1,"keys":[]}')
    options = (issued, "--trusted-keys", nobody)
    document = cli.document("certificate", "verify", *options, code=1)
    allowed = cli.document("certificate", "verify", *options, "--allow-unknown-key")

    assert document["error"]["code"] == "unknown_key"
    assert "signed by a key you do not trust" in document["error"]["message"]
    assert allowed["genuine"] is False
    assert "origin unknown" in allowed["signed_by"]


def test_the_half_that_was_handed_out_makes_a_key_trusted(
    cli: Any, trained: Any, tmp_path: Path
) -> None:
    key, file = tmp_path / "officer.pem", tmp_path / "c.json"
    cli.document("certificate", "issue", trained[0], "--output", file, "--key-file", key)
    entry = json.loads((tmp_path / "officer.pem.pub").read_text()) | {"name": "A. Officer"}
    trusted = tmp_path / "trusted.json"
    trusted.write_text(json.dumps({"version": 1, "keys": [entry]}))
    document = cli.document("certificate", "verify", file, "--trusted-keys", trusted)

    assert document["signed_by"] == "A. Officer"


def test_weights_that_were_changed_are_exit_code_one(
    cli: Any, trained: Any, issued: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    document = cli.document("certificate", "verify", issued, "--run", folder, code=1)

    assert document["error"]["code"] == "run_differs"
    assert cli.document("certificate", "verify", issued)["genuine"] is True
    report = cli.document("report", folder, code=1)
    assert "model.safetensors was changed" in report["recomputed"]["findings"][0]


def test_records_can_be_shown_to_be_the_ones_committed_to(
    cli: Any, trained: Any, records: Path, tmp_path: Path
) -> None:
    file, other = tmp_path / "c.json", tmp_path / "other.jsonl"
    other.write_text('{"text": "another"}\n')
    made = cli.document("certificate", "issue", trained[0], "--output", file, "--data", records)
    opened = ("certificate", "verify", file, "--opening", made["opening"], "--data")

    assert (
        "the records are those that the issuer committed to"
        in (cli.document(*opened, records)["findings"])
    )
    assert cli.document(*opened, other, code=1)["error"]["code"] == "run_differs"
    assert stat.S_IMODE(Path(made["opening"]).stat().st_mode) == 0o600
    assert cli.document("certificate", "verify", file, "--data", records, code=2)


def test_it_is_shown_in_every_form(cli: Any, issued: Path, tmp_path: Path) -> None:
    page, paper, readme = (tmp_path / name for name in ("c.html", "c.pdf", "README.md"))
    options = ("--html", page, "--pdf", paper, "--readme", readme)
    document = cli.document("certificate", "show", issued, *options)
    text = cli("certificate", "show", issued).stdout

    assert document["genuine"] is True
    assert "What is promised" in page.read_text()
    assert paper.read_bytes().startswith(b"%PDF-")
    assert readme.read_text() == document["model_card"]
    assert "Not promised:" in text
    assert cli("certificate", "show", issued, "--model-card").stdout.strip().startswith("<!--")


def test_a_model_card_is_written_into_the_models_folder_where_asked(
    cli: Any, trained: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    file = folder / "certificate.json"
    cli.document("certificate", "issue", folder, "--output", file, "--model-card")
    report = cli.document("report", folder)

    assert "## Differential privacy" in (folder / "README.md").read_text()
    assert report["certificate"]["is_genuine"] is True
    assert "certificate genuine" in (folder / "report.html").read_text()


def test_a_report_beside_a_forged_certificate_is_exit_code_one(
    cli: Any, trained: Any, issued: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained[0], folder)
    (folder / "certificate.json").write_bytes(issued.read_bytes()[:-2] + b"\n")
    document = cli.document("report", folder, code=1)

    assert document["certificate"]["is_forged"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("issue", "nowhere", "--output", "c.json"), 1, "nothing_to_certify"),
        (("verify", "nowhere.json"), 1, "os_error"),
        (("verify",), 2, "usage_error"),
        (("verify", "x.json", "--surplus"), 2, "usage_error"),
    ],
)
def test_a_misuse_is_one_line_with_a_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, error: str
) -> None:
    program = "from privacy_finetuner.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "certificate", *arguments, "--json"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == error
    assert "Traceback" not in done.stderr


def test_the_independent_verifier_agrees(issued: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[3] / "examples" / "verify_certificate.py"

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(script), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    document = json.loads(issued.read_bytes())
    good = run(issued, document["signer"]["key_id"])
    forged = tmp_path / "forged.json"
    forged.write_bytes(issued.read_bytes().replace(b'"delta":0.001', b'"delta":0.002'))

    assert good.returncode == 0, good.stderr
    assert document["signer"]["key_id"] in good.stdout
    assert "signed by another key" in run(issued, "00" * 16).stderr
    assert run(forged).returncode == 1
