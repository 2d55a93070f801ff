"""The doors that responses go through: a run's end, a digest's list, a plan, rates, identity.

Each does one act, and says what it did. A detector without a service has the first three.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from privacy_core.accounting.calibration import calibrate_noise_multiplier
from privacy_finetuner.operations.alerts import Alert
from privacy_finetuner.operations.quarantine import Quarantine
from privacy_finetuner.operations.responses import SERVICE, Door, NotPossible, named
from privacy_finetuner.operations.restraints import MOST, Restraints
from privacy_runtime.identity import Method, Principal, Scope, Sessions
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.signing import KeyHome
from privacy_runtime.world import Clock

JOURNAL_FILE: Final = "security-journal.db"
PLAN: Final = ("epsilon_left", "delta", "sample_rate", "steps")
"""What an alert must be about for a new plan to be priced."""


class Halts:
    """Runs that should end; `run_callback` ends them after the step they are at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: set[str] = set()

    def __contains__(self, run: object) -> bool:
        """Whether a run should end."""
        with self._lock:
            return run in self._runs

    def door(self, alert: Alert) -> str:
        """Ask for the end of the run that an alert is about."""
        run = named(alert, "run")
        with self._lock:
            self._runs.add(run)
        return f"{run} ends in order after its step, where the detector's callback is attached"


def quarantine(sources: Quarantine) -> Door:
    """Set the records aside whose digest an alert is about."""

    def set_aside(alert: Alert) -> str:
        sha256 = named(alert, "sha256")
        sources.set_aside(alert.tenant, sha256, by=SERVICE, reason=f"{alert.rule}: {alert.id}")
        return f"records of digest {sha256[:12]} are set aside until somebody releases them"

    return set_aside


def new_plan(alert: Alert) -> str:
    """Price a plan with what is left: more noise, the same steps. Nothing is changed or charged."""
    if any(name not in alert.about for name in PLAN):
        raise NotPossible("no plan to go by: pass `plan` with sample_rate, steps and delta")
    left, delta, rate, steps = (float(alert.about[name]) for name in PLAN)
    if left <= 0:
        raise NotPossible("nothing is left of the run's epsilon: a plan needs a grant first")
    noise = calibrate_noise_multiplier(
        epsilon=left, delta=delta, sample_rate=rate, steps=int(steps)
    )
    return (
        f"proposed, not begun: a new plan of {int(steps)} steps at sampling rate {rate:g} costs "
        f"epsilon {left:.3g} with noise multiplier {noise:.3f}; the run's own noise stays"
    )


def throttle(restraints: Restraints) -> Door:
    """Let the user whom an alert is about ask less for half an hour."""

    def restrain(alert: Alert) -> str:
        subject = named(alert, "subject")
        reason = f"{alert.rule}: {alert.id}"
        until = restraints.restrain(alert.tenant, subject, by=SERVICE, reason=reason)
        return f"{subject} may make {MOST} requests a minute until {until.isoformat()}"

    return restrain


def revoke(sessions: Sessions, clock: Clock) -> Door:
    """End every session of the user whom an alert is about, and every access token with them."""

    def end(alert: Alert) -> str:
        subject = named(alert, "subject")
        service = Principal(
            subject=SERVICE,
            tenant=alert.tenant,
            scopes=frozenset({Scope.USERS_WRITE}),
            method=Method.API_KEY,
            authenticated_at=clock.now(),
            session=SERVICE,
        )
        ended = sessions.revoke_subject(service, subject)
        return f"{ended} sessions of {subject} were ended; they log in again"

    return end


def own_journal(clock: Clock) -> Journal:
    """The journal of this account, made where there is none.

    Raises:
        WriteFailed, JournalError: its folder cannot be used.
    """
    folder = KeyHome.of(os.environ).folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Journal(SqliteHome(folder / JOURNAL_FILE), clock=clock)
