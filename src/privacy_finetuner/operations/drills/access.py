"""Attacks on logins and on other organisations' objects, against the real identity room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from privacy_finetuner.operations.drills.sandbox import OFFICE, PASSWORD, Sandbox
from privacy_runtime.identity import LoginDelayed, LoginRefused, Role, TokenRefused, WrongTenant

_GUESSES_LEAST: Final = 4
_GUESSES_MORE: Final = 36
_GUESS_EVERY_S: Final = 4.0
_REQUESTS_LEAST: Final = 1
_REQUESTS_MORE: Final = 14
_REQUEST_EVERY_S: Final = 20.0
_SOURCE: Final = "203.0.113.9"


def brute_force(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """Guess at one user's password, 4 to 40 times, one guess in four seconds."""
    victim = sandbox.user("victim", Role.TRAINER).principal
    guesses = round(_GUESSES_LEAST + _GUESSES_MORE * intensity)
    refused = 0

    def can_log_in() -> dict[str, object]:
        sandbox.clock.advance(86_400)
        tokens = sandbox.identity.logins.log_in("victim", PASSWORD, source=OFFICE)
        return {"owner_can_log_in_a_day_later": tokens.principal.subject == victim.subject}

    sandbox.afterwards.append(can_log_in)
    for number in range(guesses):
        sandbox.clock.advance(_GUESS_EVERY_S)
        try:
            sandbox.identity.logins.log_in("victim", f"guess number {number}", source=_SOURCE)
        except LoginRefused:
            refused += 1
        except LoginDelayed:
            pass
        sandbox.strengths["account_guessing"] = refused / 5
        yield


def unauthorized_access(sandbox: Sandbox, intensity: float) -> Iterator[None]:
    """A user asks for users of another organisation by id, 1 to 15 times."""
    other = sandbox.identity.accounts.create_organisation("other")
    tokens = sandbox.user("attacker", Role.TRAINER)
    attacker = tokens.principal
    victims = [sandbox.user(f"victim-{n}", Role.VIEWER, tenant=other) for n in range(3)]
    requests = round(_REQUESTS_LEAST + _REQUESTS_MORE * intensity)

    def stopped() -> dict[str, object]:
        try:
            sandbox.identity.sessions.authenticate(tokens.access_token.reveal())
            is_revoked = False
        except TokenRefused:
            is_revoked = True
        most = sandbox.restraints.most_of(attacker.subject)
        return {"requests_a_minute_afterwards": most, "token_is_revoked": is_revoked}

    sandbox.afterwards.append(stopped)
    for number in range(requests):
        sandbox.clock.advance(_REQUEST_EVERY_S)
        victim = victims[number % len(victims)].principal
        try:
            sandbox.identity.accounts.set_role(attacker, victim.subject, Role.TRAINER)
        except WrongTenant:
            sandbox.trespasses.not_found(attacker.tenant, attacker.subject, victim.subject)
        sandbox.strengths["foreign_objects"] = (number + 1) / 3
        yield
