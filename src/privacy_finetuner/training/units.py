"""Whom a run or an evaluation protects, checked before anything is read."""

from __future__ import annotations

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner.config import TrainingConfig
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.options import TrainOptions
from privacy_finetuner.training.plan import DPTrainingPlan


def unit_of_run(options: TrainOptions, training: TrainingConfig) -> PrivacyUnit:
    """The unit of a run, if the options of the run agree with it and with each other.

    Raises:
        ConfigurationError: they do not; nothing was started.
    """
    unit = PrivacyUnit(options.unit)
    if unit is PrivacyUnit.USER and not (options.user_field and options.max_examples_per_user):
        raise ConfigurationError(
            "unit 'user' needs user_field and max_examples_per_user: the guarantee is priced "
            "for at most that many records of one user; nothing was started"
        )
    if options.user_sampling and unit is not PrivacyUnit.USER:
        raise ConfigurationError(
            "user_sampling draws users, so it needs unit 'user'; nothing was started"
        )
    if (training.eval_steps is None) != (options.eval_dataset is None):
        raise ConfigurationError(
            "eval_steps and eval_dataset belong together: scores during training are exact, so "
            "they are taken on public records that you name; nothing was started"
        )
    return unit


def unit_of_evaluation(
    options: TrainOptions, plan: DPTrainingPlan | None, examples_per_user: int
) -> tuple[PrivacyUnit, int]:
    """Whom an evaluation protects, and how many records one of them may have.

    Args:
        options: what `evaluate` was asked for.
        plan: of the run on these very records, or `None`.
        examples_per_user: that run's.

    Raises:
        ConfigurationError: users are to be protected and nobody said how many records they have.
    """
    if plan is not None and plan.unit is PrivacyUnit.USER:
        return PrivacyUnit.USER, examples_per_user
    if PrivacyUnit(options.unit) is PrivacyUnit.EXAMPLE:
        return PrivacyUnit.EXAMPLE, 1
    if not (options.user_field and options.max_examples_per_user):
        raise ConfigurationError(
            "unit 'user' needs user_field and max_examples_per_user; nothing was computed"
        )
    return PrivacyUnit.USER, options.max_examples_per_user
