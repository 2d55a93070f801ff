"""Which model answers at which level, loaded when it is first asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, Final

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_core.redaction.findings import Finding
from privacy_core.redaction.tagging import CrfTagger
from privacy_core.redaction.unions import united
from privacy_runtime.names import assets, transformer
from privacy_runtime.names.transformer import TransformerTagger

_LEVELS: Final = ("low", "medium", "high")
# From which score on the field model is believed where the transformer saw nothing: the lowest at
# which the union has the transformer's F1 on the sets that were kept back, and leaks less.
_ALONE: Final = 0.8
NO_TRANSFORMER: Final = (
    "the larger name model is not in this installation; level high uses the field model alone"
)


class NameModelDamaged(PrivacyError):
    """A file of a shipped name model cannot be read. Nothing was tagged."""

    code: ClassVar[str] = "name_model_damaged"


class ShippedNames:
    """The shipped models of one level, as a `NameTagger`; safe to share between threads.

    The files are read on the first text, once for the process. Each thread keeps its own memory of
    words it has seen (at most 100,000 words); no text is kept.

    Attributes:
        models: the models that answer, `crf` or `crf` and `transformer`.
        notes: what a reader of results has to know: a model that the level wants and that is not
            there. Empty when all is as documented.
    """

    def __init__(self, level: str) -> None:
        self._local = threading.local()
        wants = level == "high"
        self._transformer = wants and assets.has_transformer()
        self.models: tuple[str, ...] = ("crf", "transformer") if self._transformer else ("crf",)
        self.notes: tuple[str, ...] = (NO_TRANSFORMER,) if wants and not self._transformer else ()

    def __repr__(self) -> str:
        return f"ShippedNames(models={self.models})"

    def tag(self, text: str) -> Sequence[Finding]:
        """Names in a text, in order, not overlapping.

        Raises:
            NameModelDamaged: a file of the package cannot be read.
        """
        try:
            crf = self._crf()
            larger = _transformer() if self._transformer else None
        except (OSError, ValueError, KeyError) as error:
            raise NameModelDamaged(
                f"a file of the shipped name models cannot be read ({type(error).__name__}); "
                "reinstall the package; nothing was tagged"
            ) from error
        if larger is None:
            return crf.tag(text)
        seen = crf.examined(text)
        if not seen.promising.any():
            return seen.findings
        return united(larger.tag(text, seen.promising), seen.findings, alone=_ALONE)

    def _crf(self) -> CrfTagger:
        tagger: CrfTagger | None = getattr(self._local, "crf", None)
        if tagger is None:
            tagger = self._local.crf = CrfTagger(assets.weights(), assets.lexicon())
        return tagger


def shipped(level: str = "medium") -> ShippedNames:
    """The name models for a sensitivity level.

    =============================  ==================================================
    level                          answers
    =============================  ==================================================
    `low`, `medium`                the field model (a CRF): about a megabyte a second
    `high`                         also a small transformer, where the field sees a
                                   possible name, both united; where its file is
                                   absent the field model alone, and `notes` says so
    =============================  ==================================================

    Making one reads no file; it is cheap.

    Raises:
        InvalidParameter: there is no such level.
    """
    if level not in _LEVELS:
        raise InvalidParameter("level", found=level, expected=f"one of {', '.join(_LEVELS)}")
    return ShippedNames(level)


@lru_cache(maxsize=1)
def _transformer() -> TransformerTagger:
    return transformer.load()
