"""Where allowances live, by a path or a URL."""

from __future__ import annotations

import os
from pathlib import Path

from privacy_core.errors import InvalidParameter
from privacy_runtime.allowances.rows import Home
from privacy_runtime.allowances.sqlite import SqliteHome
from privacy_runtime.allowances.store import KEEP_S, RETRY_S, Store
from privacy_runtime.world import Clock, SystemClock


def open_allowances(
    where: str | Path,
    *,
    clock: Clock | None = None,
    keep_s: float = KEEP_S,
    retry_s: float = RETRY_S,
) -> Store:
    """Open a store of allowances; it is made if it is not there.

    Args:
        where: a path or `sqlite:///PATH`: a SQLite file, whose directory exists;
            `postgresql://user@host:port/database`: the first schema of its search path.
        clock: `None`: the machine's.
        keep_s: how long a key is remembered after its reservation ended.
        retry_s: how long a transaction is repeated that the database asks to repeat.

    Raises:
        AllowancesUnavailable: it cannot be opened, others may read the file, or a newer version
            wrote it.
        InvalidParameter: neither a path nor such a URL, or an extra is not installed.
    """
    return Store(_home_at(where), clock=clock or SystemClock(), keep_s=keep_s, retry_s=retry_s)


def _home_at(where: str | Path) -> Home:
    text = os.fspath(where)
    scheme, colon, _ = text.partition("://")
    if not colon or scheme == "sqlite":
        return SqliteHome(text)
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        try:
            from privacy_runtime.allowances.postgres import PostgresHome  # noqa: PLC0415  an extra
        except ImportError as error:
            raise InvalidParameter(
                "where", found=scheme, expected="privacy-finetuner[postgres] installed"
            ) from error
        return PostgresHome(text)
    raise InvalidParameter("where", found=scheme, expected="a path, sqlite:/// or postgresql://")
