"""Public drafts: what the public model would say next, from any node that has it.

No record has a part in them, so whoever cannot answer is replaced by the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from federated_dp_llm.errors import NodeRefused, NodeUnavailable
from federated_dp_llm.federation.messages import PublicAsk, PublicDraft
from federated_dp_llm.federation.port import Node
from federated_dp_llm.routing.sessions import FAILURES
from privacy_core.decoding.terms import CANDIDATES_MAX
from privacy_runtime.resilience import Hedge

Logits = npt.NDArray[np.float32]

_FLOAT: Final = np.dtype("<f4")


class Drafting:
    """Asks public models for drafts, the first one that answers.

    A node that fails is followed by the next one, each is asked once. A node that is unusually slow
    is joined by the next one (`Hedge`): nothing private is spent twice, since nothing is spent.

    Args:
        nodes: in the order in which they are asked; all of the same weights.
        timeout_s: for one call of one node.
        hedge: when a second node is asked, shared by all answers; None: never.
        lost: told the name of a node whose draft was not what was asked, and why.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        timeout_s: float,
        hedge: Hedge | None = None,
        *,
        lost: Callable[[str, str], object] = lambda _name, _why: None,
    ) -> None:
        self._nodes = list(nodes)
        self._timeout_s = timeout_s
        self._hedge = hedge
        self._lost = lost

    async def draft(self, ask: PublicAsk) -> tuple[PublicDraft, list[Logits]]:
        """A draft, and its logits as numbers.

        Raises:
            NodeUnavailable: no public model answered.
            NodeRefused: the last one that did broke the protocol.
        """
        failed: Exception = NodeUnavailable("", "no public model is well")
        left = deque(self._nodes)

        async def one() -> tuple[PublicDraft, list[Logits]]:
            if not left:
                raise failed
            return await self._asked(left.popleft(), ask)

        while left:
            try:
                return await (one() if self._hedge is None else self._hedge.acall(one))
            except FAILURES as error:
                failed = error
        if isinstance(failed, NodeRefused | NodeUnavailable):
            raise failed
        raise NodeUnavailable("", "no public model answered in time") from failed

    async def _asked(self, node: Node, ask: PublicAsk) -> tuple[PublicDraft, list[Logits]]:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await node.public(ask)
            return answer, read_draft(node.node_id, ask, answer)
        except FAILURES as error:
            if isinstance(error, NodeRefused) and error.reason.startswith("protocol"):
                self._lost(node.node_id, error.reason)
            # Who failed is asked last from now on, so that one answer waits for it once.
            self._nodes.remove(node)
            self._nodes.append(node)
            raise


def read_draft(node_id: str, ask: PublicAsk, answer: PublicDraft) -> list[Logits]:
    """The logits of a draft that is what was asked for.

    Raises:
        NodeRefused: it is not; what is wrong is named.
    """
    if wrong := _wrong(ask, answer):
        raise NodeRefused(node_id, f"protocol: {wrong}")
    read: list[Any] = [np.frombuffer(part, dtype=_FLOAT) for part in answer.logits]
    if not all(np.isfinite(part).all() for part in read):
        raise NodeRefused(node_id, "protocol: a public logit that is not finite")
    if any((part[1:] > part[:-1]).any() for part in read):
        raise NodeRefused(node_id, "protocol: candidates that are not sorted by their logits")
    return read


def _wrong(ask: PublicAsk, answer: PublicDraft) -> str | None:
    positions = len(answer.draft) + 1
    if positions > ask.draft + 1:
        return "a longer draft than was asked"
    if len(answer.candidates) != positions or len(answer.logits) != positions:
        return "another number of positions than its draft has"
    for place, (ids, logits) in enumerate(zip(answer.candidates, answer.logits, strict=True)):
        if not 1 <= len(ids) <= min(ask.candidates, CANDIDATES_MAX):
            return "another number of candidates than was asked"
        if len(logits) != _FLOAT.itemsize * len(ids) or len(set(ids)) != len(ids):
            return "candidates that do not fit their logits"
        if place < len(answer.draft) and answer.draft[place] not in ids:
            return "a draft that is not among its candidates"
    return None


def support(ids: Sequence[int], logits: Logits, token: int) -> float:
    """The public log-probability of a token among the candidates."""
    numbers = logits.astype(np.float64)
    top = float(numbers.max())
    norm = top + math.log(float(np.exp(numbers - top).sum()))
    return float(numbers[list(ids).index(token)]) - norm
