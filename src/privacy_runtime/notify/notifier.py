"""The notifier: what other rooms say things to, and where people keep their endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import sqlalchemy as sa

from privacy_core.errors import InvalidParameter
from privacy_runtime.database import Database
from privacy_runtime.notify import outbox
from privacy_runtime.notify.delivery import Attempted, Deliverer, Postmen
from privacy_runtime.notify.directory import Directory
from privacy_runtime.notify.endpoints import Seals, change_row, events_of, spelled
from privacy_runtime.notify.notices import EVENTS, BudgetStanding, Notice
from privacy_runtime.notify.outbox import Standing, us_of
from privacy_runtime.notify.schema import ENDPOINTS, OPERATOR, OUTBOX, PLACES
from privacy_runtime.notify.sinks.email import Email, MailServer
from privacy_runtime.notify.sinks.http import Posting, Webhook, require_seconds
from privacy_runtime.notify.sinks.outcome import Sink
from privacy_runtime.notify.sinks.slack import Slack
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyOptions:
    """How messages are delivered.

    Args:
        posting: of webhooks and Slack.
        mail: who takes e-mail; None: nobody.
        operator: endpoints of whoever runs the deployment, by kind and address: they get what
            every organisation announces.
        operator_events: what they want.
        threads: that deliver at once; one slow receiver occupies one.
        pool_size, max_overflow: connections to PostgreSQL that are kept, and further ones.
    """

    posting: Posting = field(default_factory=Posting)
    mail: MailServer | None = None
    operator: tuple[tuple[str, Secret], ...] = ()
    operator_events: tuple[str, ...] = tuple(EVENTS)
    threads: int = 2
    pool_size: int = 5
    max_overflow: int = 10


class Notifier(Directory):
    """Announces, durably, and delivers. See `outbox` for what is guaranteed.

    Raises:
        NotifyUnavailable: from every method that needs the database while it is away.
    """

    def __init__(
        self,
        database: Database,
        *,
        seal: Seals,
        clock: Clock,
        entropy: Entropy,
        options: NotifyOptions,
        attempted: Attempted | None = None,
    ) -> None:
        require_seconds(options.posting.limit_s)
        super().__init__(database, seal=seal, posting=options.posting, clock=clock, entropy=entropy)
        self._options = options
        sinks: Mapping[str, Sink] = {
            "webhook": Webhook(options.posting),
            "slack": Slack(options.posting),
            "email": Email(options.mail),
        }
        self.deliverer = Deliverer(
            database, self._wardrobe, sinks, clock=clock, entropy=entropy, attempted=attempted
        )
        self._postmen: Postmen | None = None
        self._database.change(self._keep_operators)

    @classmethod
    def open(
        cls,
        where: Path | str,
        *,
        seal: Seals,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        options: NotifyOptions | None = None,
        attempted: Attempted | None = None,
    ) -> Self:
        """Open the outbox, and make it where there is none.

        Args:
            where: a SQLite file, or `postgresql://...`.
            seal: encrypts addresses and secrets; `identity.sealing.Seal`.
            clock: None: the machine's.
            entropy: None: the system's.
            options: see there.
            attempted: told of every attempt, for metrics.
        """
        options = options or NotifyOptions()
        database = Database(
            where, OUTBOX, pool_size=options.pool_size, max_overflow=options.max_overflow
        )
        try:
            return cls(
                database,
                seal=seal,
                clock=clock or SystemClock(),
                entropy=entropy or SystemEntropy(),
                options=options,
                attempted=attempted,
            )
        except BaseException:
            database.close()
            raise

    def start(self) -> None:
        """Deliver in the background. Twice is once."""
        if self._postmen is None:
            self._postmen = Postmen(
                self.deliverer, self._rest_s, threads=self._options.threads, clock=self._clock
            )
            self._postmen.start()

    def stop(self) -> None:
        """Deliver no more; what waits is delivered after the next start."""
        if self._postmen is not None:
            self._postmen.stop()
            self._postmen = None

    def close(self) -> None:
        """Stop, and let go of the database."""
        self.stop()
        self._database.close()

    def announce(self, notice: Notice) -> str:
        """Say that something happened; on the disk when this returns.

        Guarantee: every enabled endpoint that wants it gets it at least once, or it is given up
        after ten attempts and stays to be looked at. The same notice again changes nothing.

        Returns the message's id.
        """
        now = self._clock.now()
        message = self._database.change(
            lambda c: outbox.announce(c, notice, now=now, new_id=self._new_id)
        )
        self._wake()
        return message

    def place(self, follower: str, *, first: int) -> int:
        """How far a follower of a stream has announced; `first`, if it begins now."""
        mine = PLACES.c.follower == follower

        def work(connection: sa.Connection) -> int:
            held = connection.execute(sa.select(PLACES.c.place).where(mine)).scalar()
            if held is None:
                connection.execute(sa.insert(PLACES).values(follower=follower, place=first))
            return first if held is None else int(held)

        return self._database.change(work)

    def announce_all(self, notices: Iterable[Notice], *, follower: str, place: int) -> None:
        """Announce several, and keep how far the follower is, in one transaction.

        A crash neither loses a notice nor, but for one that is under way, says one twice.
        """
        found, now = list(notices), self._clock.now()
        mine = (PLACES.c.follower == follower) & (PLACES.c.place < place)

        def work(connection: sa.Connection) -> None:
            for notice in found:
                outbox.announce(connection, notice, now=now, new_id=self._new_id)
            connection.execute(sa.update(PLACES).where(mine).values(place=place))

        self._database.change(work)
        if found:
            self._wake()

    def watch_budgets(self, standings: Iterable[BudgetStanding], *, threshold: float) -> int:
        """Announce `privacy_budget_warning` for accounts that passed `threshold` since last time.

        Returns how many were announced.

        Raises:
            InvalidParameter: the threshold is not in (0, 1].
        """
        if not 0 < threshold <= 1:
            raise InvalidParameter("threshold", found=threshold, expected="a share in (0, 1]")
        count = 0
        now = self._clock.now()
        for standing in standings:

            def look(connection: sa.Connection, standing: BudgetStanding = standing) -> bool:
                return outbox.warn(
                    connection, standing, threshold=threshold, now=now, new_id=self._new_id
                )

            count += self._database.change(look)
        if count:
            self._wake()
        return count

    def standing(self) -> Standing:
        """How the outbox stands, for metrics and health."""
        now = self._clock.now()
        return self._database.read(lambda c: outbox.standing(c, now=now))

    def connections(self) -> Mapping[str, int]:
        """Connections of the pool: `in_use`, `idle`."""
        return self._database.connections()

    def _keep_operators(self, connection: sa.Connection) -> None:
        """Make the operator's endpoints what the configuration says, each under a fixed id."""
        wanted = spelled(events_of(self._options.operator_events))
        kept = []
        for number, (kind, address) in enumerate(self._options.operator):
            endpoint = f"endp_operator{number}{kind}"
            kept.append(endpoint)
            values = {
                "kind": kind,
                "address": self._wardrobe.address(endpoint, address),
                "shown": self._shown(kind, address),
                "events": wanted,
                "enabled": True,
            }
            held = sa.select(ENDPOINTS.c.id).where(ENDPOINTS.c.id == endpoint)
            if connection.execute(held).first() is None:
                row = {"id": endpoint, "tenant": OPERATOR, "created_us": us_of(self._clock.now())}
                connection.execute(sa.insert(ENDPOINTS).values(**values, **row))
            else:
                change_row(connection, endpoint, values)
        gone = (ENDPOINTS.c.tenant == OPERATOR) & ENDPOINTS.c.id.not_in(kept)
        connection.execute(sa.update(ENDPOINTS).where(gone).values(enabled=False))

    def _rest_s(self) -> float:
        due = self._database.read(outbox.next_due)
        if due is None:
            return float("inf")
        return max(0.05, (due - self._clock.now()).total_seconds())

    def _wake(self) -> None:
        if self._postmen is not None:
            self._postmen.wake()
