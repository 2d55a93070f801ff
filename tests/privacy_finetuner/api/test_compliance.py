"""Compliance over HTTP: the documented shapes, what is checked, and who sees what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_runtime.identity import Role

BASE = "/api/v1/compliance"
DOCUMENTED = {
    "data_categories": ["personal_identifiers", "behavioral_data"],
    "processing_purpose": "machine_learning",
    "legal_basis": "legitimate_interests",
    "data_subjects_count": 50000,
    "storage_location": "eu-west-1",
    "retention_period": 365,
}
PERSON = "subject_12345"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("compliance") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


def officer(house: Town, at: str = "north") -> dict[str, str]:
    return house.member(Role.PRIVACY_OFFICER, at=at).headers


def token(house: Town, client: TestClient, person: str = PERSON) -> str:
    body = {"data_subject_id": person, "means": "identity_document"}
    answer = client.post(f"{BASE}/verifications", json=body, headers=officer(house))
    return str(answer.json()["verification_token"])


def ask(house: Town, client: TestClient, **changes: Any) -> Any:
    body = {"request_type": "access", "data_subject_id": PERSON, "region": "EU", **changes}
    if "verification_token" not in body:
        body["verification_token"] = token(house, client, body["data_subject_id"])
    return client.post(f"{BASE}/data-subject-request", json=body, headers=officer(house))


def test_the_documented_record_has_the_documented_answer(house: Town, client: TestClient) -> None:
    answer = client.post(f"{BASE}/data-processing", json=DOCUMENTED, headers=officer(house))

    made = answer.json()
    assert answer.status_code == 200
    assert made["status"] == "recorded"
    assert made["compliance_frameworks"] == []  # none is configured here
    assert "security_measures" in made["missing"]
    path = f"{BASE}/data-processing/{made['processing_id']}"
    whole = client.get(path, headers=officer(house)).json()
    assert {name: whole[name] for name in DOCUMENTED} == DOCUMENTED
    assert client.get(path, headers=officer(house, "south")).status_code == 404
    ended = client.post(f"{path}/end", json={"reason": "over"}, headers=officer(house)).json()
    assert ended["version"] == 2


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"data_categories": ["shoe_size"]}, "body.data_categories[0]"),
        ({"data_categories": []}, "body.data_categories"),
        ({"processing_purpose": "fun"}, "body.processing_purpose"),
        ({"legal_basis": "because"}, "body.legal_basis"),
        ({"data_subjects_count": -1}, "body.data_subjects_count"),
        ({"data_subjects_count": 1.5}, "body.data_subjects_count"),
        ({"data_subjects_count": "7"}, "body.data_subjects_count"),
        ({"retention_period": 0}, "body.retention_period"),
        ({"storage_location": ""}, "body.storage_location"),
        ({"data_categories": ["health_data"]}, "special_condition"),
        ({"extra": 1}, "body.extra"),
    ],
)
def test_bad_records_are_refused_by_path(
    house: Town, client: TestClient, changes: dict[str, Any], path: str
) -> None:
    body = {**DOCUMENTED, **changes}
    answer = client.post(f"{BASE}/data-processing", json=body, headers=officer(house))

    assert answer.status_code == 422
    assert path in [fault["path"] for fault in answer.json()["error"]["details"]]


def test_the_register_is_searched_paged_and_exported(house: Town, client: TestClient) -> None:
    for number in range(3):
        house.clock.advance(1)
        body = {**DOCUMENTED, "storage_location": f"place-{number}"}
        client.post(f"{BASE}/data-processing", json=body, headers=officer(house))

    listed = f"{BASE}/data-processing"
    first = client.get(f"{listed}?limit=2", headers=officer(house)).json()
    rest = client.get(f"{listed}?cursor={first['next_cursor']}", headers=officer(house)).json()
    places = [each["storage_location"] for each in [*first["items"], *rest["items"]]]
    assert places == ["place-2", "place-1", "place-0"]
    found = client.get(f"{listed}?text=place-1", headers=officer(house)).json()["items"]
    assert [each["storage_location"] for each in found] == ["place-1"]
    assert client.get(f"{listed}?category=health_data", headers=officer(house)).json() == {
        "items": [],
        "next_cursor": None,
    }
    table = client.get(f"{listed}/export?format=csv", headers=officer(house))
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"].endswith('.csv"')
    assert len(table.text.splitlines()) == 4
    records = client.get(f"{listed}/export", headers=officer(house)).json()["records"]
    assert len(records) == 3


def test_the_documented_request_has_the_documented_answer(house: Town, client: TestClient) -> None:
    made = ask(house, client).json()

    assert set(made) == {"request_id", "status", "estimated_completion", "data_package_url"}
    assert (made["status"], made["data_package_url"]) == ("processing", None)
    path = f"{BASE}/data-subject-request/{made['request_id']}"
    whole = client.get(path, headers=officer(house)).json()
    assert whole["clocks"][0]["source"] == "GDPR Art. 12(3)"
    assert PERSON not in str(whole)
    assert client.get(path, headers=officer(house, "south")).status_code == 404


def test_a_request_without_a_token_that_counts(house: Town, client: TestClient) -> None:
    answer = ask(house, client, verification_token="verified_token")  # noqa: S106  the documents'
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "verification_refused")
    other = ask(house, client, verification_token=token(house, client, "subject_2"))
    assert other.status_code == 403


def test_a_place_without_a_known_law(house: Town, client: TestClient) -> None:
    answer = ask(house, client, region="Atlantis")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "unknown_law")
    assert "California" in answer.json()["error"]["message"]


def test_a_request_from_receipt_to_answer(house: Town, client: TestClient) -> None:
    made = ask(house, client, request_type="erasure").json()
    path = f"{BASE}/data-subject-request/{made['request_id']}"
    more = client.post(f"{path}/extend", json={"reason": "many"}, headers=officer(house)).json()
    assert more["estimated_completion"] > made["estimated_completion"]
    evidence = {"label": "deletion log", "sha256": "ab" * 32}
    assert client.post(f"{path}/evidence", json=evidence, headers=officer(house)).status_code == 200

    deleted = {"artefact": "job:1", "kind": "model", "outcome": "deleted"}
    wrong = client.post(f"{path}/complete", json={"artefacts": [deleted]}, headers=officer(house))
    assert wrong.status_code == 422
    kept = {
        "artefact": "job:1",
        "kind": "model",
        "outcome": "kept_with_bound",
        "epsilon": 2.0,
        "delta": 1e-6,
        "unit": "example",
    }
    done = client.post(f"{path}/complete", json={"artefacts": [kept]}, headers=officer(house))
    assert done.json()["status"] == "completed"
    late = client.post(f"{path}/refuse", json={"reason": "no"}, headers=officer(house))
    assert late.status_code == 409


def test_the_late_are_listed_and_counted(house: Town, client: TestClient) -> None:
    ask(house, client, region="Brazil")
    ask(house, client, data_subject_id="subject_2", region="California")
    summary = client.get(f"{BASE}/summary", headers=officer(house)).json()
    assert (summary["open_requests"], summary["overdue_requests"]) == (2, 0)
    house.clock.advance(20 * 86_400)
    again = house.log_in(
        house.member(Role.PRIVACY_OFFICER).name, house.member(Role.PRIVACY_OFFICER).seed
    )
    headers = {"Authorization": f"Bearer {again.access_token.reveal()}"}

    late = client.get(f"{BASE}/data-subject-request?overdue=true", headers=headers).json()
    assert [each["region"] for each in late["items"]] == ["Brazil"]
    summary = client.get(f"{BASE}/summary", headers=headers).json()
    assert (summary["open_requests"], summary["overdue_requests"]) == (2, 1)


def test_a_person_is_found_by_the_id_that_only_the_body_holds(
    house: Town, client: TestClient
) -> None:
    made = ask(house, client).json()
    search = f"{BASE}/data-subject-request/search"
    found = client.post(search, json={"data_subject_id": PERSON}, headers=officer(house)).json()
    assert [each["request_id"] for each in found] == [made["request_id"]]
    none = client.post(
        search, json={"data_subject_id": PERSON}, headers=officer(house, "south")
    ).json()
    assert none == []


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.ADMIN])
def test_only_officers(house: Town, client: TestClient, role: Role) -> None:
    headers = house.member(role).headers
    for path in ("data-processing", "data-subject-request", "deadlines", "summary"):
        assert client.get(f"{BASE}/{path}", headers=headers).status_code == 403
    answer = client.post(f"{BASE}/data-processing", json=DOCUMENTED, headers=headers)
    assert answer.status_code == 403


def test_the_models_of_an_account_are_planned_for_and_nothing_is_erased(
    house: Town, client: TestClient
) -> None:
    plan = client.get(f"{BASE}/erasure-plan?dataset=notes/2026", headers=officer(house)).json()
    assert plan == {"dataset": "notes/2026", "artefacts": []}
    wrong = client.get(f"{BASE}/erasure-plan?dataset=quota", headers=officer(house))
    assert wrong.status_code == 422


def test_the_table_of_the_law_is_there_to_be_read(house: Town, client: TestClient) -> None:
    table = client.get(f"{BASE}/deadlines", headers=officer(house)).json()

    assert table["version"]
    assert all(cell["source"] and cell["confidence"] for cell in table["cells"])
