"""No test that logs shows a secret: what is logged and said on stderr is searched afterwards.

Nothing has to be planted by hand. Every `Secret` that the product makes while a test runs is a
planted one (passwords, tokens, keys, seeds), besides the sentences of records and prompts that the
tests of commands and of the API use. They are looked for in

- the lines that the product's loggers and those of its libraries wrote, as they would come out;
- what stood on stderr, of commands too (`see`);
- files `*.log` in the test's folder, but for `job.log`, which may quote anything (docs/jobs.md).

What is said on stdout is an answer and no log: a first password is shown there on purpose.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from privacy_runtime.logs.installation import _Entrance
from privacy_runtime.logs.lines import Lines
from privacy_runtime.logs.scrubbing import Scrubber
from privacy_runtime.secret import Secret

SENTENCES: Final = (
    "quince umbrella 47 fjord",  # the password of every user of the API's tests
    "knee pain.",  # records of the commands' tests
    "Pt. c/o chest pain since Tuesday",
)
KNOWN: Final = {
    "test_the_process_knows_its_own_secrets_whatever_form_they_have": "the lines that are searched "
    "here are those of a process that knows none, and one plain word may pass (observability.md)",
}
"""Tests whose lines may hold a secret, and why."""
_SHORTEST: Final = 12
_OURS: Final = (
    "privacy_finetuner",
    "privacy_runtime",
    "privacy_core",
    "pipeline_guard",
    "federated_dp_llm",
)
_MOST_LINES: Final = 5_000
_MOST_SECRETS: Final = 500


class Planted:
    """What must not be shown, and what was shown, during one test."""

    def __init__(self) -> None:
        self.secrets: deque[str] = deque(maxlen=_MOST_SECRETS)
        self.records: deque[logging.LogRecord] = deque(maxlen=_MOST_LINES)
        self.said: list[tuple[str, str]] = []

    def plant(self, text: str) -> None:
        """Take a secret, unless it is too short to be told from a word, or an address or path."""
        if "://" in text:
            text = urlsplit(text).password or ""
        if len(text) >= _SHORTEST and not text.startswith(("/", ".")):
            self.secrets.append(text)

    def leaks(self) -> list[str]:
        """Where a secret was shown: the place, and the length of what stood there."""
        if not self.records and not any(text for _, text in self.said):
            return []
        lines = Lines(Scrubber())
        written = "\n".join(map(lines.format, self.records))
        return [
            f"{place}: a secret of {len(secret)} characters"
            for place, text in (("a log line", written), *self.said)
            if text
            for secret in {*self.secrets, *SENTENCES}
            if secret in text
        ]


_now: list[Planted] = [Planted()]


def see(place: str, text: str) -> None:
    """Have what a command said searched as well."""
    _now[0].said.append((place, text))


@pytest.fixture(scope="session", autouse=True)
def _every_secret_is_planted() -> Iterator[None]:
    """Note each `Secret` as it is made."""
    made = Secret.__init__

    def noting(self: Secret, text: str, *args: Any, **more: Any) -> None:
        made(self, text, *args, **more)
        _now[0].plant(text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Secret, "__init__", noting)
        yield


@pytest.fixture(autouse=True)
def no_secret_is_logged(request: pytest.FixtureRequest) -> Iterator[Planted]:
    """Search what this test logged; a secret in it is an error of the test."""
    before = _now[0].secrets  # fixtures of a module made theirs earlier
    planted = _now[0] = Planted()
    planted.secrets.extend(before)
    handler = _Entrance(planted.records, _MOST_LINES + 1, None)
    loggers = [logging.getLogger(name) for name in _OURS]
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(min(level, logging.INFO))
    for each in loggers:
        each.addHandler(handler)
    yield planted
    for each in loggers:
        each.removeHandler(handler)
    root.setLevel(level)
    sections = getattr(request.node, "_report_sections", ())
    planted.said += [("stderr", text) for _, place, text in sections if place == "stderr"]
    folder = request.node.funcargs.get("tmp_path")
    if folder is not None:
        planted.said += _files(folder)
    found = planted.leaks()
    if found and request.node.originalname not in KNOWN:
        pytest.fail("; ".join(found[:5]), pytrace=False)


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*.log"):
        if path.name != "job.log" and path.is_file():
            yield path.name, path.read_text(errors="replace")
