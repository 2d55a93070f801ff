"""A batch of public requests placed at once, by the planners of `quantum_planning`.

Worth it where requests are held back anyway and care about each other (a shared beginning, which
one node computes once); for single requests the queue's late binding is quicker and waits less.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from federated_dp_llm.core.query import Query
from federated_dp_llm.errors import NodeUnavailable
from federated_dp_llm.quantum_planning import AssignmentProblem, Node, Pair, Plan, Task, plan
from federated_dp_llm.routing.load_balancer import Choice
from privacy_core.errors import InvalidParameter
from privacy_runtime.world import Entropy

_ROOM: Final = 1.25
"""Times its fair share of the batch that a node takes at most."""
_HEAD: Final = 256
"""Characters that two prompts share for their node to compute them once."""
_TOGETHER: Final = 0.25
"""Share of a request's seconds that a shared beginning saves."""
_LEAST_S: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Placed:
    """Which node answers which request, and what is known about the placement."""

    nodes: Mapping[str, str]
    plan: Plan


def place(
    queries: Sequence[Query],
    nodes: Sequence[Choice],
    *,
    entropy: Entropy,
    time_limit_s: float = 0.05,
    solver: str = "auto",
) -> Placed:
    """Place a batch; a smaller `priority` counts more.

    A node's speed is the inverse of its peak EWMA; it takes at most 1.25 times its share of the
    batch's tokens, or the largest request.

    Args:
        queries: public ones: a private question asks all nodes of its cohort.
        nodes: that are well.
        entropy: gives the solver's seed.
        time_limit_s: of the solver.
        solver: of `quantum_planning.SOLVERS`, or `auto`.

    Raises:
        NodeUnavailable: there is no node.
        InvalidParameter: a question needs records, or two have one id.
    """
    if not nodes:
        raise NodeUnavailable("", "no node is well")
    if any(query.context == "records" for query in queries):
        raise InvalidParameter("queries", found="one that reads records", expected="public ones")
    speeds = {node.node_id: 1 / max(node.load.latency_s, _LEAST_S) for node in nodes}
    total = sum(query.max_tokens for query in queries)
    largest = max((query.max_tokens for query in queries), default=0)
    fair = total / sum(speeds.values())
    problem = AssignmentProblem(
        tasks=tuple(
            Task(
                task_id=query.request_id,
                demand=float(query.max_tokens),
                priority=1 / max(1, query.priority),
            )
            for query in queries
        ),
        nodes=tuple(
            Node(
                node_id=name,
                speed=speed,
                capacity=max(_ROOM * fair * speed, fair * speed + largest),
            )
            for name, speed in speeds.items()
        ),
        pairs=tuple(_pairs(queries, sum(speeds.values()) / len(speeds))),
    )
    found = plan(problem, solver=solver, time_limit_s=time_limit_s, entropy=entropy)
    return Placed(found.assignment, found)


def _pairs(queries: Sequence[Query], speed: float) -> list[Pair]:
    """Neighbours among the requests that begin alike."""
    alike: dict[bytes, list[Query]] = defaultdict(list)
    for query in queries:
        if len(query.prompt) >= _HEAD:
            head = query.prompt[:_HEAD].encode("utf-8", "surrogatepass")
            alike[hashlib.blake2b(head, digest_size=16).digest()].append(query)
    return [
        Pair(
            first=one.request_id,
            second=two.request_id,
            weight=_TOGETHER * min(one.max_tokens, two.max_tokens) / speed,
        )
        for group in alike.values()
        for one, two in itertools.pairwise(group)
    ]
