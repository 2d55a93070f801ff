"""Where a command's words go: results to stdout, everything else to stderr.

With `--json`, stdout carries exactly one JSON document, whatever happens: the result, or
`{"error": {"code", "message"}}`. A library that prints cannot spoil it.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from enum import IntEnum
from typing import Any, ClassVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from privacy_core.errors import (
    BudgetError,
    BudgetExhausted,
    CalibrationFailed,
    InvalidParameter,
    MalformedEvent,
    PrivacyError,
    UnsupportedEvent,
)
from privacy_core.redaction.entities import UnknownEntity
from privacy_finetuner.errors import (
    ConfigurationError,
    DatasetError,
    DocumentError,
    ModelLoadError,
    PrivacyBudgetExhaustedException,
    UnsupportedLayer,
    WrongKey,
)
from privacy_runtime.pseudonyms.errors import PseudonymError


class ExitCode(IntEnum):
    """What the process ends with."""

    FAILED = 1
    BAD_INPUT = 2
    BUDGET_EXHAUSTED = 3
    VIOLATION = 4
    INTERRUPTED = 130


class Interrupted(PrivacyError):
    """The user stopped a run. What was charged stays charged; it can be resumed."""

    code: ClassVar[str] = "interrupted"

    def __init__(self, message: str, *, charged_steps: int, resume: str | None) -> None:
        super().__init__(message, charged_steps, resume)
        self.message = message
        self.charged_steps = charged_steps
        self.resume = resume

    def __str__(self) -> str:
        if self.resume is None:
            return f"{self.message}; no step was charged, nothing was spent"
        return f"{self.message}; {self.charged_steps} steps are charged; resume with: {self.resume}"


_BAD_INPUT = (
    BudgetError,
    CalibrationFailed,
    ConfigurationError,
    DatasetError,
    DocumentError,
    InvalidParameter,
    MalformedEvent,
    ModelLoadError,
    PseudonymError,
    UnknownEntity,
    UnsupportedEvent,
    UnsupportedLayer,
    WrongKey,
)


def stderr_console() -> Console:
    """The console for progress, notes and errors. Made on demand: tests exchange the streams."""
    return Console(stderr=True, highlight=False)


def stdout_console() -> Console:
    """The console for results that people read."""
    return Console(highlight=False)


@contextmanager
def failures_reported(as_json: bool) -> Iterator[None]:
    """Turn a refusal into one line, an exit code and, with `--json`, a document. Never a traceback.

    Inside, stdout is stderr: only `deliver` writes to the real one.
    """
    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    except PrivacyError as error:
        with redirect_stdout(stdout):
            code = report_failure(
                error.code, str(error), exit_code_of(error), as_json=as_json, more=_reached(error)
            )
        raise typer.Exit(code) from error
    except OSError as error:
        message = f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}"
        with redirect_stdout(stdout):
            code = report_failure("os_error", message, ExitCode.FAILED, as_json=as_json)
        raise typer.Exit(code) from error
    except KeyboardInterrupt as error:
        with redirect_stdout(stdout):
            code = report_failure(
                "interrupted", "interrupted", ExitCode.INTERRUPTED, as_json=as_json
            )
        raise typer.Exit(code) from error


def exit_code_of(error: PrivacyError) -> ExitCode:
    """The exit code that belongs to an error."""
    if isinstance(error, PrivacyBudgetExhaustedException | BudgetExhausted):
        return ExitCode.BUDGET_EXHAUSTED
    if isinstance(error, Interrupted):
        return ExitCode.INTERRUPTED
    return ExitCode.BAD_INPUT if isinstance(error, _BAD_INPUT) else ExitCode.FAILED


def report_failure(
    code: str,
    message: str,
    exit_code: ExitCode,
    *,
    as_json: bool = True,
    more: Mapping[str, Any] | None = None,
) -> int:
    """Say what failed, to people and with `--json` to programs; returns the exit code."""
    stderr_console().print(Text.assemble((f"error [{code}]: {message}", "red")), soft_wrap=True)
    if as_json:
        write_json({"error": {"code": code, "message": message}, **(more or {})})
    return int(exit_code)


def deliver(document: Mapping[str, Any], text: object, *, as_json: bool) -> None:
    """Write the result of a command to stdout: the document, or what a person reads."""
    if as_json:
        write_json(document)
    else:
        stdout_console().print(text, soft_wrap=isinstance(text, str), markup=False)


def write_json(document: Mapping[str, Any]) -> None:
    """Write one document. What is infinite becomes null: JSON has no infinity."""
    sys.stdout.write(json.dumps(_finite(document), indent=1, allow_nan=False, default=str) + "\n")


def facts(title: str, rows: Sequence[tuple[str, object]]) -> Table:
    """A table of names and values."""
    table = Table(
        title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, number(value) if isinstance(value, float) else str(value))
    return table


def number(value: float | None) -> str:
    """A figure for people: six digits."""
    if value is None:
        return "-"
    return "infinite" if math.isinf(value) else f"{value:.6g}"


def words(name: str) -> str:
    """An identifier as words."""
    return name.replace("_", " ")


def _reached(error: PrivacyError) -> dict[str, Any]:
    """What a run had reached when its budget ended."""
    if isinstance(error, PrivacyBudgetExhaustedException):
        return {"result": None if error.result is None else error.result.to_dict()}
    if isinstance(error, Interrupted):
        return {"resume": error.resume, "charged_steps": error.charged_steps}
    return {}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
