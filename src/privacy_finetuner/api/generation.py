"""Text from models: post-processing, which costs no budget. The model runs in its own process."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from fastapi import APIRouter

from privacy_finetuner.api.routes import By, operation, router_of
from privacy_finetuner.api.shapes.bodies import Amount
from privacy_finetuner.api.shapes.generation import GenerateAnswer, GenerateBody
from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.operations.generation import Generators
from privacy_finetuner.service import Service
from privacy_finetuner.service.errors import UnknownModel
from privacy_runtime.http.access import Access
from privacy_runtime.http.refusals import Fault, InvalidRequest
from privacy_runtime.identity import Scope

THREADS: Final = 16
_JOB: Final = "job:"


class Generation:
    """Questions over HTTP.

    Args:
        service: whose models.
        generators: the processes.
    """

    def __init__(self, service: Service, generators: Generators) -> None:
        self._service, self._generators = service, generators
        self._threads = anyio.CapacityLimiter(THREADS)

    @operation("POST", "", Scope.MODELS_QUERY, rate="starts", is_secret=True)
    async def generate(self, body: GenerateBody, by: By) -> GenerateAnswer:
        """Continue a prompt with a model of this service.

        A model trained with differential privacy keeps its guarantee however often it is asked:
        nothing is spent. The prompt is kept nowhere, and nothing protects it from the model; how
        often somebody asks, and how alike the questions are, is counted by keyed digests for ten
        minutes. The first question to a model waits until it is loaded.
        """
        self._service.desks.questions.note(
            by.tenant, by.subject, model=body.model, prompt=body.prompt
        )
        ask = partial(self._asked, body, by.tenant)
        return await anyio.to_thread.run_sync(ask, limiter=self._threads)

    def _asked(self, body: GenerateBody, tenant: str) -> GenerateAnswer:
        found = self._folder(body.model, tenant)
        text = self._generators.ask(
            found,
            body.prompt,
            max_new_tokens=body.max_new_tokens,
            temperature=body.temperature,
        )
        if body.redact is not None:
            text = ContextGuard(["pii_removal"]).protect(text, body.redact).protected_text
        privacy = None
        if body.model.startswith(_JOB):
            job = self._service.jobs.get(body.model.removeprefix(_JOB), tenant=tenant)
            privacy = Amount(epsilon=job.epsilon, delta=job.delta)
        return GenerateAnswer(
            model=body.model, text=text, redacted=body.redact is not None, model_privacy=privacy
        )

    def _folder(self, model: str, tenant: str) -> Path:
        """Where a model lies. A hub's name is none: nothing is loaded from there to be asked."""
        found: Path | None = None
        with suppress(UnknownModel):
            found = Path(self._service.catalogue.model(model, tenant=tenant))
        if found is None or not found.is_dir():
            raise InvalidRequest(
                [Fault("body.model", "names no model of this service", "unknown_model")]
            )
        return found


def router(service: Service, access: Access) -> APIRouter:
    """The route `/generate`. Its processes end with the service."""
    generators = Generators(service.clock)
    service.when_closing(generators.close)
    return router_of(Generation(service, generators), access, tag="generation", prefix="/generate")
