"""The ledger with a disk under it: every command is one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from privacy_core import budget
from privacy_core.budget import (
    ApproveVoid,
    Charge,
    Command,
    Commit,
    Currency,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reservation,
    Reserve,
    ResetClock,
    Scope,
    ScopeState,
    Signature,
    Status,
    Watermark,
    Window,
)
from privacy_core.errors import (
    InvalidParameter,
    ReservationClosed,
    UnknownReservation,
    UnknownScope,
)
from privacy_core.guarantee import Guarantee
from privacy_runtime.budget_store.exports import write_export
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.budget_store.projection import (
    CLOCK,
    LABEL,
    OPEN,
    SCOPE,
    Accounts,
    Fact,
    documents_of,
    facts,
    fold,
    read_entry,
    reservation_names,
    scope_name,
    settle,
    state_of,
)
from privacy_runtime.journal import (
    REPAIRED,
    AnchorFile,
    Change,
    Draft,
    Head,
    HeadKey,
    Journal,
    SignedHead,
    View,
    require_anchored,
)
from privacy_runtime.world import Clock, SystemClock

LEDGER: Final = "ledger"
"""The ledger's stream in its journal."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class BudgetStore:
    """Accounts, reservations and their history, shared by any number of processes.

    Guarantees, also when processes are killed at any moment:

    - after every entry, what is spent and reserved in an account fits its cap;
    - when a method returned, its entry is on the disk; the same call again returns the same entry;
    - every reservation ends: by commit, refund, or, once its time ran out, by a commit in full
      (`expire_due`; until that has run, it counts as reserved).

    ========================================  ==========================================
    when                                      then
    ========================================  ==========================================
    an account has no room                    `BudgetExhausted`; nothing was reserved
    the database is away, full or locked      `StoreUnavailable`; says what is known
    the chain is broken                       `ChainBroken`, then `JournalHalted` for all
                                              who write, until `repair`; reading works
    an older copy of the database was put     `JournalWentBack`: by any object that saw
    in its place                              more, and by the anchor when opening
    a newer version wrote the database        `ForeignSchema`; it was not touched
    the clock jumps                           forward: reservations may expire, into
                                              spending; back: nothing is refilled
    ========================================  ==========================================

    Args:
        journal: where the entries live; the store owns it. Prefer `open`.
        clock: says when reservations expire and windows turn.
        anchor: where heads are kept outside the database; its last head is checked now, and the
            current one recorded by `close` and `anchor_now`.

    Raises:
        ChainBroken, JournalWentBack, JournalHalted, ForeignSchema, StoreUnavailable: see above.
    """

    def __init__(self, journal: Journal, *, clock: Clock, anchor: AnchorFile | None = None) -> None:
        self._journal = journal
        self._clock = clock
        self._anchor = anchor
        self._accounts = Accounts()
        require_anchored(journal, LEDGER, anchor)
        if not journal.status(LEDGER).halt:
            journal.project(LEDGER, LABEL, fold)

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        clock: Clock | None = None,
        anchor: AnchorFile | None = None,
        retry_s: float = 10.0,
    ) -> Self:
        """Open a ledger, and make an empty one where there is none.

        Args:
            where: a path, `sqlite:///path` or `postgresql://...`.
            clock: None: the machine's.
            anchor: see the class.
            retry_s: how long a busy or absent database is waited for, in seconds.
        """
        clock = clock or SystemClock()
        journal = Journal(home_at(where), clock=clock, retry_s=retry_s)
        try:
            return cls(journal, clock=clock, anchor=anchor)
        except BaseException:
            journal.close()
            raise

    def submit(self, command: Command) -> budget.Entry:
        """Decide a command, and make the answer durable; the methods below are its short forms.

        Guarantee: the same command again, from anywhere, returns the entry of the first time.

        Raises:
            BudgetError: the ledger's refusal; nothing was changed. See `privacy_core.errors`.
            InvalidParameter: the key is the ledger's own.
            JournalError: the store's refusal; see the class.
        """
        if command.key.startswith(f"{REPAIRED}:"):
            raise InvalidParameter("key", found=command.key, expected="another beginning")
        names, now_us = self._involved(command), self._now_us()
        answer: list[budget.Entry] = []

        def decide(view: View) -> Change:
            earlier = view.entries.get(command.key)
            entries = {command.key: read_entry(earlier)} if earlier else {}
            state = replace(state_of(view.documents, self._accounts), entries=entries)
            decision = budget.decide(state, command, now_us)
            answer[:] = [decision.entry]
            if decision.is_replay:
                return Change()
            entry = decision.entry
            draft = Draft(type(entry).__name__, entry.key, budget.entry_to_json(entry))
            return Change([draft], documents_of(state.after(entry), self._accounts))

        self._journal.transact(LEDGER, decide, keys=(command.key,), names=names)
        return answer[0]

    def open_account(
        self,
        key: str,
        scope: Scope,
        guarantee: Guarantee,
        *,
        signature: Signature,
        currency: Currency = Currency.RDP,
        window: Window | None = None,
        authorisers: tuple[str, ...] = (),
    ) -> budget.Entry:
        """Open an account whose cap is `guarantee`."""
        return self.submit(
            OpenAccount(
                key=key,
                scope=scope,
                guarantee=guarantee,
                signature=signature,
                currency=currency,
                window=window,
                authorisers=authorisers,
            )
        )

    def grant(
        self, key: str, scope: Scope, *, epsilon: float, signature: Signature
    ) -> budget.Entry:
        """Raise an account's epsilon by that much."""
        return self.submit(Grant(key=key, scope=scope, epsilon=epsilon, signature=signature))

    def reserve(
        self,
        key: str,
        *,
        protection: tuple[Scope, ...],
        charge: Charge,
        ttl_s: int,
        quota: tuple[Scope, ...] = (),
    ) -> budget.Entry:
        """Set budget aside before an act's first release; the reservation is named by `key`."""
        return self.submit(
            Reserve(key=key, protection=protection, charge=charge, ttl_s=ttl_s, quota=quota)
        )

    def watermark(
        self, key: str, reservation: str, *, consumed: Charge, ttl_s: int | None = None
    ) -> budget.Entry:
        """Say, before it is released, how much will certainly be spent; `ttl_s` renews the time."""
        return self.submit(
            Watermark(key=key, reservation=reservation, consumed=consumed, ttl_s=ttl_s)
        )

    def commit(self, key: str, reservation: str, *, actual: Charge | None = None) -> budget.Entry:
        """End a reservation by what happened; None: all of it."""
        return self.submit(Commit(key=key, reservation=reservation, actual=actual))

    def refund(self, key: str, reservation: str) -> budget.Entry:
        """End a reservation of which nothing was released."""
        return self.submit(Refund(key=key, reservation=reservation))

    def propose_void(self, key: str, reservation: str, *, signature: Signature) -> budget.Entry:
        """Ask, as the first of two persons, for spending to be struck out."""
        return self.submit(ProposeVoid(key=key, reservation=reservation, signature=signature))

    def approve_void(self, key: str, reservation: str, *, signature: Signature) -> budget.Entry:
        """Strike it out, as the second person."""
        return self.submit(ApproveVoid(key=key, reservation=reservation, signature=signature))

    def reset_clock(self, key: str, *, signature: Signature) -> budget.Entry:
        """Set the ledger's time to the clock's, after a clock that had run ahead was put right."""
        return self.submit(ResetClock(key=key, signature=signature))

    def expire_due(self) -> list[budget.Entry]:
        """Commit, in full, every open reservation whose time ran out; return the entries.

        Any process may call it, at any time, also several at once.
        """
        now_us = self._now_us()
        expired = []
        for _, document in list(self._journal.documents(LEDGER, OPEN)):
            held = budget.reservation_from_json(document)
            if held.status_at(now_us) is Status.EXPIRED:
                with suppress(ReservationClosed):  # somebody else was first
                    expired.append(self.submit(Expire(reservation=held.key)))
        return expired

    def balance(self, scope: Scope) -> ScopeState:
        """Return an account as it stands; `UnknownScope` if none was opened for the scope."""
        document = self._journal.document(LEDGER, scope_name(scope))
        if document is None:
            raise UnknownScope(str(scope))
        return budget.scope_state_from_json(document)

    def accounts(self) -> list[ScopeState]:
        """Return all accounts by scope."""
        documents = self._journal.documents(LEDGER, SCOPE)
        return [budget.scope_state_from_json(document) for _, document in documents]

    def reservation(self, key: str) -> Reservation:
        """Return a reservation as it stands; one past its time is open until `expire_due` ran.

        Raises:
            UnknownReservation: there is none of that name.
        """
        for name in reservation_names(key):
            if (document := self._journal.document(LEDGER, name)) is not None:
                return budget.reservation_from_json(document)
        raise UnknownReservation(key)

    def open_reservations(self) -> list[Reservation]:
        """Return the reservations that have not ended, by name."""
        documents = self._journal.documents(LEDGER, OPEN)
        return [budget.reservation_from_json(document) for _, document in documents]

    def history(self, *, after: int = 0) -> Iterator[Fact]:
        """Yield the ledger's facts in order, repairs left out.

        Raises:
            MalformedEntry: an entry was damaged; `verify` says which and how.
        """
        return facts(self._journal.read(LEDGER, after=after))

    def verify(self) -> Head:
        """Check everything there is to check, and return the head.

        The chain, every anchored head, and that the accounts are what the entries add up to; the
        last takes the ledger's lock for about 0.1 ms an entry.

        Raises:
            ChainBroken: which entry, expected and found hash. The ledger is read-only now.
            JournalHalted: it was found damaged earlier, or an account is not what the entries say.
            JournalWentBack: the anchor knows entries that the ledger lacks.
        """
        head = self._journal.verify(LEDGER)
        require_anchored(self._journal, LEDGER, self._anchor, every=True)
        self._journal.compare(LEDGER, fold)
        return head

    def repair(self, *, by: str, reason: str) -> None:
        """Let a damaged ledger be written again; an authorised person's act, and journalled.

        Every break is acknowledged with its hashes. Of what the entries and the accounts say, the
        worse holds from here on: damage may cost budget, it never returns any.

        Args:
            by: the person; the caller has checked who they are.
            reason: why the damage may be lived with.

        Raises:
            InvalidParameter: the ledger is intact.
            MalformedEntry: neither the entries nor the accounts can be read any more.
        """
        self._journal.repair(LEDGER, by=by, reason=reason, settle=settle)

    def export(self, path: Path | str, *, key: HeadKey | None = None) -> int:
        """Write the whole chain as JSON lines, ended by a signed head if there is a `key`.

        Returns the number of entries. `verify_export` checks the file without a database.

        Raises:
            ChainBroken, WriteFailed: no file was made or changed.
        """
        return write_export(self._journal, LEDGER, Path(path), key=key)

    def head(self) -> Head:
        """Return where the ledger ends now."""
        return self._journal.status(LEDGER).head

    def anchor_now(self) -> SignedHead:
        """Record the current head in the anchor; from then on an older copy is refused.

        Raises:
            InvalidParameter: the store was opened without an anchor.
            WriteFailed: the disk refused.
        """
        if self._anchor is None:
            raise InvalidParameter("anchor", found=None, expected="an anchor file")
        return self._anchor.record(LEDGER, self.head())

    def close(self) -> None:
        """Record the head in the anchor, if it moved, and let go of the database."""
        if self._anchor is not None:
            anchored = self._anchor.heads(LEDGER)
            if self.head().seq > (anchored[-1].seq if anchored else 0):
                self.anchor_now()
        self._journal.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, and after an error let go of the database only."""
        if error is None:
            self.close()
        else:
            self._journal.close()

    def _involved(self, command: Command) -> list[str]:
        """Return the documents that a decision needs. What they name never changes afterwards."""
        if isinstance(command, ResetClock):
            held = [name for name, _ in self._journal.documents(LEDGER, OPEN)]
            return [CLOCK, *(scope_name(account.scope) for account in self.accounts()), *held]
        named = getattr(command, "reservation", None)
        name = command.key if isinstance(command, Reserve) else named
        reservation = None
        if named is not None:
            with suppress(UnknownReservation):
                reservation = self.reservation(named)
        scopes = budget.involved_scopes(command, reservation)
        names = [CLOCK, *map(scope_name, scopes)]
        return names if name is None else [*names, *reservation_names(name)]

    def _now_us(self) -> int:
        return (self._clock.now() - _EPOCH) // timedelta(microseconds=1)
