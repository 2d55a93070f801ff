"""The account's filter against the best adaptive adversary, refunds after a watermark included.

The adversary chooses each act after all answers. An act is one answer of a mechanism, or two of
which the second may be given up after the first was seen: the orders then get the second back,
basic composition does not (`budget.states`). Losses lie on a grid, prices are exact, so dynamic
programming over (what was consumed, the loss so far) finds the largest true delta there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from privacy_core.accounting.filters import LEDGER_ORDERS, RdpFilter, fits

UNIT = 0.25
"""Losses are whole numbers of it."""


@dataclass(frozen=True)
class Act:
    """A mechanism by the law of its loss under P: grid losses, and a mass at infinity."""

    losses: tuple[int, ...]
    masses: tuple[float, ...]
    leak: float

    @property
    def curve(self) -> tuple[float, ...]:
        if self.leak:
            return (math.inf,) * len(LEDGER_ORDERS)
        return tuple(
            math.log(
                math.fsum(
                    p * math.exp((a - 1) * UNIT * loss)
                    for loss, p in zip(self.losses, self.masses, strict=True)
                )
            )
            / (a - 1)
            for a in LEDGER_ORDERS
        )

    def twice(self) -> Act:
        law: dict[int, float] = {}
        for x, p in zip(self.losses, self.masses, strict=True):
            for y, q in zip(self.losses, self.masses, strict=True):
                law[x + y] = law.get(x + y, 0.0) + p * q
        return Act(tuple(law), tuple(law.values()), 1 - (1 - self.leak) ** 2)

    def basic(self, share: float) -> tuple[float, float]:
        """The least epsilon on a fine grid whose exact delta is at most `share`, and that delta."""
        for epsilon in np.arange(0.0, 40.0, 0.05):
            delta = self.leak + math.fsum(
                p * max(0.0, -math.expm1(epsilon - UNIT * loss))
                for loss, p in zip(self.losses, self.masses, strict=True)
            )
            if delta <= share:
                return float(epsilon), delta
        return math.inf, math.inf


def random_act(rng: np.random.Generator, leaky: bool) -> Act:  # noqa: TID251 -- tests
    """Losses from -3/4 to 2, Q(loss) = P(loss) e^-loss with total mass at most 1."""
    while True:
        losses = sorted({int(x) for x in rng.integers(-3, 9, size=int(rng.integers(2, 4)))})
        masses = rng.dirichlet(np.full(len(losses), 0.6))
        leak = float(rng.uniform(0, 0.03)) if leaky else 0.0
        masses = masses * (1 - leak)
        if len(losses) > 1 and math.fsum(masses * np.exp(-UNIT * np.array(losses))) <= 1:
            return Act(tuple(losses), tuple(float(m) for m in masses), leak)


Spent = tuple[float, ...]
Counts = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def worst_delta(  # noqa: C901 -- the rules of a game, one by one
    acts: Sequence[Act], epsilon: float, caps: Spent, share: float, *, most: int
) -> float:
    """The value of the game: the largest delta at epsilon that the adversary can bring about."""
    curves = [act.curve for act in acts]
    single = [act.basic(share) for act in acts]
    double = [act.twice().basic(share) for act in acts]

    def total(answers: tuple[int, ...], ones: tuple[int, ...], twos: tuple[int, ...]) -> Spent:
        orders = [0.0] * len(LEDGER_ORDERS)
        for count, curve in zip(answers, curves, strict=True):
            if count:
                orders = [o + count * c for o, c in zip(orders, curve, strict=True)]
        basic = [0.0, 0.0]
        for counts, prices in ((ones, single), (twos, double)):
            for count, price in zip(counts, prices, strict=True):
                if count:
                    basic = [b + count * x for b, x in zip(basic, price, strict=True)]
        return (*orders, *basic)

    def plus(counts: tuple[int, ...], at: int, by: int = 1) -> tuple[int, ...]:
        return tuple(c + by * (i == at) for i, c in enumerate(counts))

    @cache
    def admitted(answers: tuple[int, ...], ones: tuple[int, ...], twos: tuple[int, ...]) -> bool:
        return sum(answers) <= most and fits(total(answers, ones, twos), caps)

    def answer(act: Act, loss: int, then: Callable[[int], float]) -> float:
        return act.leak + math.fsum(
            p * then(loss + x) for x, p in zip(act.losses, act.masses, strict=True)
        )

    @cache
    def value(
        answers: tuple[int, ...], ones: tuple[int, ...], twos: tuple[int, ...], loss: int
    ) -> float:
        best = max(0.0, -math.expm1(epsilon - UNIT * loss))
        for i, act in enumerate(acts):
            one = (plus(answers, i), plus(ones, i), twos)
            if admitted(*one):
                best = max(best, answer(act, loss, lambda x, one=one: value(*one, x)))
            stopped = (plus(answers, i), ones, plus(twos, i))
            whole = (plus(answers, i, 2), ones, plus(twos, i))
            if admitted(*whole):

                def second(x: int, act: Act = act, s: Counts = stopped, w: Counts = whole) -> float:
                    return max(value(*s, x), answer(act, x, lambda y: value(*w, y)))

                best = max(best, answer(act, loss, second))
        return best

    nothing = (0,) * len(acts)
    return value(nothing, nothing, nothing, 0)


CASES = [(1.0, 0.2), (2.0, 0.1), (3.0, 0.3)]


@pytest.mark.parametrize(("epsilon", "delta"), CASES)
@pytest.mark.parametrize("seed", range(8))
def test_no_adaptive_adversary_gets_more_than_the_account_promised(
    epsilon: float, delta: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)  # noqa: TID251 -- tests
    acts = [random_act(rng, leaky=False), random_act(rng, leaky=bool(seed % 2))]
    chosen = RdpFilter(epsilon, delta)

    found = worst_delta(acts, epsilon, chosen.caps, delta / 8, most=8)

    assert found <= delta * (1 + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_no_adaptive_adversary_gets_more_in_many_games(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)  # noqa: TID251 -- tests
    epsilon, delta = float(rng.uniform(0.5, 4)), float(rng.uniform(0.02, 0.4))
    acts = [random_act(rng, leaky=i == 1 and seed % 3 == 0) for i in range(2 + seed % 2)]

    found = worst_delta(
        acts, epsilon, RdpFilter(epsilon, delta).caps, delta / float(rng.uniform(2, 20)), most=8
    )

    assert found <= delta * (1 + 1e-9)


def test_the_game_finds_a_filter_that_gives_too_much() -> None:
    """Half as much again on every cap: some game must then exceed delta."""
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)  # noqa: TID251 -- tests
        acts = [random_act(rng, leaky=False), random_act(rng, leaky=bool(seed % 2))]
        for epsilon, delta in CASES:
            caps = RdpFilter(epsilon, delta).caps
            loose = (*(c + 1.5 for c in caps[:-1]), 2.5 * caps[-1])
            found.append(worst_delta(acts, epsilon, loose, delta / 8, most=8) / delta)

    assert max(found) > 1.2
