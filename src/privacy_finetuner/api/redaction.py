"""Redaction as a service: protect, explain, and, for officers, reveal.

Every organisation has keys of its own: another's tokens stay tokens here, and the same name has
another hash there. A reveal is written to the audit trail before anything is revealed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import orjson
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from privacy_core.redaction.entities import resolve
from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes import redaction as shapes
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.lookout import labels_of
from privacy_finetuner.errors import WrongKey
from privacy_finetuner.governance.subjects import ensure_tenant
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.refusals import Busy
from privacy_runtime.identity import Principal, Scope

_R = TypeVar("_R")
THREADS: Final = 2
"""Looking is arithmetic: more threads than processors only wait."""
WAITING_MOST: Final = 64
GUARDS_KEPT: Final = 32


class Redaction:
    """Redaction over HTTP.

    Args:
        service: whose keys and trail.
    """

    def __init__(self, service: Service) -> None:
        self._keys, self._entropy = service.sealing_keys, service.entropy
        self._trail = service.desks.trail
        self._threads = anyio.CapacityLimiter(THREADS)
        self._kept = lru_cache(maxsize=GUARDS_KEPT)(self._guard)

    @operation("POST", "", Scope.REDACTION_USE, is_secret=True)
    async def protect(self, body: shapes.ProtectBody, by: By) -> shapes.ProtectAnswer:
        """Replace personal and secret values in a text, a JSON value or a chat.

        What is not found stays: see the documentation for how much that is, measured. Nothing of
        what was sent is kept.
        """
        return await self._run(partial(self._protected, body, by.tenant))

    @operation(
        "POST",
        "/batch",
        Scope.REDACTION_USE,
        raw={"application/x-ndjson": {}},
        is_secret=True,
    )
    async def protect_batch(self, body: shapes.BatchBody, by: By) -> Response:
        """Protect many texts; the answers come one by one, a line of JSON each, in order.

        A line is `{"index": 0, "protected_text": ..., "redaction_map": ..., ...}`.
        """
        labels_of(body.preserve_entities)  # what is unknown is refused before anything is sent
        guard = await self._run(partial(self._guard_for, body, by.tenant))

        async def lines() -> AsyncIterator[bytes]:
            for index, text in enumerate(body.texts):
                made = await self._run(partial(_answer, guard, text, body))
                document = {"index": index, **made.model_dump(exclude={"protected_value"})}
                yield orjson.dumps(document) + b"\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @operation("POST", "/explain", Scope.REDACTION_USE, is_secret=True)
    async def explain_redactions(self, body: shapes.ExplainBody, by: By) -> shapes.ExplainAnswer:
        """Say what would be redacted in a text and why, what would stay, and what still leaks."""

        def explained() -> shapes.ExplainAnswer:
            guard = self._guard_for(body, by.tenant)
            report = guard.explain_redactions(
                body.text, body.sensitivity_level, body.preserve_entities
            )
            return shapes.ExplainAnswer.of(report)

        return await self._run(explained)

    @operation(
        "POST", "/reveal", Scope.REDACTION_REVEAL, refuses=(403,), is_fresh=True, is_secret=True
    )
    async def reveal(self, body: shapes.RevealBody, by: By) -> shapes.RevealAnswer:
        """Put back what sealed values stand for: the answer is personal data in clear.

        It takes a login with a second factor within the last five minutes, a reason, and the audit
        trail: if that cannot be written, nothing is revealed. Values that were changed, cut, or
        sealed by another organisation stay as they are and are counted.
        """
        return await self._run(partial(self._revealed, body, by))

    def _protected(self, body: shapes.ProtectBody, tenant: str) -> shapes.ProtectAnswer:
        guard = self._guard_for(body, tenant)
        if body.text is not None:
            return _answer(guard, body.text, body)
        look = (body.sensitivity_level, body.preserve_entities)
        if body.messages is not None:
            return shapes.ProtectAnswer.of(guard.protect_messages(body.messages, *look))
        return shapes.ProtectAnswer.of(guard.protect_json(body.value, *look))

    def _revealed(self, body: shapes.RevealBody, by: Principal) -> shapes.RevealAnswer:
        from privacy_finetuner.context.reversal import looked_into  # noqa: PLC0415 -- cryptography

        labels = {resolve(name).name for name in body.only} or None
        ensure_tenant(self._keys, by.tenant, self._entropy)
        told: dict[str, Any] = {"tenant": by.tenant, "by": by.subject, "reason": body.reason}
        try:
            found = looked_into(body.protected_text, self._keys, by.tenant, labels)
        except WrongKey:
            self._trail.write("redaction.reveal_refused", told, entropy=self._entropy)
            raise
        refused = dict(Counter(each.reason.value for each in found.refused))
        told |= {"revealed": dict(found.counts), "refused": refused}
        # Before the answer, and instead of it where the journal refuses.
        self._trail.write("redaction.revealed", told, entropy=self._entropy)
        return shapes.RevealAnswer(text=found.text, revealed=dict(found.counts), refused=refused)

    def _guard_for(self, body: shapes.Settings, tenant: str) -> ContextGuard:
        """The guard of some settings; those without lists of values are kept for the next."""
        settings = (
            tenant,
            tuple(body.strategies),
            body.sensitivity_threshold,
            body.preserve_structure,
            body.names,
            None if body.locales is None else tuple(body.locales),
        )
        if body.allow or body.deny:
            return self._guard(*settings, allow=tuple(body.allow), deny=tuple(body.deny))
        return self._kept(*settings)

    def _guard(  # one argument a setting
        self,
        tenant: str,
        strategies: tuple[str, ...],
        threshold: float,
        structure: bool,
        names: bool,
        locales: tuple[str, ...] | None,
        allow: tuple[str, ...] = (),
        deny: tuple[str, ...] = (),
    ) -> ContextGuard:
        ensure_tenant(self._keys, tenant, self._entropy)
        return ContextGuard(
            strategies,
            threshold,
            structure,
            keys=self._keys,
            tenant=tenant,
            names="shipped" if names else None,
            locales=locales,
            allow=allow,
            deny=deny,
        )

    async def _run(self, call: Callable[[], _R]) -> _R:
        """Look, in one of few threads.

        Raises:
            Busy: too many wait already; nothing was looked at.
        """
        if self._threads.statistics().tasks_waiting >= WAITING_MOST:
            raise Busy("too many texts at once; nothing was looked at")
        return await anyio.to_thread.run_sync(call, limiter=self._threads)


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/protect`."""
    return router_of(Redaction(service), access, tag="redaction", prefix="/protect")


def _answer(guard: ContextGuard, text: str, body: shapes.Settings) -> shapes.ProtectAnswer:
    look = (body.sensitivity_level, body.preserve_entities)
    return shapes.ProtectAnswer.of(guard.protect(text, *look))
