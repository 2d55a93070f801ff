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


def test_a_missing_model_is_exit_code_two(cli: Any) -> None:
    document = cli.document("generate", "--model", "no/such/folder", "--prompt", "x", code=2)

    assert document["error"]["code"] == "model_load_error"
