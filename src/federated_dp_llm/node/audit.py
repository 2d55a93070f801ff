"""The node's own audit: sessions opened and ended, hash-chained; no prompt, no patient, no count.

It is also what makes a request open one session ever: the journal refuses a key that it has, and
an entry is on disk before anything is held or computed.
"""

from __future__ import annotations

from contextvars import ContextVar
from datetime import datetime
from typing import Final

from privacy_runtime.journal import Change, Draft, Heads, Journal, KeyTaken
from privacy_runtime.journal.contract import View
from privacy_runtime.world import SystemEntropy

OPENED: Final = "session.opened"
ENDED: Final = "session.ended"
CERTIFICATE: Final = "certificate"
spoken_group: ContextVar[str | None] = ContextVar("spoken_group", default=None)
"""The key exchange of the connection that is being answered; None: in this process, or plain."""


def stream_of(node_id: str) -> str:
    """The stream of a node."""
    return f"node/{node_id}"


class Audit:
    """A stream of a journal, of one node.

    Args:
        journal: where it lies; several nodes may share one.
        node_id: names the stream.
        heads: signs where it ends, now and then and at the end; None: nobody does.
    """

    def __init__(self, journal: Journal, *, node_id: str, heads: Heads | None = None) -> None:
        self.journal, self._heads = journal, heads
        self.stream = stream_of(node_id)

    def opened(self, request_id: str, *, key_id: str, price: int, cohort: str) -> bool:
        """Note a session; False if there is one of this request already, and nothing was noted.

        Args:
            request_id: of the answer.
            key_id: who signed its terms.
            price: the most that it may cost a patient, in nano-rho.
            cohort: whose records.
        """
        body = {
            "key_id": key_id,
            "price_nano_rho": price,
            "cohort": cohort,
            "tls_group": spoken_group.get(),
        }
        try:
            self._append(Draft(OPENED, f"opened/{request_id}", body))
        except KeyTaken:
            return False
        return True

    def ended(self, request_id: str, *, charged: int, how: str) -> None:
        """Note how a session ended (`settled` or `expired`) and what it cost; once."""
        draft = Draft(ENDED, f"ended/{request_id}", {"charged_nano_rho": charged, "how": how})

        def decide(view: View) -> Change:
            return Change() if draft.key in view.entries else Change([draft])

        self.journal.transact(self.stream, decide, keys=(draft.key,))

    def certificate(self, said: str, not_after: datetime | None) -> None:
        """Note that a certificate was renewed, or why it was not."""
        ends = None if not_after is None else not_after.isoformat()
        key = f"certificate/{SystemEntropy().token_bytes(16).hex()}"
        self._append(Draft(CERTIFICATE, key, {"said": said, "not_after": ends}))

    def keep(self) -> None:
        """Sign the stream's head, if that is due."""
        if self._heads is not None:
            self._heads.keep()

    def close(self) -> None:
        """Sign the last head, and let go of the journal."""
        if self._heads is not None:
            self._heads.close()
        self.journal.close()

    def _append(self, draft: Draft) -> None:
        self.journal.transact(self.stream, lambda _: Change([draft]))
