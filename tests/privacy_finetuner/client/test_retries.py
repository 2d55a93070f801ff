from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from privacy_core.errors import InvalidParameter
from privacy_finetuner.client import (
    AsyncClient,
    AsyncSettings,
    BudgetRefused,
    Client,
    ClientError,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    RetryPolicy,
    ServiceError,
    ServiceFailed,
    Settings,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)
from privacy_finetuner.client.decoding import retry_after_s
from privacy_finetuner.client.retries import pause_s
from privacy_runtime.testing import ManualClock, SeededEntropy

ME = {
    "id": "u_1", "tenant": "o_1", "method": "password", "scopes": [],
    "authenticated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
STARTED = {"job_id": "job_1", "status": "started", "estimated_completion": None}


class Scripted(httpx2.BaseTransport):
    """Answers as it is told, one answer a request; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body, headers = answer
        return httpx2.Response(status, json=body, headers=headers)


def refusal(status: int, code: str, **headers: str) -> tuple[int, Any, dict[str, str]]:
    error = {"code": code, "message": "no", "details": [], "request_id": "req_1"}
    return status, {"error": error}, {name.replace("_", "-"): v for name, v in headers.items()}


def client_of(script: Scripted, slept: list[float], **policy: Any) -> Client:
    settings = Settings(
        transport=script,
        entropy=SeededEntropy(1),
        clock=ManualClock(),
        retries=RetryPolicy(**policy),
        sleep=slept.append,
    )
    return Client("https://a.example", api_key="pf_a_b", settings=settings)


@pytest.mark.parametrize(
    "trouble",
    [refusal(503, "unavailable"), refusal(502, "bad_gateway"), refusal(429, "too_many_requests"),
     httpx2.ConnectError("no"), httpx2.ReadTimeout("no"), httpx2.RemoteProtocolError("no")],
)  # fmt: skip
def test_a_read_is_repeated_until_it_is_answered(trouble: Any) -> None:
    script = Scripted(trouble, trouble, (200, ME, {}))
    slept: list[float] = []

    assert client_of(script, slept).account.me().id == "u_1"
    assert len(script.requests) == 3
    assert len(slept) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500, 501])
def test_what_repeating_does_not_help_is_sent_once(status: int) -> None:
    script = Scripted(refusal(status, "a_code"))
    with pytest.raises(ServiceError) as refused:
        client_of(script, []).account.me()

    assert len(script.requests) == 1
    assert (refused.value.status, refused.value.code) == (status, "a_code")
    assert refused.value.request_id == "req_1"


def test_a_submission_is_repeated_under_the_same_key() -> None:
    script = Scripted(httpx2.ReadError("lost"), refusal(503, "unavailable"), (202, STARTED, {}))
    started = client_of(script, []).jobs.start_training("m", "d")
    keys = {request.headers["idempotency-key"] for request in script.requests}

    assert started.job_id == "job_1"
    assert len(script.requests) == 3
    assert len(keys) == 1


def test_two_submissions_have_two_keys() -> None:
    script = Scripted((202, STARTED, {}))
    client = client_of(script, [])
    client.jobs.start_training("m", "d")
    client.jobs.start_training("m", "d")

    assert len({request.headers["idempotency-key"] for request in script.requests}) == 2


def test_a_submission_that_is_still_under_way_is_waited_for() -> None:
    script = Scripted(refusal(409, "in_progress", Retry_After="1"), (202, STARTED, {}))

    assert client_of(script, []).jobs.start_training("m", "d").job_id == "job_1"


def test_what_makes_a_secret_is_never_sent_twice() -> None:
    script = Scripted(httpx2.ReadError("lost"))
    with pytest.raises(Unreachable):
        client_of(script, []).api_keys.create_api_key("x", ["jobs:read"])

    assert len(script.requests) == 1
    assert "idempotency-key" not in script.requests[0].headers


def test_the_service_is_waited_for_as_long_as_it_asks() -> None:
    script = Scripted(refusal(429, "too_many_requests", Retry_After="7"), (200, ME, {}))
    slept: list[float] = []
    client_of(script, slept, pause_s=0.5).account.me()

    assert 7 <= slept[0] <= 7.5


def test_a_pause_beyond_the_deadline_is_not_begun() -> None:
    script = Scripted(refusal(503, "unavailable", Retry_After="120"))
    slept: list[float] = []
    with pytest.raises(Unavailable) as refused:
        client_of(script, slept, deadline_s=60).account.me()

    assert refused.value.retry_after_s == 120
    assert not slept
    assert "try again in 120 s" in str(refused.value)


def test_the_last_error_is_raised_when_the_tries_are_used_up() -> None:
    script = Scripted(refusal(503, "unavailable"))
    with pytest.raises(Unavailable):
        client_of(script, [], tries=3).account.me()

    assert len(script.requests) == 3


def test_pauses_are_random_and_their_bound_doubles_up_to_a_limit() -> None:
    policy, entropy = RetryPolicy(pause_s=1, pause_max_s=8), SeededEntropy(7)
    found = {
        n: [pause_s(policy, n, None, entropy) for _ in range(200)] for n in (1, 2, 3, 4, 5, 60)
    }

    for n, bound in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (60, 8)):
        assert all(0 <= pause < bound for pause in found[n])
        assert max(found[n]) > bound / 2
        assert min(found[n]) < bound / 4


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("3", 3.0), ("1.5", 1.5), ("-1", None), ("soon", None), ("", None), (None, None),
     ("99999999999999999999", None), ("Thu, 01 Jan 2026 00:00:30 GMT", 30.0),
     ("Wed, 31 Dec 2025 23:00:00 GMT", 0.0), ("Thu, 01 Jan 2026 00:00:30", None)],
)  # fmt: skip
def test_a_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, ManualClock()) == seconds


def test_a_date_of_retry_after_is_measured_by_this_clock() -> None:
    clock = ManualClock()
    date = format_datetime(clock.now() + timedelta(seconds=90), usegmt=True)

    assert retry_after_s(date, clock) == 90


@pytest.mark.parametrize(
    ("status", "code", "family"),
    [(400, "x", InvalidRequest), (401, "token_refused", Unauthenticated),
     (403, "not_allowed", NotAllowed), (404, "not_found", NotFound), (409, "conflict", Conflict),
     (409, "budget_exhausted", BudgetRefused), (413, "body_too_large", TooLarge),
     (415, "unsupported_media_type", InvalidRequest), (422, "invalid_request", InvalidRequest),
     (429, "too_many_requests", TooManyRequests), (500, "internal", ServiceFailed),
     (503, "unavailable", Unavailable), (507, "storage_full", Unavailable),
     (418, "teapot", ServiceError), (302, "http_302", ServiceError)],
)  # fmt: skip
def test_each_family_has_its_class(status: int, code: str, family: type[ServiceError]) -> None:
    with pytest.raises(ServiceError) as refused:
        client_of(Scripted(refusal(status, code)), [], tries=1).account.me()

    assert type(refused.value) is family


@pytest.mark.parametrize(
    "answer",
    [(500, "<html>secret</html>", {}), (500, None, {}), (500, [], {}), (500, {"error": 3}, {}),
     (500, {"error": {"code": 5, "message": {}}}, {"x-request-id": "req_9"})],
)  # fmt: skip
def test_what_is_no_error_of_the_service_is_named_by_its_status(answer: Any) -> None:
    with pytest.raises(ServiceFailed) as refused:
        client_of(Scripted(answer), []).account.me()

    assert refused.value.code == "http_500"
    assert "secret" not in str(refused.value)


def test_problem_details_are_understood_too() -> None:
    problem = {"type": "x", "title": "Not Found", "status": 404, "detail": "gone",
               "code": "not_found", "request_id": "req_5", "details": []}  # fmt: skip
    with pytest.raises(NotFound, match="gone") as refused:
        client_of(Scripted((404, problem, {})), []).account.me()

    assert refused.value.request_id == "req_5"


@pytest.mark.parametrize("body", [{}, [], "x", {**ME, "scopes": 5}, {**ME, "id": None}])
def test_an_answer_of_another_shape_is_refused_without_showing_it(body: Any) -> None:
    with pytest.raises(UnexpectedAnswer) as refused:
        client_of(Scripted((200, body, {})), []).account.me()

    assert "u_1" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_fields_of_a_newer_service_are_left_out() -> None:
    newer = {**ME, "shoe_size": 43}

    assert client_of(Scripted((200, newer, {})), []).account.me().id == "u_1"


def test_a_redirect_is_not_followed_with_credentials() -> None:
    script = Scripted((302, {}, {"location": "https://evil.example/"}))
    with pytest.raises(ServiceError):
        client_of(script, []).account.me()

    assert len(script.requests) == 1


def test_a_list_that_goes_round_in_a_circle_is_left() -> None:
    page = {"items": [], "next_cursor": "again"}
    with pytest.raises(UnexpectedAnswer, match="circle"):
        list(client_of(Scripted((200, page, {})), []).jobs.list_training())


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    class Endless(httpx2.BaseTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, content=(b"x" * (1 << 20) for _ in range(64)))

    settings = Settings(transport=Endless(), retries=RetryPolicy(tries=1))
    with pytest.raises(UnexpectedAnswer, match="larger"):
        Client("https://a.example", api_key="pf_a", settings=settings).account.me()


def test_the_asynchronous_client_repeats_likewise() -> None:
    answers: list[Any] = [refusal(503, "unavailable", Retry_After="2"), (200, ME, {})]
    slept: list[float] = []

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            status, body, headers = answers.pop(0)
            return httpx2.Response(status, json=body, headers=headers)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def run() -> str:
        settings = AsyncSettings(transport=Transport(), sleep=sleep, entropy=SeededEntropy(1))
        async with AsyncClient("https://a.example", api_key="pf_a", settings=settings) as client:
            return (await client.account.me()).id

    assert asyncio.run(run()) == "u_1"
    assert len(slept) == 1
    assert slept[0] >= 2


def events(*bodies: dict[str, Any], start: int = 1) -> str:
    return "".join(
        f"id: {n}\nevent: step\ndata: "
        + json.dumps({"job": "job_1", "seq": n, "at": "2026-01-01T00:00:00Z", **body})
        + "\n\n"
        for n, body in enumerate(bodies, start)
    )


class Streams(httpx2.BaseTransport):
    """Answers with streams of events, one a connection."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[str]()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.headers.get("last-event-id", ""))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return httpx2.Response(200, headers=_EVENTS, content=answer())
        if isinstance(answer, tuple):
            return httpx2.Response(answer[0], json=answer[1], headers=answer[2])
        return httpx2.Response(200, headers=_EVENTS, text=answer)


_EVENTS = {"content-type": "text/event-stream; charset=utf-8"}
STEP: dict[str, Any] = {"kind": "step", "body": {"step": 1}}
END: dict[str, Any] = {"kind": "state", "body": {"state": "succeeded"}}


def watched(script: Streams, slept: list[float], sleep: Callable[[float], None] | None = None,
            clock: Any = None, **keywords: Any) -> list[int]:  # fmt: skip
    settings = Settings(
        transport=script, sleep=sleep or slept.append, entropy=SeededEntropy(1),
        clock=clock or ManualClock(),
    )  # fmt: skip
    client = Client("https://a.example", api_key="pf_a", settings=settings)
    return [event.seq for event in client.jobs.watch("job_1", **keywords)]


def test_a_broken_stream_is_taken_up_after_the_last_event() -> None:
    def breaks() -> Any:
        yield events(STEP, STEP).encode()
        raise httpx2.ReadError("lost")

    script = Streams(breaks, httpx2.ConnectError("no"), events(STEP, END, start=3))

    assert watched(script, []) == [1, 2, 3, 4]
    assert script.asked == ["0", "2", "2"]


def test_half_an_event_does_not_count() -> None:
    half = events(STEP, STEP)[:-30]

    assert watched(Streams(half, events(STEP, END, start=2)), []) == [1, 2, 3]


def test_what_came_already_is_not_told_again() -> None:
    assert watched(Streams(events(STEP), events(STEP, STEP, END)), []) == [1, 2, 3]


def test_comments_and_empty_events_are_passed_over() -> None:
    text = ": ping\n\nretry: 100\n\nid: 1\n\n" + events(STEP, END)

    assert watched(Streams(text), []) == [1, 2]


@pytest.mark.parametrize("text", ["data: {\n\n", "data: []\n\n", 'data: {"seq": "x"}\n\n'])
def test_a_damaged_event_ends_the_watch(text: str) -> None:
    with pytest.raises(UnexpectedAnswer):
        watched(Streams(text), [])


def test_a_page_instead_of_events_ends_the_watch() -> None:
    with pytest.raises(UnexpectedAnswer, match="text/event-stream"):
        watched(Streams((200, {}, {})), [])


def test_a_job_that_is_not_there_ends_the_watch() -> None:
    with pytest.raises(NotFound):
        watched(Streams(refusal(404, "not_found")), [])


def test_a_service_that_stays_away_is_given_up_with_the_last_event() -> None:
    clock = ManualClock()
    script = Streams(events(STEP), httpx2.ConnectError("no"))

    with pytest.raises(ClientError, match="after=1") as given_up:
        watched(script, [], sleep=lambda _: clock.advance(30), clock=clock, patience_s=100)

    assert given_up.value.code == "stream_silent"
    assert 4 <= len(script.asked) <= 6


def test_a_service_that_ends_streams_at_once_is_not_hammered() -> None:
    slept: list[float] = []
    quiet = [": nothing new\n\n"] * 8
    watched(Streams(*quiet, events(END)), slept)

    assert len(slept) == 8
    assert sum(slept[4:]) > sum(slept[:4])


def test_a_service_that_asks_for_a_century_is_not_waited_for_that_long() -> None:
    slept: list[float] = []
    script = Streams(refusal(503, "unavailable", Retry_After="999999999"), events(END))
    watched(script, slept, patience_s=60)

    assert slept == [60]


@pytest.mark.parametrize("key", ["short", "with space", "line\nbreak", "ümlaut-key", "x" * 129])
def test_a_key_that_the_service_would_not_take_is_refused_here(key: str) -> None:
    script = Scripted((202, STARTED, {}))
    with pytest.raises(InvalidParameter, match="idempotency_key"):
        client_of(script, []).jobs.start_training("m", "d", idempotency_key=key)

    assert not script.requests
