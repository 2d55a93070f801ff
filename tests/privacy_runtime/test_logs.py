"""What is logged carelessly does not come out; what is logged on purpose does."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime import logs
from privacy_runtime.logs.correlation import VARIABLE
from privacy_runtime.logs.scrubbing import Scrubber
from privacy_runtime.logs.snapshots import made
from privacy_runtime.logs.vocabulary import FORMS, fits
from privacy_runtime.secret import Secret

LOG = logs.logger("privacy_runtime.tests")
FOREIGN = logging.getLogger("some.library")
PLANTED = {
    "prompt": "my neighbour, the one with the limp, drinks since her husband left",
    "record": "Pt. c/o chest pain since Tuesday; wife says he stopped his pills",
    "password": "correct-horse-7",
    "token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1XzEifQ.c2lnbmF0dXJl",
    "api_key": "pf_abcdefghijklmnop_" + "b2" * 29 + "q",
    "refresh": "pr_" + "Zz9_" * 12,
    "webhook_secret": "whsec_" + "QUJDREVG" * 5,
    "url": "postgresql://clinic:pa55-w0rd@db/records",
    "mail": "jane.doe@example.org",
    "card": "4111 1111 1111 1111",
    "recovery": "abcdef-234567-ghijkl-mnopqr",
}
"""Made when the test runs: read from a mapping, never a literal where it is logged."""


class Lines(io.StringIO):
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@contextmanager
def logging_to(stream: Lines, **options: Any) -> Iterator[logs.Logging]:
    secrets = options.pop("secrets", ())
    running = logs.install(
        logs.LogOptions(on_terminal=False, **options), stream=stream, secrets=secrets
    )
    try:
        yield running
    finally:
        running.close()


def said(careless: Callable[[], object], **options: Any) -> str:
    stream = Lines()
    with logging_to(stream, **options):
        careless()
    assert stream.getvalue().count("\n") >= 1
    return stream.getvalue()


@dataclass
class Patient:
    note: str


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(text: str) -> None:
    local = text  # a local value that a traceback with locals would show
    raise ValueError(f"cannot use {local}")


def nested(text: str) -> None:
    try:
        raised(text)
    except ValueError as error:
        raise KeyError(text) from error


def logged_failure(text: str) -> None:
    try:
        nested(text)
    except KeyError:
        LOG.exception("it failed")


def foreign_failure(text: str) -> None:
    try:
        nested(text)
    except KeyError:
        FOREIGN.exception("it failed with %s", text)


def several(text: str) -> None:
    raise ExceptionGroup(text, [ValueError(text), TypeError(text)])


def group(text: str) -> None:
    try:
        several(text)
    except ExceptionGroup:
        LOG.exception("it failed")


CARELESS: dict[str, Callable[[str], object]] = {
    "f-string": lambda text: LOG.info(f"got {text}"),
    "sum": lambda text: LOG.info("got " + text),
    "as the event": LOG.info,
    "under a telling key": lambda text: LOG.info("got it", password=text, prompt=text, text=text),
    "under a key of the vocabulary": lambda text: LOG.info("got it", state=text, reason=text),
    "under an id's key": lambda text: LOG.info("got it", job_id=text, tenant=text, subject=text),
    "under a name's key": lambda text: LOG.info("got it", dataset=text, model=text),
    "as a url": lambda text: LOG.info("got it", url=text, database=text, path=f"/x/{text}"),
    "bound": lambda text: LOG.bind(request_id=text, note=text).info("got it"),
    "positional": lambda text: LOG.info("got %s", text),
    "in a list": lambda text: LOG.info("got it", values=[text, {"deep": [text]}]),
    "as a key": lambda text: LOG.info("got it", record={text: 1}),
    "an object": lambda text: LOG.info("got it", patient=Patient(text)),
    "an object as the event": lambda text: LOG.info(Patient(text)),  # type: ignore[arg-type]
    "bytes": lambda text: LOG.info("got it", body=text.encode()),
    "a secret": lambda text: LOG.info("got it", it=Secret(text)),
    "a path": lambda text: LOG.info("got it", file=Path("/data") / text.replace("/", "_")),
    "an error": lambda text: LOG.info("got it", error=ValueError(text)),
    "an exception": logged_failure,
    "a group": group,
    "foreign f-string": lambda text: FOREIGN.warning(f"got {text}"),
    "foreign argument": lambda text: FOREIGN.warning("got %s and %r", text, {"deep": text}),
    "foreign mapping": lambda text: FOREIGN.warning("got %(it)s", {"it": text}),
    "foreign extra": lambda text: FOREIGN.warning("got it", extra={"prompt": text}),
    "foreign exception": foreign_failure,
    "foreign object": lambda text: FOREIGN.warning(Patient(text)),
    "sql": lambda text: logging.getLogger("sqlalchemy.engine").warning("SELECT %s", text),
    "uvicorn": lambda text: logging.getLogger("uvicorn.error").warning("got %s", text),
    "uvicorn's access": lambda text: logging.getLogger("uvicorn.access").warning(
        '%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", f"/x?q={text}", "1.1", 200
    ),
    "a warning": lambda text: warnings.warn(text, UserWarning, stacklevel=2),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("way", CARELESS)
@pytest.mark.parametrize("what", PLANTED)
def test_nothing_planted_comes_out(way: str, what: str) -> None:
    text = PLANTED[what]

    if what == "password" and way in ("under a name's key", "bound"):
        text = "not one plain name"  # one plain name under a key for names is what it is for

    line = said(lambda: CARELESS[way](text))

    assert text not in line
    for word in text.replace("/", " ").split():
        assert len(word) < 6 or word not in line


@pytest.mark.parametrize("way", ["f-string", "under a telling key", "an exception", "in a list"])
@pytest.mark.parametrize(
    "what", ["token", "api_key", "refresh", "webhook_secret", "mail", "card", "recovery"]
)
def test_with_debug_texts_come_out_redacted(way: str, what: str) -> None:
    text = PLANTED[what]

    line = said(lambda: CARELESS[way](text), debug=True)

    assert text not in line
    assert "[" in line


def test_the_process_knows_its_own_secrets_whatever_form_they_have() -> None:
    address = Secret("postgresql://u:plain%2Dword@h/d")
    known = [Secret("wholly unlike a secret"), address]

    line = said(
        lambda: LOG.info("it said plain-word and plain%2Dword and wholly unlike a secret"),
        secrets=known,
        debug=True,
    )

    assert "plain-word" not in line
    assert "wholly unlike" not in line
    assert line.count("***") == 3


def test_what_is_logged_on_purpose_comes_out() -> None:
    stream = Lines()
    with logging_to(stream, level="debug"), logs.bound(request_id="req_0123456789abcdef"):
        LOG.info(
            "request",
            method="GET",
            route="/api/v1/training/{job_id}/status",
            status=200,
            duration_ms=1.25,
            job_id="job_01hxyz8m2k4t7q9w3e5r6t7y8u",
            tenant="o_00ff00ff00ff00ff",
            account="protection/o_1:notes/2026",
            client="2001:db8::1",
            ok=True,
            nothing=None,
        )
        FOREIGN.info("started %d of %d processes", 2, 3)
        logging.getLogger("uvicorn.error").info("Started server process [%d]", 4711)

    mine, theirs, uvicorn = stream.documents()
    assert mine["event"] == "request"
    assert mine["level"] == "info"
    assert mine["time"].endswith("Z")
    assert mine["request_id"] == "req_0123456789abcdef"
    assert mine["job_id"] == "job_01hxyz8m2k4t7q9w3e5r6t7y8u"
    assert mine["account"] == "protection/o_1:notes/2026"
    assert mine["client"] == "2001:db8::1"
    assert (mine["status"], mine["duration_ms"], mine["ok"], mine["nothing"]) == (
        200, 1.25, True, None,
    )  # fmt: skip
    assert theirs["event"] == "started 2 of 3 processes"
    assert uvicorn["event"] == "Started server process [4711]"


def test_a_withheld_text_says_how_long_it_was_and_where_it_was_logged() -> None:
    stream = Lines()
    text = PLANTED["prompt"]
    with logging_to(stream):
        LOG.info(f"asked {text}", prompt=text)

    (line,) = stream.documents()
    assert line["event"] == f"<text of {len(text) + 6} characters>"
    assert line["prompt"] == f"<text of {len(text)} characters>"
    assert line["at"].startswith("test_logs:") or ".test_logs:" in line["at"]


def test_an_error_shows_type_code_frames_and_causes() -> None:
    stream = Lines()
    with logging_to(stream):
        try:
            try:
                raised("x")
            except ValueError as error:
                raise InvalidParameter("x", found="y", expected="z") from error
        except InvalidParameter:
            LOG.exception("it failed")

    error = stream.documents()[0]["error"]
    assert error["type"] == "privacy_core.errors.InvalidParameter"
    assert error["code"] == "invalid_parameter"
    assert "an_error_shows" in error["frames"][-1]
    assert error["causes"][0]["type"] == "builtins.ValueError"
    assert error["causes"][0]["frames"][-1].endswith(" raised")


def test_an_error_without_words_is_logged_too() -> None:
    stream = Lines()
    with logging_to(stream):
        LOG.info("it failed", error=Rude())

    assert stream.documents()[0]["error"]["type"].endswith("Rude")


@pytest.mark.parametrize(
    ("key", "number", "comes_out"),
    [
        ("card", 4111111111111111, False),
        ("ssn", 536221234, False),
        ("size_bytes", 4111111111111111, True),
        ("steps", 120_000, True),
        ("whole", 1 << 80, False),
        ("share", float("nan"), False),
    ],
)
def test_a_number_that_is_a_value_of_somebody_is_redacted(
    key: str, number: float, comes_out: bool
) -> None:
    line = said(lambda: LOG.info("got it", **{key: number}))

    assert (str(number) in line) is comes_out


def test_correlation_travels_to_a_child_process() -> None:
    program = (
        "import os, sys\n"
        "from privacy_runtime import logs\n"
        "log = logs.logger('privacy_runtime.child')\n"
        "with logs.install(logs.LogOptions(on_terminal=False), stream=sys.stdout):\n"
        "    logs.adopt(os.environ)\n"
        "    log.info('in the child')\n"
    )
    with logs.bound(request_id="req_0123456789", job_id="job_abcdefgh12", tenant="not an id"):
        handed = logs.carried()

    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **handed},
        capture_output=True,
        text=True,
        check=True,
    )
    line = json.loads(found.stdout)
    assert (line["request_id"], line["job_id"]) == ("req_0123456789", "job_abcdefgh12")
    assert "tenant" not in line


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job_id": 3}', '{"other": "x"}', "x" * 5000])
def test_a_variable_that_holds_no_identifiers_is_ignored(text: str) -> None:
    logs.adopt({VARIABLE: text})

    assert logs.carried() == {}


def test_only_known_identifiers_can_be_bound() -> None:
    with pytest.raises(InvalidParameter, match="correlation"), logs.bound(note="x"):
        pass


def test_threads_and_tasks_have_their_own_identifiers() -> None:
    seen: list[dict[str, str]] = []
    with logs.bound(request_id="req_0123456789"):
        thread = threading.Thread(target=lambda: seen.append(logs.carried()))
        thread.start()
        thread.join()

    assert seen == [{}]


class Stuck(io.StringIO):
    """A stream that does not take a line until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()

    def write(self, text: str) -> int:
        self.may_write.wait(10)
        return super().write(text)


def test_a_slow_stream_costs_lines_and_no_waiting() -> None:
    stream = Stuck()
    options = logs.LogOptions(on_terminal=False, most_waiting=5)
    running = logs.install(options, stream=stream)
    for number in range(50):
        LOG.info("a line", number=number)
    dropped = running.dropped
    stream.may_write.set()
    running.close()

    assert 40 <= dropped <= 45
    assert stream.getvalue().count("\n") == 50 - dropped


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with logs.install(logs.LogOptions(on_terminal=False), stream=Broken()):
        LOG.info("a line", prompt=PLANTED["prompt"])

    assert PLANTED["prompt"] not in "".join(capsys.readouterr())


def test_uncaught_errors_become_lines_without_values() -> None:
    text = PLANTED["record"]
    stream = Lines()
    with logging_to(stream):
        thread = threading.Thread(target=raised, args=(text,))
        thread.start()
        thread.join()
        try:
            raised(text)
        except ValueError as error:
            sys.excepthook(type(error), error, error.__traceback__)

    lines = stream.documents()
    assert [line["event"] for line in lines] == ["an error was not caught"] * 2
    assert text not in stream.getvalue()


def test_closing_puts_everything_back() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, sys.excepthook, threading.excepthook)
    with logging_to(Lines()):
        assert list(root.handlers) != before[0]

    assert (list(root.handlers), root.level, sys.excepthook, threading.excepthook) == before


def test_before_installation_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    logs.logger("privacy_runtime.silent").error("nobody hears this", prompt=PLANTED["prompt"])

    assert capfd.readouterr() == ("", "")


def test_arguments_that_do_not_fit_leave_the_sentence() -> None:
    scrubber = Scrubber()

    assert scrubber.event("got", (made("x"),)) == "got"
    assert scrubber.event("got %d", (made("x"),)) == "got %d"
    assert scrubber.event("got %(a)s", {"b": made("x")}) == "got %(a)s"


def test_levels_are_kept_and_unknown_ones_refused() -> None:
    stream = Lines()
    with logging_to(stream, level="warning"):
        LOG.info("not this")
        LOG.warning("this")

    assert [line["event"] for line in stream.documents()] == ["this"]
    with pytest.raises(InvalidParameter):
        logs.install(logs.LogOptions(level="loud"))


def test_a_terminal_gets_lines_for_people() -> None:
    stream = Lines()
    with logs.install(logs.LogOptions(on_terminal=True), stream=stream):
        logged_failure(PLANTED["prompt"])

    assert "it failed" in stream.getvalue()
    assert "builtins.KeyError: <text of" in stream.getvalue()
    assert PLANTED["prompt"] not in stream.getvalue()


@pytest.mark.parametrize("key", FORMS)
def test_no_form_has_room_for_a_sentence_or_a_token(key: str) -> None:
    assert not fits(key, "a sentence")
    assert not fits(key, "line\nbreak")
    assert not fits(key, "x" * 300)
    shown = Scrubber().field(key, made(PLANTED["api_key"]))
    assert PLANTED["api_key"] not in str(shown)


def test_errors_and_lines_that_say_so_are_kept_for_the_trail_as_they_were_written() -> None:
    audited, stream = logs.Audited(), Lines()
    log = logs.logger("privacy_runtime.tested")
    with logs.install(logs.LogOptions(on_terminal=False), stream=stream, audited=audited):
        log.info("a job has begun")
        log.info("the service has started", audited=True, note=PLANTED["mail"])
        log.error("the ledger cannot be read")
    kept: list[Any] = []
    assert audited.write(kept.append) == 2
    assert audited.write(kept.append) == 0

    written = [each for each in stream.documents() if each["event"] != "a job has begun"]
    assert kept == written
    assert PLANTED["mail"] not in str(kept)


def test_lines_that_could_not_be_kept_wait_in_order_and_the_oldest_are_dropped() -> None:
    audited = logs.Audited(most=3)
    for number in range(5):
        audited.see(logging.ERROR, {"number": number})

    def refuse(line: Mapping[str, Any]) -> None:
        if line["number"] == 3:
            raise OSError("the journal is away")
        kept.append(line["number"])

    kept: list[int] = []
    with pytest.raises(OSError, match="away"):
        audited.write(refuse)
    audited.write(lambda line: kept.append(line["number"]))
    assert kept == [2, 3, 4]
    assert audited.dropped == 2
