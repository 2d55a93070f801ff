"""One list of names from two taggers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from privacy_core.redaction.findings import Finding


def united(
    first: Sequence[Finding], second: Sequence[Finding], *, alone: float = 0.0
) -> list[Finding]:
    """What either tagger found, in order, not overlapping.

    ===============================  ==========================================================
    where                            stays
    ===============================  ==========================================================
    only the first found something   its finding
    only the second did              its finding, if its score is at least `alone`
    both found the same, same label  the first's, with the higher score
    findings overlap otherwise       the first's; nothing of the second's that touches it
    ===============================  ==========================================================

    Args:
        first: findings of the better tagger, in order, not overlapping.
        second: findings of the other, likewise.
        alone: lowest score of a finding of the second that the first does not support: its scores
            are probabilities over all texts, not over those where a better tagger is silent.
    """
    starts = [finding.start for finding in first]
    kept = list(first)
    for finding in second:
        at = bisect_left(starts, finding.end)  # the last that begins before its end
        meets = at > 0 and first[at - 1].end > finding.start
        if not meets:
            if finding.score >= alone:
                kept.append(finding)
            continue
        other = first[at - 1]
        same = (other.start, other.end, other.label) == (finding.start, finding.end, finding.label)
        if same and finding.score > other.score:
            kept[at - 1] = replace(other, score=finding.score)
    return sorted(kept, key=lambda finding: finding.start)
