"""Training jobs from a message queue: a Redis stream, read by all servers in one group.

An entry has the fields `request` (the JSON body of `POST /api/v1/training/start`), `key` (whatever
is sent twice under it is one job; without one the entry's own id counts) and, if the sender wants
one trace, `traceparent`. Jobs are started in the name of one configured user, with that user's
present rights: who may write into the stream is settled by Redis.

What becomes of an entry of `STREAM`:

=========================  =====================================================================
the job                    then, in one transaction of Redis
=========================  =====================================================================
is on the disk             an answer in `STREAM:answers`; the entry is acknowledged and removed
cannot be run as asked     as before, and the entry goes to `STREAM:dead` with the refusal
cannot be taken now        nothing: it is tried again, here or on another server, in its turn
=========================  =====================================================================

So an entry is acknowledged only after its job is durable: at least once, and with the key exactly
one job. A server that dies leaves its entries; others take them over (`intake.claim_after_s`). An
entry that was delivered too often without an end, because servers die of it, goes to `STREAM:dead`
as `undeliverable`. Answers and dead entries are kept up to `KEPT` each.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from privacy_core.errors import InvalidParameter
from privacy_finetuner.api.shapes.training_request import TrainingRequest
from privacy_finetuner.api.submissions import Submissions
from privacy_finetuner.environment.neighbours import Intake as Settings
from privacy_finetuner.service import Service
from privacy_runtime import logs, tracing
from privacy_runtime.http import ErrorTable, InvalidRequest
from privacy_runtime.http.envelope import Problem
from privacy_runtime.http.faults import faults_of
from privacy_runtime.http.refusals import Fault
from privacy_runtime.identity import ROLE_SCOPES, NotAllowed, Role, Scope
from privacy_runtime.identity.user_rows import is_open, select_user
from privacy_runtime.metrics import table
from privacy_runtime.secret import Secret

ANSWERS: Final = ":answers"
DEAD: Final = ":dead"
KEPT: Final = 10_000
REQUEST_MOST: Final = 256 * 1024
KEY_MOST: Final = 128
UNDELIVERABLE: Final = "undeliverable"
_TIMEOUT_S: Final = 5.0
_BLOCK_MS: Final = 1000
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_MOST_S: Final = 30.0
_BATCH: Final = 16
_log = logs.logger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One delivery."""

    id: bytes
    fields: Mapping[bytes, bytes]

    def text(self, name: str) -> str:
        """A field, as far as it is text."""
        return self.fields.get(name.encode(), b"").decode("utf-8", "replace")


class Intake:
    """Reads the stream of one deployment, in a thread of its own.

    Args:
        service: takes the jobs.
        errors: what may be said of a refusal; the application's own table.
        settings: the section `intake`, with a stream and a user.
        redis_url: where the stream is.

    Raises:
        InvalidParameter: the client library of Redis is not installed.
    """

    def __init__(
        self, service: Service, errors: ErrorTable, settings: Settings, redis_url: Secret
    ) -> None:
        self._service, self._errors, self._settings = service, errors, settings
        self._submissions = Submissions(service)
        self._stream = str(settings.stream)
        self._group = settings.group
        self._consumer = f"{socket.gethostname()}-{os.getpid()}"
        self._redis = _client(redis_url)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read; returns at once, whether Redis is there or not."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the entry at hand; what was delivered and not ended is taken over by others."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._redis.close()

    def round(self, *, block_ms: int = 1) -> int:
        """Take over what others left, then read what is new; returns how many entries ended.

        Raises:
            OSError: Redis is away; what was delivered is delivered again.
        """
        with _reached():
            self._make_group()
            found = [*self._left_by_others(), *self._new(block_ms)]
        ended = 0
        for entry in found:
            if not self._finished(entry):
                break  # the service stops; the rest is delivered again
            ended += 1
        return ended

    def _run(self) -> None:
        pause_s = _PAUSE_FIRST_S
        while not self._stop.is_set():
            try:
                self.round(block_ms=_BLOCK_MS)
                pause_s = _PAUSE_FIRST_S
            except Exception:  # noqa: BLE001  whatever it is, the intake goes on
                _log.exception("the intake cannot read its stream", action="intake")
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MOST_S)

    def _make_group(self) -> None:
        from redis.exceptions import ResponseError  # noqa: PLC0415 -- the extra `redis`

        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _left_by_others(self) -> list[_Entry]:
        """Entries that their reader has not ended for too long, ours now."""
        answer = self._redis.xautoclaim(
            self._stream,
            self._group,
            self._consumer,
            min_idle_time=int(self._settings.claim_after_s * 1000),
            count=_BATCH,
        )
        found = [_Entry(id_, fields) for id_, fields in answer[1] if fields]
        return [entry for entry in found if not self._given_up(entry)]

    def _given_up(self, entry: _Entry) -> bool:
        """Whether an entry was delivered too often; it is set aside then."""
        pending = self._redis.xpending_range(
            self._stream, self._group, min=entry.id, max=entry.id, count=1
        )
        if not pending or pending[0]["times_delivered"] <= self._settings.deliveries_most:
            return False
        self._end(
            entry,
            Problem(
                status=500,
                code=UNDELIVERABLE,
                message=f"it was delivered {pending[0]['times_delivered']} times and never ended",
            ),
        )
        return True

    def _new(self, block_ms: int) -> list[_Entry]:
        read = self._redis.xreadgroup(
            self._group, self._consumer, {self._stream: ">"}, count=_BATCH, block=block_ms
        )
        return [_Entry(id_, fields) for _, entries in read or () for id_, fields in entries]

    def _finished(self, entry: _Entry) -> bool:
        """Bring an entry to its end, however long it takes; False if the service stops first."""
        pause_s = _PAUSE_FIRST_S
        while True:
            problem, job = self._taken(entry)
            if problem is None or not _passes(problem):
                with _reached():
                    self._end(entry, problem, job)
                return True
            _log.warning("a job of the queue cannot be taken now", code=problem.code)
            if self._stop.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, _PAUSE_MOST_S)
            with _reached():  # it is still ours, and this was no delivery
                self._redis.xclaim(
                    self._stream, self._group, self._consumer, 0, [entry.id], justid=True
                )

    def _taken(self, entry: _Entry) -> tuple[Problem | None, str]:
        """Submit an entry's job: its id, or what is wrong."""
        with tracing.incoming("intake.message", {"traceparent": entry.text("traceparent")}):
            try:
                return None, self._submitted(entry)
            except Exception as error:  # noqa: BLE001  the table decides what may be said; it logs
                return self._errors.answer(error), ""

    def _submitted(self, entry: _Entry) -> str:
        key = entry.text("key") or entry.id.decode("ascii", "replace")
        if not key.isascii() or not key.isprintable() or len(key) > KEY_MOST:
            fault = Fault("key", f"should be 1 to {KEY_MOST} printable ASCII characters", "key")
            raise InvalidRequest([fault])
        tenant, owner = self._whose()
        job = self._submissions.submit(
            _request_of(entry), tenant=tenant, owner=owner, key=f"queue:{self._stream}:{key}"
        )
        return job.id

    def _whose(self) -> tuple[str, str]:
        """The organisation and the user in whose name jobs are started, with their present rights.

        Raises:
            NotAllowed: there is no such user, or they may not start jobs any more.
        """
        user = str(self._settings.user)
        query = select_user(user=user)
        store = self._service.identity.store
        row = store.read(lambda connection: connection.execute(query).one_or_none())
        if row is None or not is_open(row) or Scope.JOBS_WRITE not in ROLE_SCOPES[Role(row.role)]:
            raise NotAllowed(user, scope=Scope.JOBS_WRITE)
        return str(row.tenant), str(row.id)

    def _end(self, entry: _Entry, problem: Problem | None, job: str = "") -> None:
        """Answer, set aside what was refused, and acknowledge: all of it or nothing."""
        refusal = {} if problem is None else _said(problem)
        status = "accepted" if problem is None else "refused"
        answer = {"id": entry.id, "key": entry.text("key")[:KEY_MOST], "status": status, **refusal}
        if job:
            answer["job_id"] = job
        pipe = self._redis.pipeline(transaction=True)
        pipe.xadd(self._stream + ANSWERS, answer, maxlen=KEPT, approximate=True)
        if problem is not None:
            request = entry.fields.get(b"request", b"")[:REQUEST_MOST]
            dead = {**answer, "request": request}
            pipe.xadd(self._stream + DEAD, dead, maxlen=KEPT, approximate=True)
        pipe.xack(self._stream, self._group, entry.id)
        pipe.xdel(self._stream, entry.id)
        pipe.execute()
        self._service.metrics.add(table.INTAKE, outcome=status)
        if problem is not None:
            _log.warning("a message of the queue was set aside", code=problem.code)


@contextmanager
def _reached() -> Iterator[None]:
    """Make an error of the client library an `OSError`, which says only that Redis is away."""
    from redis.exceptions import RedisError  # noqa: PLC0415 -- the extra `redis`

    try:
        yield
    except RedisError as error:
        raise ConnectionError(f"the message queue: {type(error).__name__}") from None


def _client(url: Secret) -> Any:
    try:
        from redis import Redis  # noqa: PLC0415 -- the extra `redis`
    except ImportError:
        raise InvalidParameter(
            "intake.stream", found="no client of Redis", expected="privacy-finetuner[redis]"
        ) from None
    timeout_s = _TIMEOUT_S + _BLOCK_MS / 1000
    return Redis.from_url(url.reveal(), socket_timeout=timeout_s, socket_connect_timeout=_TIMEOUT_S)


def _request_of(entry: _Entry) -> TrainingRequest:
    raw = entry.fields.get(b"request", b"")
    if not 0 < len(raw) <= REQUEST_MOST:
        expected = f"should have 1 to {REQUEST_MOST} bytes of JSON"
        raise InvalidRequest([Fault("request", expected, "request")])
    try:
        return TrainingRequest.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidRequest(faults_of(error.errors())) from None


def _passes(problem: Problem) -> bool:
    """Whether a refusal is about now and not about the request: try again later."""
    return problem.retry_after_s is not None


def _said(problem: Problem) -> dict[str, str]:
    details = [
        {"path": each.path, "message": each.message} if isinstance(each, Fault) else dict(each)
        for each in problem.details
    ]
    return {
        "code": problem.code,
        "message": problem.message,
        "details": json.dumps(details, sort_keys=True, default=str),
    }
