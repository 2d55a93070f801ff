from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_prompt_is_continued(cli: Any, model: str, temperature: float) -> None:
    document = cli.document(
        "generate", "--model", model, "--prompt", "Patient", "--max-new-tokens", 3,
        "--temperature", temperature,
    )  # fmt: skip

    assert document["prompt"] == "Patient"
    assert isinstance(document["text"], str)


def test_what_is_written_may_be_redacted(cli: Any, model: str) -> None:
    asked = ("generate", "--model", model, "--prompt", "Patient", "--max-new-tokens", 3)

    assert cli.document(*asked, "--redact", "low")["text"] == cli.document(*asked)["text"]


def test_a_missing_model_is_exit_code_two(cli: Any) -> None:
    document = cli.document("generate", "--model", "no/such/folder", "--prompt", "x", code=2)

    assert document["error"]["code"] == "model_load_error"
