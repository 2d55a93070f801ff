from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from privacy_finetuner.errors import ConfigurationError, DatasetError, ModelLoadError
from privacy_finetuner.training.datasets import IGNORED, TokenizedDataset, tokenize
from privacy_finetuner.training.records import read_records

PRIVATE = "Zebediah"
CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ m.role }}={% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)


def byte_tokenizer(
    *,
    merges: tuple[tuple[str, str], ...] = (),
    frame: str | None = "<s> $A",
    special: dict[str, str] | None = None,
    template: str | None = None,
) -> Any:
    """One token a byte, so that a test can read the tokens; merges make longer ones."""
    if special is None:
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    vocab = {token: k for k, token in enumerate(["<pad>", "<s>", "</s>"])}
    for char in [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(m) for m in merges)]:
        vocab[char] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if frame is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)


def dataset(rows: list[Any], tokenizer: Any = None, **options: Any) -> TokenizedDataset:
    options = {"max_length": 64, "task": "causal_lm", **options}
    return tokenize(read_records(rows), tokenizer or byte_tokenizer(), **options)


def learned(data: TokenizedDataset, tokenizer: Any, index: int = 0) -> str:
    labels = data.labels[index]
    return str(tokenizer.decode(labels[labels != IGNORED]))


def test_a_text_is_framed_and_learned_to_its_end() -> None:
    tokenizer = byte_tokenizer()
    data = dataset(["ab"], tokenizer)

    assert tokenizer.decode(data.input_ids[0]) == "<s>ab</s>"
    assert learned(data, tokenizer) == "ab</s>"


def test_no_start_token_is_added_where_the_tokenizer_adds_none() -> None:
    tokenizer = byte_tokenizer(frame=None)

    assert tokenizer.decode(dataset(["ab"], tokenizer).input_ids[0]) == "ab</s>"


def test_an_end_token_that_the_tokenizer_adds_is_not_doubled() -> None:
    tokenizer = byte_tokenizer(frame="<s> $A </s>")

    assert tokenizer.decode(dataset(["ab"], tokenizer).input_ids[0]) == "<s>ab</s>"


def test_only_the_completion_is_learned() -> None:
    tokenizer = byte_tokenizer()
    data = dataset([{"prompt": "question ", "completion": "answer"}], tokenizer)

    assert tokenizer.decode(data.input_ids[0]) == "<s>question answer</s>"
    assert learned(data, tokenizer) == "answer</s>"


def test_a_token_across_the_boundary_neither_hides_the_prompt_nor_teaches_it() -> None:
    tokenizer = byte_tokenizer(merges=(("b", "c"),))
    data = dataset(
        [{"prompt": "ab", "completion": "cd"}, {"prompt": "a", "completion": "bc"}], tokenizer
    )

    assert tokenizer.convert_ids_to_tokens(data.input_ids[0]) == ["<s>", "a", "b", "c", "d", "</s>"]
    assert learned(data, tokenizer, 0) == "cd</s>"
    assert tokenizer.convert_ids_to_tokens(data.input_ids[1]) == ["<s>", "a", "bc", "</s>"]


def test_without_a_template_a_chat_is_lines_and_the_assistant_is_learned() -> None:
    tokenizer = byte_tokenizer()
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "bye"), ("assistant", "ciao")]
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in turns[:count]]}
        for count in (4, 3)
    ]
    data = dataset(rows, tokenizer)

    whole = "<s>user: hi\nassistant: hello\nuser: bye\nassistant: ciao\n</s>"
    assert tokenizer.decode(data.input_ids[0]) == whole
    assert learned(data, tokenizer, 0) == "hello\nciao\n</s>"
    assert learned(data, tokenizer, 1) == "hello\n"


@pytest.mark.parametrize(
    ("template", "whole", "taught"),
    [
        (CHATML, "<user>hi;<assistant>hello;<user>bye;", "hello;"),
        (MARKED, "user=hiassistant=hello!user=bye", "hello!"),
    ],
)
def test_a_chat_template_is_followed(template: str, whole: str, taught: str) -> None:
    tokenizer = byte_tokenizer(template=template)
    turns = [("user", "hi"), ("assistant", "hello"), ("user", "bye")]
    data = dataset(
        [{"messages": [{"role": role, "content": text} for role, text in turns]}], tokenizer
    )

    assert tokenizer.decode(data.input_ids[0]) == whole
    assert learned(data, tokenizer) == taught


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no: ' + messages[0].content) }}",
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_that_hides_the_turns_is_refused(template: str) -> None:
    tokenizer = byte_tokenizer(template=template)
    row = {
        "messages": [
            {"role": "user", "content": PRIVATE},
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": "x"},
        ]
    }

    with pytest.raises(DatasetError, match="conversation 1") as caught:
        dataset([row], tokenizer)

    assert PRIVATE not in str(caught.value)
    assert caught.value.__context__ is None


def test_long_examples_lose_their_end_and_are_counted() -> None:
    tokenizer = byte_tokenizer()
    data = dataset(["abcdef", "ab"], tokenizer, max_length=4)

    assert [tokenizer.decode(ids) for ids in data.input_ids] == ["<s>abc", "<s>ab</s>"]
    assert data.truncated == 1


def test_a_cut_classification_keeps_its_frame() -> None:
    tokenizer = byte_tokenizer(frame="<s> $A </s>")
    rows = [{"text": "abcdef", "label": 0}, {"text": "ab", "label": 1}]
    data = dataset(rows, tokenizer, max_length=5, task="sequence_classification")

    assert [tokenizer.decode(ids) for ids in data.input_ids] == ["<s>abc</s>", "<s>ab</s>"]
    assert data.truncated == 1


def test_strict_refuses_long_examples_with_their_count() -> None:
    with pytest.raises(DatasetError, match=r"1 of 2 .* longest has 8 tokens"):
        dataset(["abcdef", "ab"], max_length=4, strict=True)

    assert dataset(["abcdef"], max_length=8, strict=True).truncated == 0


def test_an_example_with_nothing_left_to_learn_is_kept_and_counted() -> None:
    rows = [{"prompt": "long prompt", "completion": "x"}, {"prompt": "", "completion": "x"}]
    data = dataset(rows, max_length=4)

    assert len(data) == 2
    assert data.unsupervised == 1
    assert (data.batch([0])["labels"] == IGNORED).all()


def test_text_that_the_tokenizer_does_not_know_still_gives_a_token() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "</s>": 1}, merges=[]))
    special = {"eos_token": "</s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    rows = [{"text": "\u00e9", "label": 0}, {"text": "a", "label": 1}]

    data = dataset(rows, fast, task="sequence_classification")
    assert [len(ids) for ids in data.input_ids] == [1, 1]
    assert dataset(["\u00e9"], fast).input_ids[0].tolist() == [1]


def test_classes_are_numbered_in_sorted_order() -> None:
    rows = [{"text": "x", "label": label} for label in ("b", "a", "c")]
    data = dataset(rows, task="sequence_classification")

    assert data.label_names == ("a", "b", "c")
    assert data.batch([0, 1, 2])["labels"].tolist() == [1, 0, 2]


def test_each_example_is_its_own_unit_unless_users_are_named() -> None:
    rows = [{"text": text, "user": user} for text, user in zip("abcde", "xyxzx", strict=True)]
    alone, shared = dataset(rows), dataset(rows, user_field="user")

    assert (alone.units.tolist(), alone.unit_count) == ([0, 1, 2, 3, 4], 5)
    assert (shared.units.tolist(), shared.unit_count) == ([0, 1, 0, 2, 0], 3)
    assert shared.examples_of([2, 0]).tolist() == [0, 2, 3, 4]
    assert shared.examples_of([]).tolist() == []


def test_the_cap_keeps_the_first_of_each_user_whatever_the_others_have() -> None:
    tokenizer = byte_tokenizer(frame=None)
    rows = [{"text": text, "user": user} for text, user in zip("abcdef", "xxyxyx", strict=True)]
    options = {"user_field": "user", "max_examples_per_user": 2}
    both = dataset(rows, tokenizer, **options)
    without_y = dataset([row for row in rows if row["user"] == "x"], tokenizer, **options)

    def texts(data: TokenizedDataset) -> list[str]:
        return [str(tokenizer.decode(ids[:-1])) for ids in data.input_ids]

    assert (texts(both), both.dropped, both.unit_count) == (["a", "b", "c", "e"], 2, 2)
    assert texts(without_y) == ["a", "b"]
    assert set(texts(without_y)) <= set(texts(both))


def test_an_example_does_not_depend_on_its_neighbours() -> None:
    rows = [{"prompt": "ab" * k, "completion": "cd" * (k + 1)} for k in range(5)]
    tokenizer = byte_tokenizer(merges=(("b", "c"), ("a", "b")))
    together = dataset(rows, tokenizer, max_length=9)

    for k, row in enumerate(rows):
        alone = dataset([row], tokenizer, max_length=9)
        assert alone.input_ids[0].tolist() == together.input_ids[k].tolist()
        assert alone.labels[0].tolist() == together.labels[k].tolist()


def test_a_batch_is_padded_on_the_right_and_masked() -> None:
    data = dataset(["a", "abc"])
    batch = data.batch(np.array([1, 0]))

    assert {name: (t.shape, t.dtype) for name, t in batch.items()} == {
        name: (torch.Size([2, 5]), torch.int64)
        for name in ("input_ids", "attention_mask", "labels")
    }
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch["input_ids"][1, 3:].tolist() == [data.pad_id] * 2
    assert batch["labels"][1, 3:].tolist() == [IGNORED] * 2


def test_padding_with_the_end_token_still_teaches_the_end() -> None:
    tokenizer = byte_tokenizer(special={"eos_token": "</s>"}, frame=None)
    data = dataset(["a", "abc"], tokenizer)
    batch = data.batch([0, 1])

    assert data.pad_id == tokenizer.eos_token_id
    assert batch["labels"][0].tolist()[1:] == [tokenizer.eos_token_id, IGNORED, IGNORED]
    assert batch["attention_mask"][0].tolist() == [1, 1, 0, 0]


def test_an_empty_batch_has_no_rows() -> None:
    rows = [{"text": "x", "label": 0}, {"text": "y", "label": 1}]
    empty = dataset(["a"]).batch([])
    classes = dataset(rows, task="sequence_classification").batch([])

    assert {tuple(t.shape) for t in empty.values()} == {(0, 0)}
    assert {name: tuple(t.shape) for name, t in classes.items()} == {
        "input_ids": (0, 0),
        "attention_mask": (0, 0),
        "labels": (0,),
    }


def test_an_index_outside_the_set_is_refused() -> None:
    for index in (-1, 1):
        with pytest.raises(IndexError):
            dataset(["a"]).batch([index])


@pytest.mark.parametrize("bounds", [{"size": 3}, {"max_tokens": 40}, {"size": 2, "max_tokens": 30}])
@pytest.mark.parametrize("sort_by_length", [True, False])
def test_micro_batches_are_the_batch_within_their_bounds(
    bounds: dict[str, int], sort_by_length: bool
) -> None:
    data = dataset(["x" * (1 + 7 * k % 50) for k in range(40)])
    indices = np.array([*range(0, 40, 3), 5, 5])
    pieces = list(data.micro_batches(indices, sort_by_length=sort_by_length, **bounds))

    assert sorted(np.concatenate(pieces).tolist()) == sorted(indices.tolist())
    for piece in pieces:
        width = int(data.lengths[piece].max())
        assert 1 <= len(piece) <= bounds.get("size", len(indices))
        assert len(piece) == 1 or len(piece) * width <= bounds.get("max_tokens", 10**9)


def test_a_long_example_does_not_narrow_the_pieces_after_it() -> None:
    data = dataset(["x" * 48, *["x"] * 10])
    pieces = data.micro_batches(np.arange(11), max_tokens=50, sort_by_length=False)

    assert [len(piece) for piece in pieces] == [1, 10]


def test_sorting_lowers_the_padding() -> None:
    data = dataset(["x" * (1 + 7 * k % 50) for k in range(40)])

    def positions(sort_by_length: bool) -> int:
        pieces = data.micro_batches(np.arange(40), size=8, sort_by_length=sort_by_length)
        return sum(data.batch(piece)["input_ids"].numel() for piece in pieces)

    assert positions(True) < 0.8 * positions(False)


def test_no_micro_batches_of_nothing() -> None:
    assert list(dataset(["a"]).micro_batches([], size=4)) == []
    assert list(dataset(["a"]).micro_batches([], max_tokens=4)) == []


def test_the_fingerprint_changes_with_what_training_sees() -> None:
    rows = [{"text": text, "user": user} for text, user in zip("abc", "xyx", strict=True)]
    first = dataset(rows).fingerprint

    assert dataset(rows).fingerprint == first
    assert dataset(rows[::-1]).fingerprint != first
    assert dataset(rows, user_field="user").fingerprint != first
    assert dataset(rows, max_length=2).fingerprint != first
    assert dataset([*rows[:2], {"text": "d", "user": "x"}]).fingerprint != first


def test_the_repr_shows_sizes_only() -> None:
    rows = [{"text": PRIVATE, "label": PRIVATE}, {"text": "x", "label": "y"}]

    assert PRIVATE not in repr(dataset(rows, task="sequence_classification"))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_length": 1}, ConfigurationError),
        ({"task": "translation"}, ConfigurationError),
        ({"max_examples_per_user": 2}, ConfigurationError),
        ({"user_field": "user", "max_examples_per_user": 0}, ConfigurationError),
        ({"user_field": "absent"}, DatasetError),
        ({"task": "sequence_classification"}, DatasetError),
    ],
)
def test_what_cannot_be_tokenised_is_refused(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        dataset([{"text": "a", "user": "x"}], **options)


def test_a_tokenizer_without_the_tokens_needed_is_refused() -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    bare = byte_tokenizer(special={}, frame=None)

    with pytest.raises(ModelLoadError, match="eos_token"):
        dataset(["a"], byte_tokenizer(special={"pad_token": "<pad>"}, frame=None))
    with pytest.raises(ModelLoadError, match="pad_token"):
        dataset(rows, bare, task="sequence_classification")


def test_real_text_survives_a_real_tokenizer(shared_data: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared_data / "models/stories260k/hf")
    records = read_records(shared_data / "banking77/train.csv", label_field="category")
    data = tokenize(records, tokenizer, max_length=512, task="causal_lm")

    assert (len(data), data.truncated) == (10003, 0)
    for k in range(0, len(data), 997):
        assert (
            tokenizer.decode(data.input_ids[k], skip_special_tokens=True) == records.rows[k]["text"]
        )
        assert data.input_ids[k][[0, -1]].tolist() == [
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
        ]
