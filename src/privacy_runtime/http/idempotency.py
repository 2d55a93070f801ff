"""POST once: a request that is repeated with its `Idempotency-Key` gets the first one's answer.

router = APIRouter(route_class=idempotency.route)

==================================================  ===============================================
a POST with a key that was seen                     is answered
==================================================  ===============================================
same body, the first succeeded                      as the first, and `Idempotency-Replayed: true`
same body, the first ended in an error of ours      as the first (500): nobody knows what was done
same body, the first was refused (4xx)              anew: nothing had been done
same body, the first could not be served (503)      anew: nothing had been done
same body, the first is under way                   409 `in_progress`
another body                                        409 `idempotency_conflict`
==================================================  ===============================================

A key belongs to a principal and a route, and is kept for 24 hours. If the process died under the
first request, nobody knows what was done: after `LEASE_S` the request runs again, and
`Visit.operation`, which is the same for both, lets the handler recognise what it had done.

Answers that hold secrets (one-time passwords, keys, tokens) are never kept: their routes depend on
`no_replay`, which refuses the header. So should routes whose answers hold what people wrote, since
answers lie in the database for a day. Streams, files, answers that set cookies and those above
256 KiB are not kept: the request runs again.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final

import orjson
import sqlalchemy as sa
from fastapi import Request
from fastapi.routing import APIRoute
from sqlalchemy.dialects import postgresql, sqlite
from starlette.responses import Response

from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Problem, answer
from privacy_runtime.http.errors import INTERNAL, ErrorTable
from privacy_runtime.http.refusals import Fault, InProgress, InvalidRequest, KeyReused
from privacy_runtime.http.tables import ANSWERS
from privacy_runtime.http.visits import visit_of
from privacy_runtime.identity import Principal
from privacy_runtime.identity.store import to_us

HEADER: Final = "idempotency-key"
KEPT_S: Final = 86_400
LEASE_S: Final = 30
ANSWER_MAX: Final = 256 * 1024
_FORM: Final = re.compile(r"[\x21-\x7e]{8,128}")
_KEPT_HEADERS: Final = frozenset({"content-type", "location", "etag"})

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def no_replay(request: Request) -> None:
    """Dependency of routes whose answers hold secrets: the header is refused.

    Raises:
        InvalidRequest: there is an `Idempotency-Key`. Nothing was done.
    """
    if HEADER in request.headers:
        raise InvalidRequest(
            [
                Fault(
                    f"header.{HEADER}",
                    "is not taken here: the answer holds a secret, and is not kept",
                    "idempotency_not_offered",
                )
            ]
        )


class Idempotency:
    """Keeps answers, and makes routes that give them again.

    Args:
        access: settles whose key it is; its identity's database keeps the answers.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._database = access.identity.store.database

    @property
    def route(self) -> type[APIRoute]:
        """The class of routes for `APIRouter(route_class=...)`."""
        owner = self

        class IdempotentRoute(APIRoute):
            """A route that answers a repeated POST as the first time."""

            def get_route_handler(self) -> Handler:
                """Wrap FastAPI's handler."""
                inner = super().get_route_handler()
                template = self.path_format

                async def handler(request: Request) -> Response:
                    if request.method != "POST" or HEADER not in request.headers:
                        return await inner(request)
                    return await owner._once(request, inner, template)

                return handler

        return IdempotentRoute

    def purge(self) -> int:
        """Delete answers older than 24 hours; returns how many. Call it daily."""
        before = self._now_us() - KEPT_S * 1_000_000
        old = sa.delete(ANSWERS).where(ANSWERS.c.begun_us < before)
        return int(self._database.change(lambda c: c.execute(old).rowcount))

    async def _once(self, request: Request, inner: Handler, template: str) -> Response:
        key = _key(request)
        principal = await self._access.authenticate(request)
        operation = _operation(principal, request, template, key)
        digest = _digest(request, await request.body())
        attempt = self._access.identity.store.entropy.token_bytes(16).hex()
        run = self._access.run
        earlier = await run(self._begin, operation, digest, attempt)
        if earlier is not None:
            return _replayed(earlier)
        visit_of(request).operation = operation
        try:
            response = await inner(request)
        except Exception as error:
            problem = self._problem(request, error)
            if problem is None:  # nobody knows what was done: the answer stands
                response = answer(request, INTERNAL, self._access.policy)
                await self._settle(operation, attempt, response)
            else:
                await run(self._release, operation, attempt)
            raise
        await self._settle(operation, attempt, response)
        return response

    @staticmethod
    def _problem(request: Request, error: Exception) -> Problem | None:
        """A refusal that says that nothing was done; `None` if it does not."""
        table: ErrorTable = getattr(request.app.state, "http_errors", None) or ErrorTable.standard()
        problem = table.problem(error)
        return None if problem is None or problem.status == INTERNAL.status else problem

    async def _settle(self, operation: str, attempt: str, response: Response) -> None:
        run = self._access.run
        body = getattr(response, "body", None)
        is_done = response.status_code < 300 or response.status_code == INTERNAL.status
        is_small = isinstance(body, bytes) and len(body) <= ANSWER_MAX
        if not (is_done and is_small) or "set-cookie" in response.headers:
            await run(self._release, operation, attempt)
            return
        headers = {k: v for k, v in response.headers.items() if k.lower() in _KEPT_HEADERS}
        kept = {
            "status": response.status_code,
            "headers": orjson.dumps(headers).decode(),
            "body": body,
        }
        await run(self._keep, operation, attempt, kept)

    def _begin(self, operation: str, digest: str, attempt: str) -> sa.Row[Any] | None:
        """Take an operation; the answer it had, if it was done.

        Raises:
            KeyReused: it was another request.
            InProgress: somebody is at it.
        """
        now_us = self._now_us()
        row = {
            "operation": operation,
            "request": digest,
            "attempt": attempt,
            "begun_us": now_us,
            "status": None,
            "headers": None,
            "body": None,
        }

        def begin(connection: sa.Connection) -> sa.Row[Any] | None:
            insert: Any = sqlite.insert if self._database.is_sqlite else postgresql.insert
            connection.execute(insert(ANSWERS).values(row).on_conflict_do_nothing())
            query = sa.select(ANSWERS).where(ANSWERS.c.operation == operation)
            found = connection.execute(query.with_for_update()).one()
            age_us = now_us - found.begun_us
            is_stale = age_us > (LEASE_S if found.status is None else KEPT_S) * 1_000_000
            if found.attempt == attempt:
                return None
            if is_stale and (found.request == digest or found.status is not None):
                mine = sa.update(ANSWERS).where(ANSWERS.c.operation == operation)
                connection.execute(mine.values(row))
                return None
            return found

        found = self._database.change(begin)
        if found is None:
            return None
        if found.request != digest:
            raise KeyReused("this idempotency key belongs to another request; nothing was done")
        if found.status is None:
            raise InProgress("the first request with this key is still under way")
        return found

    def _keep(self, operation: str, attempt: str, values: dict[str, Any]) -> None:
        mine = sa.update(ANSWERS).where(
            ANSWERS.c.operation == operation, ANSWERS.c.attempt == attempt
        )
        self._database.change(lambda connection: connection.execute(mine.values(values)))

    def _release(self, operation: str, attempt: str) -> None:
        mine = sa.delete(ANSWERS).where(
            ANSWERS.c.operation == operation,
            ANSWERS.c.attempt == attempt,
            ANSWERS.c.status.is_(None),
        )
        self._database.change(lambda connection: connection.execute(mine))

    def _now_us(self) -> int:
        return to_us(self._access.clock.now())


def _key(request: Request) -> str:
    keys = request.headers.getlist(HEADER)
    if len(keys) != 1 or not _FORM.fullmatch(keys[0]):
        raise InvalidRequest(
            [Fault(f"header.{HEADER}", "should be one text of 8 to 128 printable signs")]
        )
    return keys[0]


def _operation(principal: Principal, request: Request, template: str, key: str) -> str:
    """One name for principal, route, path and key."""
    parts = (principal.tenant, principal.subject, template, request.url.path, key)
    data = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hashlib.sha256(b"http operation|" + data).hexdigest()


def _digest(request: Request, body: bytes) -> str:
    head = f"{request.headers.get('content-type', '')}|{request.url.query}|".encode()
    return hashlib.sha256(b"http request|" + head + body).hexdigest()


def _replayed(earlier: sa.Row[Any]) -> Response:
    headers = {**orjson.loads(earlier.headers), "Idempotency-Replayed": "true"}
    return Response(earlier.body, status_code=earlier.status, headers=headers)
