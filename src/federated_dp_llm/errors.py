"""What can go wrong in the router, as a tree.

PrivacyError
+-- FederatedError             base of the router's refusals
    +-- PrivacyBudgetExceeded  a user or the cohort has no room; nothing was spent or released
    +-- BudgetTooSmall         no such answer can be bought at this epsilon; names the smallest
    +-- ConsensusUnavailable   agreement would be a coin flip at this price
    +-- UnknownNode            no such node is registered
    +-- NodeRefused            a node refused a request or broke the protocol
    +-- NodeUnavailable        a node, or enough of them, cannot be reached
    +-- Overloaded             more is asked than can be answered; come back later
    +-- SolverUnavailable      a solver needs what is not installed (quantum_planning.solver)
    +-- SolverUnsuitable       a solver cannot solve a problem of this kind or size
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


class BudgetTooSmall(FederatedError):
    """What was asked for cannot be bought with this epsilon, whoever has how much left.

    Attributes:
        epsilon: that was offered.
        least: the smallest that would do, under these terms.
        needs: what it would buy, in words.
    """

    code: ClassVar[str] = "budget_too_small"

    def __init__(self, epsilon: float, least: float, needs: str) -> None:
        super().__init__(epsilon, least, needs)
        self.epsilon = epsilon
        self.least = least
        self.needs = needs

    def __str__(self) -> str:
        return (
            f"privacy_budget {self.epsilon:.4g} does not buy {self.needs}; at least "
            f"{self.least:.4g} is needed; nothing was spent"
        )


class ConsensusUnavailable(FederatedError):
    """Agreement of so few slots, at this price, says nothing.

    Attributes:
        slots: that would vote.
        error: the chance of a wrong flag, at nine of ten agreeing.
        least: the smallest epsilon with which it would say something; None: no epsilon.
    """

    code: ClassVar[str] = "consensus_unavailable"

    def __init__(self, slots: int, error: float, least: float | None) -> None:
        super().__init__(slots, error, least)
        self.slots = slots
        self.error = error
        self.least = least

    def __str__(self) -> str:
        need = "more record slots" if self.least is None else f"privacy_budget {self.least:.4g}"
        return (
            f"consensus of {self.slots} slots would be wrong in {self.error:.0%} of the cases; "
            f"it needs {need}; nothing was spent"
        )


class UnknownNode(FederatedError):
    """No node of this name is registered."""

    code: ClassVar[str] = "unknown_node"

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self.node_id = node_id

    def __str__(self) -> str:
        return f"no node {self.node_id!r} is registered"


class NodeRefused(FederatedError):
    """A node refused, or what it sent breaks the protocol.

    Attributes:
        node_id: which.
        reason: its code, or what is wrong with what it sent; never its content.
        room: how many tokens may follow the prompt, where it left too few; else None.
    """

    code: ClassVar[str] = "node_refused"

    def __init__(self, node_id: str, reason: str, *, room: int | None = None) -> None:
        super().__init__(node_id, reason)
        self.node_id = node_id
        self.reason = reason
        self.room = room

    def __str__(self) -> str:
        return f"node {self.node_id!r}: {self.reason}"


class NodeUnavailable(FederatedError):
    """Not enough nodes can be reached.

    Attributes:
        node_id: which one, or "" for all of them.
        reason: what happened.
        retry_after_s: when to come back.
    """

    code: ClassVar[str] = "node_unavailable"

    def __init__(self, node_id: str, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(node_id, reason, retry_after_s)
        self.node_id = node_id
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"node {self.node_id!r}: {self.reason}" if self.node_id else self.reason


class Overloaded(FederatedError):
    """The queue is full, or the deadline cannot be met.

    Attributes:
        retry_after_s: when to come back.
    """

    code: ClassVar[str] = "overloaded"

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason, retry_after_s)
        self.reason = reason
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.reason}; come back in {self.retry_after_s:.3g} s; nothing was spent"
