"""What all groups of operations do: ask, tell, and walk through pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from privacy_finetuner.client.asynchronous.session import AsyncSession
from privacy_finetuner.client.calls import Call, Json, key_of
from privacy_finetuner.client.decoding import page_of
from privacy_finetuner.client.errors import UnexpectedAnswer

T = TypeVar("T")


class AsyncGroup:
    """Operations that belong together, on one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def _get(self, path: str, kind: type[T], query: Mapping[str, Any] | None = None) -> T:
        return await self._session.answer(Call(method="GET", path=path, query=query or {}), kind)

    async def _text(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        call = Call(method="GET", path=path, query=query or {}, headers={"Accept": "*/*"})
        return (await self._session.content(call)).decode()

    async def _post(
        self, path: str, kind: type[T], body: Json | None = None, key: str | None = None
    ) -> T:
        """Under an idempotency key, so that it can be sent again and is done once."""
        key = key_of(key) or self._session.new_key()
        return await self._session.answer(Call(method="POST", path=path, body=body, key=key), kind)

    async def _post_secret(self, path: str, kind: type[T], body: Json | None = None) -> T:
        """Once: the service does not keep an answer with a secret to give it again."""
        return await self._session.answer(Call(method="POST", path=path, body=body), kind)

    async def _ask(self, path: str, kind: type[T], body: Json) -> T:
        """What changes nothing, and may be asked again."""
        call = Call(method="POST", path=path, body=body, is_question=True)
        return await self._session.answer(call, kind)

    async def _change(self, method: str, path: str, kind: type[T], body: Json | None = None) -> T:
        return await self._session.answer(Call(method=method, path=path, body=body), kind)

    async def _delete(self, path: str) -> None:
        await self._session.content(Call(method="DELETE", path=path))

    async def _pages(
        self, path: str, kind: type[T], query: Mapping[str, Any] | None = None
    ) -> AsyncIterator[T]:
        cursor: str | None = None
        while True:
            page = await self._get(path, page_of(kind), {**(query or {}), "cursor": cursor})
            for item in page.items:
                yield item
            if page.next_cursor is None:
                return
            if page.next_cursor == cursor:
                raise UnexpectedAnswer("a list goes round in a circle: its next page is this one")
            cursor = page.next_cursor
