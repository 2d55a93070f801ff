"""What recovery refuses, as a tree.

FailureRecoveryError
+-- UnknownPoint           there is no such recovery point
+-- NoVerifiedPoint        none of the states that are there is what was written
+-- RecoveryRefused        finishing would cost more than the budget leaves; says both numbers
+-- RecoveryGivenUp        attempts without progress are used up, or no step of the strategy is left
+-- RehearsalFailed        a fault could not be injected in the sandbox; nothing was measured

The run that failed stays as it was, and what it spent stays spent.
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class FailureRecoveryError(PrivacyError):
    """Base of what recovery refuses."""

    code: ClassVar[str] = "failure_recovery_error"


class UnknownPoint(FailureRecoveryError, KeyError):
    """There is no such recovery point."""

    code: ClassVar[str] = "not_found"

    def __init__(self, point: str) -> None:
        super().__init__(point)
        self.point = point

    def __str__(self) -> str:
        return f"there is no recovery point {self.point!r}"


class NoVerifiedPoint(FailureRecoveryError):
    """None of the states that are there is what was written. Nothing was loaded."""

    code: ClassVar[str] = "no_verified_point"


class RecoveryRefused(FailureRecoveryError):
    """Finishing would cost more than the budget leaves. Nothing was spent.

    Attributes:
        epsilon_needed: what the run would have cost at its end, lost steps included.
        epsilon_total: of the budget.
        share: of the budget, above which nothing is recovered.
    """

    code: ClassVar[str] = "recovery_refused"

    def __init__(self, *, epsilon_needed: float, epsilon_total: float, share: float) -> None:
        super().__init__(epsilon_needed, epsilon_total, share)
        self.epsilon_needed = epsilon_needed
        self.epsilon_total = epsilon_total
        self.share = share

    def __str__(self) -> str:
        return (
            f"recovered, the run would cost epsilon {self.epsilon_needed:.6g} of "
            f"{self.epsilon_total:.6g}; recovery may go to {self.share:.6g} of the budget, "
            f"epsilon {self.share * self.epsilon_total:.6g}; nothing was spent"
        )


class RecoveryGivenUp(FailureRecoveryError):
    """Attempts without progress are used up, or no step of the strategy is left."""

    code: ClassVar[str] = "recovery_given_up"


class RehearsalFailed(FailureRecoveryError):
    """A fault could not be injected in the sandbox. Nothing was measured."""

    code: ClassVar[str] = "rehearsal_failed"
