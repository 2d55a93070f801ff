"""What a node is to the router, wherever it runs: behind a socket, or in the same process."""

from __future__ import annotations

from typing import Protocol

from federated_dp_llm.federation.messages import (
    Commit,
    Committed,
    NodeCard,
    OpenSession,
    PublicAsk,
    PublicDraft,
    SessionOpened,
    Step,
    StepSums,
    VoteAsk,
    VoteCounts,
)


class Node(Protocol):
    """One institution's records and model.

    Raises of every method:
        NodeRefused: the node refused, or what it sent breaks the protocol; `reason` begins with a
            code of `federated_dp_llm.node.refusals` or with `protocol`.
        NodeUnavailable: it cannot be reached, is busy, or did not answer in time. Whether it did
            what was asked is not known; `step`, `vote` and `commit` may be repeated as they were.
    """

    @property
    def node_id(self) -> str:
        """Its name in the federation."""
        ...

    async def card(self) -> NodeCard:
        """What it says of itself."""
        ...

    async def public(self, ask: PublicAsk) -> PublicDraft:
        """Continue a prompt; no record is looked at."""
        ...

    async def open(self, ask: OpenSession) -> SessionOpened:
        """Open a session; its price is held, on disk, when this returns. Not to be repeated."""
        ...

    async def step(self, ask: Step) -> StepSums:
        """Score a draft with the records."""
        ...

    async def vote(self, ask: VoteAsk) -> VoteCounts:
        """Count what the records say; once a session."""
        ...

    async def commit(self, ask: Commit) -> Committed:
        """End a session, and settle it."""
        ...

    async def aclose(self) -> None:
        """Let go of connections, or of the model."""
        ...
