"""Families of refresh tokens against a model: what an owner and a thief can do in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, rule

from privacy_runtime.identity import (
    Identity,
    IdentityPolicy,
    RefreshRaced,
    RefreshReused,
    SessionOver,
    SessionPolicy,
    TokenPolicy,
    TokenRefused,
    Tokens,
    bootstrap_admin,
)
from privacy_runtime.identity.passwords import Argon2Cost
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.testing import ManualClock, MemoryJournal, SeededEntropy
from privacy_runtime.world import SystemEntropy

POLICY = SessionPolicy(idle_s=1800, absolute_s=7200, grace_s=10)
PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test


class Modelled:
    """What a family must be like, in a few lines that know nothing of the store."""

    def __init__(self, now: float) -> None:
        self.founded = self.used = now
        self.over = False
        self.order: list[str] = []
        self.spent: dict[str, float] = {}

    def expected(self, token: str, now: float) -> type[Exception] | None:
        if self.over:
            return SessionOver
        if token in self.spent:
            successor = self.order[self.order.index(token) + 1]
            in_time = now - self.spent[token] < POLICY.grace_s
            if in_time and successor not in self.spent:
                return RefreshRaced
            self.over = True
            return RefreshReused
        if now - self.founded >= POLICY.absolute_s or now - self.used >= POLICY.idle_s:
            self.over = True
            return SessionOver
        return None


class Families(RuleBasedStateMachine):
    """Logins, refreshes with any token ever seen, waits, and logging out."""

    tokens = Bundle("tokens")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock()
        self.identity = Identity.open(
            Path(self.folder.name) / "identity.db",
            MemoryJournal(self.clock),
            policy=IdentityPolicy(
                tokens=TokenPolicy(issuer="i", audience="a"),
                sessions=POLICY,
                argon2=Argon2Cost(memory_kib=8, passes=1),
            ),
            token_keys=Path(self.folder.name) / "keys",
            sealing_keys=RedactionKeys.generate(SeededEntropy(1)),
            clock=self.clock,
            entropy=SystemEntropy(),
        )
        bootstrap_admin(self.identity.accounts, password=PASSWORD, development=True)
        self.families: dict[str, Modelled] = {}

    @rule(target=tokens)
    def log_in(self) -> Tokens:
        tokens = self.identity.logins.log_in("admin", PASSWORD, source="198.51.100.7")
        model = Modelled(self.clock.monotonic_s())
        model.order.append(tokens.refresh_token.reveal())
        self.families[tokens.principal.session] = model
        return tokens

    @rule(target=tokens, tokens=tokens)
    def refresh(self, tokens: Tokens) -> Tokens:
        text, now = tokens.refresh_token.reveal(), self.clock.monotonic_s()
        model = self.families[tokens.principal.session]
        expected = model.expected(text, now)
        if expected is not None:
            with pytest.raises(expected) as refused:
                self.identity.sessions.refresh(text)
            assert type(refused.value) is expected
            return tokens
        renewed = self.identity.sessions.refresh(text)
        model.spent[text], model.used = now, now
        model.order.append(renewed.refresh_token.reveal())
        return renewed

    @rule(tokens=tokens)
    def bear(self, tokens: Tokens) -> None:
        """An access token counts only while its family lives."""
        if self.families[tokens.principal.session].over:
            with pytest.raises(TokenRefused):
                self.identity.sessions.authenticate(tokens.access_token.reveal())

    @rule(tokens=tokens)
    def log_out(self, tokens: Tokens) -> None:
        self.identity.sessions.log_out(tokens.principal)
        self.families[tokens.principal.session].over = True

    @rule(seconds=st.sampled_from([1, 9, 10, 899, 1799, 1800]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    def teardown(self) -> None:
        if hasattr(self, "identity"):
            self.identity.close()
            self.folder.cleanup()


TestFamilies: Any = Families.TestCase
TestFamilies.settings = settings(max_examples=8, stateful_step_count=16, deadline=None)
