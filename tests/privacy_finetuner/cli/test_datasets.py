"""Data sets of a service from the command line, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House, house_in
from typer.testing import CliRunner

from privacy_finetuner.cli.app import app

NOTES = '{"text": "one"}\n' * 200_000  # some mebibytes: it goes in pieces


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house_in(tmp_path_factory.mktemp("service") / "home") as made:
        made.service.uploads.checked = lambda path: None
        yield made


@pytest.fixture(autouse=True)
def environment(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with house.client() as client:
        scopes = ["datasets:read", "datasets:write"]
        key = client.api_keys.create_api_key("commands", scopes).key.reveal()
    monkeypatch.setenv("PRIVACY_FINETUNER_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("PRIVACY_FINETUNER_API_KEY", key)
    monkeypatch.setenv("PRIVACY_FINETUNER_URL", house.url)


def document(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["datasets", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_file_is_sent_listed_and_removed(house: House, tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text(NOTES)

    sent = document("send", file)
    assert (sent["name"], sent["size_bytes"]) == ("upload:notes.jsonl", len(NOTES))
    assert document("send", file) == sent
    names = {entry["name"] for entry in document("list")["datasets"]}
    assert names >= {"upload:notes.jsonl", "sample:records"}
    file.write_text('{"text": "two"}\n')
    assert document("send", file, code=1)["error"]["code"] == "conflict"
    assert document("send", file, "--name", "other.jsonl")["name"] == "upload:other.jsonl"
    assert document("remove", "upload:notes.jsonl") == {"removed": "upload:notes.jsonl"}


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["datasets", "send", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
