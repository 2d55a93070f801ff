"""Budgets over HTTP: what is shown to whom, what is granted once, and what a request becomes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.governance.accounts import scope_of
from privacy_runtime.budget_store import Signature, charge_of
from privacy_runtime.identity import Role

ACCOUNT = "notes/2026"
BASE = "/api/v1/budgets"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("budgets") / "home") as made:
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


def opened(house: Town, client: TestClient, at: str = "north", **changes: Any) -> Any:
    body = {"account": ACCOUNT, "epsilon": 8.0, "delta": 1e-6, "reason": "vote 17", **changes}
    return client.post(f"{BASE}/grants", json=body, headers=officer(house, at))


def spend(house: Town, key: str, sigma: float = 10.0, quota: str = "", named: str = "") -> None:
    tenant = house.tenant("north")
    key = named or f"{key}:{tenant}"
    house.service.ledger.reserve(
        key,
        protection=(scope_of(tenant, ACCOUNT),),
        quota=(scope_of(tenant, quota),) if quota else (),
        charge=charge_of(Gaussian(sigma)),
        ttl_s=3600,
    )
    house.service.ledger.commit(f"{key}:commit", key)


def test_an_officer_opens_an_account_and_everybody_reads_it(
    house: Town, client: TestClient
) -> None:
    made = opened(house, client)

    assert made.status_code == 201
    assert made.json() | {"share_used": 0.0} == made.json()
    for role in Role:
        seen = client.get(f"{BASE}/accounts/{ACCOUNT}", headers=house.member(role).headers).json()
        assert (seen["account"], seen["epsilon"], seen["delta"]) == (ACCOUNT, 8.0, 1e-6)
        assert seen["is_guarantee"] is True
        assert seen["epsilon_remaining"] == 8.0


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.ADMIN])
def test_nobody_else_grants(house: Town, client: TestClient, role: Role) -> None:
    body = {"account": ACCOUNT, "epsilon": 8.0, "delta": 1e-6, "reason": "mine"}
    answer = client.post(f"{BASE}/grants", json=body, headers=house.member(role).headers)

    assert answer.status_code == 403
    assert house.accounts() == []


def test_a_grant_takes_a_fresh_login(house: Town, client: TestClient) -> None:
    headers = officer(house)
    house.clock.advance(301)
    body = {"account": ACCOUNT, "epsilon": 8.0, "delta": 1e-6, "reason": "late"}
    answer = client.post(f"{BASE}/grants", json=body, headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "stale_login")
    assert house.accounts() == []


def test_the_same_key_grants_once(house: Town, client: TestClient) -> None:
    opened(house, client)
    headers = officer(house) | {"Idempotency-Key": "raise-number-one"}
    body = {"account": ACCOUNT, "epsilon": 2.0, "reason": "second study"}
    first, again = (client.post(f"{BASE}/grants", json=body, headers=headers) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert client.get(f"{BASE}/accounts/{ACCOUNT}", headers=headers).json()["epsilon"] == 10.0


def test_two_organisations_may_use_one_name_and_share_nothing(
    house: Town, client: TestClient
) -> None:
    opened(house, client, epsilon=8.0)
    opened(house, client, at="south", epsilon=3.0)
    spend(house, "a")

    north, south = (
        client.get(f"{BASE}/accounts/{ACCOUNT}", headers=officer(house, at)).json()
        for at in ("north", "south")
    )
    assert (north["epsilon"], south["epsilon"]) == (8.0, 3.0)
    assert north["epsilon_spent"] > 0
    assert south["epsilon_spent"] == 0


def test_an_account_of_another_organisation_does_not_exist(house: Town, client: TestClient) -> None:
    opened(house, client, at="south")
    names = (ACCOUNT, f"{house.tenant('south')}:{ACCOUNT}", "quota", "../x", "quota//a")
    for name in names:
        for what in ("accounts", "history", "timeline", "forecast", "spending"):
            answer = client.get(f"{BASE}/{what}/{name}", headers=officer(house))
            assert answer.status_code in {404, 422}, (what, name)
    assert client.get(BASE, headers=officer(house)).json() == {"items": [], "next_cursor": None}


def test_accounts_of_single_subjects_are_outside_the_guarantee(
    house: Town, client: TestClient
) -> None:
    opened(house, client, account=f"{ACCOUNT}/subject-7")

    seen = client.get(BASE, headers=officer(house)).json()["items"]
    assert [each["account"] for each in seen] == [f"{ACCOUNT}/subject-7"]
    trainer = house.member(Role.TRAINER).headers
    assert client.get(BASE, headers=trainer).json()["items"] == []
    assert client.get(f"{BASE}/accounts/{ACCOUNT}/subject-7", headers=trainer).status_code == 404
    ask = {"account": f"{ACCOUNT}/subject-7", "epsilon": 1.0, "reason": "?"}
    assert client.post(f"{BASE}/requests", json=ask, headers=trainer).status_code == 404


def test_history_and_timeline_tell_the_same_story(house: Town, client: TestClient) -> None:
    opened(house, client)
    for number in range(3):
        spend(house, f"act-{number}")
    headers = house.member(Role.VIEWER).headers

    first = client.get(f"{BASE}/history/{ACCOUNT}?limit=4", headers=headers).json()
    rest = client.get(
        f"{BASE}/history/{ACCOUNT}?limit=4&cursor={first['next_cursor']}", headers=headers
    ).json()
    history = [*first["items"], *rest["items"]][::-1]
    timeline = client.get(f"{BASE}/timeline/{ACCOUNT}", headers=headers).json()
    assert rest["next_cursor"] is None
    assert [each["kind"] for each in history] == ["AccountOpened", *["Reserved", "Committed"] * 3]
    assert history[0]["reason"] == "vote 17"
    assert [each["epsilon_spent"] for each in history] == [
        each["epsilon_spent"] for each in timeline["points"]
    ]
    assert history[-1]["epsilon_spent"] == pytest.approx(
        house.service.ledger.balance(scope_of(house.tenant("north"), ACCOUNT)).epsilon_committed
    )
    thin = client.get(f"{BASE}/timeline/{ACCOUNT}?points=2", headers=headers).json()
    assert thin["is_thinned"]
    assert thin["points"] == [timeline["points"][0], timeline["points"][-1]]


def test_who_spent_what_adds_up_to_the_whole(house: Town, client: TestClient) -> None:
    opened(house, client)
    ledger, tenant = house.service.ledger, house.tenant("north")
    for name in ("quota/research", "quota"):
        ledger.open_account(
            f"{name}:{tenant}",
            scope_of(tenant, name),
            Guarantee(epsilon=8.0, delta=1e-6),
            signature=Signature("u", "r"),
        )
    account = f"{tenant}:{ACCOUNT}"
    ids = [house.job(account=account), house.job(account=account)]
    for run, job in zip(("0a", "0b"), ids, strict=True):
        folder = house.service.jobs.folder(job)
        folder.mkdir()
        record = {"body": {"job_id": f"{run}{tenant}"}}
        (folder / "run.jsonl").write_text(json.dumps(record) + "\n")
    spend(house, "training:0a", quota="quota/research", named=f"training:0a{tenant}")
    spend(house, "training:0b", named=f"training:0b{tenant}:2")
    spend(house, "a count by hand")

    seen = client.get(f"{BASE}/spending/{ACCOUNT}", headers=officer(house)).json()
    whole = client.get(f"{BASE}/accounts/{ACCOUNT}", headers=officer(house)).json()
    assert {each["name"] for each in seen["by_quota"]} == {"", "quota/research"}
    assert {each["name"] for each in seen["by_job"]} == {*ids, ""}
    for sums in (seen["by_quota"], seen["by_job"]):
        assert sum(each["share"] for each in sums) == pytest.approx(whole["share_used"])


def test_a_forecast_without_history_says_why_there_is_none(house: Town, client: TestClient) -> None:
    opened(house, client)
    spend(house, "one")
    answer = client.get(f"{BASE}/forecast/{ACCOUNT}", headers=officer(house)).json()

    assert answer["exhausted_at"] is None
    assert "at least 7 are needed" in answer["reason"]


def test_a_request_is_approved_by_another_person_and_that_is_the_grant(
    house: Town, client: TestClient
) -> None:
    opened(house, client)
    ask = {"account": ACCOUNT, "epsilon": 2.0, "reason": "one more study"}
    trainer = house.member(Role.TRAINER)
    made = client.post(f"{BASE}/requests", json=ask, headers=trainer.headers).json()
    path = f"{BASE}/requests/{made['request_id']}"

    assert (made["status"], made["requested_by"]) == ("pending", trainer.id)
    done = client.post(f"{path}/approve", json={"reason": "vote 18"}, headers=officer(house))
    assert (done.status_code, done.json()["status"]) == (200, "granted")
    again = client.post(f"{path}/approve", json={"reason": "vote 18"}, headers=officer(house))
    assert again.json() == done.json()
    account = client.get(f"{BASE}/accounts/{ACCOUNT}", headers=trainer.headers).json()
    assert account["epsilon"] == 10.0
    last = client.get(f"{BASE}/history/{ACCOUNT}", headers=trainer.headers).json()["items"][0]
    assert (last["by"], last["reason"]) == (house.member(Role.PRIVACY_OFFICER).id, "vote 18")


def test_an_officer_may_approve_less_and_never_more(house: Town, client: TestClient) -> None:
    opened(house, client)
    ask = {"account": ACCOUNT, "epsilon": 2.0, "reason": "one more study"}
    headers = house.member(Role.ANALYST).headers
    path = (
        f"{BASE}/requests/"
        + client.post(f"{BASE}/requests", json=ask, headers=headers).json()["request_id"]
    )

    more = client.post(
        f"{path}/approve", json={"reason": "x", "epsilon": 2.5}, headers=officer(house)
    )
    assert more.status_code == 422
    less = client.post(
        f"{path}/approve", json={"reason": "x", "epsilon": 0.5}, headers=officer(house)
    )
    assert less.json()["granted_epsilon"] == 0.5
    assert client.get(f"{BASE}/accounts/{ACCOUNT}", headers=headers).json()["epsilon"] == 8.5


def test_a_declined_request_grants_nothing_and_stays_declined(
    house: Town, client: TestClient
) -> None:
    opened(house, client)
    ask = {"account": ACCOUNT, "epsilon": 2.0, "reason": "one more study"}
    headers = house.member(Role.TRAINER).headers
    path = (
        f"{BASE}/requests/"
        + client.post(f"{BASE}/requests", json=ask, headers=headers).json()["request_id"]
    )

    no = client.post(f"{path}/decline", json={"reason": "too much"}, headers=officer(house))
    assert no.json()["status"] == "declined"
    late = client.post(f"{path}/approve", json={"reason": "ok"}, headers=officer(house))
    assert (late.status_code, late.json()["error"]["code"]) == (409, "conflict")
    back = client.post(f"{path}/withdraw", headers=headers)
    assert back.status_code == 409
    assert client.get(f"{BASE}/accounts/{ACCOUNT}", headers=headers).json()["epsilon"] == 8.0


def test_only_who_asked_withdraws(house: Town, client: TestClient) -> None:
    opened(house, client)
    ask = {"account": ACCOUNT, "epsilon": 2.0, "reason": "one more study"}
    headers = house.member(Role.TRAINER).headers
    path = (
        f"{BASE}/requests/"
        + client.post(f"{BASE}/requests", json=ask, headers=headers).json()["request_id"]
    )

    assert (
        client.post(f"{path}/withdraw", headers=house.member(Role.ANALYST).headers).status_code
        == 409
    )
    assert client.post(f"{path}/withdraw", headers=headers).json()["status"] == "withdrawn"


def test_requests_of_another_organisation_are_not_found(house: Town, client: TestClient) -> None:
    opened(house, client)
    ask = {"account": ACCOUNT, "epsilon": 2.0, "reason": "one more study"}
    made = client.post(
        f"{BASE}/requests", json=ask, headers=house.member(Role.TRAINER).headers
    ).json()
    path = f"{BASE}/requests/{made['request_id']}"
    other = officer(house, "south")

    assert client.get(path, headers=other).status_code == 404
    for verb in ("approve", "decline"):
        body = {"reason": "mine now"}
        assert client.post(f"{path}/{verb}", json=body, headers=other).status_code == 404
    assert client.get(f"{BASE}/requests", headers=other).json()["items"] == []


def test_requests_are_listed_newest_first_in_pages(house: Town, client: TestClient) -> None:
    opened(house, client)
    headers = house.member(Role.TRAINER).headers
    for number in range(5):
        house.clock.advance(1)
        ask = {"account": ACCOUNT, "epsilon": 1.0 + number, "reason": "more"}
        client.post(f"{BASE}/requests", json=ask, headers=headers)

    seen, cursor = [], ""
    while cursor is not None:
        page = client.get(f"{BASE}/requests?limit=2{cursor}", headers=headers).json()
        seen += [each["epsilon"] for each in page["items"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert seen == [5.0, 4.0, 3.0, 2.0, 1.0]
    assert client.get(f"{BASE}/requests?cursor=nonsense", headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"epsilon": 0}, "body.epsilon"),
        ({"epsilon": -1.0}, "body.epsilon"),
        ({"epsilon": "8"}, "body.epsilon"),
        ({"epsilon": 1e9}, "body.epsilon"),
        ({"delta": 1.0}, "body.delta"),
        ({"reason": ""}, "body.reason"),
        ({"acount": "x/y"}, "body.acount"),
    ],
)
def test_bad_grants_are_refused_by_path(
    house: Town, client: TestClient, changes: dict[str, Any], path: str
) -> None:
    answer = opened(house, client, **changes)

    assert answer.status_code == 422
    assert path in [fault["path"] for fault in answer.json()["error"]["details"]]
    assert house.accounts() == []


def test_opening_twice_and_raising_what_is_not_there(house: Town, client: TestClient) -> None:
    opened(house, client)

    assert opened(house, client).status_code == 409
    body = {"account": "other/2026", "epsilon": 1.0, "reason": "more"}
    assert client.post(f"{BASE}/grants", json=body, headers=officer(house)).status_code == 404


@pytest.mark.slow
def test_while_the_database_is_gone_nothing_is_lost(tmp_path: Path) -> None:
    """Every desk answers 503 with a hint; afterwards it is as it was. Takes the journal's 10 s."""
    with town_in(tmp_path / "home") as (town, client):
        opened(town, client)
        ask = {"account": ACCOUNT, "epsilon": 1.0, "reason": "before"}
        trainer, privacy = town.member(Role.TRAINER).headers, officer(town)
        admin = town.member(Role.ADMIN).headers
        client.post(f"{BASE}/requests", json=ask, headers=trainer)
        file, away = town.service.home / "journal.db", tmp_path / "away"
        town.service.journal.close()
        town.service.ledger._journal.close()
        away.mkdir()
        for each in town.service.home.glob("journal.db*"):
            each.rename(away / each.name)
        file.mkdir()

        def status(question: tuple[str, str, Any, dict[str, str]]) -> tuple[int, str]:
            method, path, body, headers = question
            answer = client.request(method, f"/api/v1{path}", json=body, headers=headers)
            return answer.status_code, answer.headers.get("Retry-After", "")

        grant = {"account": ACCOUNT, "epsilon": 1.0, "reason": "meanwhile"}
        questions: list[tuple[str, str, Any, dict[str, str]]] = [
            ("GET", "/budgets", None, privacy),
            ("POST", "/budgets/grants", grant, privacy),
            ("POST", "/budgets/requests", ask, trainer),
            ("GET", "/compliance/data-subject-request", None, privacy),
            ("GET", "/security/alerts", None, admin),
            ("GET", "/audit-trail", None, admin),
            ("GET", "/scaling/status", None, admin),
        ]
        with ThreadPoolExecutor(len(questions)) as pool:
            answers = list(pool.map(status, questions))
        assert {code for code, _ in answers} == {503}
        assert all(hint.isdigit() for _, hint in answers)

        file.rmdir()
        for each in away.iterdir():
            each.rename(town.service.home / each.name)
        account = client.get(f"{BASE}/accounts/{ACCOUNT}", headers=trainer).json()
        assert account["epsilon"] == 8.0
        kept = client.get(f"{BASE}/requests", headers=trainer).json()["items"]
        assert [each["reason"] for each in kept] == ["before"]
