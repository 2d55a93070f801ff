"""How commands name a ledger and the accounts in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from privacy_core.errors import InvalidParameter
from privacy_runtime.budget_store import AnchorFile, BudgetStore, Scope, parse_scope

LEDGER_VARIABLE: Final = "PRIVACY_FINETUNER_LEDGER"
Ledger: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar=LEDGER_VARIABLE, help="The ledger: a file, or postgresql://... of a database."
    ),
]
By: TypeAlias = Annotated[str, typer.Option(help="Who answers for it; kept in the ledger.")]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why; kept in the ledger.")]


@contextmanager
def opened(
    ledger: str, *, may_create: bool = False, anchor: AnchorFile | None = None
) -> Iterator[BudgetStore]:
    """Open a ledger; a file that is not there is made only where a budget is granted.

    Raises:
        InvalidParameter: no such file.
    """
    is_file = "://" not in ledger
    if is_file and not may_create and not Path(ledger).exists():
        raise InvalidParameter(
            "ledger", found=ledger, expected="an existing file; `budget grant --delta` makes one"
        )
    with BudgetStore.open(ledger, anchor=anchor) as store:
        yield store


def account_named(text: str) -> Scope:
    """The scope of `COHORT/SLICE`, `protection/...` or `quota/...`."""
    kinds = ("protection/", "quota/")
    return parse_scope(text if text.startswith(kinds) else f"protection/{text}")
