"""A guard's redaction of text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from privacy_core.redaction import streaming
from privacy_core.redaction.findings import Detector, Finding
from privacy_core.redaction.operators import Operator, Scope
from privacy_finetuner.context.lookout import Lookout
from privacy_finetuner.context.pieces import without_surrogates
from privacy_finetuner.context.strategies import OperatorChoice


class _Readable:
    """A detector that sees lone halves of surrogate pairs as U+FFFD; scanners take none."""

    def __init__(self, inner: Detector) -> None:
        self._inner = inner

    def detect(
        self, text: str, *, level: str = "medium", hints: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """As the detector inside."""
        return self._inner.detect(without_surrogates(text), level=level, hints=hints)


def redactor(
    lookout: Lookout,
    choice: OperatorChoice,
    scope: Scope,
    level: str,
    preserved: Collection[str],
    window: streaming.Window | None,
    *,
    bulk: bool,
) -> streaming.StreamingRedactor:
    """The redactor of `ContextGuard.stream`."""

    def choose(finding: Finding) -> Operator | None:
        counts = lookout.counts(finding, level) and finding.label not in preserved
        return choice(finding) if counts else None

    chat = streaming.SENTENCES if lookout.looks_for_names else streaming.TOKENS
    return streaming.StreamingRedactor(
        _Readable(lookout.detector(level, preserved)),
        choose,
        scope=scope,
        level=level,
        window=window or (streaming.FILES if bulk else chat),
    )
