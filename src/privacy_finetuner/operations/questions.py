"""How often models are asked, and how alike the questions are: counts, without the questions.

A prompt is its author's: nothing of it is kept but two short digests under a key that lives as long
as the process, for ten minutes, in memory. What reaches the journal are counts::

    operations.questions   {tenant, subject, questions, distinct, same_stem, window_s}

`distinct` counts different prompts, `same_stem` the largest group of prompts that are equal but for
their last word. They are noted at every twentieth question of one user within ten minutes, at most
once a scan, so a flood of questions is no flood of entries.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Final

from privacy_runtime.world import Clock, Entropy

COUNTED: Final = "operations.questions"
WINDOW_S: Final = 600.0
NOTED_EVERY: Final = 20
"""Fewer questions in a window are nobody's business; as many more are noted again."""
_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 8
_KEPT_MOST: Final = 2000
_ASKERS_MOST: Final = 10_000


@dataclass(slots=True)
class _Asker:
    asked: deque[tuple[float, bytes, bytes]] = field(
        default_factory=lambda: deque(maxlen=_KEPT_MOST)
    )
    noted: int = 0
    noted_s: float = float("-inf")
    has_news: bool = False


class Questions:
    """Counts questions by who asks. For any number of threads; each process counts its own.

    Args:
        clock: measures the window.
        entropy: makes the key of the digests.
    """

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock, self._key = clock, entropy.token_bytes(_KEY_BYTES)
        self._lock = threading.Lock()
        self._askers: OrderedDict[tuple[str, str], _Asker] = OrderedDict()

    def note(self, tenant: str, subject: str, *, model: str, prompt: str) -> None:
        """Count one question, also one that was refused. Keeps two digests of it."""
        words = prompt.casefold().split()
        whole = self._digest(model, words)
        stem = self._digest(model, words[:-1])
        with self._lock:
            asker = self._askers.setdefault((tenant, subject), _Asker())
            self._askers.move_to_end((tenant, subject))
            asker.asked.append((self._clock.monotonic_s(), whole, stem))
            asker.has_news = True
            while len(self._askers) > _ASKERS_MOST:
                self._askers.popitem(last=False)

    def counted(self) -> list[dict[str, Any]]:
        """What should be noted now; each is handed out once."""
        now_s = self._clock.monotonic_s()
        with self._lock:
            asking = list(self._askers.items())
            found = [self._news(who, asker, now_s) for who, asker in asking if asker.has_news]
            for who, asker in asking:
                if not asker.asked and now_s - asker.noted_s > WINDOW_S:
                    del self._askers[who]
        return [each for each in found if each is not None]

    def _news(self, who: tuple[str, str], asker: _Asker, now_s: float) -> dict[str, Any] | None:
        while asker.asked and now_s - asker.asked[0][0] > WINDOW_S:
            asker.asked.popleft()
        asker.has_news = bool(asker.asked)
        count = len(asker.asked)
        if now_s - asker.noted_s > WINDOW_S:
            asker.noted = 0
        if count < asker.noted + NOTED_EVERY:
            return None
        asker.noted, asker.noted_s = count, now_s
        stems = Counter(stem for _, _, stem in asker.asked)
        return {
            "tenant": who[0],
            "subject": who[1],
            "questions": count,
            "distinct": len({whole for _, whole, _ in asker.asked}),
            "same_stem": max(stems.values()),
            "window_s": WINDOW_S,
        }

    def _digest(self, model: str, words: list[str]) -> bytes:
        text = "\x1f".join([model, *words]).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=_DIGEST_BYTES).digest()
