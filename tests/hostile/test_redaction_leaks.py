"""A planted secret is nowhere: not in output, logs, reprs, exceptions, files, pickles."""

from __future__ import annotations

import json
import logging
import pickle
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner import ContextGuard, RedactionStrategy
from privacy_finetuner.context.batch import FileSettings, protect_files
from privacy_finetuner.context.documents import records_of, tasks_of
from privacy_finetuner.context.exchange import protect_response
from privacy_finetuner.context.scan import Scan
from privacy_finetuner.errors import DocumentError

PLANTED = "zaphod.beeblebrox@example.org"
CARD = "4111 1111 1111 1111"
PARTS = ("zaphod", "beeblebrox", "4111")


def leaks(*shown: object) -> list[str]:
    text = " ".join(map(str, shown)).lower()
    return [part for part in PARTS if part in text]


@pytest.fixture
def guard() -> ContextGuard:
    return ContextGuard([RedactionStrategy.PII_REMOVAL], names=None)


TRICKS = {
    "zero width": "zaphod\u200b.beeble\u200dbrox@exam\u2060ple.org",
    "soft hyphen": "zaphod.beeble\u00adbrox@example.org",
    "right to left": "\u202ezaphod.beeblebrox@example.org\u202c",
    "full width": "\uff54\uff4f zaphod.beeblebrox\uff20example.org",
    "after an emoji": "\U0001f469\u200d\U0001f4bb" * 50 + PLANTED,
    "in a megabyte line": "lorem " * 180_000 + PLANTED + " ipsum" * 1000,
    "card in wide digits": "card \uff14111 1111 1111 1111",
    "windows line ends": f"one\r\n{PLANTED}\r\n",
    "half a surrogate pair": f"\ud83d {PLANTED} \udc00",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_with_characters_hide_nothing(guard: ContextGuard, trick: str) -> None:
    began = time.process_time()
    result = guard.protect(TRICKS[trick])

    assert leaks(result.protected_text) == []
    assert len(result.entities_found) == 1
    assert time.process_time() - began < 20  # linear: a megabyte is seconds, never minutes


@pytest.mark.parametrize("strategy", RedactionStrategy)
def test_no_repr_dictionary_or_pickle_holds_it(strategy: RedactionStrategy) -> None:
    guard = ContextGuard([strategy], names=None)
    result = guard.protect(f"{PLANTED} paid with {CARD}")

    assert leaks(result, result.redaction_map, result.entities_found, result.to_dict()) == []
    assert leaks(guard, guard.settings(), vars(guard.lookout)) == []
    assert leaks(*(pickle.dumps(entity) for entity in result.entities_found)) == []
    with pytest.raises(TypeError):
        pickle.dumps(result)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", f'{{"mail": "{PLANTED}"}}\n{{"mail": "{PLANTED}",}}\n'.encode()),
        ("a.json", f'["{PLANTED}"'.encode()),
        ("a.csv", f'mail\n"{PLANTED}"x\n'.encode()),
        ("a.txt", PLANTED.encode() + b"\xff"),
        ("a.txt", PLANTED.encode("utf-16-le")),
        ("a.parquet", PLANTED.encode()),
    ],
)
def test_no_refusal_of_a_file_holds_it(
    guard: ContextGuard, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    def protect_all() -> None:
        for record in records_of(path):
            guard.protect_pieces(record.pieces)

    with pytest.raises(DocumentError) as caught:
        protect_all()

    error: BaseException | None = caught.value
    assert leaks(str(error), repr(error), error.args if error else ()) == []
    while error is not None:  # what a traceback prints: causes, and contexts not suppressed
        printed = "".join(traceback.format_exception_only(error))
        assert leaks(printed) == []
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_a_batch_leaves_it_in_no_file_and_logs_nothing(
    guard: ContextGuard, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps({PLANTED: [CARD, {"x": PLANTED}]}))
    (tmp_path / "in" / "b.html").write_text(f"<p title='{PLANTED}'>{PLANTED}<!-- {CARD} -->")
    (tmp_path / "in" / "bad.json").write_text(f"[{PLANTED}")
    out = tmp_path / "out"
    with caplog.at_level(logging.DEBUG):
        outcomes = protect_files(
            guard, tasks_of([tmp_path / "in"], out), FileSettings(), record=out
        )

    written = [path.read_text() for path in out.rglob("*") if path.is_file()]
    assert sorted(outcome.status for outcome in outcomes) == ["done", "done", "refused"]
    assert leaks(*written, caplog.text, *capfd.readouterr(), outcomes) == []


def test_a_scan_and_a_response_hold_nothing_of_it(guard: ContextGuard, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({PLANTED: {PLANTED: CARD}, "n": 4111111111111111}))
    scan = Scan(guard, FileSettings(level="high"), show_masked=True)
    scan.look([tmp_path])
    request = {"json": {PLANTED: {"x": CARD}, "deep": json.dumps([PLANTED])}}

    assert leaks(scan.to_dict(), scan.files) == []
    assert leaks(protect_response(guard, request)) == []
