"""Fetches a file in as many pieces as the connection allows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import httpx2
from tenacity import AsyncRetrying

from privacy_finetuner.client.asynchronous.session import AsyncSession
from privacy_finetuner.client.calls import Call
from privacy_finetuner.client.downloads import Part, Progress
from privacy_finetuner.client.errors import ServiceError, Unreachable
from privacy_finetuner.client.shapes.training import Artefact

_UNSATISFIABLE: Final = 416


class AsyncDownload:
    """One file of the service.

    Args:
        session: to ask with.
        call: asks for the whole file.
        artefact: what was announced.
    """

    def __init__(self, session: AsyncSession, call: Call, artefact: Artefact) -> None:
        self._session = session
        self._call = call
        self._artefact = artefact

    async def to(self, target: Path, progress: Progress | None) -> Path:
        """Fetch it, check it, put it in its place.

        Every connection that brings something earns the next one: only tries that bring nothing are
        counted.
        """
        part = Part(self._artefact, target)
        part.open()
        settings = self._session.settings
        policy = settings.retries.keywords(settings.entropy)
        try:
            while not part.is_whole:
                before = part.size_bytes
                await AsyncRetrying(sleep=settings.sleep, **policy)(self._some, part, progress)
                if not part.is_whole and part.size_bytes == before:
                    raise Unreachable(self._session.url, reason="the file ended early")
            return part.finish()
        finally:
            part.close()

    async def _some(self, part: Part, progress: Progress | None) -> None:
        """One connection: from where the part ends, as far as it goes."""
        began = part.size_bytes
        try:
            await self._once(part, progress)
        except Unreachable:
            if part.size_bytes == began:
                raise
        except ServiceError as error:
            if error.status != _UNSATISFIABLE:
                raise
            part.restart()
            await self._once(part, progress)

    async def _once(self, part: Part, progress: Progress | None) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if part.size_bytes:
            headers["Range"] = f"bytes={part.size_bytes}-"
        call = Call(method="GET", path=self._call.path, headers=headers)
        async with self._session.stream(call) as response:
            if part.size_bytes and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                part.restart()
            async for piece in response.aiter_raw():
                part.append(piece)
                if progress is not None:
                    progress(part.size_bytes, part.artefact.size_bytes)
