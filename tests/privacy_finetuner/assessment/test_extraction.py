"""What comes out is what greedy decoding and sampling really write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from privacy_finetuner.assessment.extraction import Sampling, extraction
from privacy_finetuner.assessment.likelihoods import continuations
from privacy_finetuner.errors import ConfigurationError, DatasetError
from privacy_finetuner.training.encoding import Encoder

MakeModel = Callable[..., Any]


def test_a_greedy_suffix_is_the_one_that_generation_writes(memorised: Any) -> None:
    """Hugging Face's own generation, one text at a time, for members and strangers."""
    import torch

    encoder = Encoder(memorised.tokenizer)
    rows = [encoder.prompt(text)[:17] for text in memorised.members[:8] + memorised.nonmembers[:8]]
    pairs = [(row[:9], row[9:]) for row in rows]
    found = continuations(memorised.model, pairs, encoder.pad_id)
    memorised.model.eval()
    for (prefix, rest), one in zip(pairs, found, strict=True):
        out = memorised.model.generate(
            input_ids=torch.tensor([prefix]),
            attention_mask=torch.ones(1, len(prefix), dtype=torch.long),
            max_new_tokens=len(rest),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=encoder.pad_id,
        )
        assert one.is_greedy is (out[0, len(prefix) :].tolist() == rest)
    assert any(one.is_greedy for one in found)
    assert not all(one.is_greedy for one in found)


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, None), (0.7, 5), (2.0, 1000)])
def test_the_probability_of_a_suffix_is_the_product_over_its_tokens(
    make_model: MakeModel, byte_tokenizer: Any, temperature: float, top_k: int | None
) -> None:
    import torch

    model = make_model("llama", vocabulary=259).eval()
    prefix, rest = [1, 40, 41], [42, 43]
    logits = model(input_ids=torch.tensor([[*prefix, *rest]])).logits[0].detach().double()
    expected = 0.0
    for place, token in enumerate(rest, start=len(prefix) - 1):
        row = logits[place] / temperature
        kept = row.sort(descending=True).values[: top_k or 259].exp()
        inside = row[token].exp() >= kept[-1] * (1 - 1e-9)
        expected += float((row[token].exp() / kept.sum()).log()) if inside else -math.inf

    found = continuations(
        model, [(prefix, rest)], byte_tokenizer.pad_token_id, temperature=temperature, top_k=top_k
    )

    assert found[0].log_prob == pytest.approx(expected, abs=1e-4)


def test_n_samples_extract_with_the_probability_of_at_least_one_success() -> None:
    sampling = Sampling(probability=0.5)

    assert sampling.extracts(math.log(0.5), 1)
    assert not sampling.extracts(math.log(0.49), 1)
    assert sampling.extracts(math.log(0.01), 69)  # 1 - 0.99^69 = 0.5001
    assert not sampling.extracts(math.log(0.01), 68)
    assert not sampling.extracts(-math.inf, 10**9)
    assert sampling.extracts(0.0, 1)
    assert sampling.extracts(math.log(1e-20), 10**20)


def test_texts_learned_by_heart_come_out_and_strangers_do_not(memorised: Any) -> None:
    found = extraction(
        memorised.model,
        memorised.tokenizer,
        memorised.members,
        base=memorised.base,
        unseen=memorised.nonmembers,
        prefix_tokens=8,
        suffix_tokens=8,
        sampling=Sampling(attempts=(1, 100)),
    )

    assert found.rates["greedy"].low > 0.3
    assert found.over_base["greedy"].low > 0.3
    assert found.over_unseen["greedy"].low > 0.3
    assert found.rates["n=100"].estimate >= found.rates["n=1"].estimate
    written = json.dumps(found.to_dict()) + str(found) + repr(found)
    assert not any(text in written for text in memorised.members)


def test_the_base_model_has_no_excess_over_itself(memorised: Any) -> None:
    found = extraction(
        memorised.base,
        memorised.tokenizer,
        memorised.members,
        base=memorised.base,
        prefix_tokens=8,
        suffix_tokens=4,
    )

    assert {rate.estimate for rate in found.over_base.values()} == {0.0}
    assert found.over_unseen == {}


def test_what_cannot_be_asked_is_refused(memorised: Any) -> None:
    base, tokenizer, texts = memorised.base, memorised.tokenizer, memorised.members
    with pytest.raises(DatasetError, match="0 of 60 training texts"):
        extraction(base, tokenizer, texts, prefix_tokens=200, suffix_tokens=200)
    with pytest.raises(ConfigurationError, match="context of 512"):
        extraction(base, tokenizer, texts, prefix_tokens=500, suffix_tokens=200)
    with pytest.raises(ConfigurationError):
        extraction(base, tokenizer, texts, prefix_tokens=0)
    for wrong in ({"attempts": ()}, {"probability": 0.0}, {"temperature": 0.0}, {"top_k": 0}):
        with pytest.raises(ConfigurationError):
            Sampling(**wrong)
