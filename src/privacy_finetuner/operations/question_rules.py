"""Rules over how models are asked: counts of questions, never a prompt. See `questions`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from privacy_finetuner.operations.alerts import Alert, Event, Facts, Severity, ThreatType
from privacy_finetuner.operations.evidence import alert_of, by, episodes
from privacy_finetuner.operations.questions import COUNTED

PROBES_LEAST: Final = 20
"""Questions of one user within ten minutes that differ in their last word only."""
DISTINCT_LEAST: Final = 100
"""Different questions of one user within ten minutes."""
_GAP: Final = timedelta(minutes=30)
_ACTIONS: Final = (
    "Ask the user what the questions are for",
    "Audit the model before it answers more of them: `privacy-finetuner audit run`",
)


def canary_probing(facts: Facts) -> Iterable[Alert]:
    """Twenty questions within ten minutes that differ in their last word only, or not at all.

    So codes and names are tried in one sentence, and so a memorised secret is sampled for. False
    alarms: a form that asks again at every word typed, and a temperature that is being tried out.
    """
    for subject, events in _loud(facts, "same_stem", PROBES_LEAST).items():
        for episode in episodes(events, gap=_GAP, least=1):
            most = max(int(each.body["same_stem"]) for each in episode)
            yield alert_of(
                facts,
                "canary_probing",
                subject,
                episode,
                least=1,
                threat_type=ThreatType.MODEL_INVERSION,
                severity=Severity.HIGH,
                description=f"{most} questions of one user within ten minutes differ in their last "
                "word only",
                actions=_ACTIONS,
                strength=most / PROBES_LEAST,
                about={"subject": subject},
            )


def membership_queries(facts: Facts) -> Iterable[Alert]:
    """A hundred different questions of one user within ten minutes.

    So a list of suspected records is tried, and so a model is copied answer by answer. False
    alarms: a program that works through a file, under a key that was made for it.
    """
    for subject, events in _loud(facts, "distinct", DISTINCT_LEAST).items():
        for episode in episodes(events, gap=_GAP, least=1):
            most = max(int(each.body["distinct"]) for each in episode)
            yield alert_of(
                facts,
                "membership_queries",
                subject,
                episode,
                least=1,
                threat_type=ThreatType.MEMBERSHIP_INFERENCE,
                severity=Severity.MEDIUM,
                description=f"{most} different questions of one user within ten minutes",
                actions=_ACTIONS,
                strength=most / DISTINCT_LEAST,
                about={"subject": subject},
            )


def _loud(facts: Facts, count: str, least: int) -> dict[str, list[Event]]:
    """Counted questions that reach a threshold, by who asked."""
    counted = [each for each in facts.events if each.type == COUNTED]
    return by((each for each in counted if int(each.body[count]) >= least), "subject")
