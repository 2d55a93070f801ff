"""Where a ledger lives."""

from __future__ import annotations

import os
from pathlib import Path

from privacy_core.errors import InvalidParameter
from privacy_runtime.journal import Home
from privacy_runtime.journal.sqlite import SqliteHome


def home_at(where: str | Path) -> Home:
    """Return the home that a path or a URL names.

    Raises:
        InvalidParameter: it is neither, or needs an extra that is not installed.
    """
    text = os.fspath(where)
    scheme, colon, rest = text.partition("://")
    if not colon:
        return SqliteHome(text)
    if scheme == "sqlite":
        return SqliteHome(rest.removeprefix("/"))
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        try:
            from privacy_runtime.journal.postgres import PostgresHome  # noqa: PLC0415  an extra
        except ImportError as error:
            raise InvalidParameter(
                "where", found=scheme, expected="privacy-finetuner[postgres] installed"
            ) from error
        return PostgresHome(text)
    raise InvalidParameter("where", found=scheme, expected="a path, sqlite:// or postgresql://")
