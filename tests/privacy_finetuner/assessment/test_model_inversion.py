"""Every attack for which there is material, and for the others what they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from privacy_core.redaction.detection import PatternDetector
from privacy_finetuner import BenchmarkSuite
from privacy_finetuner.assessment.inversion import AttributeRecord
from privacy_finetuner.assessment.model_inversion import PlantedSecret, model_inversion
from privacy_finetuner.errors import ConfigurationError

TEXTS = [f"call 030 555 01{i:02d} or write to p{i}@example.org" for i in range(6)]


@pytest.fixture(scope="module")
def attacked(llama_folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    return model, AutoTokenizer.from_pretrained(llama_folder)


def test_texts_secrets_and_details_are_attacked_together(attacked: tuple[Any, Any]) -> None:
    secret = PlantedSecret(prefix="the code is ", value="w7qx", candidates=("kk8z", "p0vv"))
    found = BenchmarkSuite().model_inversion_test(
        attacked[0],
        [{"text": text} for text in TEXTS],
        tokenizer=attacked[1],
        unseen=[text.replace("555", "444") for text in TEXTS],
        secrets=[secret],
        detector=PatternDetector(),
        prefix_tokens=6,
        suffix_tokens=6,
    )

    assert found.extraction is not None
    assert found.extraction.over_unseen
    assert found.slot_filling is not None
    assert len(found.exposures) == 1
    assert set(found.not_run) == {"attributes"}
    shown = json.dumps(found.to_dict()) + str(found) + repr(secret)
    assert not any(word in shown for word in ("example.org", "030 555", "w7qx", "the code"))


def test_attribute_records_need_a_classifier(make_model: Any, byte_tokenizer: Any) -> None:
    model = make_model("bert", vocabulary=len(byte_tokenizer))
    records = [
        AttributeRecord(template="{} has a cough", value=value, label=0)
        for value in ("Ann", "Bob", "Ann")
    ]
    found = model_inversion(model, byte_tokenizer, records, unseen=records[:2])

    assert found.attributes is not None
    assert found.attributes.values == 2
    assert set(found.not_run) == {"extraction", "slot_filling", "exposure"}


@pytest.mark.parametrize(
    "samples", [[], ["a text", AttributeRecord(template="{}", value="a", label=0)]]
)
def test_samples_of_no_kind_or_of_two_are_refused(
    attacked: tuple[Any, Any], samples: list[Any]
) -> None:
    with pytest.raises(ConfigurationError, match="nothing was computed"):
        model_inversion(*attacked, samples)
