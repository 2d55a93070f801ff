"""The threads that deliver: claim, send, mark, until nothing is due; then wait to be woken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

import orjson
import sqlalchemy as sa

from privacy_runtime import logs
from privacy_runtime.database import Database
from privacy_runtime.notify import outbox
from privacy_runtime.notify.endpoints import Wardrobe, change_row
from privacy_runtime.notify.errors import NotifyUnavailable
from privacy_runtime.notify.outbox import DEAD, DELIVERED, WAITING, Claim, us_of
from privacy_runtime.notify.schedule import delay_s
from privacy_runtime.notify.sinks.outcome import Outcome, Parcel, Sink
from privacy_runtime.world import Clock, Entropy

Attempted = Callable[[str, str], None]
"""Told of every attempt: kind of endpoint; `delivered`, `failed` or `dead`."""
_LONGEST_REST_S: Final = 5.0
_PRUNE_EVERY_S: Final = 3_600.0
_log = logs.logger(__name__)


class Deliverer:
    """Sends what is due. Several may work on one database, in threads and in processes.

    Args:
        database: of the outbox.
        wardrobe: opens addresses and secrets.
        sinks: by kind of endpoint.
        clock: says what is due.
        entropy: names leases, spreads delays.
        attempted: told of every attempt.
    """

    def __init__(
        self,
        database: Database,
        wardrobe: Wardrobe,
        sinks: Mapping[str, Sink],
        *,
        clock: Clock,
        entropy: Entropy,
        attempted: Attempted | None = None,
    ) -> None:
        self._database = database
        self._wardrobe = wardrobe
        self._sinks = sinks
        self._clock = clock
        self._entropy = entropy
        self._attempted = attempted or (lambda _kind, _outcome: None)

    def deliver_one(self) -> bool:
        """Send the delivery that is due longest, once; False: nothing is due.

        Raises:
            NotifyUnavailable: the database could not say, or could not be told.
        """
        lease = self._entropy.token_bytes(12).hex()
        now = self._clock.now()
        claim = self._database.change(lambda c: outbox.claim(c, now=now, lease=lease))
        if claim is None:
            return False
        outcome = self._sent(claim)
        self._settle(claim, outcome)
        return True

    def prune(self) -> int:
        """Remove what ended long ago."""
        return self._database.change(lambda c: outbox.prune(c, now=self._clock.now()))

    def _sent(self, claim: Claim) -> Outcome:
        now = self._clock.now()
        try:
            parcel = Parcel(
                message=claim.message,
                event=claim.event,
                body=claim.body,
                content=orjson.loads(claim.body),
                address=self._wardrobe.address_of(claim.endpoint),
                secrets=self._wardrobe.secrets_of(claim.endpoint, us_of(now)),
                now=now,
            )
            return self._sinks[claim.endpoint.kind].send(parcel)
        except Exception:  # noqa: BLE001  one endpoint's fault must not stop the others'
            _log.exception("a message could not be sent", endpoint_id=claim.endpoint.id)
            return Outcome(reason="internal")

    def _settle(self, claim: Claim, outcome: Outcome) -> None:
        now = self._clock.now()
        wait_s = delay_s(claim.attempts + 1, self._entropy, asked_s=outcome.asked_s)
        state, due_us, ended_us = WAITING, us_of(now), us_of(now)
        if outcome.is_delivered:
            state = DELIVERED
        elif wait_s is None and not outcome.is_gone:
            state = DEAD
        else:
            due_us += 0 if wait_s is None else int(wait_s * 1e6)

        def write(connection: sa.Connection) -> bool:
            kept = outbox.settle(
                connection,
                claim,
                state=state,
                due_us=due_us,
                status=outcome.status,
                reason=outcome.reason,
                ended_us=None if state == WAITING else ended_us,
            )
            if kept and outcome.is_gone:
                gone = {"enabled": False, "stopped_by": "gone"}
                change_row(connection, claim.endpoint.id, gone)
            return kept

        if not self._database.change(write):
            _log.warning("a lease ran out while sending", delivery_id=claim.delivery)
            return
        self._attempted(claim.endpoint.kind, "failed" if state == WAITING else state)
        if state != DELIVERED:
            _log.warning(
                "a message was not delivered",
                endpoint_id=claim.endpoint.id,
                message_id=claim.message,
                outcome=state,
                reason=outcome.reason,
                status=outcome.status,
                attempts=claim.attempts + 1,
            )


class Postmen:
    """Threads that run a deliverer.

    Args:
        deliverer: what they run.
        rest_s: how long until something is due, at most; asked when there is nothing to do.
        threads: how many.
        clock: paces the pruning.
    """

    def __init__(
        self,
        deliverer: Deliverer,
        rest_s: Callable[[], float],
        *,
        threads: int,
        clock: Clock,
    ) -> None:
        self._deliverer = deliverer
        self._rest_s = rest_s
        self._clock = clock
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._pruned_s = clock.monotonic_s()
        self._threads = [
            threading.Thread(target=self._run, name=f"notify-{n}", daemon=True)
            for n in range(threads)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that something is due."""
        self._woken.set()

    def stop(self, limit_s: float = 20.0) -> None:
        """Let attempts under way end, for at most `limit_s` each; what is left is sent later."""
        self._stopped.set()
        self._woken.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(limit_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            try:
                if self._deliverer.deliver_one():
                    continue
                self._prune()
                rest_s = min(self._rest_s(), _LONGEST_REST_S)
            except NotifyUnavailable:
                _log.exception("the outbox is away")
                rest_s = _LONGEST_REST_S
            except Exception:  # noqa: BLE001  a thread that ended would deliver nothing any more
                _log.exception("delivering failed")
                rest_s = _LONGEST_REST_S
            if not self._stopped.is_set():
                self._woken.wait(rest_s)

    def _prune(self) -> None:
        if self._clock.monotonic_s() - self._pruned_s >= _PRUNE_EVERY_S:
            self._pruned_s = self._clock.monotonic_s()
            self._deliverer.prune()
