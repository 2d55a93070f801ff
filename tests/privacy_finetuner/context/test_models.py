"""Adapters: a tiny random classifier for offsets and labels; the others by their contracts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from privacy_core.redaction.entities import UnknownEntity
from privacy_core.redaction.tokens import tokenize
from privacy_finetuner.context.models import GlinerNames, HuggingFaceNames, SpacyNames
from privacy_finetuner.errors import ModelLoadError

TEXT = "Yesterday Anna Kowalska met Bo-Erik in Wien.\n  Åsa was there, too; " * 6


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random token classifier whose pieces are words and single characters."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    alphabet = sorted({c.lower() for c in TEXT if not c.isspace()})
    words = ["yesterday", "anna", "met", "wien", "was", "##na", *(f"##{c}" for c in alphabet)]
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *alphabet]
    tokenizer = Tokenizer(
        models.WordPiece(
            {piece: k for k, piece in enumerate(vocabulary)}, unk_token=special["unk_token"]
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(4)  # noqa: TID251 -- weights of a test model
    labels = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-EVENT"]
    model = hf.BertForTokenClassification(
        hf.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
            initializer_range=1.0,
            id2label=dict(enumerate(labels)),
            label2id={label: k for k, label in enumerate(labels)},
        )
    )
    folder = tmp_path_factory.mktemp("classifier")
    model.save_pretrained(folder)
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **special
    ).save_pretrained(folder)
    return folder


def test_findings_begin_and_end_at_words_in_order_and_apart(classifier: Path) -> None:
    tokens = tokenize(TEXT)

    findings = HuggingFaceNames(classifier).tag(TEXT)

    assert findings, "the random weights were chosen to find something"
    place = 0
    for found in findings:
        assert found.start in tokens.starts
        assert found.end in tokens.ends
        assert place <= found.start < found.end
        assert found.label in {"PERSON", "LOCATION"}
        assert 0 < found.score <= 1
        place = found.end


def test_each_word_has_the_label_of_its_first_piece(classifier: Path) -> None:
    import torch

    text = "Anna met Erik in Wien"
    tagger = HuggingFaceNames(classifier)
    encoded = tagger._tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.inference_mode():
        best = tagger._model(**encoded).logits[0].argmax(dim=-1).tolist()
    first = {start: tagger._tags[k] for (start, end), k in zip(offsets, best, strict=True) if end}

    tags, _ = tagger._by_word(text, tokenize(text))

    assert tags == [first[start] for start in tokenize(text).starts]


def test_a_text_longer_than_the_context_is_read_to_its_end(classifier: Path) -> None:
    tagger = HuggingFaceNames(classifier, max_length=16, batch_size=2)

    tags, scores = tagger._by_word(TEXT, tokenize(TEXT))

    breaks = [k for k, word in enumerate(tokenize(TEXT).words) if word == "\n"]
    assert all(score > 0 for k, score in enumerate(scores) if k not in breaks)
    assert len(tags) == len(tokenize(TEXT).words)


def test_an_empty_text_has_no_names(classifier: Path) -> None:
    assert HuggingFaceNames(classifier).tag("") == []


def test_labels_can_be_placed_and_left_out(classifier: Path) -> None:
    every = {"PER": None, "LOC": "ORGANIZATION", "EVENT": "DATE"}

    labels = {f.label for f in HuggingFaceNames(classifier, labels=every).tag(TEXT)}

    assert labels
    assert labels <= {"ORGANIZATION", "DATE"}


def test_a_label_that_nobody_knows_is_refused(classifier: Path, tmp_path: Path) -> None:
    import json
    import shutil

    folder = tmp_path / "odd"
    shutil.copytree(classifier, folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["1"] = "B-QUUX"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownEntity, match="QUUX"):
        HuggingFaceNames(folder)
    config["id2label"]["1"] = "LABEL_1"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="labels"):
        HuggingFaceNames(folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="nothing was tagged"):
        HuggingFaceNames(tmp_path)


class FakePipeline:
    """What `SpacyNames` uses of a pipeline: calls with a text, and `ents`."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, text: str) -> Any:
        self.sizes.append(len(text))
        places = [k for k in range(len(text)) if text.startswith("Anna", k)]
        people = [SimpleNamespace(start_char=k, end_char=k + 4, label_="PERSON") for k in places]
        return SimpleNamespace(
            ents=[*people, SimpleNamespace(start_char=0, end_char=1, label_="WORK_OF_ART")]
        )


def test_entities_of_a_pipeline_are_translated_and_keep_their_places() -> None:
    text = "so " * 40_000 + "Anna"
    pipeline = FakePipeline()

    findings = SpacyNames(pipeline, score=0.7).tag(text)

    assert [(f.start, f.end, f.label, f.score) for f in findings] == [
        (120_000, 120_004, "PERSON", 0.7)
    ]
    assert max(pipeline.sizes) <= 100_000
    assert sum(pipeline.sizes) == len(text)


class FakeGliner:
    """What `GlinerNames` uses of a model."""

    def predict_entities(
        self, text: str, labels: list[str], threshold: float
    ) -> list[dict[str, Any]]:
        assert labels == ["person", "location", "organization"]
        found = [
            {"start": k, "end": k + 4, "label": "person", "score": 0.9}
            for k in range(len(text))
            if text.startswith("Anna", k)
        ]
        over = [{**each, "end": each["end"] + 1, "score": 0.4} for each in found]
        return [each for each in [*over, *found] if each["score"] >= threshold]


def test_answers_of_gliner_keep_their_places_and_do_not_overlap() -> None:
    text = "We met. " * 400 + "Anna left. " + "And so on " * 300 + "Anna!"

    findings = GlinerNames(FakeGliner()).tag(text)

    assert [(text[f.start : f.end], f.label) for f in findings] == [("Anna", "PERSON")] * 2


@pytest.mark.skipif(importlib.util.find_spec("spacy") is not None, reason="spacy is installed")
def test_a_missing_library_is_named() -> None:
    with pytest.raises(ModelLoadError, match="pip install spacy"):
        SpacyNames("en_core_web_sm")


@pytest.mark.skipif(importlib.util.find_spec("gliner") is not None, reason="gliner is installed")
def test_missing_gliner_is_named() -> None:
    with pytest.raises(ModelLoadError, match="pip install gliner"):
        GlinerNames("some/model")
