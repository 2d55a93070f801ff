"""What can go wrong in the router, as a tree.

PrivacyError
+-- FederatedError             base of the router's refusals
    +-- PrivacyBudgetExceeded  a user or the cohort has no room; nothing was spent or released
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class FederatedError(PrivacyError):
    """Base of every error that the router raises on purpose."""

    code: ClassVar[str] = "federated_error"


class PrivacyBudgetExceeded(FederatedError):
    """A user, or the people in the records, has no room for the request.

    Attributes:
        user_id: whose limit, or the name of the cohort.
        requested: by how much the epsilon would have risen.
        available: how much it may rise.
    """

    code: ClassVar[str] = "privacy_budget_exceeded"

    def __init__(self, user_id: str, requested: float, available: float) -> None:
        super().__init__(user_id, requested, available)
        self.user_id = user_id
        self.requested = requested
        self.available = available

    def __str__(self) -> str:
        return (
            f"Privacy budget exceeded for {self.user_id}: requested {self.requested:.6g}, "
            f"available {self.available:.6g}; nothing was spent"
        )
