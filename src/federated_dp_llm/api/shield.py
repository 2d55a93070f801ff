"""Prompts on their way out: personal data leaves as tokens, and comes back in the answer.

The mapping stays in a file here, the router of origin; nodes see `[PERSON_7K2M]`. Equal values of
one user become equal tokens, so that a conversation stays one. What is not found goes out as it is:
docs/redaction.md says how much that is, measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from federated_dp_llm.core.query import Answer
from privacy_core.redaction.detection import PatternDetector
from privacy_core.redaction.operators import Scope
from privacy_core.redaction.rewriting import rewrite
from privacy_runtime.names import shipped
from privacy_runtime.pseudonyms import RedactionKeys, SessionVault, StreamingRevealer, VaultStore
from privacy_runtime.world import Clock

_TENANT: Final = "router"
_TTL_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Shielded:
    """A prompt as it may leave.

    Attributes:
        prompt: with tokens in the place of values.
        found: how many values of each type were replaced.
    """

    prompt: str = field(repr=False)
    found: Mapping[str, int]
    _vault: SessionVault | None = field(default=None, repr=False)

    def restored(self, text: str) -> str:
        """A text with this user's values in the place of their tokens."""
        return text if self._vault is None else self._vault.reveal(text).text

    def answer(self, answer: Answer) -> Answer:
        """An answer with the values put back."""
        return replace(answer, response=self.restored(answer.response))

    def revealer(self) -> StreamingRevealer | None:
        """The same for an answer that arrives in pieces; None: nothing was replaced."""
        return None if self._vault is None else StreamingRevealer(self._vault)


class PromptShield:
    """Redacts prompts, reversibly.

    Args:
        store: file of the vault.
        keys: what it is sealed with.
        clock: ends what is kept, after a day.
        level: `low`, `medium` or `high`; None: prompts leave as they are.
    """

    def __init__(
        self, store: Path, keys: RedactionKeys, *, clock: Clock, level: str | None
    ) -> None:
        self._keys, self.level = keys, level
        self._store = VaultStore(store, clock)
        self._detector = None if level is None else PatternDetector(shipped(level))

    def shielded(self, prompt: str, user_id: str) -> Shielded:
        """The prompt as it may leave this institution.

        Raises:
            VaultRefused: the mapping cannot be kept; nothing may be sent.
        """
        if self._detector is None or self.level is None:
            return Shielded(prompt, {})
        found = self._detector.detect(prompt, level=self.level)
        if not found:
            return Shielded(prompt, {})
        vault = SessionVault(self._store, self._keys, session=f"prompts of {user_id}", ttl_s=_TTL_S)
        done = rewrite(prompt, found, lambda _: vault, Scope(is_authentic=vault.is_authentic))
        counts = Counter(one.label for one in done.replacements)
        return Shielded(done.text, dict(sorted(counts.items())), vault)
