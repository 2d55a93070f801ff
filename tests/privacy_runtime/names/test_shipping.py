"""The shipped models: what they find, what they cost to load, what they say of themselves."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from privacy_core.errors import InvalidParameter
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.operators import Placeholder, Scope
from privacy_core.redaction.rewriting import rewrite
from privacy_core.redaction.streaming import SENTENCES, StreamingRedactor
from privacy_runtime import names
from privacy_runtime.names import assets, shipping


def found(text: str, level: str = "medium") -> list[tuple[str, str]]:
    return [(text[f.start : f.end], f.label) for f in names.shipped(level).tag(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please call Maria Keller tomorrow.", ("Maria Keller", "PERSON")),
        ("Patient: SMITH, JOHN\nDOB: 1/2/1980", ("SMITH, JOHN", "PERSON")),
        ("Dear Mr. Okafor,\n\nthank you.", ("Okafor", "PERSON")),
        ("We moved from Lisbon to Toronto last year.", ("Lisbon", "LOCATION")),
        ("Médico: Estefanía Romero Selas  NºCol: 28.", ("Estefanía Romero Selas", "PERSON")),
        ("my name is priya sharma and i need help", ("priya sharma", "PERSON")),
        ("She works at Goldman Sachs as an analyst.", ("Goldman Sachs", "ORGANIZATION")),
        ("Dr. Nguyen of the University of Oslo", ("University of Oslo", "ORGANIZATION")),
    ],
)  # fmt: skip
def test_names_are_found(text: str, expected: tuple[str, str]) -> None:
    assert expected in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "He has Parkinson's disease and Crohn's disease.",
        "Continue Lisinopril 10 mg and Metformin daily.",
        "Monday and Tuesday are fine; April is busy.",
        "What are my options? Can I return it?",
        "Open Settings and click Reset Password.",
        "",
        "\n\n  \t",
    ],
)
def test_what_only_looks_like_a_name_is_none(text: str) -> None:
    assert [x for x in found(text) if x[1] == "PERSON"] == []


def test_findings_are_calibrated_ordered_and_say_which_model_decided() -> None:
    text = "Anna Kowalska met Peter Novak in Prague. " * 50
    place = 0
    for finding in names.shipped().tag(text):
        assert place <= finding.start < finding.end <= len(text)
        assert 0 <= finding.score <= 1
        assert finding.rule == "names.crf"
        place = finding.end


def test_level_high_uses_the_larger_model_or_says_that_it_is_not_there() -> None:
    high = names.shipped("high")

    if assets.has_transformer():
        assert high.models == ("crf", "transformer")
        assert high.notes == ()
    else:
        assert high.models == ("crf",)
        assert high.notes == (shipping.NO_TRANSFORMER,)
    assert names.shipped("medium").models == ("crf",)
    assert names.shipped("medium").notes == ()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="low, medium, high"):
        names.shipped("paranoid")


def test_threads_that_share_a_tagger_get_the_same_answers() -> None:
    tagger = names.shipped()
    texts = [f"Dr. Maria Keller{k} saw patient {k} in Vienna with Jon Olsen." for k in range(40)]
    expected = [names.shipped().tag(text) for text in texts]
    answers: list[list[list[Finding]]] = []

    def work() -> None:
        answers.append([list(tagger.tag(text)) for text in texts])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [[list(each) for each in expected]] * 4


def test_a_damaged_file_is_an_error_that_names_no_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def damaged() -> None:
        raise ValueError("cannot read")

    monkeypatch.setattr(assets, "weights", damaged)

    with pytest.raises(names.NameModelDamaged, match="nothing was tagged") as caught:
        names.ShippedNames("medium").tag("Anna Secret")
    assert "Secret" not in str(caught.value)


def test_the_files_are_read_once_and_are_small() -> None:
    folder = Path(assets.__file__).parent / "assets"
    crf = sum((folder / name).stat().st_size for name in ("crf.npz", "lexicon.npz"))

    assert crf <= 8e6
    assert assets.weights() is assets.weights()
    assert assets.lexicon() is assets.lexicon()
    if assets.has_transformer():
        assert (folder / assets.TRANSFORMER).stat().st_size <= 25e6


def test_importing_the_room_reads_no_model_and_loads_no_torch() -> None:
    code = (
        "import sys; from privacy_runtime import names; names.shipped('medium');"
        "from privacy_runtime.names import assets;"
        "assert assets.weights.cache_info().currsize == 0;"
        "assert 'torch' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_long_hostile_text_takes_linear_time() -> None:
    """Every word may be a name: the whole text is one chain."""
    import time

    tagger = names.shipped()
    tagger.tag("Aa " * 100)
    times = []
    for count in (20_000, 40_000):
        began = time.perf_counter()
        tagger.tag("Aa " * count)
        times.append(time.perf_counter() - began)

    assert times[1] < 6 * times[0] + 0.5


def test_a_stream_in_sentences_says_what_the_batch_says() -> None:
    sentences = (
        "Dr. Anna Kowalska met PETER NOVAK in Prague. ", "He asked: is it Lisbon? ", "no. ",
        "TO: ALL STAFF\n", "Goldman Sachs hired Mr. Okafor (from Oslo!) on Monday. ", "ask lisa\n",
        "The sign said \"Maria Keller.\" and nothing else happened for the rest of the day; ",
    )  # fmt: skip
    text = "".join(sentences[k * k % 7] + sentences[k % 5] for k in range(60))
    tagger = names.shipped()

    class NamesAlone:
        def detect(
            self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
        ) -> tuple[Finding, ...]:
            return tuple(tagger.tag(text))

    operator = Placeholder()
    stream = StreamingRedactor(NamesAlone(), lambda _: operator, window=SENTENCES)
    pieces = [stream.feed(text[k : k + 7]) for k in range(0, len(text), 7)]

    batch = rewrite(text, tagger.tag(text), lambda _: operator, Scope())
    assert "".join(pieces) + stream.close() == batch.text
    assert len(batch.replacements) > 100


def test_the_files_of_the_models_are_closed(recwarn: pytest.WarningsRecorder) -> None:
    assets.weights.cache_clear()
    assets.lexicon.cache_clear()
    names.shipped().tag("Anna Kowalska")
    gc.collect()

    assert not [w for w in recwarn if issubclass(w.category, ResourceWarning)]
