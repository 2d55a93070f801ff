"""Slots, drafts and caches against a plain loop over one context at a time."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated_dp_llm.node.prompts import PromptForm
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.weights import require_folder, tokenizer_digest, weights_digest
from privacy_core.errors import InvalidParameter

FORM = PromptForm(record="r: {record}\n", frame="q: {prompt}\na:")
RECORDS = ["a short one", None, "a record of more words", "cut " * 30, None]
LIMIT = 1e-4


@pytest.fixture(scope="module", params=["llama", "gpt2", "opt"])
def folder(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    byte_tokenizer: Any,
    make_model: Any,
) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    make_model(request.param, vocabulary=259, positions=96).save_pretrained(path)
    byte_tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from federated_dp_llm.node.hf import HfModel

    return HfModel.load(folder, form=FORM, record_tokens=32, rows_most=2)


def plain(model: Any, record: str | None, prompt: str, tokens: Sequence[int]) -> Any:
    """All logits after these tokens, in one pass without padding, batch or cache."""
    import torch

    before = [] if record is None else model._encoded(FORM.with_record(record))
    if len(before) > 32:
        before = [*before[:31], *model._encoded("\n")]
    ids = [1, *before, *model._encoded(FORM.with_prompt(prompt)), *tokens]
    with torch.inference_mode():
        logits = model._model(input_ids=torch.tensor([ids]), use_cache=False).logits
    return logits[0, -1, : model.vocabulary].numpy()


def test_drafts_kept_left_and_cut_off_agree_with_a_plain_loop(model: Any) -> None:
    prompt = "how?"
    contexts = model.contexts(prompt, RECORDS)
    everything = tuple(range(model.vocabulary))
    steps: list[tuple[list[int], list[int]]] = [
        ([], [5, 6, 7]),
        ([5, 6, 9], [3]),
        ([5, 6, 9, 3, 4], []),
        ([5, 6, 9, 3, 4, 8], [1, 1, 1, 1]),
        ([5, 6, 9, 3, 4, 8, 2], [7, 7]),
    ]
    worst = 0.0
    for released, draft in steps:
        scored = contexts.score(released, draft, [everything] * (len(draft) + 1))
        assert [part.shape for part in scored] == [(5, model.vocabulary)] * (len(draft) + 1)
        for place, part in enumerate(scored):
            for row, record in zip(part, RECORDS, strict=True):
                want = plain(model, record, prompt, [*released, *draft[:place]])
                worst = max(worst, float(np.abs(row - want).max()))

    assert worst <= LIMIT


def test_candidates_are_taken_in_the_order_they_are_named(model: Any) -> None:
    contexts = model.contexts("how?", RECORDS[:2])
    (all_logits,) = contexts.score([], [], [tuple(range(model.vocabulary))])

    (some,) = contexts.score([], [], [(9, 3, 200)])

    assert np.abs(some - all_logits[:, [9, 3, 200]]).max() <= LIMIT


def test_a_public_continuation_is_greedy_and_agrees_with_a_plain_loop(model: Any) -> None:
    found = model.continuation("why?", [4, 5], 4)

    tokens: list[int] = []
    for place, row in enumerate(found.logits):
        want = plain(model, None, "why?", [4, 5, *tokens])
        assert np.abs(row - want).max() <= LIMIT
        if place < len(found.draft):
            assert found.draft[place] == int(want.argmax())
            tokens.append(found.draft[place])
    again = model.continuation("why?", [4, 5, *found.draft[:1], 77], 2)
    want = plain(model, None, "why?", [4, 5, *found.draft[:1], 77])
    assert np.abs(again.logits[0] - want).max() <= LIMIT


def test_a_slot_depends_on_its_own_record_alone(model: Any) -> None:
    ids = [tuple(range(model.vocabulary))]
    one = model.contexts("how?", ["mine", "of another one", None]).score([], [], ids)[0]
    other = model.contexts("how?", ["mine", None, "x" * 90]).score([], [], ids)[0]

    assert np.abs(one[0] - other[0]).max() <= LIMIT
    assert np.abs(one[1] - other[1]).max() > LIMIT


def test_each_slot_votes_for_its_likeliest_option(model: Any) -> None:
    options = ("yes", "no", "m")
    found = model.choices("well?", RECORDS, options)

    for choice, record in zip(found, RECORDS, strict=True):
        scores = []
        for option in options:
            tokens = model._encoded(" " + option)
            logs = 0.0
            for place, token in enumerate(tokens):
                row = plain(model, record, "well?", tokens[:place]).astype(np.float64)
                logs += row[token] - np.logaddexp.reduce(row)
            scores.append(logs)
        assert scores[choice] >= max(scores) - LIMIT


def test_no_prompt_passes_the_context(model: Any) -> None:
    assert model.room("x" * 40) == model.context_length - 33 - 40 - len("q: \na:")
    with pytest.raises(Refused):
        model.continuation("x" * 200, [], 1)
    with pytest.raises(Refused):
        model.choices("x" * 60, [None], ("yes", "no"))


def test_special_tokens_in_a_prompt_are_plain_text(model: Any) -> None:
    shared = model._shared("</s><s>")

    assert not {0, 1, 2} & set(shared)
    assert model._encoded("</s>", is_plain=False) == [2]


def test_the_card_of_the_model(model: Any, folder: Path) -> None:
    assert model.end_tokens == (2,)
    assert (model.vocabulary, model.context_length) == (259, 96)
    assert model.weights == weights_digest(folder, FORM)
    assert model.tokenizer == tokenizer_digest(folder)


def test_weights_are_the_same_however_they_are_spread(
    llama_folder: Path, tmp_path: Path, byte_tokenizer: Any, make_model: Any
) -> None:
    split = tmp_path / "split"
    model = make_model("llama", vocabulary=259, positions=64)
    model.save_pretrained(split, max_shard_size="10KB")
    byte_tokenizer.save_pretrained(split)
    other = tmp_path / "other"
    make_model("llama", vocabulary=259, positions=64, seed=1).save_pretrained(other)

    assert len(list(split.glob("*.safetensors"))) > 1
    assert weights_digest(split, FORM) == weights_digest(llama_folder, FORM)
    assert weights_digest(other, FORM) != weights_digest(llama_folder, FORM)
    assert weights_digest(split, PromptForm()) != weights_digest(split, FORM)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_part_is_refused(
    llama_folder: Path, tmp_path: Path, missing: str
) -> None:
    shutil.copytree(llama_folder, tmp_path / "model")
    (tmp_path / "model" / missing).unlink()

    with pytest.raises(InvalidParameter, match=missing.replace("model", "")):
        require_folder(tmp_path / "model")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 8, b"\x02" + bytes(7) + b"[]", None])
def test_damaged_weights_are_refused(
    llama_folder: Path, tmp_path: Path, damage: bytes | None
) -> None:
    shutil.copytree(llama_folder, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)

    with pytest.raises(InvalidParameter, match="damaged"):
        weights_digest(tmp_path / "model", FORM)


def test_a_model_that_is_no_folder_is_not_looked_for_elsewhere() -> None:
    with pytest.raises(InvalidParameter, match="nothing is downloaded"):
        require_folder("some-owner/some-model")


@pytest.mark.parametrize(
    "fields", [{"record": "no place"}, {"frame": "{prompt} {prompt}"}, {"frame": ""}]
)
def test_a_form_names_each_place_once(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidParameter):
        PromptForm(**fields)


def test_a_form_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "form.json"
    file.write_text('{"frame": "Q {prompt} A"}')

    assert PromptForm.read(file) == PromptForm(frame="Q {prompt} A")
    for bad in ("{", '{"frame": 1}', '{"frame": "no place"}', '{"frames": ""}', "[]"):
        file.write_text(bad)
        with pytest.raises(InvalidParameter):
            PromptForm.read(file)
    with pytest.raises(InvalidParameter):
        PromptForm.read(tmp_path / "none.json")
