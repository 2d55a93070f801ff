"""The node's own audit: sessions opened and ended, hash-chained; no prompt, no patient, no count.

It is also what makes a request open one session ever: the journal refuses a key that it has, and
an entry is on disk before anything is held or computed.
"""

from __future__ import annotations

from privacy_runtime.journal import Change, Draft, Journal, KeyTaken
from privacy_runtime.journal.contract import View

OPENED = "session.opened"
ENDED = "session.ended"


class Audit:
    """A stream of a journal, of one node.

    Args:
        journal: where it lies; several nodes may share one.
        node_id: names the stream.
    """

    def __init__(self, journal: Journal, *, node_id: str) -> None:
        self.journal = journal
        self.stream = f"node/{node_id}"

    def opened(self, request_id: str, *, key_id: str, price: int, cohort: str) -> bool:
        """Note a session; False if there is one of this request already, and nothing was noted.

        Args:
            request_id: of the answer.
            key_id: who signed its terms.
            price: the most that it may cost a patient, in nano-rho.
            cohort: whose records.
        """
        body = {"key_id": key_id, "price_nano_rho": price, "cohort": cohort}
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

    def close(self) -> None:
        """Let go of the journal."""
        self.journal.close()

    def _append(self, draft: Draft) -> None:
        self.journal.transact(self.stream, lambda _: Change([draft]))
