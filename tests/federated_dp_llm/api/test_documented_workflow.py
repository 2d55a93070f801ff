"""The documents' end-to-end test, as it can be true: with nodes that answer, and a real price.

The documents register a node at an address where nobody is, ask with a budget of 0.1, and expect
text for exactly 0.1. Here the nodes are there (in this process), a label is asked for where 0.1
would buy no text, and `privacy_cost` is the price of what was done: at most the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.federated_dp_llm.node.toy import ToyModel
from tests.federated_dp_llm.routing.world import Words

from federated_dp_llm import FederatedRouter, HospitalNode
from federated_dp_llm.node.agent import NodeAgent, Parts
from federated_dp_llm.node.audit import Audit
from federated_dp_llm.node.ledger import PatientLedger
from federated_dp_llm.node.policy import NodePolicy
from federated_dp_llm.node.records import Record, Records
from federated_dp_llm.node.retrieval import Retrieval
from privacy_runtime.allowances import MemoryHome, MemoryRows, Store
from privacy_runtime.signing import SigningKey, TrustedKeys
from privacy_runtime.testing import MemoryJournal, SeededEntropy
from privacy_runtime.world import SystemClock

SLOTS = 128


def hospital(router: FederatedRouter, name: str) -> NodeAgent:
    """A real node with records of its own, over a model of hashes."""
    clock = SystemClock()
    key = SigningKey.load(Path(router.service.home) / "router-key.pem")
    records = [
        Record(patient=f"{name}-{k}", text=f"{name} patient {k} with cough was given amber")
        for k in range(8)
    ]
    ledger = PatientLedger(Store(MemoryHome(MemoryRows()), clock=clock), promise=100 * 10**9)
    parts = Parts(
        policy=NodePolicy(node_id=name, slots=SLOTS, rho_max=1000.0),
        backend=ToyModel(),
        ledger=ledger,
        audit=Audit(MemoryJournal(clock), node_id=name),
        trusted=TrustedKeys([key.public]),
        clock=clock,
        entropy=SeededEntropy(2),
        masks=None,
    )
    return NodeAgent(parts, Retrieval(Records.of(records)))


@pytest.fixture
def router() -> Iterator[FederatedRouter]:
    router = FederatedRouter(vocabulary=Words())
    yield router
    router.close()


@pytest.fixture
def client(router: FederatedRouter) -> Iterator[TestClient]:
    for name in ("test_hospital", "other_hospital"):
        port = hospital(router, name)
        router.register_node(HospitalNode(name, "http://test:8080", port=port))
    with TestClient(router.app) as client:
        yield client


REQUEST: dict[str, Any] = {
    "user_id": "test_doctor",
    "prompt": "which drug helps cough",
    "privacy_budget": 0.1,
    "department": "test",
}


def test_complete_inference_workflow(client: TestClient) -> None:
    response = client.post("/inference", json={**REQUEST, "labels": ["amber", "birch"]})

    assert response.status_code == 200, response.text
    data = response.json()
    assert data["success"]
    assert "response" in data
    assert 0 < data["privacy_cost"] <= 0.1
    assert data["node_id"] == "other_hospital+test_hospital"
    assert data["slots"] == 2 * SLOTS


def test_what_a_budget_does_not_buy_is_refused_with_what_would(client: TestClient) -> None:
    response = client.post("/inference", json={**REQUEST, "privacy_budget": 0.01})

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "budget_too_small")
    least = error["details"][0]["least"]
    assert least > 0.01
    answered = client.post(
        "/inference", json={**REQUEST, "privacy_budget": least * 1.001, "temperature": 0.7}
    )
    assert answered.status_code == 200, answered.text
    assert answered.json()["mechanism"] == "private_decoding"
    assert answered.json()["privacy_cost"] <= least * 1.001


def test_the_budget_route_shows_what_the_answer_cost(client: TestClient) -> None:
    client.post("/inference", json={**REQUEST, "labels": ["amber", "birch"]})

    for _ in range(500):  # the answer is settled beside its reply: until then its price is held
        shown = client.get("/v1/privacy/budget/test_doctor").json()
        if shown["consumed"] > 0:
            break
    status = client.get("/privacy/budget/status").json()
    history = client.get("/privacy/budget/history/test_doctor").json()

    assert shown["consumed"] > 0
    assert shown["total_budget"] == pytest.approx(10.0)
    assert 0 < status["users"]["test_doctor"]["percentage_used"] < 80
    assert len(history["answers"]) == 1


def test_a_router_without_nodes_says_so_and_spends_nothing(router: FederatedRouter) -> None:
    with TestClient(router.app) as client:
        response = client.post("/inference", json=REQUEST)
        shown = client.get("/v1/privacy/budget/test_doctor").json()

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert shown["consumed"] == 0


def test_the_cache_is_tuned_as_documented(router: FederatedRouter, client: TestClient) -> None:
    for _ in range(2):
        client.post("/inference", json={**REQUEST, "labels": ["amber", "birch"]})

    statistics = router.get_cache_statistics()

    assert statistics["hit_rate"] == 0.5
    assert {"current_size", "temporal_locality", "frequency_locality"} <= set(statistics)
    router.cache.resize(20_000)


def test_a_router_for_trying_out_leaves_nothing_behind() -> None:
    router = FederatedRouter(vocabulary=Words())
    home = router.service.home
    assert home.is_dir()

    router.close()

    assert not home.exists()
