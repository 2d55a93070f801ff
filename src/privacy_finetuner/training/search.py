"""Private search for hyper-parameters: a search is one act, priced whole before it starts.

Looking at several trainings and keeping the best one tells something about the data, beyond what
the best one tells. Two ways to pay for it:

==========  ==============================  =====================  ================================
method      what is charged                 what may leave         trials
==========  ==============================  =====================  ================================
`random`    `Selection` of one trial        the best trial alone   a random number; each draws its
                                                                   candidate with replacement
`each`      the composition of all trials   every trial            one for each candidate
==========  ==============================  =====================  ================================

A trial is a whole private training and its score. A score on private records is released with
noise and is part of the trial's price; a score on *public* records costs nothing, because it is
computed from a model that has been paid for (post-processing). That saves the score's price, which
is small, and not the trainings': with public scores, too, `each` pays for every candidate.

Which is cheaper (noise multiplier for epsilon 8, delta 1e-5; 2 % sampling, 500 steps; `random` in
the expectation of twice as many trials as there are candidates):

==========  =====  ==========  =============  =============  ==================
candidates  each   Poisson     geometric      logarithmic    one training alone
==========  =====  ==========  =============  =============  ==================
2           0.734  0.775       0.799          0.773          0.655
3           0.794  0.814       0.824          0.790          0.655
5           0.894  0.889       0.854          0.809          0.655
10          1.090  1.082       0.890          0.833          0.655
30          1.631  1.709       0.943          0.868          0.655
100         2.779  2.414       0.995          0.902          0.655
==========  =====  ==========  =============  =============  ==================

`each` pays for all trainings, so its noise grows with the square root of their number; `random`
pays for one and for the luck of the best: with the logarithm (a Poisson number does not spread over
all scales, and pays more). Up to four candidates `each` is cheaper, tries every one for certain,
and may show them all. `random` misses a given candidate with `Search.chance_of_missing`: above,
0.14 (Poisson), 0.20 to 0.33 (geometric), 0.26 to 0.62 (logarithmic: most searches are one trial,
few are very long).

Under `random` nothing but the best trial may leave: not the scores of the others, not their
number, no log, no file. `private_search` keeps trials silent, hides what their failures say, and
charges all of it before the first one, so that it may be stopped at any time. What remains is the
duration, which tells the number of trials to whoever holds a clock (docs/sharp_edges.md).

Sources: Liu & Talwar 2019 (arXiv:1811.07971); Papernot & Steinke 2022 (arXiv:2110.03620), of whose
conditions all hold here: a random number from a fixed law, candidates drawn uniformly, one price
that bounds each candidate's trial, the best output alone in a total order.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from privacy_core.accounting import calibrate, epsilon_of
from privacy_core.accounting.selection import mean_runs, runs_at, selection_with_mean
from privacy_core.dp_events import DpEvent, PoissonSelection, Selection, SelfComposed
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner.errors import (
    ConfigurationError,
    ModelTrainingException,
    TrainingInterrupted,
)
from privacy_runtime.keystream import KeyStream
from privacy_runtime.world import Entropy

METHODS: Final = ("random", "each")
LAWS: Final = ("geometric", "logarithmic", "poisson")

_TRIALS_PER_CANDIDATE: Final = 2
_NOISE_LEAST, _NOISE_MOST = 1e-2, 1e4

C = TypeVar("C")
M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A search that is decided but not begun: its event is its price, whatever it will find.

    Args:
        trial: what one trial does to the data: a training, and its score if that is private. It
            bounds the trial of every candidate.
        candidates: how many there are.
        method: `random` or `each`.
        law: of the number of `random` trials; see `accounting.selection`.
        mean_trials: how many `random` trials are expected; default: twice the candidates.
        delta: of the whole search.
        relation: which two data sets are neighbours.

    Raises:
        ConfigurationError: fewer than two candidates, or an unknown method or law.
        InvalidParameter: `mean_trials` is outside the law's domain.
    """

    trial: DpEvent
    candidates: int
    delta: float
    method: str = "random"
    law: str = "geometric"
    mean_trials: float | None = None
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise ConfigurationError(
                f"a search has {self.candidates} candidates, expected at least 2; nothing was spent"
            )
        for name, value, known in (("method", self.method, METHODS), ("law", self.law, LAWS)):
            if value not in known:
                raise ConfigurationError(
                    f"{name} is {value!r}, expected one of {', '.join(known)}; nothing was spent"
                )

    @property
    def event(self) -> DpEvent:
        """What the search does to the data, however it goes."""
        if self.method == "each":
            return SelfComposed(self.trial, self.candidates)
        return self.selection

    @property
    def selection(self) -> Selection | PoissonSelection:
        """The event of method `random`."""
        mean = self.mean_trials or float(_TRIALS_PER_CANDIDATE * self.candidates)
        if self.law == "poisson":
            return PoissonSelection(self.trial, mean)
        return selection_with_mean(self.trial, shape=float(self.law == "geometric"), mean=mean)

    @property
    def accountant(self) -> str:
        """`pld` has no price for the best of several; it prices all of them tightly."""
        return "pld" if self.method == "each" else "rdp"

    def epsilon(self) -> float:
        """The price of the whole search at `delta`; never below the truth."""
        return epsilon_of(self.event, self.delta, self.accountant, relation=self.relation)

    @property
    def expected_trials(self) -> float:
        """How many trainings to expect. Public."""
        return float(self.candidates) if self.method == "each" else mean_runs(self.selection)

    @property
    def chance_of_missing(self) -> float:
        """That a given candidate is never tried. Public."""
        if self.method == "each":
            return 0.0
        rate, others = self.expected_trials, 1 - 1 / self.candidates
        match self.selection:
            case PoissonSelection():
                return math.exp(-rate / self.candidates)
            case Selection(shape=0, stopping_probability=g):
                return math.log1p((g - 1) * others) / math.log(g)
            case _:
                return others / (rate - (rate - 1) * others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Generic[C, M]):
    """A candidate with what came of it."""

    candidate: C
    score: float
    model: M


def calibrated_search(
    search_at: Callable[[float], Search], *, epsilon: float
) -> tuple[float, Search]:
    """The smallest noise multiplier with which a whole search keeps epsilon.

    Args:
        search_at: from a noise multiplier to the search with trials of that noise.
        epsilon: of everything that the search does, finite and > 0.

    Raises:
        CalibrationFailed: no multiplier from 0.01 to 10,000 does, because the search has parts
            that do not get cheaper with it (the scores).
        UnsupportedEvent: the accountant cannot price a trial.
    """
    first = search_at(_NOISE_MOST)
    noise = calibrate(
        lambda multiplier: search_at(multiplier).event,
        epsilon=epsilon,
        delta=first.delta,
        lowest=_NOISE_LEAST,
        highest=_NOISE_MOST,
        increasing=False,
        accountant=first.accountant,
        relation=first.relation,
        parameter="noise_multiplier",
    )
    return noise, search_at(noise)


def private_search(
    search: Search,
    candidates: Sequence[C],
    run_trial: Callable[[C], tuple[float, M]],
    *,
    charge: Callable[[DpEvent], object],
    entropy: Entropy,
) -> Trial[C, M] | None:
    """Try a random number of random candidates and hand over the best trial alone.

    Guarantee: what is returned, with the fact of returning, costs what `search.event` costs, if
    each trial costs what `search.trial` costs. A score that is not a number, and a trial whose
    training broke down, are the worst of all. Equal scores: the first of them (trials are alike and
    independent, so that is a fair draw among them, which no score can tell from any other).

    Args:
        search: of method `random`; its price must be known before anything is seen.
        candidates: as many as `search` says; chosen without looking at the data.
        run_trial: trains with a candidate and returns (score, model); a higher score is better. It
            is run silently; what it writes it must remove, unless it is the model that it returns.
        charge: pays for the event, for good, or raises; called once, before the first trial.
        entropy: where the number of trials and the draws come from.

    Returns:
        The best trial; `None` if there was none, or none that did not break down.

    Raises:
        ConfigurationError: `search` is another one. Nothing was spent.
        TrainingInterrupted: stopped. The whole search is spent, nothing was released.
        ModelTrainingException: a trial failed by a fault of the program; its kind is named, and
            nothing of what it said. The whole search is spent.
    """
    _require_method(search, "random", len(candidates))
    charge(search.event)
    stream = KeyStream.fresh(entropy)
    runs = runs_at(search.selection, float(stream.uniforms(1)[0]))
    best: Trial[C, M] | None = None
    for _ in range(runs):
        candidate = candidates[_below(len(candidates), stream)]
        trial = _silent_trial(candidate, run_trial)
        if trial is not None and (best is None or trial.score > best.score):
            best = trial
    return best


def search_each(
    search: Search,
    candidates: Sequence[C],
    run_trial: Callable[[C], tuple[float, M]],
    *,
    charge: Callable[[DpEvent], object],
) -> list[Trial[C, M]]:
    """Try every candidate once; best first, without what broke down. All of it may be shown.

    Guarantee: everything together costs what `search.event` costs, if each trial costs what
    `search.trial` costs: trials compose, also when a later one depends on an earlier one's score.

    Args and Raises: as `private_search`, for a search of method `each`; errors of a trial are
    passed on as they are. Scores from public records need no price: `search.trial` is then the
    training alone.
    """
    _require_method(search, "each", len(candidates))
    charge(search.event)
    trials = []
    for candidate in candidates:
        try:
            score, model = run_trial(candidate)
        except TrainingInterrupted:
            raise
        except ModelTrainingException:
            continue
        trials.append(Trial(candidate=candidate, score=_ordered(score), model=model))
    return sorted(trials, key=lambda trial: -trial.score)


def _require_method(search: Search, method: str, found: int) -> None:
    if search.method != method or found != search.candidates:
        raise ConfigurationError(
            f"the search is {search.method!r} of {search.candidates} candidates, found {found} "
            f"candidates for {method!r}; nothing was spent"
        )
    search.epsilon()  # what has no price is refused here


def _silent_trial(candidate: C, run_trial: Callable[[C], tuple[float, M]]) -> Trial[C, M] | None:
    try:
        with _silence():
            score, model = run_trial(candidate)
    except (TrainingInterrupted, KeyboardInterrupt):
        raise TrainingInterrupted(
            "the search was interrupted; all of it is charged and nothing of it was released"
        ) from None
    except ModelTrainingException:
        return None
    except Exception as error:  # noqa: BLE001 -- what it says may be about the data
        raise ModelTrainingException(
            f"a trial of the search failed with {type(error).__name__}; the whole search is "
            "charged and nothing of it was released"
        ) from None
    return Trial(candidate=candidate, score=_ordered(score), model=model)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No output, log record or warning of a trial leaves; its number and order would be told."""
    before = logging.root.manager.disable
    nowhere = io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _ordered(score: float) -> float:
    """Scores in a total order: what is not a number is the least."""
    return -math.inf if math.isnan(score) else float(score)


def _below(count: int, stream: KeyStream) -> int:
    """A whole number from 0 to `count` - 1, each exactly as likely."""
    limit = (1 << 64) - (1 << 64) % count
    while True:
        word = int(stream.words(1)[0])
        if word < limit:
            return word % count
