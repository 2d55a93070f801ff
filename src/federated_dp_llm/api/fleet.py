"""The nodes that this router asks, and the answers that come of them.

Nodes of the configuration are asked until they answer; those registered over the API are kept in
`nodes.json` and known again after a restart. Certificates that were renewed on disk are read again
without a restart: connections that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from federated_dp_llm.caching import MemoryHome, ReleasedAnswers
from federated_dp_llm.config import NodeSpec
from federated_dp_llm.core.query import Answer, Answers, Piece, Query
from federated_dp_llm.errors import FederatedError, NodeUnavailable
from federated_dp_llm.federation.port import Node
from federated_dp_llm.monitoring.channels import Channels
from federated_dp_llm.routing.answering import RecordAnswers
from federated_dp_llm.routing.policy import AnswerPolicy
from federated_dp_llm.routing.registry import NodeRegistry, NodeState
from federated_dp_llm.routing.vocabulary import Vocabulary, open_vocabulary
from privacy_core.errors import PrivacyError
from privacy_runtime.allowances import AsyncAllowances
from privacy_runtime.signing.home import opened_key

if TYPE_CHECKING:
    from federated_dp_llm.api.service import Service

_log = logging.getLogger(__name__)
_EVERY_S: Final = 5.0
AWAY: Final = "away"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a node stands. `tls_group` None: without TLS, or it never answered."""

    name: str
    slots: int
    tls_group: str | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self.name == NodeState.HEALTHY.value


class Fleet:
    """Registered nodes, and what answers from them. Make one with `open`.

    It implements `core.query.Answers`: nodes that were named and never answered are asked again
    before a question, at most every few seconds.

    Attributes:
        registry: the nodes.
        answers: answers queries.
        cache: of released answers; None: none is kept.
    """

    def __init__(
        self,
        service: Service,
        registry: NodeRegistry,
        answers: Answers,
        *,
        ports: dict[str, Node],
        channels: Channels,
    ) -> None:
        self.registry, self.answers = registry, answers
        self.cache: ReleasedAnswers | None = getattr(answers, "cache", None)
        self._service, self._ports, self._channels = service, ports, channels
        self._wanted = {spec.node_id: spec for spec in service.config.nodes}
        self._task: asyncio.Task[None] | None = None
        self._asked_s = -_EVERY_S

    @classmethod
    def open(cls, service: Service, vocabulary: Vocabulary | None = None) -> Self:
        """Put the parts together.

        Args:
            service: whose nodes.
            vocabulary: of the nodes' model; None: of the configured tokenizer.

        Raises:
            InvalidParameter: certificates cannot be used, a configured node has no TLS where
                `security.require_pq` wants it, or the tokenizer cannot be read.
        """
        config = service.config
        ports: dict[str, Node] = {}
        channels = Channels(
            config,
            figures=service.figures,
            alarm=service.monitor,
            say=service.records.say,
            clock=service.clock,
        )

        def connect(spec: NodeSpec) -> Node:
            if spec.node_id in ports:
                return ports[spec.node_id]
            return channels.connect(spec)

        registry = NodeRegistry(
            connect,
            file=service.home / "nodes.json",
            clock=service.clock,
            entropy=service.entropy,
        )
        answers = _answers(service, registry, vocabulary)
        return cls(service, registry, answers, ports=ports, channels=channels)

    async def answer(self, query: Query) -> Answer:
        """Answer, of the nodes that are there."""
        await self._complete()
        return await self.answers.answer(query)

    async def stream(self, query: Query) -> AsyncIterator[Piece | Answer]:
        """The same in pieces."""
        await self._complete()
        source = self.answers.stream(query)
        try:
            async for item in source:
                yield item
        finally:
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()

    def want(self, spec: NodeSpec, port: Node | None = None) -> None:
        """Name a node that will be asked before the next question.

        Args:
            spec: what it is.
            port: the node itself, in this process; None: over the network.
        """
        if port is not None:
            self._ports[spec.node_id] = port
        self._wanted[spec.node_id] = spec
        self._asked_s = -_EVERY_S

    def cache_hit_rate(self) -> float | None:
        """Of look-ups in the cache; None: there were none."""
        cache = self.cache
        if cache is None or not cache.hits + cache.misses:
            return None
        return round(cache.hits / (cache.hits + cache.misses), 4)

    def standing(self) -> list[tuple[NodeSpec, Standing]]:
        """Every node, those of the configuration that never answered too."""
        known = {
            member.node_id: (
                member.spec,
                Standing(member.state.value, member.slots, self._channels.group_of(member.node_id)),
            )
            for member in self.registry.members
        }
        waiting = {
            name: (spec, Standing(AWAY, spec.slots))
            for name, spec in self._wanted.items()
            if name not in known
        }
        return [found for _, found in sorted({**known, **waiting}.items())]

    async def add(self, spec: NodeSpec, *, by: str) -> None:
        """Register a node.

        Raises:
            NodeUnavailable, NodeRefused: it does not answer, or has another model; it was not
                registered.
        """
        await self.registry.register(spec)
        await asyncio.to_thread(self._service.records.node_added, spec, by=by)

    async def remove(self, node_id: str, *, by: str) -> None:
        """Forget a node."""
        self._wanted.pop(node_id, None)
        if node_id in {member.node_id for member in self.registry.members}:
            self.registry.drain(node_id)
            await self.registry.remove(node_id)
        await asyncio.to_thread(self._service.records.node_removed, node_id, by=by)

    async def start(self) -> None:
        """Begin to ask the nodes how they are."""
        await self._look()
        self._task = asyncio.create_task(self._run(), name="nodes")

    async def aclose(self) -> None:
        """Settle what runs, and let go of the nodes."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        close = getattr(self.answers, "aclose", None)
        if close is not None:
            await close()
        await self.registry.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        """Ask every node once, and those that were named and never answered."""
        await asyncio.gather(self.registry.probe(), self._complete())
        try:
            await asyncio.to_thread(self._channels.look)
        except PrivacyError as error:  # the journal is away for a while; it is written next time
            _log.warning("what changed at the channels is not written down yet: %s", error.code)

    async def _complete(self) -> None:
        """Ask the nodes that were named and never answered so, if that is some seconds ago.

        What the configuration says of a node now counts, not what was kept of it before.
        """
        known = {member.node_id: member.spec for member in self.registry.members}
        missing = [spec for name, spec in self._wanted.items() if known.get(name) != spec]
        now_s = self._service.clock.monotonic_s()
        if missing and now_s - self._asked_s >= _EVERY_S:
            self._asked_s = now_s
            await asyncio.gather(*(self._welcome(spec) for spec in missing))

    async def _welcome(self, spec: NodeSpec) -> None:
        try:
            if spec.node_id in {member.node_id for member in self.registry.members}:
                await self.registry.remove(spec.node_id)
            await self.registry.register(spec)
        except FederatedError as error:
            _log.warning("node %s is not in yet: %s", spec.node_id, error)


class _NoVocabulary:
    """Answers of a router that has not been told the nodes' tokenizer."""

    async def answer(self, query: Query) -> Answer:
        """Refuse."""
        raise self._refusal()

    async def stream(self, query: Query) -> AsyncIterator[Piece | Answer]:
        """Refuse."""
        yield await self.answer(query)

    def _refusal(self) -> NodeUnavailable:
        return NodeUnavailable(
            "", "federation.tokenizer is not set: name the tokenizer.json of the nodes' model", 60.0
        )


def _answers(service: Service, registry: NodeRegistry, vocabulary: Vocabulary | None) -> Any:
    config = service.config
    if vocabulary is None and config.federation.tokenizer is not None:
        vocabulary = open_vocabulary(config.federation.tokenizer)
    if vocabulary is None:
        _log.warning("federation.tokenizer is not set: questions are refused")
        return _NoVocabulary()
    key, _ = opened_key(service.home / "router-key.pem", service.entropy, now=service.clock.now())
    cache = None
    if config.performance.cache_size:
        cache = ReleasedAnswers(MemoryHome(config.performance.cache_size, clock=service.clock))
    return RecordAnswers(
        registry,
        allowances=AsyncAllowances(service.standings.allowances),
        vocabulary=vocabulary,
        key=key,
        policy=AnswerPolicy(
            delta=config.privacy.delta,
            clip=config.privacy.clip,
            adjacency="null" if config.privacy.adjacency == "null" else "replace",
            step_timeout_s=config.federation.step_timeout_s,
            cohort_slots={n: c.slots for n, c in config.cohorts.items() if c.slots},
            concurrent=config.performance.max_concurrent_requests,
        ),
        cache=cache,
        clock=service.clock,
        entropy=service.entropy,
    )
