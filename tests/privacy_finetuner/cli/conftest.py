from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.planted import see
from typer.testing import CliRunner

from privacy_finetuner.cli.app import app

MODEL = str(files("privacy_finetuner") / "demo" / "assets" / "model")


class Cli:
    """Runs commands in this process and reads their JSON."""

    def __init__(self) -> None:
        self.runner = CliRunner()

    def __call__(self, *arguments: object) -> Any:
        result = self.runner.invoke(app, [str(argument) for argument in arguments])
        see("stderr of a command", result.stderr)
        return result

    def document(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        result = self(*arguments, "--json")
        assert result.exit_code == code, result.output
        document = json.loads(result.stdout)  # exactly one document: trailing text would fail
        assert isinstance(document, dict)
        return document


@pytest.fixture(scope="session")
def cli() -> Cli:
    return Cli()


@pytest.fixture(scope="session")
def model() -> str:
    return MODEL


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    rows = [{"text": f"Visit {n}: knee pain.", "user_id": f"u{n // 4}"} for n in range(24)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def trained(
    cli: Cli, model: str, records: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """A folder with a finished run of three steps, and what `train --json` printed."""
    folder = tmp_path_factory.mktemp("trained") / "out"
    document = cli.document(
        "train", "--model", model, "--data", records, "--epsilon", 8, "--delta", "1e-3",
        "--epochs", 1, "--max-length", 12, "--output", folder,
    )  # fmt: skip
    return folder, document
