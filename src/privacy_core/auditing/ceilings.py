"""What an audit of a given size could have found at most.

"We found epsilon > 0.3" says nothing without "and could not have found more than 2". The ceiling is
the lower bound that an ideal attacker gets on a Gaussian release of exactly the claimed epsilon:
m canaries that do not disturb each other, each answered by one Gaussian of the right mu, and the
same statistics. It is simulated, seeded, and shown with its simulation error.

One Gaussian is what a full-batch release of DP-SGD is, and near what dominates every other. It is
not the worst of all mechanisms with that epsilon: randomised response gives its attacker more, as
it has the same epsilon at every delta. With Poisson sampling the attacker who
sees every step has less to go on; `white_box_ceiling` draws scores from their law in exactly that
run (`step_laws`). A ceiling carries what it was simulated from: `simulated_again` repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from privacy_core.accounting.gdp import gaussian_mu
from privacy_core.auditing.bounds import (
    EpsilonBound,
    Method,
    clopper_pearson_epsilon,
    gaussian_estimate,
    one_run_epsilon,
    one_run_f_dp_epsilon,
)
from privacy_core.auditing.chance import Chance
from privacy_core.auditing.guesses import AnyChoice, Bonferroni, Choice, Ranks, Split
from privacy_core.auditing.step_laws import WhiteBox, score_laws
from privacy_core.errors import InvalidParameter

Vector = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]
_Game: TypeAlias = Callable[[Chance], tuple[Vector, Coins]]

_REVEALED: Final = 1e3
"""The mu of an attacker who is told: an epsilon of infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The bound an ideal attacker gets, over `trials` simulated audits.

    `expected` is the mean, with `standard_error` from the simulation; nine audits in ten are
    between `low` and `high`. `run` is what a white-box attacker watched, else `None`.
    """

    method: Method
    epsilon: float
    delta: float
    canaries: int
    confidence: float
    choice: AnyChoice
    trials: int
    seed: int
    expected: float
    standard_error: float
    low: float
    high: float
    run: WhiteBox | None = None

    @property
    def attacker(self) -> str:
        """What the attacker sees, in words."""
        if self.run is None:
            return "one Gaussian"
        return "every step, " + ("likelihood ratio" if self.run.likelihood_ratio else "plain sum")

    def __str__(self) -> str:
        return (
            f"an ideal attacker ({self.attacker}) with {self.canaries} canaries certifies "
            f"{self.expected:.2f} +- {self.standard_error:.2f} of epsilon {self.epsilon:.3g}"
        )


def mu_of_claim(epsilon: float, delta: float) -> float:
    """The mu of an ideal attacker's scores against a claim; inf reveals everything.

    Raises:
        InvalidParameter: `delta` is outside (0, 1), or `epsilon` is below 0.
    """
    if not 0 < delta < 1:
        raise InvalidParameter("delta", found=delta, expected="a number in (0, 1)")
    if not epsilon >= 0:
        raise InvalidParameter("epsilon", found=epsilon, expected="a number >= 0")
    return _REVEALED if math.isinf(epsilon) else gaussian_mu(epsilon, delta)


def ideal_scores(canaries: int, mu: float, chance: Chance) -> tuple[Vector, Coins]:
    """Scores of an ideal attacker: N(mu, 1) for canaries that are in, N(0, 1) for the others."""
    included = chance.uniforms(canaries) < 0.5
    return chance.normals(canaries) + mu * included, included


def ceiling(
    epsilon: float,
    delta: float,
    canaries: int,
    *,
    method: Method | str = Method.ONE_RUN,
    confidence: float = 0.95,
    choice: Choice | None = None,
    trials: int = 100,
    seed: int = 0,
) -> Ceiling:
    """What an ideal attacker certifies on a Gaussian release of exactly this epsilon.

    Args:
        epsilon: the claim; inf for a run that gives everything away.
        delta: in (0, 1).
        canaries: how many coins, >= 20.
        method: how the bound is found, as in `bounds`.
        confidence: of each simulated audit.
        choice: as in `bounds`; must be the one of the audit that is compared.
        trials: simulated audits, >= 10; the error falls with their square root.
        seed: public.

    Raises:
        InvalidParameter: an argument is outside its domain.
    """
    mu = mu_of_claim(epsilon, delta)
    picked = Split() if choice is None else choice
    bound = _bound_by(Method(method), delta, confidence, picked)
    found = _play(bound, lambda chance: ideal_scores(canaries, mu, chance), trials, seed)
    return _summary(found, Method(method), epsilon, delta, canaries, confidence, picked, None, seed)


def white_box_ceiling(
    run: WhiteBox,
    delta: float,
    canaries: int,
    *,
    method: Method | str = Method.ONE_RUN,
    confidence: float = 0.95,
    choice: Choice | None = None,
    trials: int = 100,
    seed: int = 0,
) -> Ceiling:
    """What an attacker who sees every step certifies on this very run of DP-SGD.

    The canaries have orthogonal gradients of full norm: the worst that DP-SGD admits.

    Args:
        run: noise multiplier, sampling rate, steps, price, and the score.
        delta: in (0, 1).
        canaries: how many coins, >= 20.
        method: how the bound is found.
        confidence: of each simulated audit.
        choice: as in `bounds`.
        trials: simulated audits, >= 10.
        seed: public.

    Raises:
        InvalidParameter: an argument is outside its domain, or the run hides nothing.
    """
    picked = Split() if choice is None else choice
    bound = _bound_by(Method(method), delta, confidence, picked)
    laws = score_laws(run)

    def game(chance: Chance) -> tuple[Vector, Coins]:
        included = chance.uniforms(canaries) < 0.5
        return laws.draw(included, chance), included

    found = _play(bound, game, trials, seed)
    return _summary(
        found, Method(method), run.epsilon, delta, canaries, confidence, picked, run, seed
    )


def simulated_again(found: Ceiling) -> Ceiling:
    """The ceiling that follows from what this one says it was simulated from.

    Raises:
        InvalidParameter: an argument is outside its domain.
    """
    if not isinstance(found.choice, Ranks | Split | Bonferroni):
        raise InvalidParameter("ceiling.choice", found=str(found.choice), expected="a Choice")
    shared: dict[str, Any] = {
        "method": found.method,
        "confidence": found.confidence,
        "choice": found.choice,
        "trials": found.trials,
        "seed": found.seed,
    }
    if found.run is None:
        return ceiling(found.epsilon, found.delta, found.canaries, **shared)
    if found.run.epsilon != found.epsilon:
        raise InvalidParameter(
            "ceiling.run.epsilon", found=found.run.epsilon, expected=f"{found.epsilon}"
        )
    return white_box_ceiling(found.run, found.delta, found.canaries, **shared)


def _bound_by(
    method: Method, delta: float, confidence: float, choice: Choice
) -> Callable[[Vector, Coins], EpsilonBound]:
    match method:
        case Method.ONE_RUN:
            return lambda scores, coins: one_run_epsilon(
                scores, coins, delta=delta, confidence=confidence, choice=choice
            )
        case Method.F_DP:
            return lambda scores, coins: one_run_f_dp_epsilon(
                scores, coins, delta=delta, confidence=confidence, choice=choice
            )
        case Method.CLOPPER_PEARSON | Method.GAUSSIAN_ESTIMATE:
            if not isinstance(choice, Split):
                raise InvalidParameter("choice", found=choice, expected="a Split")
            by = clopper_pearson_epsilon if method is Method.CLOPPER_PEARSON else gaussian_estimate
            return lambda scores, coins: by(
                scores, coins, delta=delta, confidence=confidence, choice=choice
            )


def _play(
    bound: Callable[[Vector, Coins], EpsilonBound], game: _Game, trials: int, seed: int
) -> Vector:
    if trials < 10:
        raise InvalidParameter("trials", found=trials, expected="a whole number >= 10")
    chance = Chance(seed, purpose="auditing.ceiling")
    return np.array([bound(*game(chance)).epsilon for _ in range(trials)])


def _summary(  # noqa: PLR0913, PLR0917 -- one place that fills the value
    found: Vector,
    method: Method,
    epsilon: float,
    delta: float,
    canaries: int,
    confidence: float,
    choice: Choice,
    run: WhiteBox | None,
    seed: int,
) -> Ceiling:
    low, high = np.quantile(found, [0.05, 0.95])
    return Ceiling(
        method=method,
        epsilon=epsilon,
        delta=delta,
        canaries=canaries,
        confidence=confidence,
        choice=choice,
        trials=len(found),
        seed=seed,
        expected=float(np.mean(found)),
        standard_error=float(np.std(found, ddof=1) / math.sqrt(len(found))),
        low=float(low),
        high=float(high),
        run=run,
    )
