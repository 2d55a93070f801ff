"""The parts of identity, put together once: what the HTTP layer holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from privacy_runtime.database import Database
from privacy_runtime.identity.access_tokens import AccessTokens, TokenPolicy
from privacy_runtime.identity.accounts import Accounts
from privacy_runtime.identity.api_keys import ApiKeys
from privacy_runtime.identity.gate import Gate
from privacy_runtime.identity.leaked import LeakedPasswords
from privacy_runtime.identity.lockout import ACCOUNTS, SOURCES, LockoutPolicy
from privacy_runtime.identity.logins import Logins
from privacy_runtime.identity.passwords import OWASP, Argon2Cost, Passwords
from privacy_runtime.identity.refresh_families import SessionPolicy
from privacy_runtime.identity.schema import IDENTITY
from privacy_runtime.identity.scopes import Role
from privacy_runtime.identity.sealing import DerivedKeys, Seal
from privacy_runtime.identity.second_factors import SecondFactors
from privacy_runtime.identity.sessions import NEEDS_CODE, Sessions
from privacy_runtime.identity.store import Store
from privacy_runtime.identity.token_keys import TokenKeys
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPolicy:
    """Every number of identity, each with a default that may stay.

    Args:
        tokens: issuer, audience and lifetime of access tokens.
        sessions: idle and absolute limits.
        accounts, sources: patience with failures.
        argon2: what a guess costs; below OWASP's least only in tests.
        needs_code: roles that must have a second factor.
        leaked: a file of passwords that nobody may choose.
    """

    tokens: TokenPolicy
    sessions: SessionPolicy = field(default_factory=SessionPolicy)
    accounts: LockoutPolicy = ACCOUNTS
    sources: LockoutPolicy = SOURCES
    argon2: Argon2Cost = OWASP
    needs_code: frozenset[Role] = NEEDS_CODE
    leaked: Path | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """The acts of identity, by noun. Make one with `open`; one for a process."""

    accounts: Accounts
    logins: Logins
    sessions: Sessions
    factors: SecondFactors
    api_keys: ApiKeys
    tokens: AccessTokens
    store: Store
    gate: Gate

    @classmethod
    def open(
        cls,
        database: Path | str,
        journal: Journal,
        *,
        policy: IdentityPolicy,
        token_keys: Path | str,
        sealing_keys: DerivedKeys,
        clock: Clock,
        entropy: Entropy,
    ) -> Self:
        """Open the database and put the parts together.

        Args:
            database: a SQLite file or a PostgreSQL URL.
            journal: takes security events, in its stream `audit`.
            policy: the numbers.
            token_keys: folder of the keys that sign access tokens; a first one is made.
            sealing_keys: for second factors' seeds: redaction keys from a key file will do.
            clock: tells the time.
            entropy: where chance comes from.

        Raises:
            IdentityStoreUnavailable: the database cannot be opened.
            InvalidParameter: a key file is not one, or is readable by others; the leaked passwords
                cannot be read.
        """
        leaked = None if policy.leaked is None else LeakedPasswords(policy.leaked)
        store = Store(Database(database, IDENTITY), journal, clock=clock, entropy=entropy)
        seal = Seal(sealing_keys, entropy)
        keys = TokenKeys.open(token_keys, entropy, now=clock.now())
        tokens = AccessTokens(keys, policy.tokens, clock=clock, entropy=entropy)
        sessions = Sessions(store, tokens, policy=policy.sessions, needs_code=policy.needs_code)
        factors = SecondFactors(store, seal, issuer=policy.tokens.issuer)
        passwords = Passwords(entropy, policy.argon2, leaked=leaked)
        gate = Gate(seal, accounts=policy.accounts, sources=policy.sources)
        logins = Logins(store, gate=gate, passwords=passwords, factors=factors, sessions=sessions)
        accounts = Accounts(store, passwords)
        return cls(accounts, logins, sessions, factors, ApiKeys(store), tokens, store, gate)

    def purge(self) -> None:
        """Delete what has no meaning any more: old sessions, revocations, counts. Call it daily."""
        self.sessions.purge()
        self.store.change(self.gate.forget)

    def close(self) -> None:
        """Let go of the database. The journal is its owner's to close."""
        self.store.database.close()
