"""Can a value be recovered from a model: a planted secret, or an attribute of a record?

==========================  =========================  ===========================================
attack                      model                      compared with
==========================  =========================  ===========================================
`canary_exposure`           language model             other candidates of the same form
`attribute_inversion`       classifier                 always guessing the commonest value; the same
                                                       attack on records that were not trained on
==========================  =========================  ===========================================

An attack that succeeds no more often than its base rate shows what is common, not what leaked. All
numbers are outside every guarantee. Personal details in texts: `slot_filling`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from privacy_core.auditing import (
    Exposure,
    Interval,
    clopper_pearson,
    difference_of_shares,
    exposure,
    sampled_exposure,
)
from privacy_finetuner.assessment.likelihoods import (
    completion_log_probs,
    context_length,
    evaluating,
    require_match,
)
from privacy_finetuner.errors import ConfigurationError

__all__ = [
    "AttributeInversionResult",
    "AttributeRecord",
    "attribute_inversion",
    "canary_exposure",
]

Vector = npt.NDArray[np.float64]

_BATCH: Final = 32
_AFTER_CHARACTERS: Final = 32


@dataclass(frozen=True, slots=True, repr=False)
class AttributeRecord:
    """A record of a classifier with one attribute that the attacker wants. The repr shows no text.

    Args:
        template: the text with `{}` where the value stands.
        value: the true one.
        label: the record's class, which the attacker knows.
    """

    template: str
    value: str
    label: int

    def __repr__(self) -> str:
        return "AttributeRecord()"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeInversionResult:
    """How often the attribute of a training record is recovered.

    Attributes:
        members: the share of training records whose value is recovered.
        nonmembers: the same on records that were not trained on; `None` without them.
        majority: what always guessing the commonest value reaches on the training records.
        excess: `members` minus `nonmembers`: what training on a record adds. Inference that works
            on strangers too is the model's knowledge of the world, not a leak of a record.
        over_majority: `members` minus `majority`, record by record.
    """

    members: Interval
    nonmembers: Interval | None
    majority: float
    excess: Interval | None
    over_majority: Interval
    values: int
    outside_guarantee: bool = field(default=True, init=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data, without any text."""
        return {
            "outside_guarantee": True,
            "members": _plain(self.members),
            "nonmembers": None if self.nonmembers is None else _plain(self.nonmembers),
            "majority": self.majority,
            "excess": None if self.excess is None else _plain(self.excess),
            "over_majority": _plain(self.over_majority),
            "values": self.values,
        }


def canary_exposure(
    model: Any,
    tokenizer: Any,
    prefix: str,
    secret: str,
    candidates: Sequence[str],
    *,
    space: float | None = None,
) -> Exposure:
    """How far a secret that was trained on stands out among other completions of its sentence.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prefix: the sentence before the secret.
        secret: what was trained on.
        candidates: other secrets of the same form.
        space: how many there are in all, where `candidates` is a random sample of them; `None`:
            the candidates are all.

    Raises:
        ModelLoadError: model and tokenizer do not belong together.
        InvalidParameter: no candidates, or fewer in the space than were given.

    Source: Carlini et al. 2019 (arXiv:1802.08232), section 4.
    """
    require_match(model, tokenizer)
    others = list(dict.fromkeys(c for c in candidates if c != secret))
    found = completion_log_probs(
        model, tokenizer, [(prefix, value, "") for value in (secret, *others)]
    )
    if space is None:
        return exposure(float(found[0]), found[1:])
    return sampled_exposure(float(found[0]), found[1:], space=space)


def attribute_inversion(
    model: Any,
    tokenizer: Any,
    members: Sequence[AttributeRecord],
    values: Sequence[str],
    *,
    nonmembers: Sequence[AttributeRecord] = (),
    seed: int = 0,
) -> AttributeInversionResult:
    """Guess a record's attribute as the value for which the classifier is surest of its label.

    Each value is weighed by how common it is among the attacked records, as an attacker who knows
    the population would.

    Args:
        model: a sequence classifier of Hugging Face.
        tokenizer: its tokenizer.
        members: at least two records that it was trained on.
        values: all values that the attribute can have; at least two.
        nonmembers: records of the same source that it was not trained on.
        seed: of the bootstrap.

    Raises:
        ModelLoadError: model and tokenizer do not belong together.
        ConfigurationError: too few records or values, or a record whose value or template is none.

    Source: Fredrikson et al. 2014 (USENIX Security), the MAP estimator; Yeom et al. 2018
    (arXiv:1709.01604) for the comparison with records that were not trained on.
    """
    require_match(model, tokenizer)
    known = tuple(dict.fromkeys(values))
    _check_records(members, nonmembers, known)
    # Of both groups alike: one fitted to the members alone would favour them without any leak.
    prior = _prior([*members, *nonmembers], known)
    hits = _recovered(model, tokenizer, members, known, prior)
    commonest = known[int(np.argmax(_prior(members, known)))]
    majority = np.array([float(record.value == commonest) for record in members])
    others = excess = None
    if nonmembers:
        strangers = _recovered(model, tokenizer, nonmembers, known, prior)
        others = clopper_pearson(int(strangers.sum()), len(strangers))
        excess = difference_of_shares(hits, strangers, paired=False, seed=seed)
    return AttributeInversionResult(
        members=clopper_pearson(int(hits.sum()), len(hits)),
        nonmembers=others,
        majority=float(majority.mean()),
        excess=excess,
        over_majority=difference_of_shares(hits, majority, paired=True, seed=seed),
        values=len(known),
    )


def _check_records(
    members: Sequence[AttributeRecord],
    nonmembers: Sequence[AttributeRecord],
    values: tuple[str, ...],
) -> None:
    if len(members) < 2 or len(nonmembers) == 1 or len(values) < 2:
        raise ConfigurationError(
            f"{len(members)} members, {len(nonmembers)} non-members and {len(values)} values, "
            "expected at least 2 of each (non-members may be left out); nothing was computed"
        )
    for number, record in enumerate([*members, *nonmembers], start=1):
        if record.value not in values or "{}" not in record.template:
            raise ConfigurationError(
                f"record {number} has no place {{}} in its template, or a value that is not among "
                f"the {len(values)} that were given; nothing was computed"
            )


def _prior(records: Sequence[AttributeRecord], values: tuple[str, ...]) -> Vector:
    """How common each value is, one added to every count."""
    counts = Counter(record.value for record in records)
    raw = np.array([counts[value] + 1.0 for value in values])
    return np.asarray(raw / raw.sum(), dtype=np.float64)


def _recovered(
    model: Any,
    tokenizer: Any,
    records: Sequence[AttributeRecord],
    values: tuple[str, ...],
    prior: Vector,
) -> Vector:
    """1 for each record whose likeliest value is the true one, else 0."""
    texts = [record.template.replace("{}", value) for record in records for value in values]
    log_probs = _class_log_probs(model, tokenizer, texts)
    hits = []
    for number, record in enumerate(records):
        rows = log_probs[number * len(values) : (number + 1) * len(values)]
        best = int(np.argmax(rows[:, record.label] + np.log(prior)))
        hits.append(float(values[best] == record.value))
    return np.array(hits)


def _class_log_probs(model: Any, tokenizer: Any, texts: Sequence[str]) -> Vector:
    device, limit = next(model.parameters()).device, context_length(model)
    found = []
    with evaluating(model):
        for start in range(0, len(texts), _BATCH):
            batch = tokenizer(
                list(texts[start : start + _BATCH]),
                return_tensors="pt",
                padding=True,
                truncation=limit is not None,
                max_length=limit,
                return_token_type_ids=False,
            )
            logits_BC = model(**{name: ids.to(device) for name, ids in batch.items()}).logits
            found.append(torch.log_softmax(logits_BC.double(), dim=-1).cpu().numpy())
    return np.concatenate(found)


def _plain(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
