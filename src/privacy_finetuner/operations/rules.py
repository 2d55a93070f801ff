"""From evidence to alerts: facts in, alerts out, nothing else.

Every rule states its evidence, its threshold and what looks the same and is harmless. They look at
what is public or released: entries of the audit trail, the ledger's amounts, counts of questions,
states of jobs, chains. How sure each may be stands in `confidence`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from statistics import median
from typing import Final, TypeAlias

from privacy_finetuner.operations.alerts import (
    Alert,
    Event,
    Facts,
    FailureFact,
    Severity,
    ThreatType,
)
from privacy_finetuner.operations.confidence import confidence
from privacy_finetuner.operations.evidence import EVIDENCE_MOST, alert_id, alert_of, by, episodes
from privacy_finetuner.operations.question_rules import canary_probing, membership_queries

_SPRAYED: Final = 3
_DAYS_BEFORE: Final = 7
_BURN_LEAST: Final = 0.10
_BURN_TIMES: Final = 3.0
_DRAIN_ACTS: Final = 10
_DRAIN_SHARE: Final = 0.10
_DAMAGED: Final = frozenset(
    {
        "blob_missing",
        "checkpoint_error",
        "not_sealed",
        "rolled_back",
        "run_record_damaged",
        "seal_broken",
    }
)
"""Codes of errors that say so."""
_POWERFUL: Final = frozenset({"admin", "privacy_officer"})


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
    for subject, events in by(refused, "subject").items():
        for episode in episodes(events, gap=timedelta(minutes=15), least=5):
            is_locked = any(each.body.get("delays_s", {}).get("account", 0) for each in episode)
            yield alert_of(
                facts,
                "account_guessing",
                subject,
                episode,
                least=5,
                threat_type=ThreatType.CREDENTIAL_ATTACK,
                severity=Severity.HIGH if is_locked else Severity.MEDIUM,
                description=f"{len(episode)} refused logins on one account"
                + (", which was locked for a time" if is_locked else ""),
                strength=len(episode) / 5,
                about={"subject": subject},
                actions=(
                    "Ask the owner of the account whether it was them",
                    "Reset the password if it was not",
                ),
            )


def password_spraying(facts: Facts) -> Iterable[Alert]:
    """Refused logins from one source on three accounts or more within an hour, ten at least."""
    for source, events in by(_refused(facts), "source").items():
        for episode in episodes(events, gap=timedelta(hours=1), least=10):
            subjects = {each.body.get("subject") for each in episode}
            if len(subjects) < _SPRAYED:
                continue
            yield alert_of(
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
                strength=len(episode) / 10,
            )


def refresh_reuse(facts: Facts) -> Iterable[Alert]:
    """A spent refresh token came back: somebody has a copy. The session was ended already."""
    for event in facts.events:
        if event.type == "identity.session_ended" and event.body.get("reason") == "reused":
            yield alert_of(
                facts,
                "refresh_reuse",
                str(event.body.get("session")),
                [event],
                least=1,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.HIGH,
                about={"subject": str(event.body.get("subject"))},
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
            yield alert_of(
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
            yield alert_of(
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
    """Three requests within an hour for objects of other organisations; `trespasses` notes them."""
    crossed = [each for each in facts.events if each.type.endswith("wrong_tenant")]
    for subject, events in by(crossed, "subject").items():
        for episode in episodes(events, gap=timedelta(hours=1), least=3):
            yield alert_of(
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
                strength=len(episode) / 3,
                about={"subject": subject},
            )


def suspicious_input(facts: Facts) -> Iterable[Alert]:
    """Five fields within an hour, from one sender, that read like an injection.

    Nothing was executed: fields are checked and queries have parameters. False alarms: somebody who
    pastes code where a name belongs.
    """
    suspected = [each for each in facts.events if each.type == "security.input_suspected"]
    for source, events in by(suspected, "source").items():
        for episode in episodes(events, gap=timedelta(hours=1), least=5):
            yield alert_of(
                facts,
                "suspicious_input",
                source,
                episode,
                least=5,
                threat_type=ThreatType.UNAUTHORIZED_ACCESS,
                severity=Severity.MEDIUM,
                description=f"{len(episode)} fields from one sender read like an injection; none "
                "was executed",
                actions=("Look at who sent them", "Block the sender at the proxy if it goes on"),
                about={"subject": str(episode[0].body.get("subject"))},
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
            id=alert_id(
                "budget_nearly_spent", facts.tenant, account.account, f"{account.epsilon:.12g}"
            ),
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
            id=alert_id("unusual_burn", facts.tenant, account.account, day),
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


def budget_draining(facts: Facts) -> Iterable[Alert]:
    """Ten acts or more within an hour that took a tenth of a cap together.

    One large act is somebody's plan; many small ones ask a data set question after question. False
    alarms: a search over hyperparameters that charges each trial.
    """
    for account in facts.accounts:
        acts, share = account.acts_last_hour, account.share_last_hour
        strength = min(acts / _DRAIN_ACTS, share / _DRAIN_SHARE)
        if strength < 1:
            continue
        hour = account.at.strftime("%Y-%m-%dT%H")
        yield Alert(
            id=alert_id("budget_draining", facts.tenant, account.account, hour),
            tenant=facts.tenant,
            rule="budget_draining",
            threat_type=ThreatType.PRIVACY_BUDGET_EXHAUSTION,
            severity=Severity.HIGH,
            description=f"{acts} acts within an hour took {share:.0%} of the budget of "
            f"{account.account}",
            at=account.at,
            evidence=({"account": account.account, "acts": acts, "share": share},),
            count=acts,
            recommended_actions=(
                "See who asked: the account's list of acts names jobs and quotas",
                "Set a window on the quota, so that a day cannot spend the year's budget",
            ),
            confidence=confidence("budget_draining", strength),
            about={"account": account.account},
        )


def damaged_state(facts: Facts) -> Iterable[Alert]:
    """A job met a checkpoint, a sealed set or a run record that is not what was written."""
    for failure in facts.failures:
        if failure.code not in _DAMAGED:
            continue
        yield Alert(
            id=alert_id("damaged_state", facts.tenant, failure.job),
            tenant=facts.tenant,
            rule="damaged_state",
            threat_type=ThreatType.TAMPERING,
            severity=Severity.HIGH,
            description=f"a job met a state that is not what was written ({failure.code}); it was "
            "not loaded",
            at=failure.at,
            evidence=({"job": failure.job, "code": failure.code},),
            count=1,
            recommended_actions=(
                "Keep the files as they are, and compare them with a replica",
                "Look at who can write where checkpoints lie",
            ),
            about={"job": failure.job},
        )


def repeated_failures(facts: Facts) -> Iterable[Alert]:
    """Three jobs of one person that failed with the same code within a day."""
    groups: defaultdict[tuple[str, str], list[FailureFact]] = defaultdict(list)
    for failure in facts.failures:
        groups[failure.owner, failure.code].append(failure)
    for (owner, code), failed in groups.items():
        for episode in episodes(failed, gap=timedelta(days=1), least=3):
            yield Alert(
                id=alert_id("repeated_failures", facts.tenant, f"{owner}/{code}", episode[0].job),
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
                id=alert_id("broken_chain", facts.tenant, chain.stream),
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
    suspicious_input,
    budget_nearly_spent,
    unusual_burn,
    budget_draining,
    repeated_failures,
    damaged_state,
    broken_chain,
    canary_probing,
    membership_queries,
)


def _refused(facts: Facts) -> list[Event]:
    return [each for each in facts.events if each.type == "identity.login_refused"]
