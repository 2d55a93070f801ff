"""What may not be asked, and what is gone: each is refused, and nothing is released.

Budgets that are zero, negative or too large, a megabyte and other wrong values are in
`test_inference`; nodes that break the protocol in `routing/test_answering` and `test_drafting`;
forged, replayed and stale sessions in `node/test_agent`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.api.conftest import House, Member, config_in, house_in

from federated_dp_llm.config import Department
from privacy_runtime.allowances import AllowancesUnavailable
from privacy_runtime.identity import Role


def test_an_unknown_node_is_404(house: House, client: TestClient) -> None:
    headers = house.member(Role.ADMIN).headers

    assert client.delete("/v1/admin/nodes/nobody", headers=headers).status_code in (404, 409)


def test_an_unknown_user_has_no_budget_that_anybody_may_see(
    house: House, client: TestClient, doctor: Member
) -> None:
    of_nobody = client.get("/v1/privacy/budget/nobody", headers=doctor.headers)
    of_somebody = client.get(
        f"/v1/privacy/budget/{house.member(Role.ANALYST).name}", headers=doctor.headers
    )

    assert of_nobody.status_code == of_somebody.status_code == 403
    assert of_nobody.json()["error"]["code"] == of_somebody.json()["error"]["code"]


def test_a_department_that_is_not_configured_is_refused_by_its_path(tmp_path: Path) -> None:
    config = replace(config_in(tmp_path / "home"), departments={"emergency": Department()})
    house = house_in(tmp_path / "home", config=config)
    who = house.member(Role.ANALYST)
    with TestClient(house.app) as client:
        body = {"prompt": "the dose", "privacy_budget": 0.5}
        answer = client.post(
            "/v1/inference", json={**body, "department": "surgery"}, headers=who.headers
        )
        fine = client.post("/v1/inference", json=body, headers=who.headers)
    house.service.close()

    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "body.department"
    assert fine.status_code == 200


@pytest.mark.parametrize("name", ["allowances.db", "journal.db"])
def test_a_database_that_is_gone_releases_nothing(tmp_path: Path, name: str) -> None:
    """Accounts: nothing is asked. The audit trail: the answer is paid, and withheld."""
    house = house_in(tmp_path / "home")
    who = house.member(Role.ANALYST)
    with TestClient(house.app, raise_server_exceptions=False) as client:
        body = {"prompt": "the dose", "privacy_budget": 0.5}
        assert client.post("/v1/inference", json=body, headers=who.headers).status_code == 200
        for file in (tmp_path / "home").glob(f"{name}*"):
            file.unlink()
        answer = client.post("/v1/inference", json=body, headers=who.headers)
        streamed = client.post("/v1/inference", json={**body, "stream": True}, headers=who.headers)
    house.service.close()

    assert answer.status_code == 503
    assert "echo" not in answer.text
    assert answer.json()["error"]["code"].endswith("unavailable")
    assert '"success":true' not in streamed.text.replace(" ", "")
    assert "event: answer" not in streamed.text


def test_accounts_that_do_not_answer_are_503_with_when_to_come_back(
    house: House, client: TestClient, doctor: Member
) -> None:
    house.answers.failures = {"away": AllowancesUnavailable("accounts", reason="away")}
    content = json.dumps({"prompt": "a question, fail:away"})
    headers = {**doctor.headers, "content-type": "application/json"}

    answer = client.post("/v1/inference", content=content, headers=headers)

    house.answers.failures = {}
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
