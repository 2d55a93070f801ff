"""Draining a data set's privacy budget by many small acts, on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from privacy_core.dp_events import Gaussian
from privacy_core.guarantee import Guarantee
from privacy_finetuner.operations.drills.sandbox import Sandbox
from privacy_runtime.budget_store import Signature, charge_of, parse_scope

ACCOUNT: Final = "protection/notes/2026"
_EPSILON: Final = 8.0
_ACTS_LEAST: Final = 6
_ACTS_MORE: Final = 54
_EVERY_S: Final = 45.0
_NOISE: Final = 12.0
"""Of each act: alone, it costs about a sixtieth of the account."""


def budget_draining(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Ask a data set 6 to 60 questions within the hour, each charged and settled."""
    scope, signature = parse_scope(ACCOUNT), Signature("u_officer", "a year's budget")
    cap = Guarantee(epsilon=_EPSILON, delta=1e-6)
    sandbox.ledger.open_account("open", scope, cap, signature=signature)
    sandbox.watch_account(scope)
    acts, charge = round(_ACTS_LEAST + _ACTS_MORE * intensity), charge_of(Gaussian(_NOISE))
    state = sandbox.ledger.balance(scope)

    def left() -> dict[str, object]:
        spent = sandbox.ledger.balance(scope).epsilon_committed
        return {"epsilon_spent": spent, "epsilon_cap": state.guarantee.epsilon}

    sandbox.afterwards.append(left)
    for number in range(acts):
        sandbox.clock.advance(_EVERY_S)
        sandbox.ledger.reserve(f"q{number}", protection=(scope,), charge=charge, ttl_s=60)
        sandbox.ledger.commit(f"q{number}:done", f"q{number}")
        fact = sandbox.accounts(sandbox.tenant, sandbox.clock.now())[0]
        strength = min(fact.acts_last_hour / 10, fact.share_last_hour / 0.10)
        sandbox.strengths["budget_draining"] = strength
        yield
