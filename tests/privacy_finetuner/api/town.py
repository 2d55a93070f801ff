"""One deployment for a whole module of tests; each test has two organisations of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.testclient import TestClient
from tests.privacy_finetuner.api.conftest import UNLIMITED, House, Member, opened

from privacy_finetuner.api.app import create_app
from privacy_finetuner.governance.accounts import is_of
from privacy_runtime.budget_store import ScopeState
from privacy_runtime.http import RateLimits
from privacy_runtime.identity import Role
from privacy_runtime.testing import ManualClock


@dataclass
class Town(House):
    """A deployment whose `north` and `south` are other organisations for every test."""

    here: int = 0

    def move_on(self) -> None:
        """The next test: nobody is here yet."""
        self.here += 1

    def member(self, role: Role, *, at: str = "north") -> Member:
        return super().member(role, at=self._place(at))

    def tenant(self, at: str) -> str:
        return super().tenant(self._place(at))

    def accounts(self, at: str = "north") -> list[ScopeState]:
        """The ledger's accounts of an organisation."""
        found = self.service.ledger.accounts()
        return [state for state in found if is_of(state.scope, self.tenant(at))]

    def _place(self, at: str) -> str:
        return at if "-" in at else f"{at}-{self.here}"


@contextmanager
def town_in(home: Path, **deployment: object) -> Iterator[tuple[Town, TestClient]]:
    """A deployment in a folder, and a client of it; the application runs."""
    clock = ManualClock()
    service = opened(home, clock, **deployment)
    app = create_app(service, limits=RateLimits(clock, rates=UNLIMITED))
    with TestClient(app, base_url="http://testserver", raise_server_exceptions=True) as client:
        yield Town(service, app, clock), client
    service.close()
