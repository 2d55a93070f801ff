"""What the private steps of a run are charged to, while they run.

A run is always charged to its own record (`run_record`). With a named ledger it is charged to an
account there as well, and the ledger comes first: what it refuses does not happen.

| when                                  | in the ledger                                            |
|---------------------------------------|----------------------------------------------------------|
| before the first gradient             | `begin`: the whole plan is reserved                      |
| before each group of steps            | `watermark`: so much is spent even if the process dies   |
| the run ends in order                 | `commit`: what ran; the rest comes back at the orders    |
| it fails before its first step        | `abandon`: the reservation is refunded                   |
| it is stopped, fails later, is killed | nothing: the reservation stays, for `resume`, until its  |
|                                       | time runs out; then all of it is committed               |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol


class Meter(Protocol):
    """What one run is charged to, beside its own record."""

    @property
    def binding(self) -> Mapping[str, Any] | None:
        """What ties the run to its account, for the run record; a resumed run must have the same.

        `None`: the run record is the account.
        """

    @property
    def receipt(self) -> Mapping[str, Any] | None:
        """What the ledger says of the run, once it is committed."""

    @property
    def notes(self) -> list[str]:
        """What the user should know of it."""

    def begin(self, *, charged_steps: int, is_finished: bool) -> None:
        """Reserve the plan, or find the reservation of the run that is resumed."""

    def watermark(self, until: int) -> None:
        """Charge the steps up to `until`, before they run."""

    def commit(self, steps: int) -> None:
        """End the reservation by the `steps` that count as taken."""

    def abandon(self) -> None:
        """Give the reservation back if no step began; raises nothing, an error is on its way."""

    def close(self) -> None:
        """Let go of the ledger. Idempotent."""


class RecordOnly:
    """No ledger was named: the run record is the account."""

    binding: Final = None
    receipt: Final = None

    @property
    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def begin(self, *, charged_steps: int, is_finished: bool) -> None:
        """Nothing to reserve elsewhere."""

    def watermark(self, until: int) -> None:
        """The record's own reservation follows."""

    def commit(self, steps: int) -> None:
        """The record is settled already."""

    def abandon(self) -> None:
        """Nothing was reserved elsewhere."""

    def close(self) -> None:
        """Nothing is open."""
