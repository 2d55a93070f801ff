"""Asking what stands beside the service how it is, over its own HTTP API, with a key of its own.

Nothing of a neighbour is imported: it runs elsewhere, or is not installed. Its answers are taken
for what a stranger says: bounded in size and time, read field by field, and never an error here.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NoReturn, Protocol, TypeAlias, TypeVar

import httpx2

from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock

AGAIN_S: Final = 5.0
ANSWER_MOST: Final = 4 * 1024 * 1024
UNREACHABLE: Final = "unreachable"
REFUSED: Final = "refused"
UNEXPECTED: Final = "unexpected"
_KEPT_S: Final = 30.0
_WORD_MOST: Final = 64
_AWAY: Final = (httpx2.HTTPError, httpx2.InvalidURL, OSError)
"""What asking raises where nobody is reached; a timeout is an OSError."""
_UNREADABLE: Final = (
    KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""What reading an answer of another form raises."""
_View = TypeVar("_View")
Read: TypeAlias = Callable[[Mapping[str, Any], str], _View]
"""Makes a view of the answers, by the names of their questions, and of the first fault or ""."""


class Place(Protocol):
    """Where a neighbour is, as its section of the configuration says."""

    @property
    def url(self) -> Secret | None:
        """Of its API."""

    @property
    def key(self) -> Secret | None:
        """What it lets in."""

    @property
    def authority(self) -> str | None:
        """The certificate authority of its TLS; `None`: the system's."""

    @property
    def limit_s(self) -> float:
        """For one question, from the connection to the last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a neighbour is asked.

    Attributes:
        name: of the answer.
        path: of its API.
        answers: the statuses that carry one.
        faults: what other statuses mean; 401 and 403 are `refused`, the rest `unexpected`.
    """

    name: str
    path: str
    answers: tuple[int, ...] = (200,)
    faults: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known(Generic[_View]):
    view: _View
    at_s: float


class _Fault(Exception):
    """A question was not answered; its text is the reason."""


class Neighbour(Generic[_View]):
    """One neighbour, as it said it is. For any number of threads; one of them asks at a time.

    Guarantee: the questions are asked together, and at most every five seconds; an answer is over
    within the place's limit, but for a resolver that does not answer; no redirect is followed and
    no proxy of the environment used, so that the key goes to the configured address alone.

    ==============================  ================
    a neighbour that                has the fault
    ==============================  ================
    does not answer, or not in time `unreachable`
    does not take the key           `refused`
    says what no reader knows       `unexpected`
    ==============================  ================

    Args:
        place: where it is.
        clock: tells when to ask again.
        questions: what it is asked.
        read: makes the view; what it raises over another form of answer is `unexpected`.
    """

    def __init__(
        self, place: Place, clock: Clock, *, questions: Sequence[Question], read: Read[_View]
    ) -> None:
        self._place, self._clock = place, clock
        self._questions, self._read = questions, read
        self._lock = threading.Lock()
        self._known: _Known[_View] | None = None

    def view(self) -> _View:
        """How it stands, as it was up to five seconds ago; up to thirty, while it is being asked.

        Raises nothing.
        """
        known = self._known
        if known is None or self._age_s(known) >= _KEPT_S:
            with self._lock:
                return self._renewed()
        if self._age_s(known) < AGAIN_S or not self._lock.acquire(blocking=False):
            return known.view
        try:
            return self._renewed()
        finally:
            self._lock.release()

    def _renewed(self) -> _View:
        known = self._known
        if known is None or self._age_s(known) >= AGAIN_S:
            known = self._known = _Known(self._asked(), self._clock.monotonic_s())
        return known.view

    def _age_s(self, known: _Known[_View]) -> float:
        return self._clock.monotonic_s() - known.at_s

    def _asked(self) -> _View:
        try:
            trust = ssl.create_default_context(cafile=self._place.authority)
            answers = asyncio.run(self._answers(trust))
        except _AWAY:  # the authority's file is none, or the address
            return self._read({}, UNREACHABLE)
        found = {name: answer for name, answer in answers.items() if not isinstance(answer, _Fault)}
        faults = [str(answer) for answer in answers.values() if isinstance(answer, _Fault)]
        try:
            return self._read(found, faults[0] if faults else "")
        except _UNREADABLE:
            return self._read({}, UNEXPECTED)

    async def _answers(self, trust: ssl.SSLContext) -> dict[str, Any]:
        """By question, its answer or the fault."""
        url = "" if self._place.url is None else self._place.url.reveal().rstrip("/")
        key = "" if self._place.key is None else self._place.key.reveal()
        async with httpx2.AsyncClient(
            base_url=url,
            timeout=self._place.limit_s,
            verify=trust,
            trust_env=False,
            follow_redirects=False,
            headers=[
                (b"Authorization", f"Bearer {key}".encode()),
                (b"Accept", b"application/json"),
                (b"Accept-Encoding", b"identity"),  # a limit on bytes is one on what they unfold to
            ],
        ) as client:
            asked = (_answer(client, each, self._place.limit_s) for each in self._questions)
            answers = await asyncio.gather(*asked)
        return {each.name: answer for each, answer in zip(self._questions, answers, strict=True)}


async def _answer(client: httpx2.AsyncClient, question: Question, limit_s: float) -> Any:
    """What was answered, or the fault."""
    try:
        async with asyncio.timeout(limit_s):
            return _document(await _content(client, question))
    except _Fault as fault:
        return fault
    except _AWAY:
        return _Fault(UNREACHABLE)


async def _content(client: httpx2.AsyncClient, question: Question) -> bytes:
    async with client.stream("GET", question.path) as response:
        status = response.status_code
        if status in (401, 403):
            raise _Fault(REFUSED)
        if status not in question.answers:
            raise _Fault(question.faults.get(status, UNEXPECTED))
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _Fault(UNEXPECTED)
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > ANSWER_MOST:
                raise _Fault(UNEXPECTED)
    return bytes(content)


def _document(content: bytes) -> Any:
    try:
        return json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _Fault(UNEXPECTED) from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def figure(value: object) -> float:
    """A number of an answer.

    Raises:
        ValueError: it is none, or not finite.
        OverflowError: it is larger than any float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def words(value: object, most: int = _WORD_MOST) -> str:
    """A text of an answer, of so many characters at most; what no page can hold is a `?`."""
    return str(value)[:most].encode("utf-8", "replace").decode()
