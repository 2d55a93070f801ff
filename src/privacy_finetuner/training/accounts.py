"""The two accounts of a trainer, and what a run may ask of them.

One account is for the training records. One is for all evaluation sets together, which may overlap:
so their prices add up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privacy_finetuner.config import PrivacyConfig
from privacy_finetuner.errors import CheckpointError, PrivacyBudgetExhaustedException
from privacy_finetuner.results import PrivacySpent
from privacy_finetuner.training.privacy_book import PrivacyBook
from privacy_runtime.files import write_atomic
from privacy_runtime.world import Clock

if TYPE_CHECKING:
    from privacy_finetuner.training.ledger_account import LedgerAccount, LedgerSource

FILE_NAME: Final = "privacy_state.json"
STATE_VERSION: Final = 1
LEAST_PART: Final = 0.25
"""A run that got less than this part of the epsilon it asked for would not be the one asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTargets:
    """What `train` was asked to override in the configuration; `None` overrides nothing."""

    epsilon: float | None = None
    delta: float | None = None
    max_grad_norm: float | None = None
    noise_multiplier: float | None = None


@dataclass(slots=True)
class Accounts:
    """The accounts of training and of evaluations."""

    training: PrivacyBook
    evaluations: PrivacyBook

    @classmethod
    def opened(cls, config: PrivacyConfig, ledger: LedgerAccount | None, *, at: str) -> Accounts:
        """Two new accounts, each granted the configured budget.

        With a ledger they decide nothing: they keep count of what this trainer did, beside what
        the ledger's account was granted.
        """
        epsilon, delta, reason = config.epsilon, config.delta, "privacy configuration"
        if ledger is not None:
            promised = ledger.state().guarantee
            epsilon, delta = promised.epsilon, promised.delta
            reason = f"account {ledger.scope} of the ledger"
        accounts = cls(PrivacyBook(), PrivacyBook())
        for book in (accounts.training, accounts.evaluations):
            book.grant(epsilon, delta, reason=reason, at=at)
        return accounts

    @classmethod
    def read(cls, folder: Path) -> Accounts:
        """Read what `write` wrote.

        Raises:
            CheckpointError: missing, damaged, or of another version.
        """
        path = folder / FILE_NAME
        try:
            state = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{path} is missing; load with restore_privacy_state=False to start a new account"
            ) from error
        except ValueError as error:
            raise CheckpointError(f"{path} is not JSON: the privacy state is damaged") from error
        if not isinstance(state, dict) or state.get("version") != STATE_VERSION:
            raise CheckpointError(f"{path} has another version, expected {STATE_VERSION}")
        return cls(
            PrivacyBook.from_json(state.get("training")),
            PrivacyBook.from_json(state.get("evaluations")),
        )

    def write(self, folder: Path) -> None:
        """Keep the accounts in a folder, beside a model."""
        document = {
            "version": STATE_VERSION,
            "training": self.training.to_json(),
            "evaluations": self.evaluations.to_json(),
        }
        write_atomic(folder / FILE_NAME, json.dumps(document, indent=1).encode())

    def keep_releases_of(self, other: Accounts) -> None:
        """Add what the other accounts hold and these lack: nothing spent is forgotten."""
        self.training.keep_releases_of(other.training)
        self.evaluations.keep_releases_of(other.evaluations)


def named_account(
    ledger: LedgerSource | None, account: str | None, quota: str | None, clock: Clock
) -> LedgerAccount | None:
    """The account in a ledger that a user named; `None` when nothing was.

    Raises:
        ConfigurationError: see `LedgerAccount.named`.
    """
    if ledger is account is quota is None:
        return None
    from privacy_finetuner.training.ledger_account import LedgerAccount  # noqa: PLC0415  a database

    return LedgerAccount.named(ledger, account, quota, clock=clock)


def draft(book: PrivacyBook, config: PrivacyConfig, targets: RunTargets, *, at: str) -> PrivacyBook:
    """The account with a run's targets granted: a draft, until the run has been opened."""
    account = book.copy()
    if targets.epsilon is not None or targets.delta is not None:
        asked = PrivacyConfig(
            epsilon=config.epsilon if targets.epsilon is None else targets.epsilon,
            delta=config.delta if targets.delta is None else targets.delta,
        )
        account.raise_to(asked.epsilon, asked.delta, reason="target given to train()", at=at)
    return account


def run_privacy(config: PrivacyConfig, targets: RunTargets, left: PrivacySpent) -> PrivacyConfig:
    """The configuration of one run: its overrides, within what is left.

    Raises:
        PrivacyBudgetExhaustedException: nothing is left; nothing was spent.
    """
    if left.epsilon <= 0 or left.delta <= 0:
        raise PrivacyBudgetExhaustedException(
            epsilon_requested=targets.epsilon or config.epsilon,
            epsilon_remaining=left.epsilon,
            delta_requested=targets.delta or config.priced_delta,
            delta_remaining=left.delta,
        )
    changes = {
        "epsilon": left.epsilon if targets.epsilon is None else targets.epsilon,
        "delta": left.delta if targets.delta is None else targets.delta,
        "target_delta": min(config.priced_delta, left.delta) if targets.delta is None else None,
        "max_grad_norm": targets.max_grad_norm,
        "noise_multiplier": targets.noise_multiplier,
    }
    given = {k: v for k, v in changes.items() if v is not None or k == "target_delta"}
    return replace(config, **given)  # type: ignore[arg-type]  # each value has its field's type
