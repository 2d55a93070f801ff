"""Whom a private evaluation is charged to: the people in the records that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from privacy_core import dp_events
from privacy_core.dp_events import DpEvent
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.ledger_account import LedgerAccount
from privacy_finetuner.training.privacy_book import PrivacyBook, Release


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationBudget:
    """What one private evaluation costs, and where.

    Args:
        book: the trainer's own account of these records; with a ledger it only keeps count.
        ledger: their account in a ledger, which then decides.
        act: names the evaluation.
        epsilon, delta: its price.
        relation, unit: what the price is for.
        now: the time, for the book.
    """

    book: PrivacyBook
    ledger: LedgerAccount | None
    act: str
    epsilon: float
    delta: float
    relation: NeighbouringRelation
    unit: PrivacyUnit
    now: Callable[[], str]

    @contextmanager
    def charged(self, event: DpEvent) -> Iterator[None]:
        """Charge the evaluation: set aside before, spent after, given back if it fails between.

        Raises:
            PrivacyBudgetExhaustedException: no room; nothing was computed or spent.
        """
        in_ledger: AbstractContextManager[None]
        if self.ledger is None:
            self.book.require(self.epsilon, self.delta, job_id=self.act)
            in_ledger = nullcontext()
        else:
            in_ledger = self.ledger.act(
                f"evaluation:{self.act}",
                event,
                delta=self.delta,
                relation=self.relation,
                unit=self.unit,
            )
        with in_ledger:
            yield
        self.book.add(
            Release(
                what="evaluation",
                job_id=self.act,
                epsilon=self.epsilon,
                delta=self.delta,
                at=self.now(),
                event=dp_events.to_json(event),
            )
        )


def require_priced_metrics(compute_metrics: object) -> None:
    """Refuse metrics of a caller's own where the scores are released.

    Raises:
        ConfigurationError: there are some; nothing was computed.
    """
    if compute_metrics is not None:
        raise ConfigurationError(
            "compute_metrics of private records has no known sensitivity, so it has no price; "
            "use privacy_safe=False on records you may see; nothing was computed"
        )


def account_of_records(
    ledger: LedgerAccount | None, account: str | None, *, is_training_set: bool
) -> LedgerAccount | None:
    """The account in the ledger that evaluated records belong to.

    Raises:
        ConfigurationError: there is a ledger and nobody said whose records these are, or there is
            none and somebody did; nothing was computed.
    """
    if ledger is None:
        if account is not None:
            raise ConfigurationError(
                f"account {account!r} was named and no ledger that holds it; nothing was computed"
            )
        return None
    if account is None:
        if is_training_set:
            return ledger
        raise ConfigurationError(
            "these are not the records that this object was trained on, and each data set has an "
            "account of its own in the ledger: expected account='COHORT/SLICE' of these records; "
            "nothing was computed"
        )
    named = ledger.other(account)
    if is_training_set and named.scope != ledger.scope:
        raise ConfigurationError(
            f"these are the training records: they belong to {ledger.scope}, not to "
            f"{named.scope}; nothing was computed"
        )
    return named
