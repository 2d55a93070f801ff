"""The documented question: what is answered, what is refused, what is paid and what is shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import House, Member

from federated_dp_llm.errors import (
    BudgetTooSmall,
    ConsensusUnavailable,
    NodeRefused,
    NodeUnavailable,
    Overloaded,
)
from privacy_runtime.identity import Role

DOCUMENTED = {
    "prompt": "Analyze patient symptoms: fever, cough, fatigue",
    "max_tokens": 512,
    "temperature": 0.7,
    "privacy_budget": 0.1,
    "require_consensus": True,
    "priority": 3,
    "department": "emergency",
}


def ask(client: TestClient, who: Member, path: str = "/v1/inference", **changes: Any) -> Any:
    body = {"prompt": "which drug is given for that", "privacy_budget": 0.5, **changes}
    return client.post(path, json=body, headers=who.headers)


@pytest.mark.parametrize("path", ["/v1/inference", "/inference"])
def test_the_documented_request_has_the_documented_answer(
    client: TestClient, doctor: Member, path: str
) -> None:
    answer = client.post(path, json=DOCUMENTED, headers=doctor.headers)

    assert answer.status_code == 200
    shown = answer.json()
    assert shown["success"] is True
    assert 0 < shown["privacy_cost"] <= 0.1
    assert shown["remaining_budget"] == pytest.approx(9.9, abs=0.01)
    assert shown["node_id"] == "hospital_a+hospital_b"
    assert (shown["consensus_reached"], shown["confidence_score"]) == (True, 0.94)
    assert shown["processing_time"] > 0


def test_personal_data_leaves_as_tokens_and_comes_back(
    house: House, client: TestClient, doctor: Member
) -> None:
    prompt = "Mr. Henry Blackwood, SSN 536-90-4399, phone 415-555-0134, has fever"

    shown = ask(client, doctor, prompt=prompt).json()

    left = house.answers.seen[-1].prompt
    assert "536-90-4399" not in left
    assert "415-555-0134" not in left
    assert shown["response"] == f"echo: {prompt}"
    assert sum(shown["redacted"].values()) >= 2


def test_equal_values_of_one_user_leave_as_equal_tokens(
    house: House, client: TestClient, doctor: Member
) -> None:
    for _ in range(2):
        ask(client, doctor, prompt="call 415-555-0134 about the dose")

    assert house.answers.seen[-1].prompt == house.answers.seen[-2].prompt


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("privacy_budget", 0),
        ("privacy_budget", -1),
        ("privacy_budget", 10.5),
        ("privacy_budget", 1e400),
        ("privacy_budget", "0.1"),
        ("prompt", ""),
        ("prompt", "   "),
        ("prompt", "x" * 10_001),
        ("max_tokens", 0),
        ("max_tokens", 2049),
        ("temperature", 0),
        ("temperature", -1),
        ("priority", 9),
        ("labels", ["yes"]),
        ("labels", ["yes", "yes"]),
        ("cohort", "No Such Name"),
        ("department", "../etc"),
        ("unknown", 1),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_costs_nothing(
    house: House, client: TestClient, field: str, value: Any
) -> None:
    who, before = house.member(Role.ANALYST), len(house.answers.seen)
    body = json.dumps({"prompt": "a question", field: value})

    answer = client.post(
        "/v1/inference", content=body, headers={**who.headers, "content-type": "application/json"}
    )

    assert answer.status_code == 422
    details = answer.json()["error"]["details"]
    assert [one["path"].split("[")[0] for one in details] == [f"body.{field}"]
    assert len(house.answers.seen) == before


def test_nan_is_no_budget(client: TestClient, doctor: Member) -> None:
    answer = client.post(
        "/v1/inference",
        content='{"prompt": "x", "privacy_budget": NaN}',
        headers={**doctor.headers, "content-type": "application/json"},
    )

    assert answer.status_code == 422


def test_a_megabyte_is_not_read(client: TestClient, doctor: Member) -> None:
    assert ask(client, doctor, prompt="x" * 1_000_000).status_code == 413


def test_nobody_asks_in_another_name_or_department(client: TestClient, doctor: Member) -> None:
    assert ask(client, doctor, user_id="doctor_smith").status_code == 403
    assert ask(client, doctor, department="surgery").status_code == 403
    assert ask(client, doctor, user_id=doctor.name).status_code == 200


def test_a_budget_that_ended_refuses_and_says_how_much_is_left(
    client: TestClient, doctor: Member
) -> None:
    statuses = [ask(client, doctor, privacy_budget=6.0).status_code for _ in range(3)]

    assert statuses[0] == 200
    assert statuses[-1] == 429
    error = ask(client, doctor, privacy_budget=6.0).json()["error"]
    assert error["code"] == "privacy_budget_exceeded"
    assert error["details"][0]["available"] < error["details"][0]["requested"]
    assert ask(client, doctor, context="none").json()["privacy_cost"] == 0.0


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BudgetTooSmall(0.1, 0.83, "one label"), 422, "budget_too_small"),
        (ConsensusUnavailable(4, 0.4, None), 422, "consensus_unavailable"),
        (NodeUnavailable("", "gone", 0.2), 503, "node_unavailable"),
        (NodeRefused("a", "protocol: odd"), 502, "node_refused"),
        (Overloaded("too much", 2.3), 429, "overloaded"),
    ],
)
def test_what_the_router_refuses_has_its_status_and_its_numbers(
    house: House, client: TestClient, doctor: Member, error: Exception, status: int, code: str
) -> None:
    house.answers.failures = {code: error}

    answer = ask(client, doctor, prompt=f"a question, fail:{code}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    if code == "budget_too_small":
        assert answer.json()["error"]["details"][0]["least"] == 0.83
    if status in (429, 503):
        assert int(answer.headers["retry-after"]) >= 1
    house.answers.failures = {}


def events(text: str) -> list[tuple[str, Any]]:
    """The events of a stream."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in lines:
            found.append((lines.get("event", ""), json.loads(lines["data"])))
    return found


def test_a_stream_ends_with_the_whole_answer(client: TestClient, doctor: Member) -> None:
    prompt = "call 415-555-0134 about the dose"

    answer = ask(client, doctor, prompt=prompt, stream=True)

    names = [name for name, _ in events(answer.text)]
    pieces = "".join(data["text"] for name, data in events(answer.text) if name == "piece")
    assert names[-1] == "answer"
    assert pieces == events(answer.text)[-1][1]["response"] == f"echo: {prompt}"


def test_a_stream_that_fails_says_so_and_never_looks_complete(
    house: House, client: TestClient, doctor: Member
) -> None:
    house.answers.failures = {"later": NodeUnavailable("", "gone", 1.0)}

    answer = ask(client, doctor, prompt="fail:midway", stream=True)

    assert answer.status_code == 200
    assert events(answer.text)[-1][0] == "error"
    assert events(answer.text)[-1][1]["success"] is False
    house.answers.failures = {}


def test_a_stream_that_is_refused_at_once_has_the_status_of_the_refusal(
    house: House, client: TestClient, doctor: Member
) -> None:
    house.answers.failures = {"too_small": BudgetTooSmall(0.1, 0.8, "a label")}

    answer = ask(client, doctor, prompt="fail:too_small", stream=True)

    assert answer.status_code == 422
    house.answers.failures = {}


def keyed(client: TestClient, who: Member, key: str, **body: Any) -> Any:
    """A question under an idempotency key."""
    headers = {**who.headers, "Idempotency-Key": key}
    return client.post("/v1/inference", json={"prompt": "the dose", **body}, headers=headers)


def test_a_repeated_key_is_answered_paid_and_written_down_once(
    house: House, client: TestClient, doctor: Member
) -> None:
    prompt = "the dose for Mr. Henry Blackwood, phone 415-555-0134"
    before, entries = len(house.answers.seen), house.service.journal.status("privacy").head.seq

    first = keyed(client, doctor, "visit-4711-a", prompt=prompt).json()
    again = keyed(client, doctor, "visit-4711-a", prompt=prompt).json()
    text = keyed(client, doctor, "visit-4711-a", prompt=prompt, stream=True).text

    assert first == again == events(text)[-1][1]
    assert "415-555-0134" in first["response"]
    assert len(house.answers.seen) == before + 1
    assert house.service.journal.status("privacy").head.seq == entries + 1


def test_a_key_belongs_to_its_question_and_its_user(
    house: House, client: TestClient, doctor: Member
) -> None:
    keyed(client, doctor, "visit-4711-a")
    before = len(house.answers.seen)

    other = keyed(client, doctor, "visit-4711-a", prompt="another dose")
    somebody = keyed(client, house.member(Role.ANALYST), "visit-4711-a")

    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert somebody.status_code == 200
    assert len(house.answers.seen) == before + 1


def test_what_was_told_is_sealed_and_forgotten_after_a_day(
    house: House, client: TestClient, doctor: Member
) -> None:
    keyed(client, doctor, "visit-4711-a", prompt="zwetschgenkuchen")
    kept = dict(house.service.journal.documents("privacy", "told/"))

    assert kept
    assert "zwetschgen" not in json.dumps(kept)
    later = house.clock.now() + timedelta(days=2)
    assert house.service.told.forget(now=later) == len(kept)
    assert not dict(house.service.journal.documents("privacy", "told/"))
    house.answers.failures = {"gone": NodeRefused("a", "replayed")}
    answer = keyed(client, doctor, "visit-4711-a", prompt="fail:gone")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "already_begun")
    house.answers.failures = {}


def test_every_answer_is_in_the_audit_trail_without_its_words(
    house: House, client: TestClient, doctor: Member
) -> None:
    ask(client, doctor, prompt="zwetschgenkuchen")

    last = list(house.service.journal.read("privacy"))[-1]
    assert last.type == "privacy.answer"
    assert last.body["user"] == doctor.name
    assert "zwetschgenkuchen" not in last.body_text
    house.service.journal.verify("privacy")
