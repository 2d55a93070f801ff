"""What router and nodes say to each other, as MessagePack over HTTP.

==============================  ==================  ========================================
request                         message             answer
==============================  ==================  ========================================
GET  /fed/v1/card                                   `NodeCard`
POST /fed/v1/public             `PublicAsk`         `PublicDraft`: no record is looked at
POST /fed/v1/session            `OpenSession`       `SessionOpened`
POST /fed/v1/step               `Step`              `StepSums`
POST /fed/v1/vote               `VoteAsk`           `VoteCounts`
POST /fed/v1/commit             `Commit`            `Committed`
==============================  ==================  ========================================

A node answers an error with `Refusal` and a status of 4xx or 5xx. Unknown fields, missing fields
and wrong types are refused. No message names a record or a patient, in either direction.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

PROTOCOL: Final = 1
DRAFT_MAX: Final = 8
"""The most tokens that are proposed in one round trip."""


class Message(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all messages."""


class NodeCard(Message, frozen=True):
    """What a node says of itself, to anybody.

    Attributes:
        slots: how many records it offers to one answer, at most: a constant of its configuration.
        weights: SHA-256 of the model's weights: logits of different weights cannot be added.
        tokenizer: SHA-256 of the tokenizer.
        modes: of "logits" (private text), "votes" (labels and consensus), "public", "masked" (its
            sums are right only added over the whole group).
        cohorts: the consent cohorts that it answers for.
    """

    protocol: int
    node_id: str
    slots: int
    weights: str
    tokenizer: str
    vocabulary: int
    context_length: int
    modes: tuple[str, ...]
    cohorts: tuple[str, ...]
    specializations: tuple[str, ...] = ()
    end_tokens: tuple[int, ...] = ()


class Terms(Message, frozen=True):
    """What the router promises for one answer, signed by it. The node prices its records by it.

    Attributes:
        request_id: fresh for each answer; a node opens one session for it, ever.
        node_id: whom it is for, so that it cannot be replayed elsewhere.
        slots: of all nodes together.
        slots_here: of this node, empty ones included.
        max_tokens: 0 where nothing but votes is asked for.
        vote_rho: price of the votes that may be asked for besides; 0: none.
        prompt_digest: SHA-256 of the prompt's UTF-8, hexadecimal.
        issued_at: seconds of the epoch, by the router's clock.
        expires_at: the session ends then, and everything that it held counts as spent.
    """

    protocol: int
    request_id: str
    node_id: str
    cohort: str
    slots: int
    slots_here: int
    clip: float
    temperature: float
    max_tokens: int
    candidates: int
    adjacency: str
    vote_rho: float
    weights: str
    tokenizer: str
    prompt_digest: str
    issued_at: float
    expires_at: float


class OpenSession(Message, frozen=True):
    """Open a session. `signature`: Ed25519 over the MessagePack of the terms, as `terms` holds it.

    `terms` is encoded, so that what is verified is what was signed.
    """

    terms: bytes
    signature: bytes
    key_id: str
    prompt: str


class SessionOpened(Message, frozen=True):
    """The session stands; the node's records are charged. Says nothing about how many there are."""

    handle: str


class PublicAsk(Message, frozen=True):
    """Continue a prompt without any record. `released`: the tokens after the prompt so far."""

    prompt: str
    released: tuple[int, ...]
    draft: int
    candidates: int
    reach_logits: float
    """2 C / s: no single record brings a token that is further below the k-th logit into the k."""


class PublicDraft(Message, frozen=True):
    """Greedy public continuation, with the public logits at each of its positions and after it.

    Attributes:
        draft: L tokens, 0 <= L <= `DRAFT_MAX`.
        candidates: L + 1 lists of token ids, sorted by falling logit.
        logits: L + 1 byte strings of little-endian float32, one number a candidate.
    """

    draft: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    logits: tuple[bytes, ...]
    text: str = ""
    """The draft as text, for answers that are public."""


class Step(Message, frozen=True):
    """Score a draft. `released`: all tokens released so far; the node checks that they continue.

    May be repeated unchanged; else at least one token was released since.

    `candidates` and `logits` as in `PublicDraft`: the node clips differences to *these* logits,
    whether or not it would have computed the same.
    """

    handle: str
    released: tuple[int, ...]
    draft: tuple[int, ...]
    candidates: tuple[tuple[int, ...], ...]
    logits: tuple[bytes, ...]


class StepSums(Message, frozen=True):
    """Sums over the node's slots: L + 1 byte strings of little-endian int32, one a candidate.

    In steps of clip / GRID (`privacy_core.decoding.terms`). At most slots_here * GRID in size,
    unless masked.
    """

    sums: tuple[bytes, ...]


class VoteAsk(Message, frozen=True):
    """Let each record vote for one of the options: labels, or yes and no to an answer. Once."""

    handle: str
    question: str
    options: tuple[str, ...]


class VoteCounts(Message, frozen=True):
    """How many records chose each option; each record chose at most one. Private: noise follows."""

    counts: tuple[int, ...]


class Commit(Message, frozen=True):
    """The answer is over: so many tokens were released, and votes or none.

    The node charges what was released, never less than it has seen released in `Step`.
    """

    handle: str
    tokens: int
    voted: bool


class Committed(Message, frozen=True):
    """The node's ledgers are settled."""


class Refusal(Message, frozen=True):
    """Why a node did not do it; never anything about a record.

    `room`: of `prompt_too_long`, how many tokens may follow the prompt beside the longest record
    that there may be: a function of the prompt and of the node's configuration.
    """

    code: str
    detail: str
    room: int | None = None
