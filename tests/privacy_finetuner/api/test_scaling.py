"""Scaling over HTTP: measured or null, within bounds, and only for the operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.privacy_finetuner.api.town import Town, town_in

from privacy_finetuner.operations.scaling import has_gpu
from privacy_runtime.identity import Role

BASE = "/api/v1/scaling"
DOCUMENTED = {
    "auto_scaling_enabled",
    "current_nodes",
    "target_nodes",
    "cpu_utilization",
    "gpu_utilization",
    "cost_per_hour",
    "scaling_events_last_hour",
}
MORE = {
    "direction": "scale_out",
    "node_type": "worker",
    "count": 2,
    "reason": "increased_load",
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Town, TestClient]]:
    with town_in(tmp_path_factory.mktemp("scaling") / "home") as made:
        yield made


@pytest.fixture
def house(running: tuple[Town, TestClient]) -> Town:
    running[0].move_on()
    return running[0]


@pytest.fixture
def client(running: tuple[Town, TestClient]) -> TestClient:
    return running[1]


class Pool:
    """Workers that only count."""

    def __init__(self, size: int) -> None:
        self.size = size

    def resize(self, count: int) -> None:
        self.size = count


@pytest.fixture
def pool(house: Town) -> Iterator[Pool]:
    house.app.state.pool = Pool(3)
    yield house.app.state.pool
    house.app.state.pool = None


def operator(house: Town) -> dict[str, str]:
    """An administrator of the organisation that was made first."""
    first = next(iter(house.tenants), "north-1")
    return house.member(Role.ADMIN, at=first).headers


def test_a_machine_without_workers_says_so(house: Town, client: TestClient) -> None:
    headers = operator(house)
    status = client.get(f"{BASE}/status", headers=headers).json()

    assert set(status) >= DOCUMENTED
    assert status["current_nodes"] == 0
    assert status["target_nodes"] is None
    assert status["cost_per_hour"] is None
    assert status["auto_scaling_enabled"] is False
    answer = client.post(f"{BASE}/manual", json=MORE, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "scaling_refused")


def test_more_workers_once_for_a_key(house: Town, client: TestClient, pool: Pool) -> None:
    headers = operator(house) | {"Idempotency-Key": "scale-number-one"}
    first, again = (client.post(f"{BASE}/manual", json=MORE, headers=headers) for _ in range(2))

    assert first.status_code == 202
    assert first.json() == again.json()
    assert (first.json()["status"], first.json()["estimated_completion"]) == ("initiated", None)
    assert pool.size == 5
    status = client.get(f"{BASE}/status", headers=operator(house)).json()
    assert status["target_nodes"] == 5
    assert status["scaling_events_last_hour"] == 1


def test_the_configured_bounds_hold(house: Town, client: TestClient, pool: Pool) -> None:
    for changes in ({"count": 18}, {"direction": "scale_in", "count": 3}):
        answer = client.post(f"{BASE}/manual", json={**MORE, **changes}, headers=operator(house))
        assert answer.status_code == 409
    assert pool.size == 3


def test_a_machine_without_an_accelerator_has_no_such_workers(
    house: Town, client: TestClient, pool: Pool
) -> None:
    if has_gpu():
        pytest.skip("this machine has an accelerator")
    body = {**MORE, "node_type": "gpu_worker"}
    assert client.post(f"{BASE}/manual", json=body, headers=operator(house)).status_code == 409
    assert pool.size == 3


def test_administrators_of_other_organisations_may_look_and_not_touch(
    house: Town, client: TestClient, pool: Pool
) -> None:
    operator(house)
    guest = house.member(Role.ADMIN, at="south").headers

    assert client.get(f"{BASE}/status", headers=guest).status_code == 200
    assert client.post(f"{BASE}/manual", json=MORE, headers=guest).status_code == 403
    assert pool.size == 3


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ANALYST, Role.TRAINER, Role.PRIVACY_OFFICER])
def test_others_may_not_scale(house: Town, client: TestClient, pool: Pool, role: Role) -> None:
    headers = house.member(role).headers
    assert client.post(f"{BASE}/manual", json=MORE, headers=headers).status_code == 403
    expected = 200 if role is Role.TRAINER else 403
    assert client.get(f"{BASE}/status", headers=headers).status_code == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"direction": "sideways"},
        {"node_type": "mainframe"},
        {"count": 0},
        {"count": 257},
        {"count": 1.5},
        {"reason": ""},
        {"cost": 0},
    ],
)
def test_bad_bodies(house: Town, client: TestClient, pool: Pool, changes: dict[str, Any]) -> None:
    answer = client.post(f"{BASE}/manual", json={**MORE, **changes}, headers=operator(house))
    assert answer.status_code == 422
    assert pool.size == 3
