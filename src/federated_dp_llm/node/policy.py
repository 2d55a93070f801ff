"""What a node agrees to: its own limits, whatever a router signs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from federated_dp_llm.federation.amounts import rho_of
from federated_dp_llm.federation.messages import PROTOCOL, Terms
from federated_dp_llm.node.records import EVERYONE
from federated_dp_llm.node.refusals import Refused
from federated_dp_llm.node.retrieval import Selection
from privacy_core.decoding.terms import DecodingTerms
from privacy_core.errors import InvalidParameter

REQUEST_ID_MAX: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePolicy:
    """A node's limits. All of them are public.

    Args:
        node_id: its name in the federation.
        slots: records that it offers to one answer; empty ones are computed and counted alike.
        cohorts: the consent cohorts that it answers for.
        specializations: what it says it is good at.
        selection: `matching` looks at records and is priced as `replace`; `listed` does not look at
            them, and allows `null`.
        clip_max: the largest clip, in nats. It does not bound the price (`rho_max` does), it bounds
            what the router can learn from the sums.
        rho_max: the most that one answer may cost a patient, votes included.
        skew_s: how far the router's clock may be from this one.
        session_s_max: how long a session may stand.
        sessions_max: how many may stand at once.
        prompt_max: characters of a prompt or question.

    Raises:
        InvalidParameter: a number is outside its domain.
    """

    node_id: str
    slots: int = 32
    cohorts: tuple[str, ...] = (EVERYONE,)
    specializations: tuple[str, ...] = ()
    selection: Selection = "matching"
    clip_max: float = 64.0
    rho_max: float = 1.0
    skew_s: float = 30.0
    session_s_max: float = 600.0
    sessions_max: int = 64
    prompt_max: int = 100_000

    def __post_init__(self) -> None:
        for name in ("slots", "sessions_max", "prompt_max"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidParameter(name, found=value, expected="a whole number, at least 1")
        for name in ("clip_max", "rho_max", "skew_s", "session_s_max"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidParameter(
                    name, found=getattr(self, name), expected="a finite number > 0"
                )
        if not self.node_id.isprintable() or not 1 <= len(self.node_id) <= 100:
            raise InvalidParameter("node_id", found=self.node_id, expected="1 to 100 characters")
        if self.selection not in ("matching", "listed"):
            raise InvalidParameter(
                "selection", found=self.selection, expected="'matching' or 'listed'"
            )

    def require_fresh(self, terms: Terms, now: datetime) -> float:
        """How long a session under these terms may stand from now, in seconds.

        Raises:
            Refused: stale: they were issued at another time, are over, or run too long.
        """
        at = now.timestamp()
        if not abs(terms.issued_at - at) <= self.skew_s:  # also refuses what is no number
            raise Refused("stale", f"issued more than {self.skew_s:g} s from this node's clock")
        if not terms.issued_at < terms.expires_at <= terms.issued_at + self.session_s_max:
            raise Refused("stale", f"a session stands {self.session_s_max:g} s at most")
        if terms.expires_at <= at:
            raise Refused("stale", "expired")
        return terms.expires_at - at

    def require_allowed(self, terms: Terms) -> None:
        """Check the terms themselves; who signed them, when, and for which model is known already.

        `max_tokens` 0 is fine where votes are paid: then no token is drawn.

        Raises:
            Refused: terms: outside this node's limits, or terms of nothing. mismatch: for others.
        """
        if terms.protocol != PROTOCOL:
            raise Refused("mismatch", f"protocol {terms.protocol}, expected {PROTOCOL}")
        if terms.node_id != self.node_id:
            raise Refused("mismatch", "the terms are for another node")
        _require_meaning(terms)
        if not 1 <= terms.slots_here <= min(self.slots, terms.slots):
            raise Refused("terms", f"slots_here is {terms.slots_here}, expected 1 to {self.slots}")
        if terms.cohort not in self.cohorts:
            raise Refused("terms", "this node does not answer for that cohort")
        if terms.clip > self.clip_max:
            raise Refused("terms", f"clip is {terms.clip:g}, at most {self.clip_max:g} here")
        if terms.adjacency == "null" and self.selection != "listed":
            raise Refused("terms", "adjacency 'null' needs slots that no content fills")
        if rho_of(terms, tokens=terms.max_tokens, voted=True) > self.rho_max:
            raise Refused("terms", f"one answer may cost a patient rho {self.rho_max:g} here")


def _require_meaning(terms: Terms) -> None:
    """Check that terms are terms of something."""
    name = terms.request_id
    if not (name.isascii() and name.isprintable() and 1 <= len(name) <= REQUEST_ID_MAX):
        raise Refused("terms", f"request_id is not 1 to {REQUEST_ID_MAX} ASCII characters")
    if not 0 <= terms.vote_rho < math.inf or (terms.max_tokens == 0 and terms.vote_rho == 0):
        raise Refused("terms", "neither tokens nor votes are paid, or vote_rho is no finite price")
    try:
        DecodingTerms(
            slots=terms.slots,
            clip=terms.clip,
            temperature=terms.temperature,
            max_tokens=terms.max_tokens or 1,
            candidates=terms.candidates,
            adjacency=terms.adjacency,  # type: ignore[arg-type]  # checked there
        )
    except InvalidParameter as error:
        raise Refused("terms", str(error)) from None
