"""What a policy may refuse, as a tree. A refused call did not run: nothing was done.

ResilienceError
+-- CircuitOpen        the callee failed too often; calls are held back
+-- BulkheadFull       too many calls run and wait already
+-- RateExceeded       calls come faster than agreed
+-- DeadlineExceeded   the time is over; whether the call had an effect is not known
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class ResilienceError(PrivacyError):
    """A policy ended a call.

    Attributes:
        policy: name of the policy.
        retry_after_s: when a further attempt may fare better; `None` where nobody knows.
    """

    code: ClassVar[str] = "resilience_error"

    def __init__(self, policy: str, retry_after_s: float | None = None) -> None:
        super().__init__(policy, retry_after_s)
        self.policy = policy
        self.retry_after_s = retry_after_s


class CircuitOpen(ResilienceError):
    """The callee failed too often lately. The call did not run."""

    code: ClassVar[str] = "circuit_open"

    def __str__(self) -> str:
        when = (
            "it stays open until somebody closes it"
            if self.retry_after_s is None
            else f"the next trial is in {self.retry_after_s:.1f} s"
        )
        return f"circuit {self.policy!r} is open: {when}; the call did not run"


class BulkheadFull(ResilienceError):
    """As many calls as agreed run and wait. The call did not run."""

    code: ClassVar[str] = "bulkhead_full"

    def __init__(self, policy: str, *, running: int, waiting: int) -> None:
        super().__init__(policy)
        self.running = running
        self.waiting = waiting

    def __str__(self) -> str:
        return (
            f"bulkhead {self.policy!r} is full: {self.running} calls run and {self.waiting} wait; "
            "the call did not run"
        )


class RateExceeded(ResilienceError):
    """Calls come faster than agreed. The call did not run."""

    code: ClassVar[str] = "rate_exceeded"

    def __str__(self) -> str:
        return (
            f"rate {self.policy!r} is exceeded: the next call is due in "
            f"{self.retry_after_s:.3f} s; the call did not run"
        )


class DeadlineExceeded(ResilienceError, TimeoutError):
    """The time of a call is over. Whether it had an effect is not known."""

    code: ClassVar[str] = "deadline_exceeded"

    def __init__(self, policy: str, *, limit_s: float, has_run: bool = True) -> None:
        super().__init__(policy)
        self.limit_s = limit_s
        self.has_run = has_run

    def __str__(self) -> str:
        state = "whether it had an effect is not known" if self.has_run else "the call did not run"
        return f"time limit {self.policy!r}: {self.limit_s:g} s are over; {state}"
