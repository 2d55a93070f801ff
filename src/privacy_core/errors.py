"""What can go wrong in the mathematics, as a tree.

PrivacyError
+-- InvalidParameter      a caller's number is outside its domain
+-- UnsupportedEvent      an accountant cannot price this act; nothing was changed
+-- CalibrationFailed     no parameter in the bracket meets the target
+-- MalformedEvent        stored or received data is not an event this version knows
+-- BudgetError           the ledger refused; nothing was changed
    +-- BudgetExhausted        a scope has no room; carries requested and remaining of each
    +-- UnknownScope           no account was opened for the scope
    +-- AccountExists          an account is open for the scope already
    +-- ScopeMismatch          the act was priced for another relation, unit or list of orders
    +-- UnknownReservation     no reservation has this key
    +-- ReservationClosed      it was committed, refunded, voided, or its time ran out
    +-- RefundAfterRelease     something was released, so it stays spent
    +-- CommitOutOfBounds      more than was reserved, or less than was marked as consumed
    +-- IdempotencyConflict    the key was used for another request
    +-- NotAuthorised          the person may not sign this, or signed it already
    +-- ClockWentBack          the clock is behind the ledger
    +-- MalformedEntry         stored data is not an entry this version knows, or does not follow

Every error carries the numbers that caused it, never the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class PrivacyError(Exception):
    """Base of every error this platform raises on purpose."""

    code: ClassVar[str] = "privacy_error"


class InvalidParameter(PrivacyError, ValueError):
    """A caller's number is outside its domain. Nothing was computed.

    It is a `ValueError` too, so that callers who know only Python catch it.
    """

    code: ClassVar[str] = "invalid_parameter"

    def __init__(self, parameter: str, *, found: object, expected: str) -> None:
        super().__init__(parameter, found, expected)
        self.parameter = parameter
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.parameter} is {self.found!r}, expected {self.expected}"


class UnsupportedEvent(PrivacyError):
    """An accountant has no sound price for this event. Nothing was composed."""

    code: ClassVar[str] = "unsupported_event"

    def __init__(self, *, accountant: str, event: str, reason: str) -> None:
        super().__init__(accountant, event, reason)
        self.accountant = accountant
        self.event = event
        self.reason = reason

    def __str__(self) -> str:
        return f"accountant {self.accountant!r} cannot price {self.event}: {self.reason}"


class CalibrationFailed(PrivacyError):
    """No parameter in the searched bracket meets the target."""

    code: ClassVar[str] = "calibration_failed"

    def __init__(self, parameter: str, *, lowest: float, highest: float, target: str) -> None:
        super().__init__(parameter, lowest, highest, target)
        self.parameter = parameter
        self.lowest = lowest
        self.highest = highest
        self.target = target

    def __str__(self) -> str:
        return (
            f"no {self.parameter} between {self.lowest:g} and {self.highest:g} "
            f"meets {self.target}; nothing was chosen"
        )


class MalformedEvent(PrivacyError, ValueError):
    """Stored or received data does not describe an event that this version knows."""

    code: ClassVar[str] = "malformed_event"


class BudgetError(PrivacyError):
    """Base of the ledger's refusals. Nothing was changed."""

    code: ClassVar[str] = "budget_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """One scope that has no room.

    Args:
        scope: its name.
        limit: `lifetime` for the cap, `window` for the throttle.
        epsilon_requested: by how much the scope's epsilon would rise.
        epsilon_remaining: how much it may rise.
    """

    scope: str
    limit: str
    epsilon_requested: float
    epsilon_remaining: float

    def __str__(self) -> str:
        return (
            f"{self.scope} has epsilon {self.epsilon_remaining:.6g} left ({self.limit}), "
            f"{self.epsilon_requested:.6g} was requested"
        )


class BudgetExhausted(BudgetError):
    """At least one scope has no room for the request. Nothing was spent."""

    code: ClassVar[str] = "budget_exhausted"

    def __init__(self, shortages: tuple[Shortage, ...]) -> None:
        super().__init__(shortages)
        self.shortages = shortages

    def __str__(self) -> str:
        return f"{'; '.join(str(shortage) for shortage in self.shortages)}; nothing was spent"


class UnknownScope(BudgetError, KeyError):
    """No account was opened for the scope. What has no cap cannot be spent."""

    code: ClassVar[str] = "unknown_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope

    def __str__(self) -> str:
        return f"no account is open for {self.scope}; nothing was spent"


class AccountExists(BudgetError):
    """An account is open for the scope already. It was not changed."""

    code: ClassVar[str] = "account_exists"

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope

    def __str__(self) -> str:
        return f"an account is open for {self.scope} already; grant it more, nothing was changed"


class ScopeMismatch(BudgetError):
    """The act was priced for another relation, unit or list of orders than the scope counts in."""

    code: ClassVar[str] = "scope_mismatch"

    def __init__(self, scope: str, *, found: str, expected: str) -> None:
        super().__init__(scope, found, expected)
        self.scope = scope
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.scope} counts in {self.expected}, found {self.found}; nothing was spent"


class UnknownReservation(BudgetError, KeyError):
    """No reservation has this key."""

    code: ClassVar[str] = "unknown_reservation"

    def __init__(self, reservation: str) -> None:
        super().__init__(reservation)
        self.reservation = reservation

    def __str__(self) -> str:
        return f"there is no reservation {self.reservation!r}; nothing was changed"


class ReservationClosed(BudgetError):
    """The reservation has ended. A later commit, watermark or refund changes nothing."""

    code: ClassVar[str] = "reservation_closed"

    def __init__(self, reservation: str, *, status: str) -> None:
        super().__init__(reservation, status)
        self.reservation = reservation
        self.status = status

    def __str__(self) -> str:
        return f"reservation {self.reservation!r} is {self.status}; nothing was changed"


class RefundAfterRelease(BudgetError):
    """Something was released under the reservation. What was released stays spent."""

    code: ClassVar[str] = "refund_after_release"

    def __init__(self, reservation: str) -> None:
        super().__init__(reservation)
        self.reservation = reservation

    def __str__(self) -> str:
        return (
            f"reservation {self.reservation!r} has a watermark: something was released; commit "
            "what happened instead, nothing was refunded"
        )


class CommitOutOfBounds(BudgetError):
    """What is said to have happened is not between the watermark and the reservation."""

    code: ClassVar[str] = "commit_out_of_bounds"

    def __init__(self, reservation: str, *, bound: str) -> None:
        super().__init__(reservation, bound)
        self.reservation = reservation
        self.bound = bound

    def __str__(self) -> str:
        return f"reservation {self.reservation!r}: the act costs {self.bound}; nothing was changed"


class IdempotencyConflict(BudgetError):
    """The key was used for another request. Nothing was done for this one."""

    code: ClassVar[str] = "idempotency_conflict"

    def __init__(self, key: str, *, earlier: str, found: str) -> None:
        super().__init__(key, earlier, found)
        self.key = key
        self.earlier = earlier
        self.found = found

    def __str__(self) -> str:
        return (
            f"key {self.key!r} belongs to another request ({self.earlier}), found {self.found}; "
            "nothing was changed"
        )


class NotAuthorised(BudgetError):
    """The person may not sign this, or has signed it already and a second one is needed."""

    code: ClassVar[str] = "not_authorised"

    def __init__(self, person: str, *, act: str, reason: str) -> None:
        super().__init__(person, act, reason)
        self.person = person
        self.act = act
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.person!r} may not {self.act}: {self.reason}; nothing was changed"


class ClockWentBack(BudgetError):
    """The clock is behind the ledger by more than clocks differ. Nothing was reserved."""

    code: ClassVar[str] = "clock_went_back"

    def __init__(self, *, now_us: int, latest_us: int) -> None:
        super().__init__(now_us, latest_us)
        self.now_us = now_us
        self.latest_us = latest_us

    def __str__(self) -> str:
        behind_s = (self.latest_us - self.now_us) / 1e6
        return (
            f"the clock is {behind_s:.0f} s behind the ledger's last entry; set it right, or reset "
            "the ledger's time by an authorised person; nothing was reserved"
        )


class MalformedEntry(BudgetError, ValueError):
    """Stored data is not an entry that this version knows, or cannot follow those before it."""

    code: ClassVar[str] = "malformed_entry"
