"""What comes out of a model about its training records: every attack that the material allows.

===============  =================================  ==============================================
attack           needs                              compared with
===============  =================================  ==============================================
`extraction`     texts, a language model            the base model; texts that nobody trained on
`slot_filling`   a detector of personal details     guessing; the base model
`exposure`       secrets that were planted          other values of the same form
`attributes`     `AttributeRecord`s, a classifier   the commonest value; records not trained on
===============  =================================  ==============================================

An attack that is not run says what it needs. None of it is under a guarantee, and an attack that
fails shows nothing: another may succeed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from privacy_core.auditing import Exposure
from privacy_core.redaction.findings import Detector
from privacy_finetuner.assessment.extraction import ExtractionResult, extraction
from privacy_finetuner.assessment.inversion import (
    AttributeInversionResult,
    AttributeRecord,
    attribute_inversion,
    canary_exposure,
)
from privacy_finetuner.assessment.slot_filling import SlotFillingResult, slot_filling, slots_in
from privacy_finetuner.errors import ConfigurationError

__all__ = ["ModelInversionResult", "PlantedSecret", "model_inversion"]

_NEEDS: Final = {
    "extraction": "needs texts and a causal language model",
    "slot_filling": "needs a detector of personal details (detector=)",
    "exposure": "needs secrets that were planted (secrets=)",
    "attributes": "needs AttributeRecord samples and a classifier",
}


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class PlantedSecret:
    """A secret that was put into the training texts. The repr shows nothing of it.

    Args:
        prefix: the text before it.
        value: the secret.
        candidates: other values of the same form.
        space: how many values there are in all, where `candidates` is a random sample of them.
    """

    prefix: str
    value: str
    candidates: tuple[str, ...]
    space: float | None = None

    def __repr__(self) -> str:
        return f"PlantedSecret({len(self.candidates)} candidates)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInversionResult:
    """What each attack recovered; `not_run` says what the others need. Outside the guarantee."""

    extraction: ExtractionResult | None = None
    slot_filling: SlotFillingResult | None = None
    exposures: tuple[Exposure, ...] = ()
    attributes: AttributeInversionResult | None = None
    not_run: Mapping[str, str] = field(default_factory=dict)
    outside_guarantee: bool = field(default=True, init=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready data, without any text."""
        parts = {
            "extraction": self.extraction,
            "slot_filling": self.slot_filling,
            "attributes": self.attributes,
        }
        return {
            "outside_guarantee": True,
            **{name: None if part is None else part.to_dict() for name, part in parts.items()},
            "exposures": [asdict(found) for found in self.exposures],
            "not_run": dict(self.not_run),
        }

    def __str__(self) -> str:
        lines = [] if self.extraction is None else [str(self.extraction)]
        if self.slot_filling is not None:
            found = self.slot_filling
            lines.append(
                f"personal details ranked first: {found.first} of {found.slots}, guessing "
                f"{found.base_rate:.3f}"
            )
        lines += [
            f"planted secret: {found.bits:.2f} bits of at most {found.most:.2f}"
            for found in self.exposures
        ]
        if self.attributes is not None:
            recovered = self.attributes
            lines.append(
                f"attributes recovered: {recovered.members}, the commonest value "
                f"{recovered.majority:.3f}"
            )
        lines += [f"{name} not run: {reason}" for name, reason in self.not_run.items()]
        return "\n".join([*lines, "outside the guarantee"])


def model_inversion(
    model: Any,
    tokenizer: Any,
    samples: Sequence[str] | Sequence[AttributeRecord],
    *,
    base: Any = None,
    unseen: Sequence[str] | Sequence[AttributeRecord] = (),
    secrets: Sequence[PlantedSecret] = (),
    detector: Detector | None = None,
    values: Sequence[str] = (),
    **options: Any,
) -> ModelInversionResult:
    """Attack a model with everything for which there is material.

    Args:
        model: a causal language model for texts, a classifier for attribute records.
        tokenizer: its tokenizer.
        samples: training texts, or training records with one attribute that the attacker wants.
        base: the model before training. `None`: a model with adapters is its own base.
        unseen: of the same kind and source, not trained on.
        secrets: what was planted in the training texts.
        detector: finds personal details in the texts (`privacy_core.redaction`).
        values: all values that an attribute can have; by default those that the records have.
        **options: of `extraction`: `prefix_tokens`, `suffix_tokens`, `sampling`, `seed`, and
            `progress`, which is called with what is being done, how many are done, of how many.

    Raises:
        ConfigurationError: samples of both kinds, or none. Nothing was computed.
        ModelLoadError, DatasetError: see the attacks.
    """
    kinds = {isinstance(sample, AttributeRecord) for sample in (*samples, *unseen)}
    if not samples or len(kinds) != 1:
        raise ConfigurationError(
            f"{len(samples)} samples, expected training texts, or AttributeRecords throughout; "
            "nothing was computed"
        )
    if kinds == {True}:
        return _of_records(model, tokenizer, samples, unseen, values)
    texts = [str(sample) for sample in samples]
    found: dict[str, Any] = {
        "extraction": extraction(
            model,
            tokenizer,
            texts,
            base=base,
            unseen=[str(text) for text in unseen],
            **options,
        )
    }
    if secrets:
        found["exposures"] = tuple(
            canary_exposure(
                model, tokenizer, one.prefix, one.value, one.candidates, space=one.space
            )
            for one in secrets
        )
    not_run = {"attributes": _NEEDS["attributes"]}
    slots = [] if detector is None else slots_in(texts, detector)
    if len(slots) >= 2:
        found["slot_filling"] = slot_filling(
            model, tokenizer, slots, base=base, progress=options.get("progress")
        )
    else:
        not_run["slot_filling"] = (
            _NEEDS["slot_filling"]
            if detector is None
            else f"the detector found {len(slots)} details with another of their kind, expected 2"
        )
    if not secrets:
        not_run["exposure"] = _NEEDS["exposure"]
    return ModelInversionResult(**found, not_run=not_run)


def _of_records(
    model: Any,
    tokenizer: Any,
    samples: Sequence[Any],
    unseen: Sequence[Any],
    values: Sequence[str],
) -> ModelInversionResult:
    known = values or sorted({record.value for record in (*samples, *unseen)})
    return ModelInversionResult(
        attributes=attribute_inversion(model, tokenizer, samples, known, nonmembers=unseen),
        not_run={name: need for name, need in _NEEDS.items() if name != "attributes"},
    )
