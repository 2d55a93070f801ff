"""Where attacks are carried out: a home of its own with real rooms in it, gone when it is left.

Journal, identity, ledger, questions, trespasses, restraints and quarantine are the service's own
classes over SQLite in a temporary folder. Two things differ, and only they: the clock stands until
it is told to move, so that an attack that takes an hour is over in a second; and a password costs
the least that argon2 can, for nobody's password is kept here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from privacy_finetuner.operations import doors
from privacy_finetuner.operations.alerts import (
    AccountFact,
    Alert,
    ChainFact,
    FailureFact,
    ThreatType,
)
from privacy_finetuner.operations.drills.private_runs import PrivateRuns
from privacy_finetuner.operations.generation import Generators
from privacy_finetuner.operations.monitoring import Monitor
from privacy_finetuner.operations.quarantine import Quarantine
from privacy_finetuner.operations.questions import COUNTED, Questions
from privacy_finetuner.operations.responses import Act, Responses
from privacy_finetuner.operations.restraints import Restraints
from privacy_finetuner.operations.run_context import account_fact
from privacy_finetuner.operations.run_rules import RunFacts, judged_run
from privacy_finetuner.operations.trail import AuditTrail
from privacy_finetuner.operations.trespasses import CROSSED, Trespasses, users_in
from privacy_finetuner.operations.watch import Watch, Write
from privacy_runtime.budget_store import LEDGER, BudgetStore, Scope
from privacy_runtime.identity import (
    Argon2Cost,
    Identity,
    IdentityPolicy,
    Method,
    Principal,
    Role,
    TokenPolicy,
    Tokens,
)
from privacy_runtime.identity import Scope as IdentityScope
from privacy_runtime.journal import Journal
from privacy_runtime.journal.sqlite import SqliteHome
from privacy_runtime.keystream import KeyStream
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.world import Clock, Entropy, SystemClock

SAMPLE: Final = Path(__file__).resolve().parents[2] / "demo" / "assets"
"""The shipped records and model: `demo.ASSETS`, whose import would load plots."""
PASSWORD: Final = "sandbox only 7 quills"  # noqa: S105  opens nothing but a folder that is deleted
OFFICE: Final = "192.0.2.1"
_CHEAP: Final = Argon2Cost(memory_kib=8, passes=1)
_ISSUER: Final = "sandbox"
_NEARLY_SPENT: Final = 0.9


class SteppedClock:
    """A clock that stands where it was made until it is moved on."""

    def __init__(self, start: datetime) -> None:
        self._start, self._passed_s = start, 0.0

    def now(self) -> datetime:
        """The instant it stands at."""
        return self._start + timedelta(seconds=self._passed_s)

    def monotonic_s(self) -> float:
        """Seconds it was moved on."""
        return self._passed_s

    def advance(self, seconds: float) -> None:
        """Move it on."""
        self._passed_s += seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Whose detection is tried.

    Attributes:
        least_confidence, threat_types, is_answering, interval_s: the detector's own.
        generators: models at hand, for a series of drills; None: this drill has its own.
        runs: private runs, likewise.
        references: what clean runs released, for a series of drills; empty: a drill that needs
            them makes them.
    """

    least_confidence: float = 0.7
    threat_types: frozenset[ThreatType] = frozenset(ThreatType)
    is_answering: bool = True
    interval_s: float = 1.0
    generators: Generators | None = None
    runs: PrivateRuns | None = None
    references: tuple[Mapping[str, float], ...] = ()


class Sandbox:
    """The rooms, and who looks. Made by `opened`.

    Attributes:
        strengths: by rule, how strong the evidence was that the drill left; for calibration.
        looks: further looks of this drill, beside the monitor's.
        afterwards: asked when the drill is over: what the responses really changed.
    """

    def __init__(
        self, root: Path, settings: Settings, entropy: Entropy, closing: ExitStack
    ) -> None:
        self.root, self.settings, self.entropy = root, settings, entropy
        self.chance = KeyStream.fresh(entropy)
        self.clock = SteppedClock(SystemClock().now())
        self.journal = Journal(SqliteHome(root / "journal.db"), clock=self.clock)
        closing.callback(self.journal.close)
        self.ledger = BudgetStore.open(root / "journal.db", clock=self.clock)
        closing.callback(self.ledger.close)
        self.identity = _identity(root, self.journal, self.clock, entropy)
        closing.callback(self.identity.close)
        self._closing = closing
        self._generators, self._runs = settings.generators, settings.runs
        self.questions = Questions(self.clock, entropy)
        self.trespasses = Trespasses(users_in(self.identity), self.clock)
        self.restraints = Restraints(self.journal, self.clock)
        self.quarantine = Quarantine(self.journal)
        self.halts = doors.Halts()
        self.watch = Watch(
            least_confidence=settings.least_confidence,
            threat_types=settings.threat_types,
            before=(self._note,),
            responses=self._responses(),
        )
        self._accounts: list[Callable[[datetime], AccountFact]] = []
        self.monitor = Monitor(
            self.journal,
            AuditTrail(self.journal),
            self,
            clock=self.clock,
            budget_threshold=_NEARLY_SPENT,
            watch=self.watch,
            entropy=entropy,
        )
        self.tenant = self.identity.accounts.create_organisation("attacked")
        self.strengths: dict[str, float] = {}
        self.looks: list[Callable[[], RunFacts]] = []
        self.afterwards: list[Callable[[], Mapping[str, Any]]] = []
        self._answered: dict[str, Alert] = {}

    @property
    def generators(self) -> Generators:
        """Models at hand, in processes of their own."""
        if self._generators is None:
            self._generators = Generators(SystemClock())
            self._closing.callback(self._generators.close)
        return self._generators

    @property
    def runs(self) -> PrivateRuns:
        """Private runs on the sample, in a process of their own."""
        if self._runs is None:
            self._runs = PrivateRuns()
            self._closing.callback(self._runs.close)
        return self._runs

    def look(self) -> list[Alert]:
        """Every alert that stands: the monitor's of the attacked organisation, and the drill's."""
        self.monitor.scan()
        kept = [each.alert for each in self.monitor.alerts(self.tenant)]
        judged = [alert for facts in self.looks for alert in judged_run(facts())]
        return [*kept, *(self._answer(each) for each in judged if self.watch.wants(each))]

    def user(self, name: str, role: Role, *, tenant: str = "") -> Tokens:
        """A user who has a password and has logged in."""
        operator = self._operator(tenant or self.tenant)
        _, once = self.identity.accounts.create_user(operator, name, role)
        logins = self.identity.logins
        logins.change_password(name, once.reveal(), PASSWORD, source=OFFICE)
        return logins.log_in(name, PASSWORD, source=OFFICE)

    def watch_account(self, scope: Scope) -> None:
        """Let the monitor see an account of the ledger."""
        self._accounts.append(account_fact(self.ledger, scope))

    def accounts(self, tenant: str, now: datetime) -> Sequence[AccountFact]:
        """The watched accounts, for the monitor."""
        return [fact(now) for fact in self._accounts] if tenant == self.tenant else []

    def failures(self, tenant: str, since: datetime) -> Sequence[FailureFact]:
        """No job runs here."""
        return []

    def released_runs(self, tenant: str) -> Sequence[RunFacts]:
        """None: a drill looks at its runs itself (`looks`)."""
        return ()

    def ledger_chain(self, now: datetime) -> ChainFact:
        """Whether the ledger is halted."""
        halt = self.journal.status(LEDGER).halt
        return ChainFact(stream=LEDGER, is_intact=not halt, broken_at=None, at=now)

    def _operator(self, tenant: str) -> Principal:
        return Principal(
            subject="u_operator",
            tenant=tenant,
            scopes=frozenset({IdentityScope.USERS_WRITE}),
            method=Method.PASSWORD_AND_CODE,
            authenticated_at=self.clock.now(),
            session="s_sandbox",
        )

    def _note(self, write: Write) -> None:
        for body in self.questions.counted():
            write(COUNTED, body)
        for body in self.trespasses.crossed():
            write(CROSSED, body)

    def _answer(self, alert: Alert) -> Alert:
        """Respond once to each alert of a drill's own look; the monitor answers its own."""
        if alert.id not in self._answered and self.watch.responses is not None:
            given = self.watch.responses.answer(alert)
            documents = tuple(each.document() for each in given)
            self._answered[alert.id] = replace(alert, responses=documents)
        return self._answered.get(alert.id, alert)

    def _responses(self) -> Responses:
        opened = {
            Act.HALT: self.halts.door,
            Act.THROTTLE: doors.throttle(self.restraints),
            Act.QUARANTINE: doors.quarantine(self.quarantine),
            Act.REVOKE: doors.revoke(self.identity.sessions, self.clock),
            Act.NEW_PLAN: doors.new_plan,
        }
        return Responses(opened, self.journal, is_on=self.settings.is_answering)


@contextmanager
def opened(settings: Settings, entropy: Entropy) -> Iterator[Sandbox]:
    """A sandbox in a temporary folder; when it is left, the folder and every process are gone."""
    with ExitStack() as closing:
        root = closing.enter_context(TemporaryDirectory(prefix="privacy-finetuner-drill-"))
        yield Sandbox(Path(root), settings, entropy, closing)


def _identity(root: Path, journal: Journal, clock: Clock, entropy: Entropy) -> Identity:
    tokens = TokenPolicy(issuer=_ISSUER, audience=_ISSUER)
    return Identity.open(
        root / "identity.db",
        journal,
        policy=IdentityPolicy(tokens=tokens, argon2=_CHEAP),
        token_keys=root / "token-keys",
        sealing_keys=RedactionKeys.generate(entropy, root / "sealing-keys.json"),
        clock=clock,
        entropy=entropy,
    )


def first(alerts: Iterable[Alert], rules: frozenset[str]) -> Alert | None:
    """The first alert of some rules."""
    return next((alert for alert in alerts if alert.rule in rules), None)
