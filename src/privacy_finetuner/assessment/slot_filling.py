"""Personal details in training texts: does the model prefer the true one among others of its kind?

The attacker has the text around a detail (a redacted record, say) and a list of values that it may
have. How often the model ranks the true one first is held against guessing, and against the model
before training, which knows from the world which names and places go together. Outside every
guarantee.

Source: Lukas et al. 2023 (arXiv:2302.00539): inference of PII.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from privacy_core.auditing import Interval, clopper_pearson, difference_of_shares
from privacy_core.redaction.findings import Detector
from privacy_finetuner.assessment.likelihoods import (
    Progress,
    completion_log_probs,
    require_match,
)
from privacy_finetuner.errors import DatasetError

__all__ = ["Slot", "SlotFillingResult", "slot_filling", "slots_in"]


@dataclass(frozen=True, slots=True, repr=False)
class Slot:
    """A place in a text whose value the attacker wants. The repr shows no text.

    Args:
        before: the text up to the value.
        value: the true one.
        after: the text behind it, which the attacker has too.
        candidates: other values of the same kind; the true one may be among them.
        kind: what kind, for example PERSON.
    """

    before: str
    value: str
    after: str = ""
    candidates: tuple[str, ...] = ()
    kind: str = ""

    def __repr__(self) -> str:
        return f"Slot(kind={self.kind!r}, {len(self.others)} other candidates)"

    @property
    def others(self) -> tuple[str, ...]:
        """The candidates without the true value, each once."""
        return tuple(dict.fromkeys(c for c in self.candidates if c != self.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotFillingResult:
    """How often the true value is the likeliest of its kind.

    Attributes:
        first: the share of slots at which the model ranks the true value first.
        base_rate: the same for guessing: the mean of 1 / candidates.
        over_base: `first` minus the base model's, slot by slot; `None` without a base model.
        mean_exposure: mean bits of rank over the slots.
        slots: how many.
        by_kind: `first` by kind of value.
    """

    first: Interval
    base_rate: float
    over_base: Interval | None
    mean_exposure: float
    slots: int
    by_kind: Mapping[str, Interval]
    outside_guarantee: bool = field(default=True, init=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data, without any text."""
        return {
            "outside_guarantee": True,
            "first": _plain(self.first),
            "base_rate": self.base_rate,
            "excess_over_base": None if self.over_base is None else _plain(self.over_base),
            "mean_exposure_bits": self.mean_exposure,
            "slots": self.slots,
            "by_kind": {kind: _plain(rate) for kind, rate in self.by_kind.items()},
        }


def slots_in(
    texts: Sequence[str],
    detector: Detector,
    *,
    labels: Sequence[str] | None = None,
    level: str = "medium",
    most_candidates: int = 50,
) -> list[Slot]:
    """The personal details of texts as slots; candidates are the details of the same kind.

    Args:
        texts: training texts.
        detector: finds details (`privacy_core.redaction`).
        labels: kinds that count; `None`: all.
        level: of the detector.
        most_candidates: at most this many for each slot, those that are found first.
    """
    found = [
        (text, finding)
        for text in texts
        for finding in detector.detect(text, level=level)
        if labels is None or finding.label in labels
    ]
    kinds: dict[str, dict[str, None]] = {}
    for text, finding in found:
        kinds.setdefault(finding.label, {})[text[finding.start : finding.end]] = None
    slots = []
    for text, finding in found:
        value = text[finding.start : finding.end]
        others = [other for other in kinds[finding.label] if other != value]
        slots.append(
            Slot(
                before=text[: finding.start],
                value=value,
                after=text[finding.end :],
                candidates=tuple(others[:most_candidates]),
                kind=finding.label,
            )
        )
    return [slot for slot in slots if slot.others]


def slot_filling(
    model: Any,
    tokenizer: Any,
    slots: Sequence[Slot],
    *,
    base: Any = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SlotFillingResult:
    """Rank the true value of each slot among the candidates of its kind.

    A candidate's score is the log-probability of it and of the next 32 characters, after the text
    before it. Ties count against the attack.

    Args:
        model: a causal language model, of Hugging Face or peft.
        tokenizer: its tokenizer, and the base model's.
        slots: at least two, each with at least one other candidate.
        base: the model before training. `None`: a model with adapters is its own base.
        seed: of the bootstrap.
        progress: called with what is being done, how many are done, and of how many.

    Raises:
        ModelLoadError: model and tokenizer do not belong together.
        DatasetError: fewer than two slots, or one without another candidate.

    Source: Lukas et al. 2023 (arXiv:2302.00539), inference of PII.
    """
    if len(slots) < 2 or not all(slot.others for slot in slots):
        raise DatasetError(
            f"{len(slots)} slots, expected at least 2, each with another candidate of its kind; "
            "nothing was computed"
        )
    for candidate in (model, base):
        if candidate is not None:
            require_match(candidate, tokenizer)
    ranks, sizes = _ranks(model, tokenizer, slots, "the attacked model", progress)
    over_base = None
    switched_off = base is None and hasattr(model, "disable_adapter")
    if base is not None or switched_off:
        with model.disable_adapter() if switched_off else nullcontext():
            reader = model if switched_off else base
            before, _ = _ranks(reader, tokenizer, slots, "the base model", progress)
        over_base = difference_of_shares(
            (ranks == 1).astype(np.float64),
            (before == 1).astype(np.float64),
            paired=True,
            seed=seed,
        )
    return SlotFillingResult(
        first=clopper_pearson(int(np.sum(ranks == 1)), len(slots)),
        base_rate=float(np.mean(1 / sizes)),
        over_base=over_base,
        mean_exposure=float(np.mean(np.log2(sizes) - np.log2(ranks))),
        slots=len(slots),
        by_kind={
            kind: clopper_pearson(
                sum(int(r == 1) for r, s in zip(ranks, slots, strict=True) if s.kind == kind),
                sum(s.kind == kind for s in slots),
            )
            for kind in sorted({slot.kind for slot in slots})
        },
    )


def _ranks(
    model: Any,
    tokenizer: Any,
    slots: Sequence[Slot],
    stage: str,
    progress: Progress | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rank of each true value, from 1, and the number of its candidates."""
    cases = [
        (slot.before, value, slot.after) for slot in slots for value in (slot.value, *slot.others)
    ]
    found = completion_log_probs(model, tokenizer, cases, stage, progress)
    sizes = np.array([1 + len(slot.others) for slot in slots])
    ranks, start = [], 0
    for size in sizes:
        row = found[start : start + size]
        ranks.append(1 + int(np.sum(row[1:] >= row[0])))
        start += size
    return np.array(ranks), sizes


def _plain(interval: Interval) -> dict[str, float]:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
