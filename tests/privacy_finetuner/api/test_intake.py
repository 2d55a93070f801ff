"""Jobs from a message queue, against a real Redis: none lost, none doubled.

Needs `TEST_REDIS_URL`; every test has a stream of its own and removes it.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.privacy_finetuner.api.conftest import POLICY, House

from privacy_finetuner.api import errors
from privacy_finetuner.api.app import create_app
from privacy_finetuner.api.intake import ANSWERS, DEAD, Intake
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.environment.neighbours import Intake as Settings
from privacy_finetuner.jobs import Job, JobStoreUnavailable
from privacy_finetuner.service import Service
from privacy_runtime.identity import Role
from privacy_runtime.secret import Secret
from privacy_runtime.testing import ManualClock

URL = os.environ.get("TEST_REDIS_URL")
pytestmark = pytest.mark.skipif(URL is None, reason="no Redis: set TEST_REDIS_URL")
REQUEST = {
    "model_name": "sample:model",
    "dataset_path": "sample:records",
    "privacy_config": {"epsilon": 8.0, "delta": 1e-5},
    "training_config": {"epochs": 1, "batch_size": 256},
}


@dataclass
class Queue:
    """A stream of the test's own, and a deployment that reads it."""

    house: House
    user: str
    tenant: str
    stream: str
    redis: Any
    readers: list[Intake] = field(default_factory=list)

    def reader(self, **settings: Any) -> Intake:
        settings = {"claim_after_s": 60.0, "user": self.user, **settings}
        made = Intake(
            self.house.service,
            errors.table(),
            Settings(stream=self.stream, **settings),
            Secret(str(URL)),
        )
        self.readers.append(made)
        return made

    def send(self, request: Any = REQUEST, **fields: str) -> bytes:
        text = request if isinstance(request, str) else json.dumps(request)
        return bytes(self.redis.xadd(self.stream, {"request": text, **fields}))

    def of(self, suffix: str) -> list[dict[str, Any]]:
        found = self.redis.xrange(self.stream + suffix)
        return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in found]

    @property
    def waiting(self) -> int:
        return int(self.redis.xlen(self.stream))

    @property
    def jobs(self) -> list[Job]:
        return self.house.service.jobs.find(self.tenant)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    clock = ManualClock()
    with Service.open(
        EnvironmentConfig(environment="testing"),
        home=tmp_path_factory.mktemp("intake") / "home",
        clock=clock,
        identity_policy=POLICY,
    ) as service:
        yield House(service, create_app(service), clock)


@pytest.fixture
def queue(shared: House) -> Iterator[Queue]:
    from redis import Redis

    shared.next_test()
    member = shared.member(Role.TRAINER)
    stream = f"test:intake:{uuid.uuid4().hex}"
    redis = Redis.from_url(str(URL))
    made = Queue(shared, member.id, member.tenant, stream, redis)
    yield made
    for reader in made.readers:
        reader.stop()
    redis.delete(stream, stream + ANSWERS, stream + DEAD)
    redis.close()


def test_a_message_becomes_a_job_and_is_acknowledged(queue: Queue) -> None:
    queue.send(key="order-17")

    assert queue.reader().round() == 1

    (job,) = queue.jobs
    (answer,) = queue.of(ANSWERS)
    assert (answer["status"], answer["key"], answer["job_id"]) == ("accepted", "order-17", job.id)
    assert (job.owner, job.spec.dataset) == (queue.user, "sample:records")
    assert (queue.waiting, queue.of(DEAD)) == (0, [])


def test_a_message_that_is_sent_twice_is_one_job(queue: Queue) -> None:
    for _ in range(3):
        queue.send(key="order-17")
    queue.send()
    queue.send()

    queue.reader().round()

    assert len(queue.jobs) == 3  # one for the key, one for each without
    assert len({answer["job_id"] for answer in queue.of(ANSWERS)}) == 3


def test_another_body_under_the_key_is_set_aside(queue: Queue) -> None:
    queue.send(key="order-17")
    queue.send({**REQUEST, "name": "another"}, key="order-17")

    queue.reader().round()

    (dead,) = queue.of(DEAD)
    assert dead["code"] == "idempotency_conflict"
    assert json.loads(dead["request"])["name"] == "another"
    assert (len(queue.jobs), queue.waiting) == (1, 0)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("no json", "invalid_request"),
        ("", "invalid_request"),
        ("x" * 300_000, "invalid_request"),
        ({**REQUEST, "surprise": 1}, "invalid_request"),
        ({**REQUEST, "dataset_path": "/etc/passwd"}, "unknown_dataset"),
        ({**REQUEST, "privacy_config": {"epsilon": -1}}, "invalid_request"),
    ],
)
def test_what_cannot_be_run_is_set_aside_with_its_reason(
    queue: Queue, request_: Any, code: str
) -> None:
    queue.send(request_)
    queue.send()

    queue.reader().round()

    (dead,) = queue.of(DEAD)
    assert (dead["status"], dead["code"]) == ("refused", code)
    assert len(dead["request"]) <= 256 * 1024
    assert [answer["status"] for answer in queue.of(ANSWERS)] == ["refused", "accepted"]
    assert (len(queue.jobs), queue.waiting) == (1, 0)


def test_rights_are_those_of_now(queue: Queue) -> None:
    queue.send()
    analyst = queue.house.member(Role.ANALYST).id
    queue.reader(user=analyst).round()

    assert queue.of(DEAD)[0]["code"] == "not_allowed"
    assert queue.jobs == []


class Crash(BaseException):
    """The process is gone."""


class Crashing(Intake):
    """Dies once its job is on the disk, before it acknowledges."""

    def _end(self, *_: Any, **__: Any) -> None:
        raise Crash


def crashing(queue: Queue) -> Intake:
    reader = Crashing(
        queue.house.service,
        errors.table(),
        Settings(stream=queue.stream, user=queue.user, claim_after_s=1.0),
        Secret(str(URL)),
    )
    queue.readers.append(reader)
    return reader


def eventually_taken_over(queue: Queue, reader: Intake) -> None:
    for _ in range(100):
        if reader.round(block_ms=50):
            return
    raise AssertionError("nobody took the message over")


def test_a_server_that_dies_before_it_acknowledges_loses_and_doubles_nothing(queue: Queue) -> None:
    queue.send()
    with pytest.raises(Crash):
        crashing(queue).round()
    assert (queue.waiting, queue.of(ANSWERS), len(queue.jobs)) == (1, [], 1)

    eventually_taken_over(queue, queue.reader(claim_after_s=1.0))

    assert (queue.waiting, len(queue.of(ANSWERS)), len(queue.jobs)) == (0, 1, 1)


def test_a_message_that_servers_die_of_is_set_aside(queue: Queue) -> None:
    sent = queue.send()
    with pytest.raises(Crash):
        crashing(queue).round()
    for _ in range(3):  # three more deliveries, to servers that were never heard of again
        queue.redis.xclaim(queue.stream, "privacy-finetuner", "gone", 0, [sent])
    queue.redis.xclaim(queue.stream, "privacy-finetuner", "gone", 0, [sent], idle=10_000)

    assert queue.reader(claim_after_s=1.0, deliveries_most=4).round() == 0

    (dead,) = queue.of(DEAD)
    assert (dead["code"], queue.waiting) == ("undeliverable", 0)


def test_a_database_that_is_away_makes_the_message_wait(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, submit = threading.Event(), queue.house.service.jobs.submit
    away.set()
    asked = threading.Semaphore(0)

    def refusing(*args: Any, **kwargs: Any) -> Job:
        asked.release()
        if away.is_set():
            raise JobStoreUnavailable("jobs", reason="away")
        return submit(*args, **kwargs)

    monkeypatch.setattr(queue.house.service.jobs, "submit", refusing)
    queue.send()
    reader = queue.reader()
    reader.start()
    for _ in range(2):
        assert asked.acquire(timeout=20)
    assert (queue.waiting, queue.of(ANSWERS), queue.of(DEAD)) == (1, [], [])
    (pending,) = queue.redis.xpending_range(
        queue.stream, "privacy-finetuner", min="-", max="+", count=10
    )
    assert pending["times_delivered"] == 1  # trying again here is no delivery

    away.clear()
    assert asked.acquire(timeout=20)
    reader.stop()
    assert (queue.waiting, len(queue.jobs)) == (0, 1)


def test_two_servers_share_the_stream(queue: Queue) -> None:
    for n in range(40):
        queue.send(key=f"order-{n}")
    readers = [queue.reader(), queue.reader()]
    threads = [threading.Thread(target=reader.round) for reader in readers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while readers[0].round():
        pass

    assert (len(queue.jobs), queue.waiting) == (40, 0)
    assert len(queue.of(ANSWERS)) == 40


def test_a_queue_that_is_away_is_an_error_without_its_address(queue: Queue) -> None:
    reader = Intake(
        queue.house.service,
        errors.table(),
        Settings(stream="a", user=queue.user),
        Secret("redis://:a-password@127.0.0.1:1/0"),
    )
    with pytest.raises(ConnectionError) as refused:
        reader.round()
    assert "a-password" not in str(refused.value)
