"""Prompts that leave rewritten: what is drawn, what stays, what the answer says of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import House, Member

import federated_dp_llm.demo
from federated_dp_llm.api.rewriting import PromptRewriter
from federated_dp_llm.config import RouterConfig
from privacy_core.errors import InvalidParameter
from privacy_runtime.settings.faults import SettingsRefused
from privacy_runtime.testing import SeededEntropy

MODEL = Path(federated_dp_llm.demo.__file__).parent / "assets" / "model"
PROMPT = "Which drug is given to a patient with a cough and a fever?"


def rewriter(epsilon: float, seed: int = 1) -> PromptRewriter:
    return PromptRewriter(MODEL, epsilon_per_token=epsilon, entropy=SeededEntropy(seed))


def test_a_small_epsilon_leaves_no_word_and_a_very_large_one_leaves_all() -> None:
    small, large = rewriter(1.0).rewritten(PROMPT, "q"), rewriter(400.0).rewritten(PROMPT, "q")

    assert not set(PROMPT.split()) & set(small.text.split())
    assert large.text == PROMPT
    assert large.tokens == small.tokens
    assert (small.epsilon, large.epsilon) == (1.0 * small.tokens, 400.0 * large.tokens)
    assert PROMPT not in repr(large)


def test_a_request_leaves_in_the_same_words_again_and_another_one_in_others() -> None:
    here, other = rewriter(5.0), rewriter(5.0, seed=2)

    first = here.rewritten(PROMPT, "q-1")
    assert here.rewritten(PROMPT, "q-1") == first
    assert len({first.text, here.rewritten(PROMPT, "q-2").text}) == 2
    assert other.rewritten(PROMPT, "q-1").text != first.text


def test_tokens_that_stand_for_values_stay() -> None:
    prompt = "Mr. [PERSON_7K2M] takes [DRUG_NAME_22AB], does [PERSON_7K2M] cough?"
    left = rewriter(1.0).rewritten(prompt, "q").text

    assert left.count("[PERSON_7K2M]") == 2
    assert left.count("[DRUG_NAME_22AB]") == 1
    assert "cough" not in left


@pytest.mark.parametrize("missing", ["tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, missing: str) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(InvalidParameter, match="rewrite_model"):
        PromptRewriter(tmp_path / "model", epsilon_per_token=1.0, entropy=SeededEntropy(1))


def test_weights_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InvalidParameter, match="rewrite_model"):
        PromptRewriter(tmp_path / "model", epsilon_per_token=1.0, entropy=SeededEntropy(1))


def test_it_is_off_by_default_and_needs_its_model() -> None:
    assert RouterConfig.read(None, variables={}).federation.rewrite_epsilon is None
    with pytest.raises(SettingsRefused, match="rewrite_model"):
        RouterConfig.read(None, variables={}, federation={"rewrite_epsilon": 10.0})


def ask(client: TestClient, doctor: Member, **headers: str) -> Any:
    body = {"prompt": f"{PROMPT} Call 415-555-0134", "privacy_budget": 0.1, "max_tokens": 16}
    return client.post("/v1/inference", json=body, headers={**doctor.headers, **headers})


def test_the_answer_prints_what_the_prompt_cost(
    house: House, client: TestClient, doctor: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(client, doctor).json()["rewriting"] is None
    monkeypatch.setattr(house.service, "rewriter", rewriter(3.0))
    shown = ask(client, doctor).json()

    left = house.answers.seen[-1].prompt
    assert "cough" not in left
    assert "415-555-0134" not in left
    said = shown["rewriting"]
    assert said["epsilon"] == said["tokens"] * said["epsilon_per_token"] > 60
    assert shown["privacy_cost"] <= 0.1  # of the records: another promise, about other people


def test_a_repeated_request_asks_the_nodes_the_same(
    house: House, client: TestClient, doctor: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.service, "rewriter", rewriter(3.0))
    before = len(house.answers.seen)
    key = {"Idempotency-Key": "the-same-request"}
    one, other = (ask(client, doctor, **key).json() for _ in range(2))

    assert one == other
    assert len(house.answers.seen) == before + 1
