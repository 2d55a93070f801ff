"""Membership inference on a language model: can it be told what it was trained on?

    result = membership_inference(model, tokenizer, members, nonmembers, reference=base)
    print(result)

Every score of `privacy_core.auditing.scores` for which the material is there is tried; one that is
not tried says why. The numbers are about these texts and this model, outside every guarantee, and
void where the two groups of texts differ otherwise than by membership. An attack that fails shows
nothing: another may succeed. For evidence against a claimed epsilon use canaries and `audit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from privacy_core.auditing import (
    BlindBaseline,
    Interval,
    TruePositives,
    auc,
    blind_baseline,
    scores,
    tpr_at_fpr,
)
from privacy_finetuner.assessment.likelihoods import (
    Progress,
    TokenStatistics,
    require_match,
    token_statistics,
)
from privacy_finetuner.assessment.splits import LEAST_TEXTS, digest, void_reasons
from privacy_finetuner.errors import ConfigurationError

__all__ = [
    "AttackScore",
    "MembershipInferenceResult",
    "Shadow",
    "membership_inference",
    "token_statistics",
]

Vector = npt.NDArray[np.float64]

_RATES: Final = (0.001, 0.01)


@dataclass(frozen=True, slots=True, repr=False)
class Shadow:
    """A model trained like the attacked one, on other texts.

    Args:
        model: with the same tokenizer.
        saw: numbers of the tested texts (members first, then non-members, from 0) that it was
            trained on; empty: it saw none of them.
    """

    model: Any
    saw: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackScore:
    """How well one score tells members from non-members."""

    name: str
    auc: Interval
    at_fpr_0_1_percent: TruePositives
    at_fpr_1_percent: TruePositives

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data."""
        return {
            "name": self.name,
            "auc": _interval(self.auc),
            "tpr_at_fpr_0.1%": _rate(self.at_fpr_0_1_percent),
            "tpr_at_fpr_1%": _rate(self.at_fpr_1_percent),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipInferenceResult:
    """What membership inference reached, and whether it means anything. Outside the guarantee.

    Attributes:
        attacks: one entry a score, in a fixed order.
        not_run: scores that need what was not given, with the reason.
        blind: the same game without the model; `None` where there were too few texts for it.
        void_reasons: why the numbers do not speak about the model; empty when they do.
        members: how many.
        nonmembers: how many.
        notes: what was decided on the way.
    """

    attacks: tuple[AttackScore, ...]
    not_run: Mapping[str, str]
    blind: BlindBaseline | None
    void_reasons: tuple[str, ...]
    members: int
    nonmembers: int
    notes: tuple[str, ...] = ()
    outside_guarantee: bool = field(default=True, init=False)

    @property
    def is_void(self) -> bool:
        """Whether there is a reason not to read the numbers."""
        return bool(self.void_reasons)

    @property
    def strongest(self) -> AttackScore:
        """The attack with the highest AUC. Picked afterwards: its interval is a little high."""
        return max(self.attacks, key=lambda attack: attack.auc.estimate)

    def attack(self, name: str) -> AttackScore:
        """One attack by the name of its score.

        Raises:
            ConfigurationError: it was not run; says why.
        """
        for attack in self.attacks:
            if attack.name == name:
                return attack
        known = ", ".join(attack.name for attack in self.attacks)
        reason = self.not_run.get(name, f"there is no such score; these were run: {known}")
        raise ConfigurationError(f"score {name!r}: {reason}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data, without any text."""
        return {
            "outside_guarantee": True,
            "void": self.is_void,
            "void_reasons": list(self.void_reasons),
            "members": self.members,
            "nonmembers": self.nonmembers,
            "blind_auc": None if self.blind is None else _interval(self.blind.auc),
            "attacks": [attack.to_dict() for attack in self.attacks],
            "not_run": dict(self.not_run),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"membership inference, {self.members} members, {self.nonmembers} non-members"]
        lines += [f"  VOID: {reason}" for reason in self.void_reasons]
        if self.blind is not None:
            lines.append(f"  without the model   AUC {self.blind.auc}")
        for attack in self.attacks:
            rate = attack.at_fpr_1_percent
            shown = rate.tpr if rate.tpr is not None else f"needs {rate.nonmembers_needed}"
            lines.append(f"  {attack.name:<18}  AUC {attack.auc}  TPR at 1 % FPR {shown}")
        lines += [f"  {name:<18}  not run: {reason}" for name, reason in self.not_run.items()]
        return "\n".join([*lines, "  outside the guarantee"])


def membership_inference(  # noqa: PLR0913 -- what an attacker may have, each by name
    model: Any,
    tokenizer: Any,
    members: Sequence[str],
    nonmembers: Sequence[str],
    *,
    reference: Any = None,
    shadows: Sequence[Shadow] = (),
    population: Sequence[str] = (),
    seed: int = 0,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> MembershipInferenceResult:
    """Attack a causal language model with every membership score that the material allows.

    Args:
        model: the attacked model, of Hugging Face or peft.
        tokenizer: its tokenizer, and that of `reference` and `shadows`.
        members: texts that it was trained on.
        nonmembers: texts of the same source that it was not trained on. Draw both at random from
            one pool before training; anything else makes the result void.
        reference: a model that saw neither, usually the base model before fine-tuning. `None`: a
            model with adapters is its own reference, with them switched off.
        shadows: models trained likewise on other texts, for RMIA and LiRA.
        population: texts that nobody trained on, for RMIA; default: the non-members, each of which
            then competes with itself, which weakens the attack by 1 in their number.
        seed: of the folds of the blind baseline.
        confidence: of every interval.
        progress: called with what is being done, how many texts are done, and of how many.

    Raises:
        ModelLoadError: a model and the tokenizer do not belong together; nothing was computed.
        DatasetError: a text has no token to score.
        ConfigurationError: fewer than two texts on one side.
    """
    if len(members) < 2 or len(nonmembers) < 2:
        raise ConfigurationError(
            f"{len(members)} members and {len(nonmembers)} non-members, expected at least 2 of "
            f"each (and {LEAST_TEXTS} to mean anything); nothing was computed"
        )
    for candidate in (model, reference, *(shadow.model for shadow in shadows)):
        if candidate is not None:
            require_match(candidate, tokenizer)
    blind, void, notes = _circumstances(members, nonmembers, seed, confidence)
    texts = [*members, *nonmembers]
    target = token_statistics(
        model, tokenizer, texts, stage="the attacked model", progress=progress
    )
    if target.cut:
        notes.append(f"{target.cut} texts were cut at the model's context")
    if np.mean(target.mean_log_probs) < -math.log(len(tokenizer)):
        void.append(
            "the model finds these texts less likely than guessing among all tokens would: its "
            "training diverged, or the tokenizer is another one's"
        )
    columns, not_run = _of_one_model(texts, target)
    _add_reference(
        columns, not_run, target, _reference(model, reference, tokenizer, texts, progress)
    )
    if shadows:
        _add_shadows(
            columns,
            not_run,
            target,
            _Pool(tokenizer, texts, len(members), population, model),
            shadows,
            progress,
        )
    else:
        not_run |= dict.fromkeys(("rmia", "lira"), "needs shadow models")
    inside = np.arange(len(texts)) < len(members)
    return MembershipInferenceResult(
        attacks=tuple(_judge(name, column, inside, confidence) for name, column in columns.items()),
        not_run=not_run,
        blind=blind,
        void_reasons=tuple(void),
        members=len(members),
        nonmembers=len(nonmembers),
        notes=tuple(notes),
    )


@dataclass(frozen=True, slots=True)
class _Pool:
    """The tested texts, and those that RMIA compares with."""

    tokenizer: Any
    texts: Sequence[str]
    members: int
    population: Sequence[str]
    model: Any


def _circumstances(
    members: Sequence[str], nonmembers: Sequence[str], seed: int, confidence: float
) -> tuple[BlindBaseline | None, list[str], list[str]]:
    folds = min(5, len(members), len(nonmembers))
    blind = blind_baseline(members, nonmembers, seed=seed, folds=folds, confidence=confidence)
    notes = []
    copies = len(members) - len({digest(text) for text in members})
    if copies:
        notes.append(f"{copies} members are copies of another; repeated texts are easier to find")
    return blind, void_reasons(members, nonmembers, blind), notes


def _of_one_model(
    texts: Sequence[str], target: TokenStatistics
) -> tuple[dict[str, Vector], dict[str, str]]:
    columns = {
        "loss": scores.loss(target.log_probs),
        "zlib_ratio": scores.zlib_ratio(target.log_probs, scores.zlib_sizes(texts)),
        "min_k": scores.min_k(target.log_probs),
        "min_k_plus_plus": scores.min_k_plus_plus(
            target.log_probs, target.means, target.deviations
        ),
    }
    return columns, {}


def _reference(
    model: Any, reference: Any, tokenizer: Any, texts: Sequence[str], progress: Progress | None
) -> TokenStatistics | None:
    """The statistics of the reference: the one given, or the model without its adapters."""
    switched_off = reference is None and hasattr(model, "disable_adapter")
    if reference is None and not switched_off:
        return None
    with model.disable_adapter() if switched_off else nullcontext():
        return token_statistics(
            model if switched_off else reference,
            tokenizer,
            texts,
            stage="the reference",
            progress=progress,
        )


def _add_reference(
    columns: dict[str, Vector],
    not_run: dict[str, str],
    target: TokenStatistics,
    reference: TokenStatistics | None,
) -> None:
    if reference is None:
        not_run["reference_ratio"] = "needs a reference, such as the model before fine-tuning"
        return
    columns["reference_ratio"] = scores.reference_ratio(
        target.mean_log_probs, reference.mean_log_probs
    )


def _add_shadows(
    columns: dict[str, Vector],
    not_run: dict[str, str],
    target: TokenStatistics,
    pool: _Pool,
    shadows: Sequence[Shadow],
    progress: Progress | None,
) -> None:
    tested = target.mean_log_probs
    others = list(pool.population) or list(pool.texts[pool.members :])
    table, table_of_others = [], []
    for number, shadow in enumerate(shadows, start=1):
        found = token_statistics(
            shadow.model,
            pool.tokenizer,
            [*pool.texts, *others],
            stage=f"shadow model {number} of {len(shadows)}",
            progress=progress,
        ).mean_log_probs
        row = found[: len(tested)]
        saw = np.isin(np.arange(len(tested)), list(shadow.saw))
        table.append(np.stack([np.where(saw, row, np.nan), np.where(saw, np.nan, row)]))
        table_of_others.append(found[len(tested) :])
    inside, outside = np.stack(table, axis=1)
    if not any(shadow.saw for shadow in shadows):
        beside = (
            token_statistics(pool.model, pool.tokenizer, others).mean_log_probs
            if pool.population
            else tested[pool.members :]
        )
        columns["rmia"] = scores.rmia(tested, beside, outside, np.stack(table_of_others))
        if len(shadows) > 1:
            columns["lira"] = scores.lira_offline(tested, outside)
        else:
            not_run["lira"] = "needs two or more shadow models"
        return
    not_run["rmia"] = "needs shadow models that saw none of the texts"
    complete = np.isfinite(inside).sum(axis=0).min() >= 1 and np.isfinite(outside).sum(axis=0).min()
    if complete and len(shadows) > 2:
        columns["lira"] = scores.lira_online(tested, inside, outside)
    else:
        not_run["lira"] = "needs shadow models with and without every text, three or more"


def _judge(name: str, column: Vector, inside: npt.NDArray[np.bool_], level: float) -> AttackScore:
    members, others = column[inside], column[~inside]
    low, high = (tpr_at_fpr(members, others, rate, level) for rate in _RATES)
    return AttackScore(
        name=name,
        auc=auc(members, others, level),
        at_fpr_0_1_percent=low,
        at_fpr_1_percent=high,
    )


def _interval(value: Interval) -> dict[str, float]:
    return {"estimate": value.estimate, "low": value.low, "high": value.high}


def _rate(rate: TruePositives) -> dict[str, Any]:
    return {
        "tpr": None if rate.tpr is None else _interval(rate.tpr),
        "achieved_fpr": None if rate.achieved_fpr is None else _interval(rate.achieved_fpr),
        "nonmembers_needed": rate.nonmembers_needed,
    }
