"""Secrets and attributes are recovered from a model that learned them, and compared with chance."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from privacy_core.redaction.findings import Finding
from privacy_finetuner.assessment.inversion import (
    AttributeRecord,
    attribute_inversion,
    canary_exposure,
)
from privacy_finetuner.assessment.slot_filling import Slot, slot_filling, slots_in
from privacy_finetuner.errors import ConfigurationError, DatasetError

MakeModel = Callable[..., Any]
NAMES = ("Anna", "Tom", "Mia", "Ben", "Sam", "Lily", "Max", "Sue")


@pytest.fixture(scope="module")
def taught(memorised: Any, learn: Callable[..., None]) -> Any:
    """The base model after reading thirty times each who has which pet, and one code."""
    model = copy.deepcopy(memorised.base)
    learn(
        model,
        memorised.tokenizer,
        [slot.before + slot.value + slot.after for slot in _slots()] + ["The code of Mia is 4921."],
        passes=30,
    )
    return model


def _slots() -> list[Slot]:
    pets = ("dog", "cat", "bird", "fish", "frog", "duck", "bear", "cow")
    return [
        Slot(f"The {pet} belongs to ", name, ", who is happy.", NAMES, "PERSON")
        for pet, name in zip(pets, NAMES, strict=True)
    ]


def test_a_trained_secret_is_exposed_and_an_untrained_one_is_not(
    memorised: Any, taught: Any
) -> None:
    codes = [f"{k:04d}." for k in range(37, 10_000, 97)]
    arguments = (memorised.tokenizer, "The code of Mia is ", "4921.", codes)
    found = canary_exposure(taught, *arguments)

    assert found.bits == found.most
    assert canary_exposure(memorised.base, *arguments).bits < found.bits - 2
    assert canary_exposure(taught, *arguments, space=10_000).most > found.most


def test_names_that_were_read_are_filled_in(memorised: Any, taught: Any) -> None:
    found = slot_filling(taught, memorised.tokenizer, _slots(), base=memorised.base)

    assert found.first.estimate > 0.8
    assert found.base_rate == pytest.approx(1 / 8)
    assert found.over_base is not None
    assert found.over_base.low > 0.2
    assert found.mean_exposure > 2
    assert set(found.by_kind) == {"PERSON"}
    assert "Anna" not in json.dumps(found.to_dict()) + repr(found) + repr(_slots()[0])


def test_a_model_that_read_nothing_guesses(memorised: Any) -> None:
    found = slot_filling(memorised.base, memorised.tokenizer, _slots())

    assert found.first.low < found.base_rate
    assert found.over_base is None


def test_slots_come_from_what_a_detector_finds() -> None:
    class Names:
        def detect(
            self, text: str, *, level: str, hints: tuple[str, ...] = ()
        ) -> tuple[Finding, ...]:
            return tuple(
                Finding(text.index(name), text.index(name) + len(name), "PERSON", 1.0, "test.names")
                for name in NAMES
                if name in text
            )

    slots = slots_in(["I am Tom.", "Sue and I", "nobody"], Names())

    assert [(s.before, s.value, s.after, s.others) for s in slots] == [
        ("I am ", "Tom", ".", ("Sue",)),
        ("", "Sue", " and I", ("Tom",)),
    ]
    assert slots_in(["I am Tom."], Names()) == []
    assert slots_in(["I am Tom.", "Sue"], Names(), labels=("EMAIL",)) == []


def test_a_slot_without_candidates_is_refused(memorised: Any) -> None:
    with pytest.raises(DatasetError, match="another candidate"):
        slot_filling(memorised.base, memorised.tokenizer, [Slot("a", "b", candidates=("b",))] * 2)


@pytest.fixture(scope="module")
def classifier(make_model: MakeModel) -> Any:
    """Learns the label of each record by heart: the parity of city and the record's number."""
    import torch

    model = make_model("bert", vocabulary=259, positions=64, hidden=32)
    records, _ = _records()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    return model, records, optimizer


def _records() -> tuple[list[AttributeRecord], list[AttributeRecord]]:
    cities = ("Rome", "Oslo", "Lima")
    made = [
        AttributeRecord(f"{k:03d} {{}}", cities[(k * 7 + k // 5) % 3], (k * 5 + k // 3) % 3)
        for k in range(60)
    ]
    return made[:30], made[30:]


def test_an_attribute_is_recovered_where_the_record_was_learned(
    classifier: Any, byte_tokenizer: Any
) -> None:
    """The model learns: the right city gives the label, the other cities give another one."""
    import torch

    model, members, optimizer = classifier
    cities = ("Rome", "Oslo", "Lima")
    texts, labels = [], []
    for record in members:
        for city in cities:
            texts.append(record.template.replace("{}", city))
            labels.append(record.label if city == record.value else (record.label + 1) % 3)
    batch = byte_tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
    model.train()
    for _ in range(120):
        loss = model(**batch, labels=torch.tensor(labels)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    _, others = _records()

    found = attribute_inversion(model, byte_tokenizer, members, cities, nonmembers=others)

    assert found.members.low > found.majority
    assert found.excess is not None
    assert found.excess.low > 0
    assert found.over_majority.low > 0
    assert "Rome" not in json.dumps(found.to_dict()) + repr(members[0])


def test_a_model_that_learned_nothing_recovers_the_commonest_value(
    make_model: MakeModel, byte_tokenizer: Any
) -> None:
    """A model that ignores its input: the estimator falls back on the prior, exactly."""
    import torch

    model = make_model("bert", vocabulary=259, positions=64)
    with torch.no_grad():
        model.classifier.weight.zero_()
    members, _ = _records()
    found = attribute_inversion(model, byte_tokenizer, members, ("Rome", "Oslo", "Lima"))

    assert found.members.estimate == found.majority
    assert found.over_majority.estimate == 0
    assert found.nonmembers is None


def test_records_that_do_not_fit_are_refused_without_being_quoted(
    make_model: MakeModel, byte_tokenizer: Any
) -> None:
    model = make_model("bert", vocabulary=259, positions=64)
    members, _ = _records()
    for wrong in (AttributeRecord("secret", "Rome", 0), AttributeRecord("secret {}", "Paris", 0)):
        with pytest.raises(ConfigurationError, match="record 31") as refused:
            attribute_inversion(model, byte_tokenizer, [*members, wrong], ("Rome", "Oslo", "Lima"))
        assert "secret" not in str(refused.value)
        assert "Paris" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="1 values"):
        attribute_inversion(model, byte_tokenizer, members, ("Rome",))
