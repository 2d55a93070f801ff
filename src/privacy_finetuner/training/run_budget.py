"""What one run may spend, and where it is charged: to the trainer's own account, or to a ledger's.

The rest of training reads one interface and does not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.training.accounts import LEAST_PART, RunTargets, draft, run_privacy
from privacy_finetuner.training.ledger_account import LedgerAccount
from privacy_finetuner.training.ledger_meter import LedgerMeter
from privacy_finetuner.training.metering import Meter, RecordOnly
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_finetuner.training.privacy_book import PrivacyBook
from privacy_finetuner.training.run_record import RunState


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBudget:
    """The budget of one run.

    Args:
        privacy: the configuration, within what is left.
        book: the trainer's own account with the run's targets granted: a draft, until the run has
            been opened. With a ledger it only keeps count of what this trainer did.
        job_id: of the run.
        ledger: what is charged besides, and what then decides.
        asked: which account of the ledger, and what was asked for. With the figures of `privacy` it
            ties the run to the account.
        least: the smallest epsilon that will do; `None`: it is settled already.
    """

    privacy: PrivacyConfig
    book: PrivacyBook
    job_id: str
    ledger: LedgerAccount | None = None
    asked: Mapping[str, Any] | None = None
    least: float | None = None

    def planned(
        self, plan_with: Callable[[PrivacyConfig], DPTrainingPlan]
    ) -> tuple[RunBudget, DPTrainingPlan]:
        """The plan of the run, and the budget with which it was made."""
        if self.ledger is None or self.least is None:
            return self, plan_with(self.privacy)
        privacy, plan = self.ledger.fitted(self.privacy, plan_with, least=self.least)
        return replace(self, privacy=privacy, least=None), plan

    def meter(self, plan: DPTrainingPlan) -> Meter:
        """What the planned run is charged to, beside its record.

        Raises:
            PrivacyBudgetExhaustedException: the plan costs more than is left; nothing was spent.
                A ledger decides when the run begins.
        """
        if self.ledger is None or self.asked is None:
            self.book.require(plan.epsilon(), plan.delta, job_id=self.job_id)
            return RecordOnly()
        figures = {"epsilon": self.privacy.epsilon, "delta": self.privacy.delta}
        return LedgerMeter(self.ledger, plan, self.job_id, {**self.asked, **figures})


def run_budget(
    book: PrivacyBook,
    ledger: LedgerAccount | None,
    config: PrivacyConfig,
    targets: RunTargets,
    *,
    job_id: str,
    earlier: RunState | None,
    at: str,
) -> RunBudget:
    """What a run may spend.

    Args:
        book: the trainer's own account.
        ledger: the account in a ledger, where one is named.
        config: what was configured.
        targets: what `train` overrides of it.
        job_id: of the run.
        earlier: the run that is resumed. It is planned as it was begun, whatever the account has
            room for now: it holds its reservation.
        at: the time, for grants.

    Raises:
        PrivacyBudgetExhaustedException: too little is left; nothing was spent.
        ConfigurationError: the run that is resumed was begun with another account.
    """
    if ledger is None:
        _require_same_account(earlier, None)
        account = draft(book, config, targets, at=at)
        privacy = run_privacy(config, targets, account.left_for(job_id))
        return RunBudget(privacy=privacy, book=account, job_id=job_id)
    asked = {
        "epsilon": config.epsilon if targets.epsilon is None else targets.epsilon,
        "delta": config.priced_delta if targets.delta is None else targets.delta,
    }
    named = {"account": str(ledger.scope), "quota": ledger.quota and str(ledger.quota)}
    _require_same_account(earlier, named)
    begun = earlier.ledger if earlier is not None else None
    least: float | None = None
    if begun is not None and begun["asked"] == asked:
        privacy = ledger.calibrated(config, targets, begun["epsilon"], begun["delta"])
    else:
        privacy = ledger.run_privacy(config, targets)
        least = privacy.epsilon if targets.epsilon is not None else LEAST_PART * asked["epsilon"]
    return RunBudget(
        privacy=privacy,
        book=book.copy(),
        job_id=job_id,
        ledger=ledger,
        asked={**named, "asked": asked},
        least=least,
    )


def _require_same_account(earlier: RunState | None, named: Mapping[str, Any] | None) -> None:
    """A run goes on in the account that it was begun in, or not at all."""
    if earlier is None or earlier.plan is None:
        return
    begun = earlier.ledger
    found = None if begun is None else {"account": begun["account"], "quota": begun["quota"]}
    if found != named:
        raise ConfigurationError(
            f"the run was begun with {_in_words(found)}, and is to be resumed with "
            f"{_in_words(named)}; nothing was started"
        )


def _in_words(named: Mapping[str, Any] | None) -> str:
    if named is None:
        return "no ledger"
    quota = f" and {named['quota']}" if named["quota"] else ""
    return f"account {named['account']}{quota} of a ledger"
