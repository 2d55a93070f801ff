"""Algorithms of others beside ours: registered by contract, run under one budget, compared.

An algorithm gets at the private data through `Environment.data` alone, and that charges the event
it names, before a record is handed over. The experiment's budget is an RDP filter, so algorithms
may choose their next act by what they saw. An event that nobody can price is refused: it would cost
infinity. What an algorithm then does with the data is its own claim, as with any mechanism; the
result names where its code came from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from privacy_core import dp_events
from privacy_core.accounting.filters import RdpFilter, basic_price, ledger_curve
from privacy_core.dp_events import DpEvent
from privacy_core.errors import PrivacyError
from privacy_core.guarantee import NeighbouringRelation
from privacy_finetuner import __version__
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.plugins import Plugin, PluginMetadata, PluginRegistry
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

ALGORITHMS: Final = "privacy_finetuner.algorithms"
MECHANISMS: Final = "privacy_finetuner.mechanisms"
CONTRACTS: Final[Mapping[str, tuple[str, ...]]] = {
    ALGORITHMS: ("run_experiment",),
    MECHANISMS: ("relation", "sensitivity", "event", "release"),
}
"""What a plugin of each group must have; `privacy_core.mechanisms.Mechanism` says what it means."""


class ActRefused(PrivacyError):
    """An act does not fit into the experiment's budget. Nothing was handed over or charged."""

    code: ClassVar[str] = "act_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """What an experiment is about.

    Attributes:
        dataset: the private data, as the algorithms expect it.
        max_epsilon: of all algorithms together.
        delta: likewise.
        relation: which data sets are neighbours.
        folder: where an algorithm may write; each gets a folder of its own.
        algorithms: names; empty: every algorithm that is registered.
        configuration: keywords of each algorithm, by name.
    """

    dataset: Any = field(repr=False)
    max_epsilon: float
    delta: float
    folder: str | Path
    relation: NeighbouringRelation = NeighbouringRelation.ADD_OR_REMOVE_ONE
    algorithms: Sequence[str] = ()
    configuration: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """What is left when an algorithm begins. It may take less."""

    max_epsilon: float
    epsilon_left: float
    delta: float
    relation: NeighbouringRelation


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an algorithm returns: released figures by name, and files that may leave."""

    figures: Mapping[str, float]
    files: Sequence[str] = ()


class Algorithm(Protocol):
    """The contract of the group `privacy_finetuner.algorithms`."""

    def run_experiment(self, environment: Environment, constraints: Constraints) -> Outcome:
        """Do what it does; whatever it returns came from `environment.data` or is public."""
        ...


@dataclass(slots=True, kw_only=True)
class Environment:
    """The world of one algorithm: chance, time, a folder, and data at a price."""

    folder: Path
    entropy: Entropy
    clock: Clock
    _dataset: Any = field(repr=False)
    _charge: Callable[[DpEvent], None] = field(repr=False)

    def data(self, event: DpEvent) -> Any:
        """Hand over the private data for one act, which is charged first.

        Raises:
            ActRefused: it does not fit; nothing was handed over or charged.
        """
        self._charge(event)
        return self._dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmResult:
    """What one algorithm did, at what price, and whose code it was.

    `epsilon` is the price of its acts by the experiment's odometer, taken alone; `refused` says why
    it ended without figures.
    """

    name: str
    distribution: str
    figures: Mapping[str, float]
    files: tuple[str, ...]
    epsilon: float
    event: Mapping[str, Any]
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResult:
    """All algorithms of an experiment. Together they are (`max_epsilon`, `delta`)-private."""

    results: tuple[AlgorithmResult, ...]
    epsilon_spent: float
    max_epsilon: float
    delta: float

    def ranking(self, figure: str) -> tuple[AlgorithmResult, ...]:
        """Those that have the figure, the highest first."""
        having = [result for result in self.results if figure in result.figures]
        return tuple(sorted(having, key=lambda r: r.figures[figure], reverse=True))

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data."""
        return asdict(self)


class ResearchLayer:
    """Algorithms by name, and experiments that run them under one budget.

    Args:
        allowed: distributions whose plugins may be loaded.
        clock: the outside world; only tests replace it.
        entropy: likewise.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[str] = (),
        clock: Clock | None = None,
        entropy: Entropy | None = None,
    ) -> None:
        self.registry = PluginRegistry(__version__, CONTRACTS, allowed)
        self._clock = clock or SystemClock()
        self._entropy = entropy or SystemEntropy()

    def register_algorithm(
        self, algorithm_class: Callable[..., Algorithm], metadata: PluginMetadata
    ) -> None:
        """Add an algorithm of your own.

        Raises:
            InvalidPluginError, IncompatiblePluginError, DuplicatePlugin: it was not registered.
        """
        self._register(ALGORITHMS, algorithm_class, metadata)

    def register_privacy_plugin(
        self, plugin_class: Callable[..., Any], metadata: PluginMetadata
    ) -> None:
        """Add a mechanism: see `privacy_core.mechanisms.Mechanism` for what it promises.

        Raises:
            InvalidPluginError, IncompatiblePluginError, DuplicatePlugin: it was not registered.
        """
        self._register(MECHANISMS, plugin_class, metadata)

    def load_plugin(self, plugin_name: str, configuration: Mapping[str, Any]) -> Any:
        """A mechanism by name, made with `configuration`.

        Raises:
            UnknownPlugin, PluginNotAllowed, InvalidPluginError: nothing was made.
        """
        return self.registry.load(MECHANISMS, plugin_name, configuration)

    def run_research_experiment(self, experiment_config: ExperimentConfig) -> ExperimentResult:
        """Run every algorithm, in order, on what is left of one budget.

        Guarantee: everything in the result is (`max_epsilon`, `delta`)-private together, as far as
        each algorithm does what the events it named say.

        Raises:
            ConfigurationError: there is no algorithm to run. UnknownPlugin: one is not there.
            InvalidParameter: epsilon or delta is outside its domain.
        """
        config = experiment_config
        names = config.algorithms or self.registry.usable(ALGORITHMS)
        if not names:
            raise ConfigurationError("no algorithm is registered; nothing was spent")
        algorithms = [
            (name, self.registry.load(ALGORITHMS, name, config.configuration.get(name, {})))
            for name in names
        ]
        budget = _Budget(RdpFilter(config.max_epsilon, config.delta), config.relation)
        results = tuple(
            self._run(name, algorithm, config, budget) for name, algorithm in algorithms
        )
        return ExperimentResult(
            results=results,
            epsilon_spent=budget.epsilon,
            max_epsilon=config.max_epsilon,
            delta=config.delta,
        )

    def _register(self, group: str, factory: Callable[..., Any], said: PluginMetadata) -> None:
        source = getattr(factory, "__module__", "").partition(".")[0]
        ours = source in ("privacy_finetuner", "privacy_core", "privacy_runtime")
        self.registry.register(
            Plugin(
                group=group,
                metadata=said,
                factory=factory,
                **({} if ours else {"distribution": source or "unknown"}),
            )
        )

    def _run(
        self, name: str, algorithm: Algorithm, config: ExperimentConfig, budget: _Budget
    ) -> AlgorithmResult:
        acts: list[DpEvent] = []

        def charge(event: DpEvent) -> None:
            budget.charge(name, event)
            acts.append(event)

        folder = Path(config.folder) / name
        folder.mkdir(parents=True, exist_ok=True)
        environment = Environment(
            folder=folder,
            entropy=self._entropy,
            clock=self._clock,
            _dataset=config.dataset,
            _charge=charge,
        )
        constraints = Constraints(
            max_epsilon=config.max_epsilon,
            epsilon_left=max(0.0, config.max_epsilon - budget.epsilon),
            delta=config.delta,
            relation=config.relation,
        )
        refused, outcome = "", Outcome(figures={})
        try:
            outcome = algorithm.run_experiment(environment, constraints)
        except ActRefused as error:
            refused = str(error)
        alone = _Budget(budget.filter, config.relation)
        for event in acts:
            alone.add(event)
        return AlgorithmResult(
            name=name,
            distribution=self.registry.get(ALGORITHMS, name).distribution,
            figures=dict(outcome.figures),
            files=tuple(outcome.files),
            epsilon=alone.epsilon,
            event=dp_events.to_json(dp_events.Composed(tuple(acts))),
            refused=refused,
        )


@dataclass(slots=True)
class _Budget:
    """What an experiment has spent, in the filter's slots."""

    filter: RdpFilter
    relation: NeighbouringRelation
    spent: tuple[float, ...] = ()

    @property
    def epsilon(self) -> float:
        """By the odometer."""
        return self.filter.epsilon_of(self.spent) if self.spent else 0.0

    def charge(self, name: str, event: DpEvent) -> None:
        """Add an act, if it fits."""
        added = self._with(event)
        if not self.filter.admits(added):
            raise ActRefused(
                f"algorithm {name!r}: its next act does not fit into epsilon "
                f"{self.filter.epsilon:g} at delta {self.filter.delta:g}, of which "
                f"{self.epsilon:.4g} is spent; nothing was handed over"
            )
        self.spent = added

    def add(self, event: DpEvent) -> None:
        """Add an act that was admitted before."""
        self.spent = self._with(event)

    def _with(self, event: DpEvent) -> tuple[float, ...]:
        price = (
            *ledger_curve(event, relation=self.relation),
            *basic_price(event, relation=self.relation),
        )
        before = self.spent or (0.0,) * len(price)
        return tuple(
            math.inf if math.inf in (a, b) else a + b for a, b in zip(before, price, strict=True)
        )
