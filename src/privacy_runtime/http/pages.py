"""Lists in pages: `?limit=&cursor=` -> `{"items": [...], "next_cursor": null}`.

A cursor is where the last page ended, in base64url. It is opaque to clients and grants nothing: the
query that it continues is asked again, with the caller's own organisation and scopes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from privacy_runtime.http.refusals import Fault, InvalidRequest

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
CURSOR_MAX: Final = 512
_PREFIX: Final = "1."

Item = TypeVar("Item")
Key = str | int


class Page(BaseModel, Generic[Item]):
    """One page of a list.

    Attributes:
        items: at most `limit` of them.
        next_cursor: send it back as `cursor` for the next page; null on the last one.
    """

    items: list[Item]
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which page is asked for: a dependency, `Annotated[PageQuery, Depends(page_query)]`."""

    limit: int = LIMIT_DEFAULT
    cursor: str | None = None

    def after(self, *kinds: type[Key]) -> tuple[Key, ...] | None:
        """Where the last page ended; `None` for the first page.

        Args:
            *kinds: of the key's parts, in order.

        Raises:
            InvalidRequest: the cursor is none of ours, or another list's.
        """
        return None if self.cursor is None else decoded(self.cursor, *kinds)

    def page(
        self, found: Sequence[Item], key: Callable[[Item], tuple[Key, ...]]
    ) -> tuple[list[Item], str | None]:
        """Cut a list that was asked for with `limit + 1`: the items, and the next cursor."""
        items = list(found[: self.limit])
        more = len(found) > self.limit and items
        return items, encoded(*key(items[-1])) if more else None


async def page_query(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Items of a page.")] = (
        LIMIT_DEFAULT
    ),
    cursor: Annotated[
        str | None, Query(max_length=CURSOR_MAX, description="`next_cursor` of the last page.")
    ] = None,
) -> PageQuery:
    """Read which page is asked for."""
    return PageQuery(limit, cursor)


def encoded(*parts: Key) -> str:
    """The cursor of a place in a list."""
    raw = json.dumps(parts, separators=(",", ":")).encode()
    return _PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(cursor: str, *kinds: type[Key]) -> tuple[Key, ...]:
    """The place that a cursor stands for.

    Raises:
        InvalidRequest: it is none of ours, or has parts of other kinds.
    """
    try:
        text = cursor.removeprefix(_PREFIX)
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        parts = json.loads(raw)
    except (ValueError, RecursionError):
        parts = None
    is_ours = isinstance(parts, list) and [type(part) for part in parts] == list(kinds)
    if not is_ours or encoded(*parts) != cursor:
        raise InvalidRequest([Fault("query.cursor", "should be a next_cursor of this list")])
    return tuple(parts)
