"""`POST /v1/inference`: the documented question and answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request

from federated_dp_llm.api.asking import Asking
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.routes import By, Routes
from federated_dp_llm.api.shapes import InferenceAnswer, InferenceRequest
from federated_dp_llm.api.streaming import event, streamed
from privacy_runtime.http import Access, ErrorTable, Json, Problem, visit_of
from privacy_runtime.identity import Scope


class Inference:
    """Questions over HTTP.

    Args:
        asking: takes them.
        access: its seats are those of streams.
        errors: says what a client of a stream is told.
    """

    def __init__(self, asking: Asking, access: Access, errors: ErrorTable) -> None:
        self._asking, self._access, self._errors = asking, access, errors

    async def infer(self, body: InferenceRequest, request: Request, by: By) -> Any:
        """Ask a question, of records of several institutions or of the public model alone.

        `privacy_budget` is the most epsilon that the answer may add for any patient; `privacy_cost`
        is what it did add, paid before the answer is shown. What it cannot buy is refused with
        `budget_too_small` and the least epsilon that would do. With `stream: true` the answer comes
        as Server-Sent Events: `piece` as text is released, `answer` at the end, or `error`.

        An `Idempotency-Key` makes a repeated request the same one for a day: answered and paid
        once. One that was begun before a crash and never answered is `already_begun`.
        """
        question = await self._asking.question(body, by, request)
        if not body.stream:
            shown, _ = await self._asking.answered(question)
            return Json(shown.model_dump())
        request_id = visit_of(request).request_id

        def write(item: Any) -> Iterator[bytes]:
            if isinstance(item, str):
                yield event({"text": item}, "piece")
            else:
                yield event(item[0].model_dump(), "answer")

        def fail(problem: Problem) -> Iterator[bytes]:
            error = {"code": problem.code, "message": problem.message, "request_id": request_id}
            yield event({"success": False, "error": error}, "error")

        return await streamed(
            self._asking.pieces(question),
            write=write,
            fail=fail,
            errors=self._errors,
            seats=self._access.seats,
            subject=by.subject,
        )


def router(asking: Asking, access: Access, door: Door, errors: ErrorTable) -> APIRouter:
    """The route and its documented alias."""
    routes = Routes(door, tag="inference", errors=(409, 422, 429, 502, 503))
    routes.add(
        "POST",
        "/inference",
        Scope.MODELS_QUERY,
        Inference(asking, access, errors).infer,
        aliases=("/inference",),
        response_model=None,
        responses={
            200: {"model": InferenceAnswer, "content": {"text/event-stream": {}}},
        },
    )
    return routes.router
