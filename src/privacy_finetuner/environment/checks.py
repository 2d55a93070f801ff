"""What is wrong between keys, and what deserves a word though it is not wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from privacy_core.accounting import calibrate_noise_multiplier, dp_sgd_event, epsilon_of
from privacy_core.errors import PrivacyError
from privacy_finetuner.environment.neighbours import Guard, Router
from privacy_finetuner.environment.sections import Environment, Privacy
from privacy_runtime.secret import Secret
from privacy_runtime.settings.domains import Address, password_of
from privacy_runtime.settings.faults import Fault
from privacy_runtime.settings.schema import Conflict, Setting

KNOWN_PASSWORDS: Final = frozenset(
    {
        "admin", "change-me", "change_me", "changeme", "default", "grafana", "letmein", "password",
        "postgres", "prom-operator", "redis", "root", "secret", "test", "default-secret-key",
    }
)  # fmt: skip
"""What products, charts and examples ship with."""
_POSTGRES_CONNECTIONS: Final = 97  # 100 by default, three of them kept for its administrators
_EXAMPLE_RATE: Final = 0.01
_MOST_STEPS: Final = 1_000_000


def conflicts(values: Environment) -> Iterator[Conflict]:
    """Values that cannot be together."""
    yield from _production(values)
    yield from _passwords(values)
    yield from _bounds(values)
    yield from _refused(values)
    yield from _halves(values)


def noise_fault(privacy: Privacy, *, sample_rate: float, steps: int) -> Fault | None:
    """Whether a training with the configured noise would stay within the configured epsilon.

    Args:
        privacy: the section; without a noise multiplier there is nothing to contradict.
        sample_rate: probability of each record to join a step, in (0, 1].
        steps: how many.

    Raises:
        InvalidParameter: the rate or the steps are outside their domain.
        UnsupportedEvent: the accountant does not price sampled batches.
        CalibrationFailed: no noise is enough for so many steps.
    """
    if privacy.noise_multiplier is None:
        return None
    cost = _epsilon(privacy, sample_rate, steps)
    if cost <= privacy.epsilon:
        return None
    enough = calibrate_noise_multiplier(
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        sample_rate=sample_rate,
        steps=steps,
        accountant=privacy.accounting_mode,
    )
    enough = math.ceil(enough * 1e4) / 1e4  # what is written down must be enough as well
    expected = f"at least {enough:.10g}, or fewer steps, or null to have it solved"
    return Fault(
        "privacy.noise_multiplier",
        0,
        f"is {privacy.noise_multiplier:g}: {steps:,} steps at sampling rate {sample_rate:g} cost "
        f"epsilon {cost:.6g} at delta {privacy.delta:g} ({privacy.accounting_mode}), and "
        f"privacy.epsilon is {privacy.epsilon:g}; expected {expected}",
        source="the planned training",
        value=f"{privacy.noise_multiplier:g}",
        expected=expected,
    )


def notes(values: Environment, settings: Mapping[str, Setting]) -> Iterator[str]:
    """What is allowed and deserves a word. `settings` says where each value came from."""
    privacy = values.privacy
    for path, setting in settings.items():
        if _is_written_out(setting):
            yield f"{path} holds a password in {setting.place}; ${{NAME}} keeps it out of the file"
    if privacy.noise_multiplier is not None:
        yield _noise_note(privacy)
    if not privacy.secure_rng:
        yield "privacy.secure_rng is false: reports and certificates will say so"
    most = values.database.pool_size + values.database.max_overflow
    if most > _POSTGRES_CONNECTIONS and values.database.url.reveal().startswith("postgresql"):
        yield (
            f"database.pool_size and max_overflow allow {most} connections a process; a PostgreSQL "
            f"server admits {_POSTGRES_CONNECTIONS} unless its max_connections was raised"
        )
    if values.monitoring.prometheus.enabled and values.monitoring.prometheus.port == 9090:
        yield "monitoring.prometheus.port is 9090, where a Prometheus server itself listens"


def _is_written_out(setting: Setting) -> bool:
    """Whether a secret stands in a file in so many words."""
    if not isinstance(setting.value, Secret) or not setting.place.line or setting.parts:
        return False
    return not isinstance(setting.entry.key.domain, Address) or bool(password_of(setting.value))


def _production(values: Environment) -> Iterator[Conflict]:
    if values.environment == "production" and values.debug:
        yield Conflict(("debug", "environment"), "false in production: debugging shows insides")
    grafana = values.monitoring.grafana
    if values.environment == "production" and grafana.enabled and grafana.admin_password is None:
        yield Conflict(
            ("monitoring.grafana.admin_password", "monitoring.grafana.enabled", "environment"),
            "a password: without one Grafana takes the one that everybody knows",
        )


def _passwords(values: Environment) -> Iterator[Conflict]:
    if values.environment in ("development", "testing"):
        return
    addresses = (("database.url", values.database.url), ("redis.url", values.redis.url))
    texts = (
        ("monitoring.grafana.admin_password", values.monitoring.grafana.admin_password),
        ("oidc.client_secret", values.oidc.client_secret),
        ("notify.mail.password", values.notify.mail.password),
        ("router.key", values.router.key),
        ("guard.key", values.guard.key),
    )
    given = [(path, *_credentials(secret)) for path, secret in addresses if secret is not None]
    given += [(path, "", hidden.reveal()) for path, hidden in texts if hidden is not None]
    for path, user, password in given:
        if password and (password.lower() in KNOWN_PASSWORDS or password == user):
            yield Conflict(
                (path, "environment"),
                "a password of your own outside development: this one ships with products, or is "
                "the user's name",
            )


def _bounds(values: Environment) -> Iterator[Conflict]:
    database, policy = values.database, values.scaling.scaling_policy
    if database.pool_size + database.max_overflow > 1000:
        paths = ("database.max_overflow", "database.pool_size")
        yield Conflict(paths, "at most 1000 connections together")
    at = "scaling.scaling_policy"
    if policy.min_nodes > policy.max_nodes:
        yield Conflict((f"{at}.min_nodes", f"{at}.max_nodes"), "at most max_nodes")
    for name in ("cpu_utilization", "gpu_utilization"):
        down = getattr(policy.scale_down_threshold, name)
        if down >= getattr(policy.scale_up_threshold, name):
            paths = (f"{at}.scale_down_threshold.{name}", f"{at}.scale_up_threshold.{name}")
            yield Conflict(paths, "less than where nodes are added, or they come and go for ever")
    for name in ("default_locale", "fallback_locale"):
        if getattr(values.i18n, name) not in values.i18n.supported_locales:
            yield Conflict((f"i18n.{name}", "i18n.supported_locales"), "one that is supported")
    prometheus, grafana = values.monitoring.prometheus, values.monitoring.grafana
    if prometheus.enabled and grafana.enabled and prometheus.port == grafana.port:
        paths = ("monitoring.grafana.port", "monitoring.prometheus.port")
        yield Conflict(paths, "another port")


def _refused(values: Environment) -> Iterator[Conflict]:
    """What this version cannot do, and would rather say than ignore."""
    if values.privacy.federated.enabled:
        yield Conflict(
            ("privacy.federated.enabled",),
            "false: jobs of this service train in one place. Sites that must not share records "
            "answer together through the router (federated-dp-llm)",
        )


def _halves(values: Environment) -> Iterator[Conflict]:
    """Half of something that needs its other half."""
    yield from _neighbours(values)
    oidc, notify, mail = values.oidc, values.notify, values.notify.mail
    needed = {"client_id": oidc.client_id, "organisation": oidc.organisation, "roles": oidc.roles}
    for name, value in needed.items() if oidc.issuer is not None else ():
        if not value:
            yield Conflict((f"oidc.{name}", "oidc.issuer"), "a value: the issuer needs it")
    if notify.mail_to and mail.host is None:
        yield Conflict(("notify.mail.host", "notify.mail_to"), "the server that takes mail")
    if mail.host is not None and mail.sender is None:
        yield Conflict(("notify.mail.sender", "notify.mail.host"), "in whose name mail is sent")
    if (mail.user is None) != (mail.password is None):
        yield Conflict(("notify.mail.user", "notify.mail.password"), "both, or neither")
    is_here = mail.host in ("localhost", "127.0.0.1", "::1")
    if mail.security == "none" and mail.host is not None and not is_here:
        paths = ("notify.mail.security", "notify.mail.host")
        yield Conflict(paths, "starttls or tls for a server elsewhere")
    if notify.slack_url is not None and not notify.slack_url.reveal().startswith("https://"):
        yield Conflict(("notify.slack_url",), "an address that begins with https://")
    for text in (*notify.allowed_networks, *values.service.proxies):
        if not _is_network(text):
            path = (
                "notify.allowed_networks" if text in notify.allowed_networks else "service.proxies"
            )
            yield Conflict((path,), "addresses and networks such as 10.0.0.0/8, without host bits")


def _neighbours(values: Environment) -> Iterator[Conflict]:
    """Halves of what stands beside the service."""
    intake, law = values.intake, values.compliance
    if intake.stream is not None and values.redis.url is None:
        yield Conflict(("redis.url", "intake.stream"), "where the stream is")
    if intake.stream is not None and intake.user is None:
        yield Conflict(("intake.user", "intake.stream"), "in whose name jobs are started")
    yield from _halves_of("router", values.router, values.environment)
    yield from _halves_of("guard", values.guard, values.environment)
    if law.auto_remediation and not law.enable_real_time_monitoring:
        paths = ("compliance.enable_real_time_monitoring", "compliance.auto_remediation")
        yield Conflict(paths, "true: what is not watched cannot be put right")


def _halves_of(name: str, place: Router | Guard, environment: str) -> Iterator[Conflict]:
    """What a page shows needs a key, which goes to this machine or over TLS."""
    if place.url is None:
        return
    url, key = f"{name}.url", f"{name}.key"
    if place.key is None:
        yield Conflict((key, url), f"a key of the {name}: it shows nothing without")
    if environment not in ("development", "testing"):
        at = urlsplit(place.url.reveal())
        is_here = at.hostname in ("localhost", "127.0.0.1", "::1")
        if at.scheme != "https" and not is_here:
            yield Conflict((url, "environment"), "https: a key is sent there")


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _credentials(address: Secret) -> tuple[str, str]:
    parts = urlsplit(address.reveal())
    return unquote(parts.username or ""), unquote(parts.password or "")


def _noise_note(privacy: Privacy) -> str:
    both = (
        f"privacy.epsilon {privacy.epsilon:g} and privacy.noise_multiplier "
        f"{privacy.noise_multiplier:g} are both set: a run takes the noise as given and stops "
        "before the step that would exceed epsilon"
    )
    try:
        steps = _affordable(privacy)
    except PrivacyError as error:
        return f"{both}; {error}"
    if steps == 0:
        fits = "not even one step fits"
    elif steps >= _MOST_STEPS:
        fits = f"over {_MOST_STEPS:,} steps fit"
    else:
        fits = f"{steps:,} steps fit"
    return f"{both}; at sampling rate {_EXAMPLE_RATE:g}, {fits}"


def _affordable(privacy: Privacy) -> int:
    """The most steps at the example's rate that stay within epsilon: the price grows with them."""
    low, high = 0, 1
    while high < _MOST_STEPS and _epsilon(privacy, _EXAMPLE_RATE, high) <= privacy.epsilon:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _epsilon(privacy, _EXAMPLE_RATE, middle) <= privacy.epsilon:
            low = middle
        else:
            high = middle
    return low


def _epsilon(privacy: Privacy, sample_rate: float, steps: int) -> float:
    event = dp_sgd_event(
        noise_multiplier=privacy.noise_multiplier or 0.0, sample_rate=sample_rate, steps=steps
    )
    return epsilon_of(event, privacy.delta, privacy.accounting_mode)
