"""Membership inference finds what was learned by heart, and nothing where nothing was learned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privacy_finetuner.assessment import likelihoods
from privacy_finetuner.assessment.attacks import (
    MembershipInferenceResult,
    Shadow,
    membership_inference,
    token_statistics,
)
from privacy_finetuner.errors import ConfigurationError, DatasetError, ModelLoadError

MakeModel = Callable[..., Any]
ONE_MODEL = {"loss", "zlib_ratio", "min_k", "min_k_plus_plus"}


@pytest.fixture(scope="module")
def attacked(memorised: Any) -> MembershipInferenceResult:
    return membership_inference(
        memorised.model,
        memorised.tokenizer,
        memorised.members,
        memorised.nonmembers,
        reference=memorised.base,
    )


@pytest.mark.parametrize("block", [2**22, 1000])
def test_the_statistics_are_those_of_one_text_at_a_time(
    make_model: MakeModel, byte_tokenizer: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a loop without batches, and moments summed over the vocabulary in numpy."""
    import torch

    monkeypatch.setattr(likelihoods, "_BLOCK_NUMBERS", block)
    model = make_model("llama", vocabulary=259)
    texts = ["a longer text than the other", "short", "x"]

    found = token_statistics(model, byte_tokenizer, texts)

    for k, text in enumerate(texts):
        ids = byte_tokenizer(text)["input_ids"]
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.tensor([ids])).logits[0]
        table = torch.log_softmax(logits.double(), dim=-1).numpy()[:-1]
        weights = np.exp(table)
        means = (weights * table).sum(1)
        squares = (weights * (table - means[:, None]) ** 2).sum(1)
        assert found.log_probs[k] == pytest.approx(
            table[np.arange(len(ids) - 1), ids[1:]], abs=1e-5
        )
        assert found.means[k] == pytest.approx(means, abs=1e-5)
        assert found.deviations[k] == pytest.approx(np.sqrt(squares), abs=1e-5)


def test_the_mode_of_the_model_is_as_before(make_model: MakeModel, byte_tokenizer: Any) -> None:
    for training in (True, False):
        model = make_model("llama", vocabulary=259).train(training)
        token_statistics(model, byte_tokenizer, ["some text"])

        assert model.training is training
        assert all(parameter.grad is None for parameter in model.parameters())


def test_a_long_text_is_cut_and_counted(make_model: MakeModel, byte_tokenizer: Any) -> None:
    model = make_model("llama", vocabulary=259, positions=16)
    found = token_statistics(model, byte_tokenizer, ["x" * 100, "yy"])

    assert (len(found.log_probs[0]), len(found.log_probs[1]), found.cut) == (15, 2, 1)


def test_a_text_without_a_token_is_refused_by_number_and_not_quoted(
    make_model: MakeModel, byte_tokenizer: Any
) -> None:
    with pytest.raises(DatasetError, match="text 2 of 2 has 1 tokens") as refused:
        token_statistics(make_model("llama", vocabulary=259), byte_tokenizer, ["secret", ""])

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("vocabulary", [100, 20_000])
def test_another_models_tokenizer_is_refused(
    make_model: MakeModel, byte_tokenizer: Any, vocabulary: int
) -> None:
    with pytest.raises(ModelLoadError, match="do not belong together"):
        token_statistics(make_model("llama", vocabulary=vocabulary), byte_tokenizer, ["text"])


def test_a_model_that_learned_by_heart_is_found_out_by_every_score(
    attacked: MembershipInferenceResult,
) -> None:
    assert not attacked.is_void
    assert {attack.name for attack in attacked.attacks} == {*ONE_MODEL, "reference_ratio"}
    assert all(attack.auc.low > 0.75 for attack in attacked.attacks)
    assert attacked.strongest.auc.low > 0.9


def test_the_base_model_does_not_know_the_members(memorised: Any) -> None:
    """Random split, model that saw neither: 0.5 within 5 standard errors of 60 against 60."""
    found = membership_inference(
        memorised.base, memorised.tokenizer, memorised.members, memorised.nonmembers
    )

    assert {attack.name for attack in found.attacks} == ONE_MODEL
    assert all(abs(attack.auc.estimate - 0.5) < 5 * 0.053 for attack in found.attacks)
    assert "needs a reference" in found.not_run["reference_ratio"]
    with pytest.raises(ConfigurationError, match="needs a reference"):
        found.attack("reference_ratio")


def test_a_rate_that_needs_more_nonmembers_is_not_claimed(
    attacked: MembershipInferenceResult,
) -> None:
    rate = attacked.attack("loss").at_fpr_0_1_percent

    assert rate.tpr is None
    assert rate.nonmembers_needed == 1000


def test_the_result_is_json_without_texts_and_says_outside(
    attacked: MembershipInferenceResult, memorised: Any
) -> None:
    written = json.dumps(attacked.to_dict()) + str(attacked) + repr(attacked)

    assert json.loads(json.dumps(attacked.to_dict()))["outside_guarantee"] is True
    assert "outside the guarantee" in str(attacked)
    assert not any(text in written for text in memorised.members)


def test_overlapping_groups_are_void(memorised: Any) -> None:
    twin = "  " + memorised.members[0].upper().replace(" ", "   ")
    found = membership_inference(
        memorised.base,
        memorised.tokenizer,
        memorised.members,
        [*memorised.nonmembers[:-1], twin],
    )

    assert found.is_void
    assert "1 texts are members and non-members at once" in found.void_reasons[0]


def test_groups_of_another_kind_are_void(memorised: Any) -> None:
    stories = [
        f"Once upon a time there was a little dog number {k}. He ran away." for k in range(60)
    ]
    found = membership_inference(memorised.base, memorised.tokenizer, memorised.members, stories)

    assert any("differ in distribution" in reason for reason in found.void_reasons)


def test_a_model_that_is_worse_than_guessing_is_void(memorised: Any, make_model: MakeModel) -> None:
    """Random weights, large ones: as with the tokenizer of another model of the same size."""
    import torch

    model = make_model("llama", vocabulary=512)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    found = membership_inference(
        model, memorised.tokenizer, memorised.members, memorised.nonmembers
    )

    assert any("less likely than guessing" in reason for reason in found.void_reasons)


def test_few_texts_are_void_and_one_is_refused(memorised: Any) -> None:
    base, tokenizer, texts = memorised.base, memorised.tokenizer, memorised.members
    found = membership_inference(base, tokenizer, texts[:10], texts[10:20])

    assert any("too few" in reason for reason in found.void_reasons)
    with pytest.raises(ConfigurationError, match="nothing was computed"):
        membership_inference(base, tokenizer, texts[:1], texts[10:20])


def test_an_adapter_is_its_own_reference(memorised: Any) -> None:
    import copy

    import torch

    from privacy_finetuner.training.lora import LoraSettings, apply_lora

    model = apply_lora(copy.deepcopy(memorised.base), LoraSettings(rank=4), "causal_lm")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    texts = memorised.members
    found = membership_inference(model, memorised.tokenizer, texts[:20], texts[20:40])
    given = membership_inference(
        model, memorised.tokenizer, texts[:20], texts[20:40], reference=memorised.base
    )

    assert found.attack("reference_ratio").auc == given.attack("reference_ratio").auc


def test_shadow_models_bring_rmia_and_lira(memorised: Any, make_model: MakeModel) -> None:
    """Offline: shadows that saw none. Online: shadows that saw every other text."""
    from privacy_finetuner.assessment.attacks import membership_inference as attack

    arguments = (memorised.model, memorised.tokenizer, memorised.members, memorised.nonmembers)
    noisy = [_disturbed(memorised.base, seed) for seed in range(3)]
    offline = attack(*arguments, shadows=[Shadow(model) for model in noisy])
    halves = [frozenset(range(k % 2, 120, 2)) for k in range(4)]
    online = attack(*arguments, shadows=[Shadow(memorised.base, half) for half in halves])
    one = attack(*arguments, shadows=[Shadow(noisy[0])])

    assert offline.attack("rmia").auc.low > 0.75
    assert offline.attack("lira").auc.low > 0.75
    assert "saw none" in online.not_run["rmia"]
    assert "lira" in {found.name for found in online.attacks}
    assert "two or more" in one.not_run["lira"]


def _disturbed(model: Any, seed: int) -> Any:
    import copy

    import torch

    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.empty_like(parameter).normal_(std=0.01, generator=generator))
    return other


def test_progress_is_told_to_the_end(memorised: Any) -> None:
    told: list[tuple[str, int, int]] = []
    token_statistics(
        memorised.base,
        memorised.tokenizer,
        memorised.members,
        progress=lambda stage, done, of: told.append((stage, done, of)),
    )

    assert told[-1] == ("reading texts", 60, 60)
    assert math.isclose(told[-1][1], told[-1][2])
