"""Generation over HTTP: names that are allowed, models of one's own, and nothing spent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_runtime.identity import Role

PATH = "/api/v1/generate"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("generation") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def asked(house: Town, client: TestClient, **body: Any) -> Any:
    whole = {"model": "sample:model", "prompt": "Patient reports", **body}
    return client.post(PATH, json=whole, headers=house.member(Role.ANALYST).headers)


@pytest.mark.slow
def test_the_sample_model_goes_on_in_its_own_process(house: Town, client: TestClient) -> None:
    made = asked(house, client, max_new_tokens=12)

    assert made.status_code == 200
    assert made.json()["text"]
    assert made.json()["model_privacy"] is None
    assert made.json() == asked(house, client, max_new_tokens=12).json()
    assert "torch" not in sys.modules or "torch" in _LOADED_BEFORE
    too_long = asked(house, client, prompt="word " * 5000)
    assert (too_long.status_code, too_long.json()["error"]["code"]) == (422, "generation_refused")


_LOADED_BEFORE = frozenset(sys.modules)


@pytest.mark.parametrize(
    "model", ["nope", "../../etc", "/etc", "job:job_x", "meta-llama/Llama-2-7b-hf", "sample:other"]
)
def test_names_that_are_no_model(house: Town, client: TestClient, model: str) -> None:
    answer = asked(house, client, model=model)

    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "body.model"


@pytest.mark.parametrize(
    "changes",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 4096},
        {"max_new_tokens": "9"},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"redact": "extreme"},
        {"prompt": "x" * 100_001},
        {"model": ""},
        {"seed": 1},
    ],
)
def test_bad_questions(house: Town, client: TestClient, changes: dict[str, Any]) -> None:
    body = {"model": "sample:model", "prompt": "p", **changes}
    answer = client.post(
        PATH,
        content=json.dumps(body),
        headers=house.member(Role.ANALYST).headers | {"Content-Type": "application/json"},
    )
    assert answer.status_code in {400, 422}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.PRIVACY_OFFICER, Role.ADMIN])
def test_who_may_not_ask(house: Town, client: TestClient, role: Role) -> None:
    body = {"model": "sample:model", "prompt": "p"}
    assert client.post(PATH, json=body, headers=house.member(role).headers).status_code == 403


def test_an_answer_is_not_kept_for_a_repetition(house: Town, client: TestClient) -> None:
    headers = house.member(Role.ANALYST).headers | {"Idempotency-Key": "question-number-1"}
    body = {"model": "sample:model", "prompt": "p"}
    assert client.post(PATH, json=body, headers=headers).status_code == 422
