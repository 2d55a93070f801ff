"""The one model: tasks to place on nodes, what a placement costs, and which placements fit.

With x_ij = 1 where task i is on node j:

    minimise    sum_ij c_ij x_ij  -  sum_pairs b_ik [i and k on the same node]
    such that   every task is on one node, and on every node
                sum of demand <= capacity,  sum of privacy demand <= privacy capacity

c_ij = time * priority * demand/speed  +  late * priority * (seconds past the deadline)
       + mismatch (the node lacks the task's specialisation)  +  distance (not its home node)

Without pairs this is generalised assignment with two resources, which is NP-hard already; with
pairs it is a quadratic one. Letters in array names: T tasks, N nodes, P pairs, R resources
(0: demand, 1: privacy demand).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from privacy_core.errors import InvalidParameter

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.intp]
"""For every task the index of its node."""

_Array = TypeVar("_Array", bound=npt.NDArray[Any])

RESOURCES: Final = ("demand", "privacy_demand")
TOLERANCE: Final = 1e-9
"""A load may exceed its capacity by this share of it: the rounding of sums, and nothing more."""
LARGEST: Final = 1e12
"""No number of a problem is larger, so that no sum of them loses what is small."""
MOST_TASKS: Final = 10_000
MOST_NODES: Final = 1_000


class Task(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something to be done on one node.

    Attributes:
        task_id: unique in the problem.
        demand: work, in the units of `Node.capacity` (tokens, say); >= 0.
        privacy_demand: what it spends of a node's privacy budget, in the units of
            `Node.privacy_capacity` (rho or epsilon, as long as all agree); >= 0.
        specialisation: what the node should know; None: any will do.
        home: the node where its data or its cache is; elsewhere costs `Weights.distance`.
        priority: how much its seconds count; > 0.
        deadline_s: seconds that its work may take; more costs `Weights.late` a second.
    """

    task_id: str
    demand: float = 1.0
    privacy_demand: float = 0.0
    specialisation: str | None = None
    home: str | None = None
    priority: float = 1.0
    deadline_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is not in its domain."""
        _require_name("task_id", self.task_id)
        _require("demand", self.demand)
        _require("privacy_demand", self.privacy_demand)
        _require("priority", self.priority, positive=True)
        if self.deadline_s is not None:
            _require("deadline_s", self.deadline_s)


class Node(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A place where tasks can be done.

    Attributes:
        node_id: unique in the problem.
        capacity: the demand that fits; None: any.
        privacy_capacity: the privacy demand that fits; None: any.
        speed: demand done in a second; > 0.
        specialisations: what it knows.
    """

    node_id: str
    capacity: float | None = None
    privacy_capacity: float | None = None
    speed: float = 1.0
    specialisations: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what is not in its domain."""
        _require_name("node_id", self.node_id)
        _require("speed", self.speed, positive=True)
        for name in ("capacity", "privacy_capacity"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name))


class Pair(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two tasks that care where the other one is.

    Attributes:
        first: a task.
        second: another one.
        weight: > 0: what it is worth to have them on one node (a shared prefix or session); < 0:
            what it costs (replicas that shall agree independently). Several pairs of the same
            tasks add up.
    """

    first: str
    second: str
    weight: float

    def __post_init__(self) -> None:
        """Refuse what is not in its domain."""
        _require("weight", abs(self.weight))
        if self.first == self.second:
            raise InvalidParameter("pair", found=self.first, expected="two different tasks")


class Weights(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the parts of the cost are worth, in one currency: the second of a task of priority 1.

    Attributes:
        time: of a second of work.
        late: of a second past the deadline.
        mismatch: of a node without the task's specialisation.
        distance: of a node that is not the task's home.
    """

    time: float = 1.0
    late: float = 10.0
    mismatch: float = 3.0
    distance: float = 1.5

    def __post_init__(self) -> None:
        """Refuse what is not in its domain."""
        for name in self.__struct_fields__:
            _require(name, getattr(self, name))


class Violation(Struct, frozen=True, kw_only=True):
    """A node that was given more than fits.

    Attributes:
        node: which.
        resource: `demand` or `privacy_demand`.
        load: that it was given.
        capacity: that it has.
    """

    node: str
    resource: str
    load: float
    capacity: float


class AssignmentProblem(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Tasks, nodes, and what connects them. Checked as a whole when it is made.

    Attributes:
        tasks: what is to be placed; may be empty.
        nodes: where; at least one.
        pairs: what tasks mean to each other.
        weights: of the parts of the cost.

    Raises:
        InvalidParameter: no node, a name twice, a home or a pair that names none, or too many.
    """

    tasks: tuple[Task, ...]
    nodes: tuple[Node, ...]
    pairs: tuple[Pair, ...] = ()
    weights: Weights = msgspec.field(default_factory=Weights)

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        _require_count("nodes", len(self.nodes), least=1, most=MOST_NODES)
        _require_count("tasks", len(self.tasks), least=0, most=MOST_TASKS)
        nodes = _index("nodes", [node.node_id for node in self.nodes])
        tasks = _index("tasks", [task.task_id for task in self.tasks])
        for task in self.tasks:
            if task.home is not None and task.home not in nodes:
                raise InvalidParameter("home", found=task.home, expected="a node of the problem")
        for pair in self.pairs:
            for name in (pair.first, pair.second):
                if name not in tasks:
                    raise InvalidParameter("pair", found=name, expected="the name of a task")

    @cached_property
    def costs_TN(self) -> Floats:
        """What each task costs on each node, pairs left aside."""
        weights, nodes = self.weights, self.nodes
        speed_N = np.array([node.speed for node in nodes])
        seconds_TN = self.demands_RT[0][:, None] / speed_N
        priority_T = np.array([task.priority for task in self.tasks])
        due_T = np.array(
            [math.inf if task.deadline_s is None else task.deadline_s for task in self.tasks]
        )
        late_TN = np.maximum(seconds_TN - due_T[:, None], 0.0)
        costs_TN = priority_T[:, None] * (weights.time * seconds_TN + weights.late * late_TN)
        for row, task in zip(costs_TN, self.tasks, strict=True):
            if task.specialisation is not None:
                row += [
                    weights.mismatch * (task.specialisation not in n.specialisations) for n in nodes
                ]
            if task.home is not None:
                row += [weights.distance * (task.home != n.node_id) for n in nodes]
        return _fixed(costs_TN)

    @cached_property
    def demands_RT(self) -> Floats:
        """What each task takes of each resource."""
        rows = [[t.demand for t in self.tasks], [t.privacy_demand for t in self.tasks]]
        return _fixed(np.array(rows, dtype=np.float64))

    @cached_property
    def capacities_RN(self) -> Floats:
        """What each node has of each resource; infinity where it is not limited."""
        rows = [[n.capacity for n in self.nodes], [n.privacy_capacity for n in self.nodes]]
        return _fixed(np.array([[math.inf if v is None else v for v in row] for row in rows]))

    @cached_property
    def pairs_2P(self) -> Places:
        """The two tasks of each pair, the smaller index first; every pair once."""
        return _fixed(np.array([*self._summed_pairs], dtype=np.intp).reshape(-1, 2).T)

    @cached_property
    def weights_P(self) -> Floats:
        """What each pair of `pairs_2P` is worth on one node; never 0."""
        return _fixed(np.array([*self._summed_pairs.values()], dtype=np.float64))

    @cached_property
    def _summed_pairs(self) -> dict[tuple[int, int], float]:
        index = {task.task_id: place for place, task in enumerate(self.tasks)}
        sums: dict[tuple[int, int], float] = {}
        for pair in self.pairs:
            one, two = sorted((index[pair.first], index[pair.second]))
            sums[one, two] = sums.get((one, two), 0.0) + pair.weight
        return {key: weight for key, weight in sorted(sums.items()) if weight != 0}

    @cached_property
    def has_limits(self) -> bool:
        """Whether some node could be given more than fits."""
        return bool((self.demands_RT.sum(axis=1)[:, None] > self.capacities_RN).any())

    def objective(self, places_T: Places) -> float:
        """What a placement costs, whether or not it fits. 0 without tasks."""
        one, two = places_T[self.pairs_2P]
        alone = self.costs_TN[np.arange(len(self.tasks)), places_T]
        return math.fsum(alone) - math.fsum(self.weights_P[one == two])

    def loads_RN(self, places_T: Places) -> Floats:
        """What each node is given of each resource."""
        size = len(self.nodes)
        return np.stack([np.bincount(places_T, row, size) for row in self.demands_RT])

    def is_feasible(self, places_T: Places) -> bool:
        """Whether every node has what it was given, to within `TOLERANCE`."""
        return bool((self.loads_RN(places_T) <= self.limits_RN).all())

    @cached_property
    def limits_RN(self) -> Floats:
        """The capacities with their tolerance."""
        return _fixed(self.capacities_RN * (1 + TOLERANCE))

    def violations(self, places_T: Places) -> tuple[Violation, ...]:
        """The nodes that were given more than fits; empty exactly when it is feasible."""
        loads_RN = self.loads_RN(places_T)
        return tuple(
            Violation(
                node=self.nodes[n].node_id,
                resource=RESOURCES[r],
                load=float(loads_RN[r, n]),
                capacity=float(self.capacities_RN[r, n]),
            )
            for r, n in np.argwhere(loads_RN > self.limits_RN)
        )

    def names(self, places_T: Places) -> dict[str, str]:
        """The placement by the names of tasks and nodes."""
        return {
            task.task_id: self.nodes[place].node_id
            for task, place in zip(self.tasks, places_T, strict=True)
        }

    def places(self, names: Mapping[str, str]) -> Places:
        """The placement by indices.

        Raises:
            InvalidParameter: a task has no node, or one that there is not; or a name is no task's.
        """
        tasks = [task.task_id for task in self.tasks]
        if names.keys() != set(tasks):
            strange = sorted(names.keys() ^ set(tasks))[0]
            raise InvalidParameter("assignment", found=strange, expected="every task, once")
        index = {node.node_id: place for place, node in enumerate(self.nodes)}
        for name in names.values():
            if name not in index:
                raise InvalidParameter("assignment", found=name, expected="nodes of the problem")
        return np.array([index[names[task]] for task in tasks], dtype=np.intp)


def read_problem(document: bytes | str) -> AssignmentProblem:
    """Read a problem from JSON, with the fields of the classes of this module.

    Raises:
        InvalidParameter: it is not JSON, or not a problem; says where.
    """
    try:
        return msgspec.json.decode(document, type=AssignmentProblem)
    except msgspec.DecodeError as error:
        raise InvalidParameter("problem", found=str(error), expected="a problem as JSON") from error


def write_problem(problem: AssignmentProblem) -> bytes:
    """The problem as JSON that `read_problem` reads."""
    return msgspec.json.encode(problem)


def _require(name: str, value: float, *, positive: bool = False) -> None:
    if not (0 < value <= LARGEST if positive else 0 <= value <= LARGEST):
        least = "> 0" if positive else ">= 0"
        raise InvalidParameter(name, found=value, expected=f"a number {least}, <= {LARGEST:g}")


def _require_name(name: str, value: str) -> None:
    if not value:
        raise InvalidParameter(name, found=value, expected="a name")


def _require_count(name: str, found: int, *, least: int, most: int) -> None:
    if not least <= found <= most:
        raise InvalidParameter(name, found=found, expected=f"{least} to {most} of them")


def _index(what: str, names: Sequence[str]) -> dict[str, int]:
    index = {name: place for place, name in enumerate(names)}
    if len(index) < len(names):
        twice = next(name for place, name in enumerate(names) if index[name] != place)
        raise InvalidParameter(what, found=twice, expected="names that occur once")
    return index


def _fixed(array: _Array) -> _Array:
    """The array, read only: it belongs to a value."""
    array.setflags(write=False)
    return array
