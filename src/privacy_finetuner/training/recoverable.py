"""The seam where a training run is handed to something that brings it back after a failure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol

if TYPE_CHECKING:
    from privacy_finetuner.results import TrainingResult
    from privacy_finetuner.training.ledger_account import LedgerSource

P = ParamSpec("P")


class Recovery(Protocol):
    """What `PrivateTrainer.train` takes as `recovery`; `recovery.FailureRecoverySystem` is one."""

    def supervise(
        self,
        train: Callable[..., TrainingResult],
        options: Mapping[str, Any],
        *,
        ledger: LedgerSource | None,
    ) -> TrainingResult:
        """Train, and come back after a failure.

        Args:
            train: `PrivateTrainer.train` of one trainer.
            options: its arguments by name.
            ledger: of the trainer.
        """
        ...


def recoverable(train: Callable[P, TrainingResult]) -> Callable[P, TrainingResult]:
    """Give `train` a keyword `recovery`; without it nothing is different."""
    signature = inspect.signature(train)

    @wraps(train)
    def supervised(*args: P.args, **kwargs: P.kwargs) -> TrainingResult:
        recovery: Any = kwargs.pop("recovery", None)
        if recovery is None:
            return train(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        options = dict(bound.arguments)
        trainer: Any = options.pop("self")
        options |= options.pop("kwargs")
        account = trainer._ledger
        where = None if account is None else account.where
        supervised_run: Recovery = recovery
        return supervised_run.supervise(partial(train, trainer), options, ledger=where)

    return supervised
