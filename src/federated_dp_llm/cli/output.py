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
from typing import Annotated, Any

import typer

from federated_dp_llm.errors import (
    BudgetTooSmall,
    ConsensusUnavailable,
    PrivacyBudgetExceeded,
)
from privacy_core.errors import InvalidParameter, PrivacyError

Json = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]


class ExitCode(IntEnum):
    """What the process ends with."""

    FAILED = 1
    BAD_INPUT = 2
    BUDGET_EXHAUSTED = 3
    INTERRUPTED = 130


class Refused(PrivacyError):
    """A router refused; it says why."""

    def __init__(self, code: str, message: str, status: int, details: Sequence[Any] = ()) -> None:
        super().__init__(code, message, status)
        self.refusal, self.message, self.status, self.details = code, message, status, details

    def __str__(self) -> str:
        least = [one["least"] for one in self.details if isinstance(one, dict) and "least" in one]
        more = f" (--epsilon {least[0]:.4g})" if least and least[0] is not None else ""
        return self.message + more


_BAD_INPUT = (InvalidParameter, BudgetTooSmall, ConsensusUnavailable, ValueError)


@contextmanager
def failures_reported(as_json: bool) -> Iterator[None]:
    """Turn a refusal into one line, an exit code and, with `--json`, a document. Never a traceback.

    Inside, stdout is stderr: only `deliver` writes to the real one.
    """
    stdout = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (PrivacyError, OSError, KeyboardInterrupt) as error:
        with redirect_stdout(stdout):
            code = report_failure(_code(error), _words(error), exit_code_of(error), as_json=as_json)
        raise typer.Exit(code) from error


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code that belongs to an error."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, Refused):
        if error.refusal == "privacy_budget_exceeded":
            return ExitCode.BUDGET_EXHAUSTED
        return ExitCode.BAD_INPUT if error.status == 422 else ExitCode.FAILED
    if isinstance(error, PrivacyBudgetExceeded):
        return ExitCode.BUDGET_EXHAUSTED
    return ExitCode.BAD_INPUT if isinstance(error, _BAD_INPUT) else ExitCode.FAILED


def report_failure(code: str, message: str, exit_code: ExitCode, *, as_json: bool = True) -> int:
    """Say what failed, to people and with `--json` to programs; returns the exit code."""
    sys.stderr.write(f"error [{code}]: {message}\n")
    if as_json:
        write_json({"error": {"code": code, "message": message}})
    return int(exit_code)


def deliver(document: Mapping[str, Any] | Sequence[Any], text: str, *, as_json: bool) -> None:
    """Write the result of a command: the document, or what a person reads."""
    if as_json:
        write_json(document)
    else:
        sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def write_json(document: Any) -> None:
    """Write one document. What is infinite becomes null: JSON has no infinity."""
    sys.stdout.write(json.dumps(_finite(document), indent=1, allow_nan=False, default=str) + "\n")


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows in columns, for people."""
    shown = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[n]) for row in shown) for n in range(len(shown[0]))] if shown else []
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in shown)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _code(error: BaseException) -> str:
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, PrivacyError):
        return error.code
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "os_error"


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: {error.filename or 'no file named'}"
    return str(error) or "interrupted"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
