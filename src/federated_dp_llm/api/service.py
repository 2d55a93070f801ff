"""The router as one value: what the application answers from, opened once and passed on.

====================  ==================================================================
below the home        holds
====================  ==================================================================
`identity.db`         users, sessions, keys; with PostgreSQL: there
`journal.db`          the streams `audit`, `router`, `privacy`, `security`; likewise
`allowances.db`       accounts of users and departments; likewise
`notices.db`          alerts on their way to people, where somebody is named; likewise
`prompts.db`          values that left as tokens, sealed, for a day
`token-keys/`         keys that sign access tokens
`sealing-keys.json`   master of everything that is sealed
`router-key.pem`      signs the terms of answers, for the nodes
`audit-key.pem`       signs where the journal's streams end: Ed25519 and ML-DSA-65
`audit-heads.jsonl`   what it signed; copies belong out of the database's owner's reach
====================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from federated_dp_llm.api.quotas import Standings
from federated_dp_llm.api.records import PRIVACY, Records
from federated_dp_llm.api.rewriting import PromptRewriter
from federated_dp_llm.api.shield import PromptShield
from federated_dp_llm.api.told import ToldAnswers
from federated_dp_llm.config import RouterConfig
from federated_dp_llm.core.query import Answers
from federated_dp_llm.monitoring.figures import Figures
from federated_dp_llm.monitoring.front_door import FrontDoor
from federated_dp_llm.monitoring.notices import open_alerts
from federated_dp_llm.security import AuditLogger, SecurityMonitor
from privacy_runtime.allowances import Store, open_allowances
from privacy_runtime.budget_store.homes import home_at
from privacy_runtime.identity import Identity, IdentityPolicy, Role, SessionPolicy, TokenPolicy
from privacy_runtime.identity.sealing import Seal
from privacy_runtime.identity.user_rows import select_user
from privacy_runtime.journal import Heads, Journal, opened_heads
from privacy_runtime.notify import Posting
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.world import Clock, Entropy, SystemClock, SystemEntropy

ISSUER: Final = "federated-dp-llm"
STREAMS: Final = ("audit", "router", "privacy", "security")
_LIVE: Final = ("privacy", "performance", "security")
_TOKEN_S: Final = 3600


@dataclass(kw_only=True)
class Service:
    """What the API stands on.

    Attributes:
        config: as it is now; administrators change it while the service runs.
        identity: who asks, and what they may.
        journal: the audit trail.
        heads: signs where its streams end.
        records: members, nodes, settings, use.
        told: answers of idempotency keys.
        standings: accounts of use.
        answers: answers queries; set before the first request.
        fleet: the registered nodes, where this process asks them.
        shield: redacts prompts.
        rewriter: rewrites what is left of them; None: they leave as they are.
        figures: of this process.
        monitor: watches logins and spending.
        front_door: how clients reach this router, where it speaks TLS itself.
        clock, entropy: the world.
    """

    config: RouterConfig
    identity: Identity
    journal: Journal
    heads: Heads
    records: Records
    told: ToldAnswers
    standings: Standings
    fleet: Any
    shield: PromptShield
    rewriter: PromptRewriter | None
    figures: Figures
    audit: AuditLogger
    monitor: SecurityMonitor
    front_door: FrontDoor
    clock: Clock
    entropy: Entropy
    home: Path
    answers: Answers = field(init=False)
    _names: dict[str, str] = field(default_factory=dict, repr=False)
    _closing: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def open(
        cls,
        config: RouterConfig,
        *,
        answers: Callable[[Self], Answers] | None = None,
        vocabulary: Any = None,
        allowances: Store | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        identity_policy: IdentityPolicy | None = None,
        posting: Posting | None = None,
    ) -> Self:
        """Open everything below the home, and make what is missing.

        Guarantee: what was opened is closed again if something after it cannot be opened; a second
        start goes on where the first one ended, with the settings that administrators left.

        Args:
            config: of the deployment.
            answers: makes what answers queries; None: the registered nodes do.
            vocabulary: of the nodes' model; None: of `federation.tokenizer`.
            allowances: None: a SQLite file in the home, or the configured database.
            clock: None: the machine's.
            entropy: None: the system's.
            identity_policy: None: that of the configuration.
            posting: how notices are posted; None: to public addresses, with TLS.

        Raises:
            InvalidParameter: the delta is not that of the home's accounts.
            SettingsRefused: kept settings do not fit this configuration any more.
            JournalWentBack, ChainBroken: the journal is not the one whose heads were signed.
        """
        clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
        home = Path(config.store.home).absolute()
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        url = None if config.store.database is None else config.store.database.reveal()
        if url is not None:
            url = url.replace("postgresql+psycopg://", "postgresql://", 1)
        with ExitStack() as closing:
            sealing = _sealing_keys(home / "sealing-keys.json", entropy)
            journal = Journal(home_at(url or str(home / "journal.db")), clock=clock)
            closing.callback(journal.close)
            heads = opened_heads(home, journal, STREAMS, clock=clock, entropy=entropy)
            closing.callback(heads.close)
            records = Records(journal, clock=clock, entropy=entropy)
            records.require_promise(config.privacy.delta)
            config = config.changed(records.settings())
            identity = Identity.open(
                url or str(home / "identity.db"),
                journal,
                policy=identity_policy or _identity_policy(config),
                token_keys=home / "token-keys",
                sealing_keys=sealing,
                clock=clock,
                entropy=entropy,
            )
            closing.callback(identity.close)
            if allowances is None:
                allowances = open_allowances(url or home / "allowances.db", clock=clock)
                closing.callback(allowances.close)
            level = config.security.redaction_level if config.security.redact_prompts else None
            figures = Figures(clock=clock)
            alerts = open_alerts(
                config,
                url or home / "notices.db",
                seal=Seal(sealing, entropy),
                clock=clock,
                entropy=entropy,
                posting=posting,
            )
            if alerts is not None:
                closing.callback(alerts.close)
            announce = None if alerts is None else alerts.announce
            audit = AuditLogger(records.say, clock=clock, announce=announce)
            monitor = SecurityMonitor(audit, figures, unusual_factor=config.security.unusual_factor)
            front_door = FrontDoor(
                config, figures=figures, alarm=monitor, say=records.say, clock=clock
            )
            service = cls(
                config=config,
                identity=identity,
                journal=journal,
                heads=heads,
                records=records,
                told=ToldAnswers(journal, stream=PRIVACY, seal=Seal(sealing, entropy)),
                standings=Standings(allowances, config),
                fleet=None,
                shield=PromptShield(home / "prompts.db", sealing, clock=clock, level=level),
                rewriter=_rewriter(config, entropy),
                figures=figures,
                audit=audit,
                monitor=monitor,
                front_door=front_door,
                clock=clock,
                entropy=entropy,
                home=home,
            )
            if answers is not None:
                service.answers = answers(service)
            else:
                from federated_dp_llm.api.fleet import Fleet  # noqa: PLC0415  nodes' client

                service.fleet = service.answers = fleet = Fleet.open(service, vocabulary)
                figures.cache_hit_rate = fleet.cache_hit_rate
            service._closing = closing.pop_all()
        return service

    def name_of(self, subject: str) -> str:
        """The name of a user by their id: names do not change."""
        if subject not in self._names:
            row = self.identity.store.read(
                lambda connection: connection.execute(select_user(user=subject)).one_or_none()
            )
            self._names[subject] = subject if row is None else row.name
        return self._names[subject]

    def reconfigure(self, config: RouterConfig) -> None:
        """Go on with another configuration."""
        self.config = self.standings.config = config
        self.monitor.unusual_factor = config.security.unusual_factor

    def close(self) -> None:
        """Let go of the databases. Closing twice is closing once."""
        self._closing.close()

    def __enter__(self) -> Self:
        """Return the service itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _identity_policy(config: RouterConfig) -> IdentityPolicy:
    """An access token lasts an hour at most; the login as long as the configuration says."""
    absolute_s = config.security.token_expiry_hours * 3600
    lifetime_s = int(min(_TOKEN_S, absolute_s / 2))
    policy = IdentityPolicy(
        tokens=TokenPolicy(issuer=ISSUER, audience=ISSUER, lifetime_s=lifetime_s),
        sessions=SessionPolicy(idle_s=min(absolute_s, 2.0 * lifetime_s), absolute_s=absolute_s),
    )
    return replace(policy, needs_code=frozenset(Role)) if config.security.require_mfa else policy


def _rewriter(config: RouterConfig, entropy: Entropy) -> PromptRewriter | None:
    epsilon, model = config.federation.rewrite_epsilon, config.federation.rewrite_model
    if epsilon is None or model is None:
        return None
    return PromptRewriter(Path(model), epsilon_per_token=epsilon, entropy=entropy)


def _sealing_keys(place: Path, entropy: Entropy) -> RedactionKeys:
    if place.exists():
        return RedactionKeys.load(place)
    return RedactionKeys.generate(entropy, place)
