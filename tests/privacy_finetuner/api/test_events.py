"""A job's story as it happens, over server-sent events and a WebSocket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from tests.privacy_finetuner.api.conftest import House

from privacy_finetuner.api.shapes.bodies import rfc3339
from privacy_finetuner.jobs import EventKind
from privacy_runtime.identity import Role


def ended_job(house: House, client: TestClient) -> str:
    """A job with a whole story: queued, a step, an exact figure, cancelled."""
    job_id, trainer = house.job(), house.member(Role.TRAINER)
    lines = [(EventKind.STEP, {"step": 1, "epsilon": 0.5}), (EventKind.EXACT, {"loss": 0.123456})]
    house.service.jobs.store.change(
        lambda work: work.tell(
            job_id,
            work.update(job_id, lines=len(lines)),
            [(kind, body, work.now_us) for kind, body in lines],
        )
    )
    client.post(f"/api/v1/training/{job_id}/cancel", headers=trainer.headers)
    return job_id


def streamed(client: TestClient, job_id: str, headers: dict[str, str], query: str = "") -> Any:
    """The events of a stream that ends, as (id, name, data)."""
    with client.stream("GET", f"/api/v1/training/{job_id}/events{query}", headers=headers) as sent:
        assert sent.headers["content-type"].startswith("text/event-stream")
        text = "".join(sent.iter_text())
    found = []
    for block in text.split("\n\n"):
        said = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in said:
            found.append((said["id"], said["event"], json.loads(said["data"])))
    return found


def to_the_end(socket: Any) -> tuple[str, int]:
    """What a socket says until it closes, and the code it closes with."""
    said = []
    while True:
        try:
            said.append(str(socket.receive_json()))
        except WebSocketDisconnect as end:
            return "".join(said), int(end.code)


def test_a_stream_tells_the_story_and_ends_with_the_job(house: House, client: TestClient) -> None:
    viewer, job_id = house.member(Role.VIEWER), ended_job(house, client)

    story = streamed(client, job_id, viewer.headers)

    assert [(number, kind) for number, kind, _ in story] == [
        ("1", "state"), ("2", "step"), ("4", "state"),
    ]  # fmt: skip
    assert story[1][2] == {
        "job": job_id,
        "seq": 2,
        "at": rfc3339(house.clock.now()),
        "kind": "step",
        "body": {"step": 1, "epsilon": 0.5},
    }


def test_a_reader_that_comes_back_goes_on_where_it_was(house: House, client: TestClient) -> None:
    viewer, job_id = house.member(Role.VIEWER), ended_job(house, client)

    by_header = streamed(client, job_id, {**viewer.headers, "Last-Event-ID": "2"})
    by_query = streamed(client, job_id, viewer.headers, "?after=2")

    assert [number for number, _, _ in by_header] == ["4"]
    assert by_query == by_header


def test_exact_figures_are_in_the_stream_of_the_officer_who_asks(
    house: House, client: TestClient
) -> None:
    officer, job_id = house.member(Role.PRIVACY_OFFICER), ended_job(house, client)

    plain = streamed(client, job_id, officer.headers)
    exact = streamed(client, job_id, officer.headers, "?include=outside_guarantee")

    assert "exact" not in [kind for _, kind, _ in plain]
    assert "exact" in [kind for _, kind, _ in exact]


def test_a_stream_of_a_job_that_is_not_there_is_refused_before_it_begins(
    house: House, client: TestClient
) -> None:
    viewer = house.member(Role.VIEWER)
    foreign = house.job(at="south")

    statuses = {
        client.get(f"/api/v1/training/{job_id}/events", headers=viewer.headers).status_code
        for job_id in ("job_none", foreign)
    }

    assert statuses == {404}


def test_a_socket_tells_the_same_story(house: House, client: TestClient) -> None:
    viewer, job_id = house.member(Role.VIEWER), ended_job(house, client)

    with client.websocket_connect(f"/ws/v1/jobs/{job_id}", headers=viewer.headers) as socket:
        said = [socket.receive_json() for _ in range(3)]
        with pytest.raises(WebSocketDisconnect) as end:
            socket.receive_json()

    assert [event["seq"] for event in said] == [1, 2, 4]
    assert end.value.code == 1000


@pytest.mark.parametrize(
    ("job", "query", "code"),
    [("foreign", "", 4404), ("own", "?include=outside_guarantee", 4403)],
)
def test_a_socket_closes_on_what_its_reader_may_not_see(
    house: House, client: TestClient, job: str, query: str, code: int
) -> None:
    viewer = house.member(Role.VIEWER)
    job_id = house.job(at="south" if job == "foreign" else "north")

    address = f"/ws/v1/jobs/{job_id}{query}"
    with client.websocket_connect(address, headers=viewer.headers) as socket:
        said, ended_with = to_the_end(socket)

    assert ended_with == code
    assert "seq" not in said


def test_a_socket_of_nobody_is_not_served(house: House, client: TestClient) -> None:
    job_id = house.job()

    with client.websocket_connect(f"/ws/v1/jobs/{job_id}") as socket:
        socket.send_json({"type": "auth", "token": "none"})
        said, ended_with = to_the_end(socket)

    assert ended_with == 4401
    assert "seq" not in said


def test_a_socket_with_a_token_in_its_address_is_refused(house: House, client: TestClient) -> None:
    """Addresses end up in logs. The refusal comes before the handshake is accepted."""
    viewer, address = house.member(Role.VIEWER), f"/ws/v1/jobs/{house.job()}"

    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"{address}?token={viewer.token}"),
    ):
        pass


def test_history_is_read_in_pieces(house: House, client: TestClient) -> None:
    viewer, job_id = house.member(Role.VIEWER), ended_job(house, client)
    path = f"/api/v1/training/{job_id}/history"

    first = client.get(path, params={"limit": 2}, headers=viewer.headers).json()
    rest = client.get(path, params={"after": first[-1]["seq"]}, headers=viewer.headers).json()

    assert [event["seq"] for event in first + rest] == [1, 2, 4]
