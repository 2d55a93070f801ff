"""A search is priced before it starts, and nothing but its best trial leaves."""

from __future__ import annotations

import logging
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import fields

import pytest

from privacy_core.accounting import dp_sgd_event, epsilon_of
from privacy_core.accounting.selection import runs_at
from privacy_core.dp_events import Composed, DpEvent, Gaussian, NonPrivate, PureDp, SelfComposed
from privacy_core.errors import CalibrationFailed, InvalidParameter
from privacy_finetuner.errors import (
    ConfigurationError,
    ModelTrainingException,
    NonFiniteWeights,
    TrainingInterrupted,
)
from privacy_finetuner.training.search import (
    LAWS,
    Search,
    calibrated_search,
    private_search,
    search_each,
)
from privacy_runtime.keystream import KeyStream
from privacy_runtime.testing import SeededEntropy

TRIAL = Composed((dp_sgd_event(noise_multiplier=1.5, sample_rate=0.1, steps=20), Gaussian(10.0)))
RATES = (0.1, 0.2, 0.3)


def a_search(method: str = "random", law: str = "geometric", mean: float | None = None) -> Search:
    return Search(
        trial=TRIAL, candidates=len(RATES), delta=1e-5, method=method, law=law, mean_trials=mean
    )


class Bill:
    """Remembers what was charged, and in which order with the trials."""

    def __init__(self) -> None:
        self.acts: list[object] = []

    def charge(self, event: DpEvent) -> None:
        self.acts.append(event)

    def trial(self, score_of: Callable[[float], float]) -> Callable[[float], tuple[float, str]]:
        def run(rate: float) -> tuple[float, str]:
            self.acts.append(rate)
            return score_of(rate), f"model at {rate}"

        return run

    @property
    def tried(self) -> list[float]:
        return [act for act in self.acts if isinstance(act, float)]


def test_the_whole_search_is_charged_before_the_first_trial() -> None:
    for method in ("random", "each"):
        bill, search = Bill(), a_search(method)
        run = bill.trial(lambda rate: rate)
        if method == "random":
            private_search(search, RATES, run, charge=bill.charge, entropy=SeededEntropy(1))
        else:
            search_each(search, RATES, run, charge=bill.charge)
        assert bill.acts[0] == search.event
        assert len(bill.tried) == len(bill.acts) - 1 >= 1


def test_a_charge_that_is_refused_leaves_the_data_alone() -> None:
    def refuse(event: DpEvent) -> None:
        raise ConfigurationError("no room")

    bill = Bill()
    with pytest.raises(ConfigurationError, match="no room"):
        private_search(
            a_search(),
            RATES,
            bill.trial(lambda rate: rate),
            charge=refuse,
            entropy=SeededEntropy(1),
        )
    assert not bill.tried


@pytest.mark.parametrize("seed", range(5))
def test_the_best_of_what_was_tried_is_handed_over(seed: int) -> None:
    bill = Bill()
    best = private_search(
        a_search(mean=4.0),
        RATES,
        bill.trial(lambda rate: -rate),
        charge=bill.charge,
        entropy=SeededEntropy(seed),
    )

    assert best is not None
    assert best.candidate == min(bill.tried)
    assert (best.score, best.model) == (-best.candidate, f"model at {best.candidate}")


@pytest.mark.parametrize("law", LAWS)
def test_trials_are_drawn_by_the_law_and_candidates_evenly(law: str) -> None:
    """1,500 searches. A correct sampler fails either check with probability below 1e-6.

    The largest of the counts' deviations is held to 5.5 standard deviations (normal approximation,
    two-sided 4e-8 each, 18 checks).
    """
    searches = 1500
    search = Search(trial=PureDp(0.1), candidates=3, delta=1e-5, law=law, mean_trials=3.0)
    entropy, runs, drawn = SeededEntropy(7), Counter[int](), Counter[float]()
    for _ in range(searches):
        bill = Bill()
        private_search(
            search, RATES, bill.trial(lambda rate: rate), charge=bill.charge, entropy=entropy
        )
        runs[len(bill.tried)] += 1
        drawn.update(bill.tried)

    grid, number = 4000, search.selection
    law_counts = Counter(runs_at(number, (i + 0.5) / grid) for i in range(grid))
    for k in range(5):
        p = law_counts[k] / grid
        assert abs(runs[k] - searches * p) <= 5.5 * math.sqrt(searches * p * (1 - p)) + 1.5
    total = sum(drawn.values())
    for rate in RATES:
        assert abs(drawn[rate] - total / 3) <= 5.5 * math.sqrt(total * 2 / 9)


@pytest.mark.parametrize("law", LAWS)
def test_the_chance_of_missing_a_candidate_is_that_of_the_law(law: str) -> None:
    search, grid = a_search(law=law, mean=3.0), 20_000
    number = search.selection

    exact = sum((2 / 3) ** runs_at(number, (i + 0.5) / grid) for i in range(grid)) / grid

    assert search.chance_of_missing == pytest.approx(exact, rel=1e-3)
    assert a_search("each").chance_of_missing == 0


def test_nothing_of_a_trial_but_the_best_leaves(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def run(rate: float) -> tuple[float, str]:
        print("score", rate)  # noqa: T201
        sys.stderr.write("loss")
        logging.getLogger("trial").critical("accuracy %s", rate)
        warnings.warn("overfit", stacklevel=1)  # an error in this suite, were it to leave
        return rate, "model"

    best = private_search(
        a_search(), RATES, run, charge=lambda event: None, entropy=SeededEntropy(2)
    )

    assert best is not None
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert {f.name for f in fields(best)} == {"candidate", "score", "model"}
    logging.getLogger("after").critical("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


def test_a_failure_says_its_kind_and_nothing_of_the_data() -> None:
    def run(rate: float) -> tuple[float, str]:
        raise ValueError("record 17 is 'Ada has a cold'")

    with pytest.raises(ModelTrainingException, match="ValueError; the whole search") as caught:
        private_search(a_search(), RATES, run, charge=lambda event: None, entropy=SeededEntropy(3))
    assert "Ada" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TrainingInterrupted("after step 3 of 9")])
def test_a_search_that_is_stopped_is_charged_and_releases_nothing(stop: BaseException) -> None:
    bill = Bill()

    def run(rate: float) -> tuple[float, str]:
        raise stop

    with pytest.raises(TrainingInterrupted, match="all of it is charged") as caught:
        private_search(a_search(), RATES, run, charge=bill.charge, entropy=SeededEntropy(3))
    assert bill.acts == [a_search().event]
    assert "step 3" not in str(caught.value)


def test_what_broke_down_is_worst_and_what_is_no_number_as_well() -> None:
    def run(rate: float) -> tuple[float, str]:
        if rate == RATES[0]:
            raise NonFiniteWeights("step 3")
        return (math.nan if rate == RATES[1] else -1e9), f"model at {rate}"

    found = [
        private_search(
            a_search(mean=3.0),
            RATES,
            run,
            charge=lambda event: None,
            entropy=SeededEntropy(seed),
        )
        for seed in range(40)
    ]
    assert {trial.score for trial in found if trial is not None} == {-1e9, -math.inf}
    assert any(trial is None for trial in found)  # nothing but break-downs


def test_noise_is_the_least_that_keeps_epsilon_for_the_whole_search() -> None:
    def search_at(method: str) -> Callable[[float], Search]:
        return lambda noise: Search(
            trial=Composed((dp_sgd_event(noise_multiplier=noise, sample_rate=0.1, steps=20),)),
            candidates=3,
            delta=1e-5,
            method=method,
        )

    for method in ("random", "each"):
        noise, search = calibrated_search(search_at(method), epsilon=8.0)
        assert 7.999 <= search.epsilon() <= 8.0
        assert search_at(method)(0.99 * noise).epsilon() > 8.0
        alone = epsilon_of(search.trial, 1e-5, "rdp")
        assert alone < 6.5  # the search costs more than a trial
    with pytest.raises(CalibrationFailed):
        calibrated_search(
            lambda noise: Search(
                trial=Composed((Gaussian(noise), Gaussian(0.1))), candidates=3, delta=1e-5
            ),
            epsilon=1.0,
        )


def test_each_of_few_is_cheaper_and_random_of_many() -> None:
    """What the module's table says, at its two ends."""

    def noise_of(method: str, candidates: int) -> float:
        return calibrated_search(
            lambda noise: Search(
                trial=dp_sgd_event(noise_multiplier=noise, sample_rate=0.02, steps=500),
                candidates=candidates,
                delta=1e-5,
                method=method,
            ),
            epsilon=8.0,
        )[0]

    assert noise_of("each", 2) == pytest.approx(0.734, abs=1e-3)
    assert noise_of("random", 2) == pytest.approx(0.799, abs=1e-3)
    assert noise_of("each", 30) == pytest.approx(1.631, abs=1e-3)
    assert noise_of("random", 30) == pytest.approx(0.943, abs=1e-3)


def test_every_candidate_is_tried_once_and_shown() -> None:
    bill = Bill()
    search = a_search("each")

    trials = search_each(search, RATES, bill.trial(lambda rate: -rate), charge=bill.charge)

    assert search.event == SelfComposed(TRIAL, 3)
    assert bill.tried == list(RATES)
    assert [trial.candidate for trial in trials] == sorted(RATES)


def test_a_search_that_is_not_the_one_priced_is_refused() -> None:
    def run(rate: float) -> tuple[float, str]:
        raise AssertionError

    for search, candidates in ((a_search("each"), RATES), (a_search(), RATES[:2])):
        bill = Bill()
        with pytest.raises(ConfigurationError, match="nothing was spent"):
            private_search(search, candidates, run, charge=bill.charge, entropy=SeededEntropy(1))
        assert not bill.acts
    with pytest.raises(ConfigurationError, match="nothing was spent"):
        search_each(a_search(), RATES, run, charge=Bill().charge)
    with pytest.raises(ConfigurationError, match="at least 2"):
        Search(trial=TRIAL, candidates=1, delta=1e-5)
    with pytest.raises(ConfigurationError, match="law is 'uniform'"):
        a_search(law="uniform")
    with pytest.raises(ConfigurationError, match="method is 'grid'"):
        a_search("grid")
    with pytest.raises(InvalidParameter):
        _ = a_search(mean=0.5).event


def test_an_unprotected_trial_costs_infinity() -> None:
    search = Search(trial=Composed((PureDp(1.0), NonPrivate())), candidates=2, delta=1e-5)

    assert search.epsilon() == math.inf


def test_the_draws_come_from_the_key_stream() -> None:
    """The same entropy draws the same search, another one another."""

    def tried(seed: int) -> list[float]:
        bill = Bill()
        private_search(
            a_search(mean=30.0),
            RATES,
            bill.trial(lambda rate: rate),
            charge=bill.charge,
            entropy=SeededEntropy(seed),
        )
        return bill.tried

    assert tried(5) == tried(5)
    assert len({tuple(tried(seed)) for seed in range(8)}) > 4
    assert KeyStream.fresh(SeededEntropy(5)).words(1)[0] != 0
