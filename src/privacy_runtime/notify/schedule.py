"""When a failed message is tried again: at once, then ever later, ten times within three days."""

from __future__ import annotations

from typing import Final

from privacy_runtime.world import Entropy

DELAYS_S: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""After the first, second, ... failure, as Standard Webhooks suggests; 76 hours together."""
MOST_ATTEMPTS: Final = len(DELAYS_S) + 1
_JITTER: Final = 0.2
_LONGEST_ASKED_S: Final = 86_400.0


def delay_s(attempts: int, entropy: Entropy, *, asked_s: float | None = None) -> float | None:
    """How long to wait after so many attempts; None: give up.

    Args:
        attempts: made so far, at least one.
        entropy: spreads endpoints that failed together: up to a fifth longer.
        asked_s: what the receiver asked for (`Retry-After`); never shorter than the schedule's.
    """
    if attempts > len(DELAYS_S):
        return None
    share = int.from_bytes(entropy.token_bytes(4)) / 2**32
    wait_s = DELAYS_S[attempts - 1] * (1.0 + _JITTER * share)
    if asked_s is not None and asked_s > 0:
        wait_s = max(wait_s, min(asked_s, _LONGEST_ASKED_S))
    return wait_s
