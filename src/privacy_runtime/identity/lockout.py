"""How long to wait after failures: a machine of two numbers, for accounts and for sources alike.

    lock ends at = last failure + delay(failures),  delay(n) = base * 2^(n - free), n > free, capped

A failure is counted *before* the password is looked at and given back if it was right, so a
thousand guesses sent at once are a thousand failures. While the lock holds nothing is checked or
counted: hammering does not prolong it. An account's count goes to zero by a login; a source's only
loses that one attempt, or an attacker would clear it with an account of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from privacy_core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class LockoutPolicy:
    """When attempts are delayed.

    Args:
        free: failures that cost no delay.
        base_s: the first delay, in seconds; it doubles with each failure.
        most_s: the longest delay, in seconds: a stranger can keep an owner out no longer.
        forget_s: failures this long ago are forgotten, in seconds.
    """

    free: int = 5
    base_s: float = 30.0
    most_s: float = 900.0
    forget_s: float = 86_400.0

    def __post_init__(self) -> None:
        if self.free < 1:
            raise InvalidParameter("free", found=self.free, expected="at least 1")
        if not 0 < self.base_s <= self.most_s < self.forget_s < float("inf"):
            raise InvalidParameter(
                "base_s, most_s, forget_s",
                found=(self.base_s, self.most_s, self.forget_s),
                expected="0 < base_s <= most_s < forget_s",
            )

    def delay_s(self, failures: int) -> float:
        """Seconds of delay after so many failures."""
        over = failures - self.free
        if over < 0:
            return 0.0
        # The exponent is bounded: beyond 64 doublings every cap is reached.
        return float(min(self.base_s * 2.0 ** min(over, 64), self.most_s))


ACCOUNTS = LockoutPolicy()
SOURCES = LockoutPolicy(free=20, base_s=30.0, most_s=3600.0)
"""More patience: an office shares an address."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """Failures of one account or source. `last` is the latest."""

    failures: int = 0
    last: datetime | None = None

    def locked_for_s(self, policy: LockoutPolicy, now: datetime) -> int:
        """Whole seconds until the next attempt is looked at; 0 when it would be now.

        A clock that was put back lengthens no lock beyond its whole length.
        """
        if self.last is None:
            return 0
        delay = policy.delay_s(self.failures)
        passed = (now - self.last).total_seconds()
        return ceil(min(max(0.0, delay - passed), delay))

    def failed(self, policy: LockoutPolicy, now: datetime) -> Attempts:
        """One failure more; forgotten ones are left out."""
        if self.last is not None and now - self.last >= timedelta(seconds=policy.forget_s):
            return Attempts(1, now)
        return Attempts(self.failures + 1, now)

    def given_back(self) -> Attempts:
        """One attempt less: it was no failure."""
        return replace(self, failures=max(0, self.failures - 1))
