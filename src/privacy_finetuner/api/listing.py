"""A page of a list that is at hand, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from privacy_runtime.http.pages import Page, PageQuery

_Item = TypeVar("_Item")
_Shown = TypeVar("_Shown")


def newest_first(
    items: Iterable[_Item],
    page: PageQuery,
    key: Callable[[_Item], tuple[str, str]],
    show: Callable[[_Item], _Shown],
) -> Page[_Shown]:
    """The page that is asked for.

    Args:
        items: in any order.
        page: which.
        key: what they are sorted by, the largest first: an instant and an id.
        show: how an item of the page is shown.
    """
    after = page.after(str, str)
    known = sorted(items, key=key, reverse=True)
    found, cursor = page.page([each for each in known if after is None or key(each) < after], key)
    return Page(items=[show(each) for each in found], next_cursor=cursor)
