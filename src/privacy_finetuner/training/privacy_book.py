"""What a trainer has been granted and has spent, in order, for good.

Grants and releases are only ever appended. What was spent before the last grant no longer counts
against it, and is still part of `lifetime`: the data does not forget when a budget is renewed.

Spending adds up by basic composition (epsilons add, deltas add), which is valid also when a later
release is chosen after looking at an earlier one (Rogers et al. 2016, arXiv:1605.08294, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from privacy_finetuner.errors import CheckpointError, PrivacyBudgetExhaustedException
from privacy_finetuner.results import PrivacySpent

BOOK_VERSION: Final = 1

# Amounts are added as floats; this much may be rounding and is not an overspend.
_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A budget that became available. `release_count` releases came before it."""

    epsilon: float
    delta: float
    reason: str
    at: str
    release_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A private act that happened, with its price and its event.

    Releases with the same `job_id` are states of one act: the latest covers the earlier ones.
    """

    what: str
    job_id: str
    epsilon: float
    delta: float
    at: str
    event: Mapping[str, Any] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class PrivacyBook:
    """Grants and releases of one data set in one trainer."""

    grants: list[Grant] = field(default_factory=list)
    releases: list[Release] = field(default_factory=list)

    @property
    def spent(self) -> PrivacySpent:
        """Spent since the last grant."""
        first = self.grants[-1].release_count if self.grants else 0
        return _total(self.releases[first:])

    @property
    def lifetime(self) -> PrivacySpent:
        """Spent since the beginning; never falls."""
        return _total(self.releases)

    @property
    def remaining(self) -> PrivacySpent:
        """What is left of the last grant; never negative."""
        if not self.grants:
            return PrivacySpent(epsilon=0.0, delta=0.0)
        spent, grant = self.spent, self.grants[-1]
        return PrivacySpent(
            epsilon=_left(grant.epsilon, spent.epsilon), delta=_left(grant.delta, spent.delta)
        )

    def grant(self, epsilon: float, delta: float, *, reason: str, at: str) -> None:
        """Open a new budget. What was spent before stays in `lifetime`."""
        self.grants.append(
            Grant(
                epsilon=epsilon,
                delta=delta,
                reason=reason,
                at=at,
                release_count=len(self.releases),
            )
        )

    def raise_to(self, epsilon: float, delta: float, *, reason: str, at: str) -> None:
        """Raise the running budget where it is lower; what was spent keeps counting against it."""
        last = self.grants[-1]
        if epsilon > last.epsilon or delta > last.delta:
            self.grants.append(
                Grant(
                    epsilon=max(epsilon, last.epsilon),
                    delta=max(delta, last.delta),
                    reason=reason,
                    at=at,
                    release_count=last.release_count,
                )
            )

    def left_for(self, job_id: str) -> PrivacySpent:
        """What an act may cost in all: what is left, and what the same act has spent before."""
        first = self.grants[-1].release_count if self.grants else 0
        earlier = _total([r for r in self.releases[first:] if r.job_id == job_id])
        left = self.remaining
        return PrivacySpent(
            epsilon=left.epsilon + earlier.epsilon, delta=left.delta + earlier.delta
        )

    def copy(self) -> PrivacyBook:
        """An account with the same entries, to draft what may not come to pass."""
        return PrivacyBook(grants=list(self.grants), releases=list(self.releases))

    def keep_releases_of(self, other: PrivacyBook) -> None:
        """Add the releases of another account that this one lacks: nothing spent is forgotten."""
        known = {release.job_id: release.epsilon for release in self.releases}
        for release in other.releases:
            if known.get(release.job_id, -1.0) < release.epsilon:
                self.releases.append(release)

    def require(self, epsilon: float, delta: float, *, job_id: str) -> None:
        """Check that an amount is left for an act, beside what the same act has spent before.

        Advisory: `add` is what counts.

        Raises:
            PrivacyBudgetExhaustedException: it is not; nothing was spent.
        """
        left = self.left_for(job_id)
        if epsilon > left.epsilon * (1 + _SLACK) or delta > left.delta * (1 + _SLACK):
            raise PrivacyBudgetExhaustedException(
                epsilon_requested=epsilon,
                epsilon_remaining=left.epsilon,
                delta_requested=delta,
                delta_remaining=left.delta,
            )

    def add(self, release: Release) -> None:
        """Record what happened, also when it exceeds the budget: it did happen."""
        self.releases.append(release)

    def to_json(self) -> dict[str, Any]:
        """Write the book as JSON-ready data."""
        return {
            "version": BOOK_VERSION,
            "grants": [asdict(grant) for grant in self.grants],
            "releases": [asdict(release) for release in self.releases],
        }

    @classmethod
    def from_json(cls, document: Any) -> PrivacyBook:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: another version, or not such a document.
        """
        found = document.get("version") if isinstance(document, Mapping) else None
        if found != BOOK_VERSION:
            raise CheckpointError(
                f"the privacy state has version {found!r}, expected {BOOK_VERSION}"
            )
        try:
            return cls(
                grants=[Grant(**grant) for grant in document["grants"]],
                releases=[Release(**release) for release in document["releases"]],
            )
        except (KeyError, TypeError) as error:
            raise CheckpointError("the privacy state lacks or has unknown fields") from error


def _total(releases: list[Release]) -> PrivacySpent:
    latest = {release.job_id: release for release in releases}.values()
    return PrivacySpent(
        epsilon=math.fsum(r.epsilon for r in latest), delta=math.fsum(r.delta for r in latest)
    )


def _left(granted: float, spent: float) -> float:
    left = granted - spent
    return left if left > granted * _SLACK else 0.0
