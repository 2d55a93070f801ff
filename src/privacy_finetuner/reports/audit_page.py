"""An audit as one page: the verdict, the three numbers, and the scores they come from.

The page needs nothing from elsewhere: no script, no address, no font; all text in it is escaped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from privacy_core.auditing import Verdict
from privacy_finetuner.reports import plots
from privacy_runtime.files import write_atomic

if TYPE_CHECKING:
    from privacy_finetuner.assessment.attacks import MembershipInferenceResult
    from privacy_finetuner.assessment.audit import Audit

_BINS: Final = 40
_METHODS: Final = {"one_run": "one run, no assumption", "f_dp": "one run, Gaussian shape"}
SAYS: Final = {
    Verdict.VIOLATION: "The claim is refuted",
    Verdict.CONSISTENT: "Consistent with the claim",
    Verdict.INCONCLUSIVE: "This audit cannot speak about the claim",
}


def write_page(
    audited: Audit, target: Path, *, attacks: MembershipInferenceResult | None = None
) -> Path:
    """Write the page of an audit.

    Args:
        audited: what was found.
        target: the file.
        attacks: those on real text, where they were made.

    Raises:
        WriteFailed: the page cannot be written; an earlier one is intact.
    """
    write_atomic(target, page(audited, attacks=attacks).encode())
    return target


def page(audited: Audit, *, attacks: MembershipInferenceResult | None = None) -> str:
    """The page of an audit, HTML, for screen and printer, light and dark."""
    environment = Environment(
        loader=PackageLoader("privacy_finetuner.reports", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    return environment.get_template("audit.html.j2").render(
        audit=audited,
        document=audited.to_dict(),
        says=SAYS[audited.verdict],
        is_bad=audited.verdict is Verdict.VIOLATION,
        findings=[(_METHODS[f.bound.method.value], f) for f in audited.findings],
        numbers=numbers_plot(audited),
        scores=scores_plot(audited),
        attacks=attacks,
    )


def numbers_plot(audited: Audit) -> Markup:
    """For each bound: what was certified, what could have been, what is claimed."""
    rows = [
        (_METHODS[f.bound.method.value], f.bound.epsilon, f.ceiling.expected, f.theory)
        for f in audited.findings
    ]
    return plots.audit_numbers(rows)


def scores_plot(audited: Audit) -> Markup:
    """The scores of canaries that were in beside those of canaries that were out."""
    low, high = np.quantile(audited.scores, [0.005, 0.995])
    edges = np.linspace(low, max(high, low + 1e-9), _BINS + 1)
    clipped = audited.scores.clip(edges[0], edges[-1])
    inside, _ = np.histogram(clipped[audited.seal.included], edges)
    outside, _ = np.histogram(clipped[~audited.seal.included], edges)
    return plots.score_histogram(edges.tolist(), inside.tolist(), outside.tolist())


def _figure(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "infinite"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
