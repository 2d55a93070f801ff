"""How rules put evidence together: events by what they name, in episodes, as one alert.

An alert's id is computed from its rule, its organisation, what it is about and when that began, so
the same evidence is the same alert however often it is looked at.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from privacy_finetuner.operations.alerts import Alert, Event, Facts, Severity, ThreatType
from privacy_finetuner.operations.confidence import confidence

EVIDENCE_MOST: Final = 20
"""How many pieces of evidence an alert lists; the count is always whole."""


class _Dated(Protocol):
    @property
    def at(self) -> datetime: ...


_Timed = TypeVar("_Timed", bound=_Dated)


def by(events: Iterable[Event], name: str) -> dict[str, list[Event]]:
    """Events by a field of their body; those without one are left out."""
    groups: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        if (value := event.body.get(name)) is not None:
            groups[str(value)].append(event)
    return groups


def episodes(events: Iterable[_Timed], *, gap: timedelta, least: int) -> Iterable[list[_Timed]]:
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


def alert_of(  # noqa: PLR0913  # what an alert consists of
    facts: Facts,
    rule: str,
    topic: str,
    episode: Sequence[Event],
    *,
    least: int,
    threat_type: ThreatType,
    severity: Severity,
    description: str,
    actions: tuple[str, ...],
    strength: float = 1.0,
    about: Mapping[str, str] | None = None,
) -> Alert:
    """The alert of an episode: it rests on the entries, and began when `least` of them were in.

    Args:
        facts: whose organisation.
        rule: which rule says so.
        topic: what it is about; part of the alert's id.
        episode: the events, oldest first.
        least: how many of them it takes.
        threat_type: under which it falls.
        severity: how bad it is.
        description: what was seen, in one sentence.
        actions: what a person should do.
        strength: of the evidence; 1 is the rule's threshold.
        about: what a response would act on.
    """
    return Alert(
        id=alert_id(rule, facts.tenant, topic, str(episode[0].seq)),
        tenant=facts.tenant,
        rule=rule,
        threat_type=threat_type,
        severity=severity,
        description=description,
        at=episode[least - 1].at,
        evidence=tuple({"stream": "audit", "seq": each.seq} for each in episode[:EVIDENCE_MOST]),
        count=len(episode),
        recommended_actions=actions,
        confidence=confidence(rule, strength),
        about=about or {},
    )


def alert_id(*parts: str) -> str:
    """The id of an alert: the same for the same parts."""
    digest = hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass"))
    return f"alert_{digest.hexdigest()[:24]}"
