"""`privacy-finetuner budget`: grant, read and check privacy budgets in a ledger.

The ledger is a SQLite file or a PostgreSQL database that every program which touches the data
charges. These commands are its officer's desk; each is one transaction.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from privacy_core import dp_events
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit
from privacy_finetuner.cli import budget_chain, output
from privacy_finetuner.cli.budget_views import (
    account_document,
    account_table,
    history_table,
    name_of,
    reservation_document,
)
from privacy_finetuner.cli.ledgers import By, Ledger, Reason, account_named, opened
from privacy_finetuner.cli.options import Json, Relation, Unit
from privacy_runtime.budget_store import (
    BudgetStore,
    Charge,
    Reservation,
    ScopeState,
    Signature,
    charge_of,
    timeline,
)
from privacy_runtime.world import SystemEntropy

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Grant, read and check privacy budgets in a ledger.\n\n"
    "An account belongs to the people in a block of data (`hospital-notes/2026`): its cap is what "
    "they are promised, over everything that ever touches the block. A quota (`quota/clinic/"
    "research`) only limits who may use how much of it.",
    epilog="Begin: privacy-finetuner budget grant hospital-notes/2026 --epsilon 8 --delta 1e-6 "
    "--by 'A. Officer' --reason 'ethics vote 17' --ledger ledger.db",
)

app.add_typer(budget_chain.app)

Account: TypeAlias = Annotated[
    str, typer.Argument(help="COHORT/SLICE of a block of data, or quota/ORGANISATION/....")
]
Key: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Idempotency key: the same command under the same key happens once. Default: new."
    ),
]
ReservationName: TypeAlias = Annotated[str, typer.Argument(help="The reservation's key.")]
DAY_S: Final = 86400


@app.command(
    epilog="Example: privacy-finetuner budget grant hospital-notes/2026 --epsilon 2 "
    "--by 'A. Officer' --reason 'second study' --ledger ledger.db"
)
def grant(  # noqa: PLR0913  # every argument is an option of the command
    account: Account,
    *,
    epsilon: Annotated[float, typer.Option(help="How much more; on opening, the whole cap.")],
    by: By,
    reason: Reason,
    ledger: Ledger,
    delta: Annotated[
        float | None, typer.Option(help="Opens the account, with this delta for good.")
    ] = None,
    relation: Relation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit: Unit = PrivacyUnit.EXAMPLE,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Open an account (with --delta), or raise the cap of one that is open.

    A raise is a new promise to the people in the data: they are then protected by the larger
    epsilon only. What was spent stays spent.
    """
    with output.failures_reported(as_json):
        scope = account_named(account)
        signature = Signature(person=by, reason=reason)
        with opened(ledger, may_create=delta is not None) as store:
            if delta is None:
                store.grant(key or new_key(), scope, epsilon=epsilon, signature=signature)
            else:
                guarantee = Guarantee(epsilon=epsilon, delta=delta, relation=relation, unit=unit)
                store.open_account(key or new_key(), scope, guarantee, signature=signature)
            state = store.balance(scope)
    output.deliver(account_document(state), account_table([state]), as_json=as_json)


@app.command(epilog="Example: privacy-finetuner budget show --ledger ledger.db --json")
def show(
    account: Annotated[
        str | None, typer.Argument(help="One account; default: all of them.")
    ] = None,
    *,
    ledger: Ledger,
    plot: Annotated[
        Path | None, typer.Option(help="Draw one account over time: .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What was promised, spent, set aside and is left, and which reservations are open.

    **spent** is an upper bound whenever the account is looked at, also when later releases were
    chosen after seeing earlier ones; **+ held** counts open reservations in full.
    """
    with output.failures_reported(as_json), opened(ledger) as store:
        states = store.accounts() if account is None else [store.balance(account_named(account))]
        names = {str(state.scope) for state in states}
        waiting = [
            held for held in store.open_reservations() if names & {str(s) for s in held.scopes}
        ]
        if plot is not None:
            _plot(store, states, plot)
        document = {
            "accounts": [account_document(state) for state in states],
            "open_reservations": [reservation_document(held) for held in waiting],
            "head": asdict(store.head()),
            "plot": None if plot is None else str(plot),
        }
    output.deliver(document, account_table(states, waiting), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner budget history hospital-notes/2026 --ledger ledger.db"
)
def history(account: Account, *, ledger: Ledger, as_json: Json = False) -> None:
    """Every entry that changed an account, with where it left it. Recomputed from the entries."""
    with output.failures_reported(as_json), opened(ledger) as store:
        scope = account_named(account)
        store.balance(scope)
        standings = timeline(store.history(), scope)
        rows = [{**asdict(each), "at": each.at.isoformat()} for each in standings]
    output.deliver(
        {"account": str(scope), "entries": rows}, history_table(scope, standings), as_json=as_json
    )


@app.command(
    epilog="Example: privacy-finetuner budget reserve hospital-notes/2026 --event event.json "
    "--key count-17 --ledger ledger.db"
)
def reserve(  # noqa: PLR0913  # every argument is an option of the command
    account: Account,
    *,
    event: Annotated[
        Path,
        typer.Option(
            help="What will be done: a DP event as JSON, or a document with an `event`, such as "
            "privacy_report.json."
        ),
    ],
    ledger: Ledger,
    delta: Annotated[
        float | None,
        typer.Option(help="Also price it as one declared act at this delta (tighter)."),
    ] = None,
    quota: Annotated[str | None, typer.Option(help="Charge this quota as well.")] = None,
    ttl_days: Annotated[
        float, typer.Option(help="Without a sign of life for so long it is committed in full.")
    ] = 1.0,
    relation: Relation = NeighbouringRelation.ADD_OR_REMOVE_ONE,
    unit: Unit = PrivacyUnit.EXAMPLE,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Set budget aside for an act of your own, before anything of it is released."""
    with output.failures_reported(as_json):
        charge = _charge(event, delta, relation, unit)
        name = key or new_key()
        with opened(ledger) as store:
            store.reserve(
                name,
                protection=(account_named(account),),
                charge=charge,
                ttl_s=max(1, round(ttl_days * DAY_S)),
                quota=() if quota is None else (account_named(quota),),
            )
            held = store.reservation(name)
    _deliver_reservation(held, as_json=as_json)


@app.command(epilog="Example: privacy-finetuner budget commit count-17 --ledger ledger.db")
def commit(
    reservation: ReservationName,
    *,
    ledger: Ledger,
    event: Annotated[
        Path | None,
        typer.Option(help="What really happened, at most what was reserved; default: all of it."),
    ] = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """End a reservation by what happened; the rest returns to the account."""
    with output.failures_reported(as_json), opened(ledger) as store:
        held = store.reservation(reservation)
        actual = None
        if event is not None:
            actual = _charge(event, None, held.charge.relation, held.charge.unit)
        store.commit(key or f"commit:{reservation}", reservation, actual=actual)
        held = store.reservation(reservation)
    _deliver_reservation(held, as_json=as_json)


@app.command(epilog="Example: privacy-finetuner budget refund count-17 --ledger ledger.db")
def refund(
    reservation: ReservationName, *, ledger: Ledger, key: Key = None, as_json: Json = False
) -> None:
    """End a reservation of which nothing was released; refused once anything may have been."""
    with output.failures_reported(as_json), opened(ledger) as store:
        store.refund(key or f"refund:{reservation}", reservation)
        held = store.reservation(reservation)
    _deliver_reservation(held, as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner budget void count-17 --by 'A. Officer' "
    "--reason 'never ran: job log 4711' --ledger ledger.db"
)
def void(
    reservation: ReservationName,
    *,
    by: By,
    reason: Reason,
    ledger: Ledger,
    as_json: Json = False,
) -> None:
    """Strike out spending that did not happen. Two different persons must ask for it."""
    with output.failures_reported(as_json), opened(ledger) as store:
        signature = Signature(person=by, reason=reason)
        if store.reservation(reservation).void_proposed_by is None:
            store.propose_void(f"void:{reservation}", reservation, signature=signature)
        else:
            store.approve_void(f"void:{reservation}:approved", reservation, signature=signature)
        held = store.reservation(reservation)
    _deliver_reservation(held, as_json=as_json)


@app.command(epilog="Example: privacy-finetuner budget expire --ledger ledger.db")
def expire(*, ledger: Ledger, as_json: Json = False) -> None:
    """Commit, in full, every reservation whose time ran out. Safe to run at any time."""
    with output.failures_reported(as_json), opened(ledger) as store:
        keys = [entry.key for entry in store.expire_due()]
    output.deliver({"expired": keys}, f"{len(keys)} reservations were committed", as_json=as_json)


def new_key() -> str:
    """An idempotency key that nobody has used."""
    return SystemEntropy().token_bytes(8).hex()


def _charge(
    path: Path, delta: float | None, relation: NeighbouringRelation, unit: PrivacyUnit
) -> Charge:
    """The price of the event in a file: the event's document, or one that holds it as `event`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidParameter("event", found=f"{path}: not JSON", expected="an event") from error
    if isinstance(document, dict) and "version" in document.get("event", {}):
        document = document["event"]
    event = dp_events.from_json(document)
    return charge_of(event, delta=delta, relation=relation, unit=unit)


def _plot(store: BudgetStore, states: list[ScopeState], path: Path) -> None:
    from privacy_finetuner.cli import budget_plot  # noqa: PLC0415 -- loads plotting

    if len(states) != 1:
        raise InvalidParameter("plot", found=f"{len(states)} accounts", expected="name one account")
    scope = states[0].scope
    budget_plot.draw(timeline(store.history(), scope), name_of(scope), path)


def _deliver_reservation(held: Reservation, *, as_json: bool) -> None:
    document = reservation_document(held)
    shown = [
        ("reservation", held.key),
        ("accounts", ", ".join(document["scopes"])),
        ("status", held.status.value),
        ("void proposed by", held.void_proposed_by or "-"),
    ]
    output.deliver(document, output.facts("Reservation", shown), as_json=as_json)
