"""From evidence to alerts: facts in, alerts out, nothing else.

Every rule states its evidence, its threshold and what looks the same and is harmless. An alert's id
is computed from its rule, its organisation, what it is about and when that began, so the same
evidence is the same alert however often it is looked at.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final, Protocol, TypeAlias, TypeVar

from privacy_finetuner.operations.alerts import (
    Alert,
    Event,
    Facts,
    FailureFact,
    Severity,
    ThreatType,
)

EVIDENCE_MOST: Final = 20
"""How many pieces of evidence an alert lists; the count is always whole."""
_SPRAYED: Final = 3
_DAYS_BEFORE: Final = 7
_BURN_LEAST: Final = 0.10
_BURN_TIMES: Final = 3.0
_POWERFUL: Final = frozenset({"admin", "privacy_officer"})


class _Dated(Protocol):
    @property
    def at(self) -> datetime: ...


_Timed = TypeVar("_Timed", bound=_Dated)

Rule: TypeAlias = Callable[[Facts], Iterable[Alert]]


def judged(facts: Facts) -> list[Alert]:
    """Every alert that the facts give, the worst first."""
    found = [alert for rule in RULES for alert in rule(facts)]
    return sorted(found, key=lambda each: (-each.severity.rank, each.at, each.id))


def account_guessing(facts: Facts) -> Iterable[Alert]:
    """Five refused logins on one account within 15 minutes; high once the account was locked.

    False alarms: a person who forgot their password looks the same.
    """
    refused = _refused(facts)
    for subject, events in _by(refused, "subject").items():
        for episode in _episodes(events, gap=timedelta(minutes=15), least=5):
            is_locked = any(each.body.get("delays_s", {}).get("account", 0) for each in episode)
            yield _of_events(
                facts,
                "account_guessing",
                subject,
                episode,
                least=5,
                threat_type=ThreatType.CREDENTIAL_ATTACK,
                severity=Severity.HIGH if is_locked else Severity.MEDIUM,
                description=f"{len(episode)} refused logins on one account"
                + (", which was locked for a time" if is_locked else ""),
                actions=(
                    "Ask the owner of the account whether it was them",
                    "Reset the password if it was not",
                ),
            )


def password_spraying(facts: Facts) -> Iterable[Alert]:
    """Refused logins from one source on three accounts or more within an hour, ten at least."""
    for source, events in _by(_refused(facts), "source").items():
        for episode in _episodes(events, gap=timedelta(hours=1), least=10):
            subjects = {each.body.get("subject") for each in episode}
            if len(subjects) < _SPRAYED:
                continue
            yield _of_events(
                facts,
                "password_spraying",
                source,
                episode,
                least=10,
                threat_type=ThreatType.CREDENTIAL_ATTACK,
                severity=Severity.HIGH,
                description=f"{len(episode)} refused logins on {len(subjects)} accounts "
                "from one source",
                actions=("Block the source at the proxy", "Look for a login from it that worked"),
            )


def refresh_reuse(facts: Facts) -> Iterable[Alert]:
    """A spent refresh token came back: somebody has a copy. The session was ended already."""
    for event in facts.events:
        if event.type == "identity.session_ended" and event.body.get("reason") == "reused":
            yield _of_events(
                facts,
                "refresh_reuse",
                str(event.body.get("session")),
                [event],
                least=1,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.HIGH,
                description="a spent refresh token was shown again; its session was ended",
                actions=(
                    "Ask the user whether a device of theirs was lost",
                    "End their other sessions and reset the password",
                ),
            )


def second_factor_reset(facts: Facts) -> Iterable[Alert]:
    """An administrator removed a user's second factor: legitimate, and how accounts are taken."""
    for event in facts.events:
        if event.type == "identity.second_factor_reset":
            yield _of_events(
                facts,
                "second_factor_reset",
                str(event.body.get("subject")),
                [event],
                least=1,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.MEDIUM,
                description="an administrator removed a user's second factor",
                actions=("Ask the user on another channel whether they asked for it",),
            )


def privilege_gained(facts: Facts) -> Iterable[Alert]:
    """Somebody became an administrator or a privacy officer by a change of role."""
    for event in facts.events:
        if event.type == "identity.role_changed" and event.body.get("new") in _POWERFUL:
            yield _of_events(
                facts,
                "privilege_gained",
                str(event.body.get("subject")),
                [event],
                least=1,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.MEDIUM,
                description=f"a user became {str(event.body['new']).replace('_', ' ')}",
                actions=("Check that the change was meant", "If not, set the old role again"),
            )


def foreign_objects(facts: Facts) -> Iterable[Alert]:
    """Three requests within an hour for objects of other organisations, where recorded."""
    crossed = [each for each in facts.events if each.type.endswith("wrong_tenant")]
    for subject, events in _by(crossed, "subject").items():
        for episode in _episodes(events, gap=timedelta(hours=1), least=3):
            yield _of_events(
                facts,
                "foreign_objects",
                subject,
                episode,
                least=3,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.HIGH,
                description=f"{len(episode)} requests of one user for objects of other "
                "organisations; all were refused",
                actions=("Ask the user what they were doing", "Revoke their sessions and keys"),
            )


def budget_nearly_spent(facts: Facts) -> Iterable[Alert]:
    """An account whose spent and set-aside share is at the configured threshold or above."""
    for account in facts.accounts:
        share = account.epsilon_used / account.epsilon if account.epsilon > 0 else 1.0
        if share < facts.budget_threshold:
            continue
        is_full = share >= 1.0
        yield Alert(
            # A grant makes another cap, and with it another alert.
            id=_id("budget_nearly_spent", facts.tenant, account.account, f"{account.epsilon:.12g}"),
            tenant=facts.tenant,
            rule="budget_nearly_spent",
            threat_type=ThreatType.PRIVACY_BUDGET_EXHAUSTION,
            severity=Severity.CRITICAL if is_full else Severity.HIGH,
            description=f"{share:.0%} of the privacy budget of {account.account} is spent or set "
            "aside",
            at=account.at,
            evidence=(
                {
                    "account": account.account,
                    "epsilon": account.epsilon,
                    "epsilon_used": account.epsilon_used,
                    "threshold": facts.budget_threshold,
                },
            ),
            count=1,
            recommended_actions=(
                "Plan what is left: a smaller epsilon needs a new plan before a run begins",
                "Ask an officer for budget, or use a block of new data",
            ),
            is_condition=True,
        )


def unusual_burn(facts: Facts) -> Iterable[Alert]:
    """The last day spent 10 % of a cap or more, and three times the median of the days before.

    At least seven days must lie before it. False alarms: a large job that was planned.
    """
    for account in facts.accounts:
        *before, today = account.daily_shares or (0.0,)
        usual = median(before) if len(before) >= _DAYS_BEFORE else None
        if usual is None or today < max(_BURN_LEAST, _BURN_TIMES * usual):
            continue
        day = account.at.date().isoformat()
        yield Alert(
            id=_id("unusual_burn", facts.tenant, account.account, day),
            tenant=facts.tenant,
            rule="unusual_burn",
            threat_type=ThreatType.PRIVACY_BUDGET_EXHAUSTION,
            severity=Severity.MEDIUM,
            description=f"{today:.0%} of the budget of {account.account} was spent within a day; "
            f"the usual day spends {usual:.1%}",
            at=account.at,
            evidence=({"account": account.account, "share_today": today, "share_usual": usual},),
            count=1,
            recommended_actions=(
                "See who spent it: the account's list of acts names jobs and quotas",
                "Set a window on the quota if it was not meant",
            ),
        )


def repeated_failures(facts: Facts) -> Iterable[Alert]:
    """Three jobs of one person that failed with the same code within a day."""
    groups: defaultdict[tuple[str, str], list[FailureFact]] = defaultdict(list)
    for failure in facts.failures:
        groups[failure.owner, failure.code].append(failure)
    for (owner, code), failed in groups.items():
        for episode in _episodes(failed, gap=timedelta(days=1), least=3):
            yield Alert(
                id=_id("repeated_failures", facts.tenant, f"{owner}/{code}", episode[0].job),
                tenant=facts.tenant,
                rule="repeated_failures",
                threat_type=ThreatType.RESOURCE_EXHAUSTION,
                severity=Severity.MEDIUM,
                description=f"{len(episode)} jobs of one user failed with {code}",
                at=episode[2].at,
                evidence=tuple({"job": each.job, "code": code} for each in episode[:EVIDENCE_MOST]),
                count=len(episode),
                recommended_actions=(
                    "Read the jobs' errors; what they had charged stays charged",
                    "Look at memory and disk of the workers",
                ),
            )


def broken_chain(facts: Facts) -> Iterable[Alert]:
    """A journal is not what was recorded: somebody changed the database, or the disk did."""
    for chain in facts.chains:
        if not chain.is_intact:
            yield Alert(
                id=_id("broken_chain", facts.tenant, chain.stream),
                tenant=facts.tenant,
                rule="broken_chain",
                threat_type=ThreatType.TAMPERING,
                severity=Severity.CRITICAL,
                description=f"the journal {chain.stream!r} does not verify; it is read-only now",
                at=chain.at,
                evidence=({"stream": chain.stream, "broken_at": chain.broken_at},),
                count=1,
                recommended_actions=(
                    "Keep a copy of the database as it is",
                    "Compare it with a backup and with the anchored heads before any repair",
                ),
                is_condition=True,
            )


RULES: Final[tuple[Rule, ...]] = (
    account_guessing,
    password_spraying,
    refresh_reuse,
    second_factor_reset,
    privilege_gained,
    foreign_objects,
    budget_nearly_spent,
    unusual_burn,
    repeated_failures,
    broken_chain,
)


def _refused(facts: Facts) -> list[Event]:
    return [each for each in facts.events if each.type == "identity.login_refused"]


def _by(events: Iterable[Event], name: str) -> dict[str, list[Event]]:
    """Events by a field of their body; those without one are left out."""
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if (value := event.body.get(name)) is not None:
            groups[str(value)].append(event)
    return groups


def _episodes(events: Iterable[_Timed], *, gap: timedelta, least: int) -> Iterable[list[_Timed]]:
    """Runs of events with no pause longer than `gap` in which `least` fall within `gap`.

    A run begins with its first event, whatever comes later, so its alert keeps its id as it grows.
    """
    episode: list[_Timed] = []
    for event in [*sorted(events, key=lambda each: each.at), None]:
        if event is not None and (not episode or event.at - episode[-1].at <= gap):
            episode.append(event)
            continue
        pairs = zip(episode, episode[least - 1 :], strict=False)
        if any(last.at - first.at <= gap for first, last in pairs):
            yield episode
        episode = [] if event is None else [event]


def _of_events(  # noqa: PLR0913  # what an alert consists of
    facts: Facts,
    rule: str,
    about: str,
    episode: Sequence[Event],
    *,
    least: int,
    threat_type: ThreatType,
    severity: Severity,
    description: str,
    actions: tuple[str, ...],
) -> Alert:
    return Alert(
        id=_id(rule, facts.tenant, about, str(episode[0].seq)),
        tenant=facts.tenant,
        rule=rule,
        threat_type=threat_type,
        severity=severity,
        description=description,
        at=episode[least - 1].at,
        evidence=tuple({"stream": "audit", "seq": each.seq} for each in episode[:EVIDENCE_MOST]),
        count=len(episode),
        recommended_actions=actions,
    )


def _id(*parts: str) -> str:
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass"))
    return f"alert_{digest.hexdigest()[:24]}"
