"""The documented names of security, each doing what it can mean here.

====================  ========================================================================
name                  what it is
====================  ========================================================================
`SecurityManager`     signs and checks tokens of the documented form, for programs of one's own;
                      the router's own logins are `privacy_runtime.identity`'s
`SecurityMonitor`     alerts on guessing and on unusual spending
`AuditLogger`         entries in the hash-chained audit trail
`SecureConfig`        secrets from files of Kubernetes or from Vault, or not at all
`InputValidator`      signs of an attack in a text: a signal; prompts are never rewritten by it
====================  ========================================================================
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import jwt

from privacy_core.errors import InvalidParameter, PrivacyError
from privacy_runtime.identity import require_strong_secret
from privacy_runtime.settings.faults import SecretUnavailable
from privacy_runtime.settings.secrets import VaultStore, read_secret
from privacy_runtime.world import Clock, SystemClock

if TYPE_CHECKING:
    from privacy_runtime.http.injection import Sign

FAILURES_MOST: Final = 5
_ALGORITHM: Final = "HS256"
_WATCHED: Final = 10_000
_SECRETS: Final = Path("/run/secrets")


class SecurityError(PrivacyError):
    """A text looks like an attack. Nothing was done with it."""

    code: ClassVar[str] = "suspicious_input"


class InputValidator:
    """The documented checks, as a signal.

    The documents strip tags and escape the prompt. A prompt is shown to a model, not to a browser:
    what would be rewritten there is a clinician's words ("BP < 120, K+ > 5"). So nothing is
    rewritten; what shows an answer in a page escapes it there.
    """

    @staticmethod
    def signs(text: str) -> tuple[Sign, ...]:
        """What the text looks like; mostly nothing."""
        found: tuple[Sign, ...] = _signals().signs(text)
        return found

    @staticmethod
    def sanitize_input(user_input: str) -> str:
        """Return the text as it is.

        Raises:
            SecurityError: it looks like an attack. Only for short fields where nobody writes code
                or notes; the router does not ask this of prompts.
        """
        if found := InputValidator.signs(user_input):
            families = ", ".join(sign.family.value for sign in found)
            raise SecurityError(f"the text has signs of {families}; nothing was done with it")
        return user_input


class SecurityManager:
    """Tokens of the documented form: HS256, with the documented claims.

    The claim `privacy_budget` is written and never read: what is left stands in the ledger.

    Args:
        secret_key: at least 32 bytes that nobody knows.
        permissions_of, budget_of: fill the claims of that name.
        clock: None: the machine's.
        valid_hours: the documented 8.

    Raises:
        WeakSecret: the key is short or known.
    """

    def __init__(
        self,
        secret_key: str,
        *,
        permissions_of: Callable[[str], list[str]] = lambda _: [],
        budget_of: Callable[[str], float | None] = lambda _: None,
        clock: Clock | None = None,
        valid_hours: float = 8.0,
    ) -> None:
        require_strong_secret("secret_key", secret_key, development=False)
        if not 0 < valid_hours <= 24:
            raise InvalidParameter("valid_hours", found=valid_hours, expected="above 0, at most 24")
        self._key, self._clock = secret_key, clock or SystemClock()
        self._permissions_of, self._budget_of = permissions_of, budget_of
        self._valid = timedelta(hours=valid_hours)

    def generate_token(self, user_id: str, department: str) -> str:
        """A token for a user who showed who they are: that is the caller's to have checked."""
        now = self._clock.now()
        claims = {
            "user_id": user_id,
            "department": department,
            "issued_at": now.isoformat(),
            "expires_at": (now + self._valid).isoformat(),
            "permissions": self._permissions_of(user_id),
            "privacy_budget": self._budget_of(user_id),
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)

    def validate_token(self, token: str) -> dict[str, Any] | None:
        """The claims of a token that counts now, else None."""
        try:
            claims: dict[str, Any] = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
            expires = datetime.fromisoformat(str(claims["expires_at"]))
        except (jwt.InvalidTokenError, KeyError, ValueError):
            return None
        if expires.tzinfo is None:
            expires = expires.replace(tzinfo=UTC)
        return claims if expires > self._clock.now() else None


@dataclass(frozen=True, slots=True)
class AuthEvent:
    """A login that was tried. `user_id` may be anything that somebody typed."""

    user_id: str
    success: bool


@dataclass(frozen=True, slots=True)
class PrivacyEvent:
    """What a user spent today, and on an average day before; None: there was none."""

    user_id: str
    budget_consumed: float
    user_daily_average: float | None


class Tally(Protocol):
    """Counts alerts."""

    def alert(self, kind: str) -> None:
        """Count one."""
        ...


class AuditLogger:
    """Appends to the audit trail: ids and amounts, never a prompt, a name or an address.

    Args:
        append: takes a type and a body; durable when it returns.
        clock: dates what is said.
        announce: tells people of an alert, by its kind and severity, after it is in the trail;
            None: nobody is told.
    """

    def __init__(
        self,
        append: Callable[..., None],
        *,
        clock: Clock,
        announce: Callable[[str, str], None] | None = None,
    ) -> None:
        self._append, self._clock, self._announce = append, clock, announce

    def log_privacy_event(self, user_id: str, action: str, privacy_cost: float) -> None:
        """Something was done that costs, or that would have."""
        body = {"user": user_id, "action": action, "privacy_cost": privacy_cost}
        self._append("privacy.event", {**body, "compliance_standard": "HIPAA"}, stream="privacy")

    def log_security_event(self, user_id: str, event_type: str, success: bool) -> None:
        """Something happened that security looks at."""
        body = {"user": user_id, "event": event_type, "success": success}
        self._append("security.event", body, stream="security")

    def alert(self, kind: str, severity: str, body: Mapping[str, Any]) -> None:
        """Somebody should look at this."""
        self._append(
            "security.alert", {"kind": kind, "severity": severity, **body}, stream="security"
        )
        if self._announce is not None:
            self._announce(kind, severity)


class SecurityMonitor:
    """Alerts on guessing and on unusual spending.

    It blocks nobody: identity delays guesses by itself, up to a quarter of an hour, durably, and
    for names that nobody has as well. The alert says that somebody is trying.

    Args:
        audit: keeps alerts.
        tally: counts them.
        unusual_factor: times the daily average from which on a day is unusual.
    """

    def __init__(self, audit: AuditLogger, tally: Tally, *, unusual_factor: float = 3.0) -> None:
        self.unusual_factor = unusual_factor
        self._audit, self._tally = audit, tally
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    def monitor_authentication(self, event: AuthEvent) -> bool:
        """Count a login; returns whether it made an alert."""
        if event.success:
            self._failures.pop(event.user_id, None)
            return False
        count = self._failures.pop(event.user_id, 0) + 1
        _keep(self._failures, event.user_id, count)
        if count != FAILURES_MOST + 1:
            return False
        self._tally.alert("brute_force")
        self._audit.alert("brute_force", "HIGH", {"failures": count})
        return True

    def monitor_privacy_access(self, event: PrivacyEvent, *, day: str = "") -> bool:
        """Compare a day with the days before; one alert a user a day. A first day has no average.

        Args:
            event: what was spent.
            day: of the alert; empty: alert every time.
        """
        return self._unusual(
            "user", event.user_id, event.budget_consumed, event.user_daily_average, day
        )

    def monitor_department(
        self, department: str, consumed: float, daily_average: float | None, *, day: str = ""
    ) -> bool:
        """The same for all users of a department together; one alert a department a day."""
        return self._unusual("department", department, consumed, daily_average, day)

    def certificate(self, problem: str) -> None:
        """Note that a certificate ends soon, or that renewed files cannot be taken."""
        self._tally.alert("certificate")
        self._audit.alert("certificate", "HIGH", {"problem": problem})

    def suspicious_input(self, user_id: str, signs: tuple[Sign, ...]) -> None:
        """Note that a prompt has signs of an attack; it is answered all the same."""
        if signs:
            self._tally.alert("suspicious_input")
            families = [sign.family.value for sign in signs]
            self._audit.alert("suspicious_input", "LOW", {"user": user_id, "families": families})

    def _unusual(
        self, kind: str, name: str, consumed: float, average: float | None, day: str
    ) -> bool:
        if average is None or not consumed > average * self.unusual_factor:
            return False
        told = (f"{kind}/{name}", day)
        if day and told in self._told:
            return False
        _keep(self._told, told, None)
        self._tally.alert("unusual_consumption")
        body = {kind: name, "today": consumed, "daily_average": average}
        self._audit.alert("unusual_consumption", "MEDIUM", body)
        return True


class SecureConfig:
    """Secrets from where secrets are kept.

    Args:
        variables: the environment; None: the process's.
        folder: where Kubernetes mounts them.
        vault: None: as `VAULT_ADDR` says.
        vault_path: of the secret in Vault that holds the names.
    """

    def __init__(
        self,
        *,
        variables: Mapping[str, str] | None = None,
        folder: Path = _SECRETS,
        vault: VaultStore | None = None,
        vault_path: str = "secret/federated-dp-llm",
    ) -> None:
        self._variables = os.environ if variables is None else variables
        self._folder, self._vault, self._path = folder, vault, vault_path

    def load_secret(self, secret_name: str) -> str:
        """A secret by name: in Kubernetes the mounted file, elsewhere Vault.

        Raises:
            SecretUnavailable: it is in neither; a variable of that name is not a place for it.
        """
        if "KUBERNETES_SERVICE_HOST" in self._variables:
            return read_secret(self._folder / secret_name)
        if self._vault is None and "VAULT_ADDR" not in self._variables:
            raise SecretUnavailable(
                f"the secret {secret_name}: this is no pod, and VAULT_ADDR is not set; mount it "
                f"below {self._folder} or keep it in Vault"
            )
        store = self._vault or VaultStore.from_variables(self._variables)
        return store.read(f"{self._path}#{secret_name}")


@cache
def _signals() -> Any:
    """The patterns, compiled at the first text: their package brings a web framework."""
    from privacy_runtime.http.injection import InputValidator as Patterns  # noqa: PLC0415

    return Patterns()


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    """Remember the newest; what strangers type must not fill the memory."""
    kept[key] = value
    if len(kept) > _WATCHED:
        kept.popitem(last=False)
