"""Which requests are sent again, when, and how often.

Only what may be repeated: reads, and writes with an idempotency key. Between two tries passes what
the service asked for in `Retry-After`, and a random part of a bound that doubles (full jitter:
Brooker 2015, "Exponential Backoff And Jitter"). No call outlives its deadline: where
the next pause would end after it, the last error is raised at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from privacy_finetuner.client.errors import Conflict, ServiceError, Unreachable
from privacy_runtime.world import Entropy

_AGAIN: Final = frozenset({429, 502, 503, 504})
_DOUBLINGS: Final = 32
_BYTES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How patient a client is.

    Attributes:
        tries: how often a request is sent at most, 1 or more.
        pause_s: bound on the first pause; the next ones double.
        pause_max_s: bound on any pause that the service did not ask for.
        deadline_s: of a call as a whole, from its first try.
    """

    tries: int = 5
    pause_s: float = 0.25
    pause_max_s: float = 15.0
    deadline_s: float = 60.0

    def keywords(self, entropy: Entropy) -> dict[str, Any]:
        """The policy as keywords of tenacity's `Retrying` and `AsyncRetrying`."""

        def wait(state: RetryCallState) -> float:
            error = None if state.outcome is None else state.outcome.exception()
            return pause_s(self, state.attempt_number, error, entropy)

        def count(state: RetryCallState) -> None:
            error = None if state.outcome is None else state.outcome.exception()
            if isinstance(error, Unreachable):
                error.tries = state.attempt_number

        return {
            "after": count,
            "retry": retry_if_exception(is_passing),
            "wait": wait,
            "stop": stop_after_attempt(self.tries) | stop_before_delay(self.deadline_s),
            "reraise": True,
        }


def pause_s(
    policy: RetryPolicy, failures: int, error: BaseException | None, entropy: Entropy
) -> float:
    """The seconds to wait after so many failures: a random part of a bound that doubles.

    What the service asked for in `Retry-After` is added: the clients that it asked to come back in
    ten seconds do not come in the same instant.
    """
    asked_s = getattr(error, "retry_after_s", None) or 0.0
    bound_s = min(policy.pause_max_s, policy.pause_s * 2.0 ** min(failures - 1, _DOUBLINGS))
    part = int.from_bytes(entropy.token_bytes(_BYTES), "big") / 256**_BYTES
    return float(asked_s) + part * bound_s


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, Unreachable):
        return True
    if isinstance(error, Conflict):  # the first request with this key is still being done
        return error.retry_after_s is not None
    return isinstance(error, ServiceError) and error.status in _AGAIN
