"""What a node refuses, as codes that say nothing about a record.

===================  ======  =================================================================
code                 status  the router
===================  ======  =================================================================
malformed            400     sent something that is no such message, or has no such shape
unsigned             401     signed with a key that is not trusted here, or wrongly
stale                401     sent terms of another time
replayed             409     sent a request id that opened a session before
terms                422     asks for terms that the node's policy does not allow
mismatch             409     means another node, other weights or another tokenizer
prompt_too_long      413     sent a prompt that leaves no room in the model's context
unknown_session      404     names a session that is over, expired, or never was
discontinuous        409     sent tokens that do not continue what was scored
over_limit           409     asks for more tokens or votes than the session holds
busy                 503     may come back: as many sessions are open as there may be
unavailable          503     may come back: the ledger cannot be written
===================  ======  =================================================================
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from federated_dp_llm.errors import NodeRefused, NodeUnavailable

STATUS: Final = MappingProxyType(
    {
        "malformed": 400,
        "unsigned": 401,
        "stale": 401,
        "replayed": 409,
        "terms": 422,
        "mismatch": 409,
        "prompt_too_long": 413,
        "unknown_session": 404,
        "discontinuous": 409,
        "over_limit": 409,
        "busy": 503,
        "unavailable": 503,
    }
)


class Refused(Exception):
    """A node does not do it. `code` is one of `STATUS`; `detail` holds numbers, never data.

    `room`: of prompt_too_long, where it is known: see `messages.Refusal`.
    """

    def __init__(self, code: str, detail: str, *, room: int | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.room = room

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"

    def as_error(self, node_id: str) -> NodeRefused | NodeUnavailable:
        """The same, as the router's errors say it: the code alone, as over a socket."""
        if STATUS[self.code] == 503:
            return NodeUnavailable(node_id, self.code)
        return NodeRefused(node_id, self.code, room=self.room)
