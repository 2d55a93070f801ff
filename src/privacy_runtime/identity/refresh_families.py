"""What a refresh token is worth: a machine without a store.

A login founds a *family*. Its token is spent by each refresh and replaced by a successor; only the
newest is worth anything. A spent one that comes back means that two hold it, the owner and a thief,
and nobody can say which is which: the family is revoked.

One exception, which gives nothing away: within `grace_s` of being spent, while its successor is
unspent, a token is refused *without* revoking. Two tabs that refresh at once, or a repeated
request, then do not log their user out: one of them wins, and the other is told to use what the
winner has. The grace forgives; it never issues a token. (RFC 9700 leaves this open; to hand the
same successor out again would hand it to a thief as well.)

Source: RFC 9700, section 4.14.2 (rotation and reuse detection); OWASP ASVS 5.0, 7.3 (idle and
absolute limits); 45 CFR 164.312(a)(2)(iii) (automatic logoff).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from privacy_core.errors import InvalidParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPolicy:
    """How long a session lasts.

    Args:
        idle_s: without a refresh for so long, it is over: automatic logoff. In seconds; longer than
            an access token lasts, or every pause would end it.
        absolute_s: at most so long after the login, however busy.
        grace_s: for how long a spent token is refused without revoking; 0 for never.
    """

    idle_s: float = 1800.0
    absolute_s: float = 43_200.0
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.idle_s <= self.absolute_s < float("inf"):
            raise InvalidParameter(
                "idle_s, absolute_s",
                found=(self.idle_s, self.absolute_s),
                expected="0 < idle_s <= absolute_s",
            )
        if not 0 <= self.grace_s <= 60:
            raise InvalidParameter("grace_s", found=self.grace_s, expected="0 to 60 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All tokens of one login.

    Args:
        founded: when somebody logged in.
        used: when it was refreshed last, or founded.
        ended: whether somebody or something ended it.
    """

    founded: datetime
    used: datetime
    ended: bool = False

    def ends(self, policy: SessionPolicy) -> datetime:
        """When the family ends at the latest."""
        return self.founded + timedelta(seconds=policy.absolute_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A refresh token that somebody shows.

    Args:
        spent: when it was spent, if it was.
        is_last_but_one: whether its successor is the newest of the family.
    """

    spent: datetime | None
    is_last_but_one: bool = False


class Verdict(StrEnum):
    """What to do about it."""

    RENEW = "renew"
    RACED = "raced"
    REUSED = "reused"
    IDLE = "idle"
    TOO_OLD = "too_old"
    ENDED = "ended"

    @property
    def ends_family(self) -> bool:
        """Whether the family is over from now on."""
        return self in {Verdict.REUSED, Verdict.IDLE, Verdict.TOO_OLD}


def judge(family: Family, token: Held, policy: SessionPolicy, now: datetime) -> Verdict:
    """Decide about a refresh token that is shown.

    ==========================================================  =========
    when                                                        verdict
    ==========================================================  =========
    the family has ended                                        ended
    the token was spent, long ago or by a successor's use       reused
    the token was spent within the grace, successor unspent     raced
    the login is `absolute_s` ago or more                       too old
    the last refresh is `idle_s` ago or more                    idle
    otherwise                                                   renew
    ==========================================================  =========

    A spent token is judged before the limits: its return is a theft at any age.
    """
    if family.ended:
        return Verdict.ENDED
    if token.spent is not None:
        fresh = timedelta() <= now - token.spent < timedelta(seconds=policy.grace_s)
        return Verdict.RACED if fresh and token.is_last_but_one else Verdict.REUSED
    if now >= family.ends(policy):
        return Verdict.TOO_OLD
    if now - family.used >= timedelta(seconds=policy.idle_s):
        return Verdict.IDLE
    return Verdict.RENEW
