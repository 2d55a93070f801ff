"""Redaction over HTTP: what is replaced, whose keys, and what a reveal leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_finetuner.api.redaction import Redaction
from privacy_finetuner.api.shapes.redaction import RevealBody
from privacy_runtime.identity import Role
from privacy_runtime.journal import StoreUnavailable

if TYPE_CHECKING:
    from privacy_finetuner.service import Service

BASE = "/api/v1/protect"
TEXT = "Process payment for John Doe, card 4111-1111-1111-1111"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("redaction") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def using(house: Town, at: str = "north") -> dict[str, str]:
    return house.member(Role.ANALYST, at=at).headers


def officer(house: Town, at: str = "north") -> dict[str, str]:
    return house.member(Role.PRIVACY_OFFICER, at=at).headers


def protected(house: Town, client: TestClient, at: str = "north", **body: Any) -> Any:
    return client.post(BASE, json=body, headers=using(house, at))


def test_the_documented_example(house: Town, client: TestClient) -> None:
    made = protected(house, client, text=TEXT, sensitivity_level="high").json()

    assert made["protected_text"] == "Process payment for [PERSON], card [PAYMENT_CARD]"
    assert made["redaction_map"]["counts"] == {"PERSON": 1, "PAYMENT_CARD": 1}
    assert "John" not in str(made)
    assert "4111" not in str(made)


def test_every_strategy_runs(house: Town, client: TestClient) -> None:
    for strategy in (
        "pii_removal",
        "entity_hashing",
        "semantic_encryption",
        "masking",
        "generalization",
        "surrogate",
        "format_preserving",
        "dropping",
    ):
        made = protected(house, client, text=TEXT, strategies=[strategy])
        assert made.status_code == 200, (strategy, made.text)
        assert "4111-1111-1111-1111" not in made.json()["protected_text"], strategy


def test_values_and_chats_keep_their_shape(house: Town, client: TestClient) -> None:
    value = {"note": "mail ann@example.org", "n": [1, {"mail": "bob@example.org"}]}
    made = protected(house, client, value=value).json()["protected_value"]
    assert made == {"note": "mail [EMAIL]", "n": [1, {"mail": "[EMAIL_2]"}]}
    chat = [{"role": "user", "content": "I am ann@example.org"}]
    made = protected(house, client, messages=chat).json()["protected_value"]
    assert made == [{"role": "user", "content": "I am [EMAIL]"}]
    assert protected(house, client, value=None).json()["protected_value"] is None


def test_what_was_sealed_is_revealed_to_an_officer_and_written_down(
    house: Town, client: TestClient
) -> None:
    sealed = protected(
        house, client, text="Mail ann@example.org", strategies=["semantic_encryption"]
    ).json()["protected_text"]
    assert "ann" not in sealed
    body = {"protected_text": sealed, "reason": "answer to the patient"}
    made = client.post(f"{BASE}/reveal", json=body, headers=officer(house))

    assert made.json() == {"text": "Mail ann@example.org", "revealed": {"EMAIL": 1}, "refused": {}}
    trail = client.get(
        "/api/v1/audit-trail?type_prefix=redaction.", headers=house.member(Role.ADMIN).headers
    ).json()["items"]
    (entry,) = trail
    assert entry["body"]["by"] == house.member(Role.PRIVACY_OFFICER).id
    assert entry["body"]["reason"] == "answer to the patient"
    assert "ann" not in str(entry)


def test_another_organisation_opens_none_of_it_and_hashes_differently(
    house: Town, client: TestClient
) -> None:
    sealed = protected(
        house, client, text="Mail ann@example.org", strategies=["semantic_encryption"]
    ).json()["protected_text"]
    body = {"protected_text": sealed, "reason": "curious"}
    answer = client.post(f"{BASE}/reveal", json=body, headers=officer(house, "south"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "wrong_key")
    trail = client.get(
        "/api/v1/audit-trail?type_prefix=redaction.",
        headers=house.member(Role.ADMIN, at="south").headers,
    ).json()["items"]
    assert [each["type"] for each in trail] == ["redaction.reveal_refused"]

    north, south = (
        protected(
            house, client, at, text="Mail ann@example.org", strategies=["entity_hashing"]
        ).json()["protected_text"]
        for at in ("north", "south")
    )
    assert north != south


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.ADMIN])
def test_nobody_else_reveals(house: Town, client: TestClient, role: Role) -> None:
    body = {"protected_text": "x", "reason": "r"}
    answer = client.post(f"{BASE}/reveal", json=body, headers=house.member(role).headers)
    assert answer.status_code == 403


def test_a_reveal_takes_a_fresh_login_and_is_never_kept(house: Town, client: TestClient) -> None:
    headers = officer(house)
    body = {"protected_text": "x", "reason": "r"}
    kept = client.post(
        f"{BASE}/reveal", json=body, headers=headers | {"Idempotency-Key": "reveal-number-1"}
    )
    assert kept.status_code == 422
    house.clock.advance(301)
    late = client.post(f"{BASE}/reveal", json=body, headers=headers)
    assert late.json()["error"]["code"] == "stale_login"


def test_only_some_types_are_revealed(house: Town, client: TestClient) -> None:
    text = "Mail ann@example.org, card 4111-1111-1111-1111"
    sealed = protected(house, client, text=text, strategies=["semantic_encryption"]).json()
    body = {"protected_text": sealed["protected_text"], "only": ["email"], "reason": "r"}
    made = client.post(f"{BASE}/reveal", json=body, headers=officer(house)).json()

    assert "ann@example.org" in made["text"]
    assert "4111" not in made["text"]
    wrong = client.post(
        f"{BASE}/reveal", json={**body, "only": ["shoe size"]}, headers=officer(house)
    )
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (422, "unknown_entity")


def test_a_batch_comes_line_by_line_in_order(house: Town, client: TestClient) -> None:
    texts = [f"mail person{number}@example.org" for number in range(5)] + ["nothing"]
    made = client.post(f"{BASE}/batch", json={"texts": texts}, headers=using(house))

    lines = [json.loads(line) for line in made.text.splitlines()]
    assert made.headers["content-type"] == "application/x-ndjson"
    assert [line["index"] for line in lines] == list(range(6))
    assert [line["protected_text"] for line in lines] == ["mail [EMAIL]"] * 5 + ["nothing"]


def test_an_explanation_holds_no_text(house: Town, client: TestClient) -> None:
    body = {"text": TEXT, "sensitivity_level": "high"}
    made = client.post(f"{BASE}/explain", json=body, headers=using(house)).json()

    assert {each["label"] for each in made["decisions"]} == {"PERSON", "PAYMENT_CARD"}
    assert "John" not in str(made)


def test_lists_of_values_are_followed_and_kept_for_nobody_else(
    house: Town, client: TestClient
) -> None:
    body = {"text": "mail ann@example.org about Zebra-77"}
    with_lists = protected(
        house, client, **body, allow=["ann@example.org"], deny=["Zebra-77"]
    ).json()["protected_text"]
    assert "ann@example.org" in with_lists
    assert "Zebra" not in with_lists
    assert "ann@example.org" not in protected(house, client, **body).json()["protected_text"]


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": TEXT, "value": 1},
        {"text": None},
        {"text": 7},
        {"text": "x" * 1_000_001},
        {"text": TEXT, "sensitivity_level": "extreme"},
        {"text": TEXT, "strategies": []},
        {"text": TEXT, "strategies": ["k_anonymity"]},
        {"text": TEXT, "sensitivity_threshold": 1.0},
        {"text": TEXT, "preserve_entities": ["SHOE_SIZE"]},
        {"text": TEXT, "locales": []},
        {"messages": []},
        {"text": TEXT, "key": "mine"},
        {"text": "x" * 100_001, "sensitivity_level": "high"},
        {"value": ["x" * 100_000], "sensitivity_level": "high"},
        {"value": nested(101)},
        {"messages": [{"role": "user", "content": nested(500)}]},
    ],
)
def test_bad_bodies(house: Town, client: TestClient, body: dict[str, Any]) -> None:
    answer = protected(house, client, **body)
    assert answer.status_code in {413, 422}
    assert "John" not in answer.text


def test_what_is_nested_as_deeply_as_may_be_comes_back(house: Town, client: TestClient) -> None:
    made = protected(house, client, value=nested(100))
    assert made.json()["protected_value"] == nested(100)


def test_hostile_texts_are_texts(house: Town, client: TestClient) -> None:
    for text in ("", "\x00", "\ud800", "[EMAIL:AAAA:BBBB]", "[PERSON_1]" * 50, "\u202e4111"):
        raw = json.dumps({"text": text})
        answer = client.post(
            BASE,
            content=raw,
            headers=using(house) | {"Content-Type": "application/json"},
        )
        assert answer.status_code in {200, 400, 422}, text


@pytest.mark.parametrize("locale", ["\x93R$", "Spain", "E", "es-", "1A"])
def test_a_country_that_is_none_is_refused_before_anything_is_sent(
    house: Town, client: TestClient, locale: str
) -> None:
    for path, body in (("", {"text": "x"}), ("/batch", {"texts": ["x"]})):
        answer = client.post(
            f"{BASE}{path}", json={**body, "locales": ["en-GB", locale]}, headers=using(house)
        )
        assert answer.status_code == 422
        assert answer.json()["error"]["details"][0]["path"] == "body.locales[1]"


def test_viewers_may_not(house: Town, client: TestClient) -> None:
    for path in ("", "/batch", "/explain"):
        body = {"text": "x"} if path != "/batch" else {"texts": ["x"]}
        answer = client.post(f"{BASE}{path}", json=body, headers=house.member(Role.VIEWER).headers)
        assert answer.status_code == 403


class RefusingTrail:
    """A trail whose database is away."""

    def write(self, *_: Any, **__: Any) -> None:
        raise StoreUnavailable("journal", reason="gone")


def test_without_its_trail_nothing_is_revealed(house: Town, client: TestClient) -> None:
    sealed = protected(
        house, client, text="Mail ann@example.org", strategies=["semantic_encryption"]
    ).json()["protected_text"]
    service = SimpleNamespace(
        sealing_keys=house.service.sealing_keys,
        entropy=house.service.entropy,
        desks=SimpleNamespace(trail=RefusingTrail()),
    )
    who = replace(house._operator(house._place("north")), tenant=house.tenant("north"))
    body = RevealBody(protected_text=sealed, reason="r")

    with pytest.raises(StoreUnavailable):
        Redaction(cast("Service", service))._revealed(body, who)
