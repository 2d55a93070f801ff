"""An attempt at injection is noticed and refused by nobody; no value of it is kept."""

from __future__ import annotations

from typing import Any

from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import House

from privacy_finetuner.api.signals import EVENT, UNWATCHED, WATCHED
from privacy_finetuner.operations.trail import body_of
from privacy_runtime.identity import Role
from privacy_runtime.metrics import Audience

ATTACK = "x'; DROP TABLE jobs;--"


def events(house: House) -> list[dict[str, Any]]:
    house.app.state.signals.record()
    return [body_of(each) for each in house.service.desks.trail.since(0) if each.type == EVENT]


def start(client: TestClient, headers: dict[str, str], **changes: Any) -> Any:
    body = {"model_name": "sample:model", "dataset_path": "sample:records"} | changes
    return client.post("/api/v1/training/start", json=body, headers=headers)


def test_an_attack_in_a_name_is_noticed_and_changes_nothing(
    house: House, client: TestClient
) -> None:
    before, member = len(events(house)), house.member(Role.TRAINER)
    answer = start(client, member.headers, name=ATTACK)

    job = house.service.jobs.get(answer.json()["job_id"], tenant=member.tenant)
    (event,) = events(house)[before:]
    assert answer.status_code == 202
    assert job.name == ATTACK
    assert event["field"] == "body.name"
    assert event["family"] == "sql_injection"
    assert event["subject"] == member.id
    assert event["tenant"] == member.tenant
    assert ATTACK not in str(event)


def test_signs_are_counted_by_family(house: House, client: TestClient) -> None:
    name = "privacy_finetuner_suspicious_inputs_total"

    def counted() -> float:
        text, _ = house.service.metrics.exposition(Audience.OPERATOR)
        line = f'{name}{{family="sql_injection"}} '.encode()
        return float(text.split(line)[1].split()[0])

    before = counted()
    start(client, house.member(Role.TRAINER).headers, name=ATTACK)
    assert counted() == before + 1


def test_a_request_that_is_refused_is_looked_at_as_well(house: House, client: TestClient) -> None:
    before = len(events(house))
    start(client, house.member(Role.TRAINER).headers, dataset_path="../../etc/passwd", extra=1)
    client.get("/api/v1/audit-trail", params={"type": "<script>alert(1)</script>"})
    client.post("/api/v1/auth/login", json={"username": "a' or '1'='1", "password": "x"})

    found = events(house)[before:]
    fields = {each["field"]: "subject" in each for each in found}
    assert fields == {"body.dataset_path": True, "query.type": False, "body.username": False}
    assert len({each["source"] for each in found}) == 1


def test_the_same_text_has_the_same_hash_and_another_has_another(
    house: House, client: TestClient
) -> None:
    before, headers = len(events(house)), house.member(Role.TRAINER).headers
    for name in (ATTACK, ATTACK, "y'; DROP TABLE users;--"):
        start(client, headers, name=name)

    first, second, third = (each["value"] for each in events(house)[before:])
    assert first == second != third


def test_data_and_secrets_are_not_looked_at(house: House, client: TestClient) -> None:
    before, headers = len(events(house)), house.member(Role.TRAINER).headers
    client.post("/api/v1/protect", json={"text": ATTACK, "level": "low"}, headers=headers)
    client.post("/api/v1/auth/login", json={"username": "ada", "password": ATTACK})

    assert events(house)[before:] == []


def test_of_one_sender_at_most_twenty_events_a_round(house: House, client: TestClient) -> None:
    before, headers = len(events(house)), house.member(Role.TRAINER).headers
    names = [f"x{n}'; DROP TABLE jobs;--" for n in range(30)]
    start(client, headers, training_config={"label_names": names})

    assert len(events(house)) - before == 20


def test_every_text_of_every_body_is_sorted(house: House) -> None:
    """A new field of a body is named in `WATCHED` or in `UNWATCHED`."""
    document = house.app.openapi()
    shapes, found = document["components"]["schemas"], set()

    def walk(shape: dict[str, Any], key: str, above: frozenset[str]) -> None:
        if "$ref" in shape:
            name = shape["$ref"].rpartition("/")[2]
            if name not in above:
                walk(shapes[name], key, above | {name})
            return
        if shape.get("type") == "string" and not shape.keys() & {"enum", "const"}:
            found.add(key)
        inner = [
            (key, each) for kind in ("anyOf", "oneOf", "allOf") for each in shape.get(kind, ())
        ]
        inner += shape.get("properties", {}).items()
        inner += [(key, shape[kind]) for kind in ("items", "additionalProperties")
                  if isinstance(shape.get(kind), dict)]  # fmt: skip
        for name, each in inner:
            walk(each, name, above)

    for methods in document["paths"].values():
        for operation in methods.values():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                if kind != "application/octet-stream":  # records, which are data and no fields
                    walk(content["schema"], "", frozenset())

    assert set() == WATCHED & UNWATCHED
    assert found - WATCHED - UNWATCHED == set()
    assert found >= WATCHED
