"""One run as one page: self-contained, readable on a phone and on paper."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from privacy_core.guarantee import PrivacyUnit
from privacy_finetuner import __version__
from privacy_finetuner.errors import ConfigurationError
from privacy_finetuner.reports import plots
from privacy_finetuner.reports.certified import certified
from privacy_finetuner.reports.check import check
from privacy_finetuner.reports.folder import RunFolder, read_folder
from privacy_runtime.append_log import LogEntry
from privacy_runtime.files import write_atomic

COMPARISON_FILE: Final = "comparison.json"
_SHOWN_ENTRIES: Final = 24
_ROW_KEYS: Final = {"name", "epsilon", "perplexity", "time_s", "canaries_extracted", "canaries"}


def write_html(
    folder: Path, target: Path | None = None, *, comparison: Mapping[str, Any] | None = None
) -> Path:
    """Write the page of a run: what is promised, what was spent, how to check it.

    Guarantee: one file without scripts and without addresses of other machines; all text in it is
    escaped; the figures in it were public or released, except a comparison, which says what it is.

    Args:
        folder: the output folder of a run.
        target: the file to write; default `folder / "report.html"`.
        comparison: runs side by side; default: `comparison.json` of the folder, where there is one.

    Raises:
        ConfigurationError: there is no run, or the comparison lacks fields.
        CheckpointError, RunRecordDamaged: a file of the folder is damaged.
        WriteFailed: the page cannot be written; an earlier one is intact.
    """
    run = read_folder(folder)
    path = folder / "report.html" if target is None else target
    environment = Environment(
        loader=PackageLoader("privacy_finetuner.reports", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    page = environment.get_template("report.html.j2").render(
        _context(run, _comparison(folder) if comparison is None else comparison)
    )
    write_atomic(path, page.encode())
    return path


def _context(run: RunFolder, comparison: Mapping[str, Any] | None) -> dict[str, Any]:
    plan, checked = run.plan, check(run)
    history = list((run.result or {}).get("history", []))
    budget = run.book.grants[-1].epsilon if run.book is not None and run.book.grants else None
    return {
        "version": __version__,
        "run": run,
        "plan": plan,
        "check": checked,
        "certified": certified(run),
        "is_user": plan.unit is PrivacyUnit.USER,
        "odds": _certainty(checked.epsilon_reported),
        "factor": _factor(checked.epsilon_reported),
        "budget": budget,
        "history": history,
        "notes": list((run.result or {}).get("notes", [])),
        "plots": _plots(run, history, budget),
        "entries": _entries(run.entries),
        "hidden_entries": max(0, len(run.entries) - _SHOWN_ENTRIES),
        "comparison": None if comparison is None else _checked_comparison(comparison),
        "ranks": None if comparison is None else _ranks(comparison),
    }


def _plots(
    run: RunFolder, history: list[Mapping[str, Any]], budget: float | None
) -> dict[str, Any]:
    drawn = {"epsilon": plots.epsilon_over_steps(run.plan, run.charged_steps, budget)}
    if history:
        drawn["loss"] = plots.released_course(history, "loss", "training loss")
        drawn["accuracy"] = plots.released_course(history, "accuracy", "training accuracy")
        drawn["clip_norm"] = plots.released_course(
            history, "clip_norm", "clip norm", is_noisy=False
        )
    return drawn


def _comparison(folder: Path) -> Mapping[str, Any] | None:
    path = folder / COMPARISON_FILE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON; no page was written") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} holds no object; no page was written")
    return document


def _checked_comparison(comparison: Mapping[str, Any]) -> Mapping[str, Any]:
    rows = comparison.get("rows")
    if not isinstance(rows, list) or not rows:
        raise ConfigurationError("the comparison has no rows; no page was written")
    for number, row in enumerate(rows):
        missing = _ROW_KEYS - set(row)
        if missing:
            raise ConfigurationError(
                f"row {number} of the comparison lacks {', '.join(sorted(missing))}; no page was "
                "written"
            )
    return {"samples": {}, "candidates": 0, **comparison}


def _ranks(comparison: Mapping[str, Any]) -> Any:
    ranks = {name: list(values) for name, values in comparison.get("canary_ranks", {}).items()}
    if not any(ranks.values()):
        return None
    candidates = comparison.get("candidates") or max(max(v, default=1) for v in ranks.values())
    return plots.canary_ranks(ranks, candidates)


def _entries(entries: Any) -> list[dict[str, Any]]:
    """The entries as sentences: the first ones and the last ones of a long record."""
    half = _SHOWN_ENTRIES // 2
    shown = list(entries)
    if len(shown) > _SHOWN_ENTRIES:
        shown = [*shown[:half], *shown[-half:]]
    return [{"index": e.index, "type": e.type, "says": _says(e)} for e in shown]


def _says(entry: LogEntry) -> str:
    body = entry.body
    match entry.type:
        case "planned":
            ledger = body.get("ledger")
            account = f", charged to {ledger['account']} of a ledger" if ledger else ""
            return f"{body['plan']['steps']} steps were planned, job {body['job_id']}{account}"
        case "reserved":
            return f"steps up to {body['until']} count as spent before they run"
        case "settled":
            kept = f", checkpoint {body['checkpoint']}" if body.get("checkpoint") else ""
            return f"exactly {body['steps']} steps were spent{kept}"
        case "damaged":
            return f"{body['checkpoint']} is not what was written, and was set aside"
        case "resumed":
            return f"another process took over; {body['charged']} steps count as spent"
        case "finished":
            return f"no step follows step {body['steps']}"
        case _:
            return ""


def _certainty(epsilon: float) -> float:
    """How sure of a membership one can become from even odds, in per cent, delta aside.

    Source: Dwork & Roth 2014, Definition 2.4, by Bayes' rule.
    """
    return 100 / (1 + math.exp(-min(epsilon, 700.0)))


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):,.3g}" if epsilon < 7 else f"{math.exp(min(epsilon, 700.0)):,.0f}"


def _figure(value: object) -> str:
    """A number for people: four digits, no zeros that mean nothing."""
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
