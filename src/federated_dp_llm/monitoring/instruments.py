"""Every figure that the router measures; docs/router.md shows this table.

The documented names are kept. Labels are closed sets or bounded: nothing that a client sends
becomes a series. Budgets carry user names and are for the operator alone.
"""

from __future__ import annotations

from typing import Final

from privacy_runtime.metrics import Audience, Instrument, Kind, Label

REQUEST_LATENCY: Final = Instrument(
    name="request_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Time from a request's head to its answer's last byte.",
    unit="seconds",
    labels=(Label("endpoint", most=64),),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
REQUEST_COUNT: Final = Instrument(
    name="requests_total",
    kind=Kind.COUNTER,
    help="Requests answered, by route template; unknown paths are one endpoint.",
    labels=(
        Label("method", ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")),
        Label("endpoint", most=64),
    ),
)
ERROR_COUNT: Final = Instrument(
    name="errors_total",
    kind=Kind.COUNTER,
    help="Refusals and failures, by status.",
    labels=(Label("error_type", most=32),),
)
ANSWERS: Final = Instrument(
    name="answers_total",
    kind=Kind.COUNTER,
    help="Answers, by mechanism.",
    labels=(Label("mechanism", ("private_decoding", "noisy_vote", "public")),),
)
TOKENS: Final = Instrument(
    name="released_tokens_total",
    kind=Kind.COUNTER,
    help="Tokens that were released, by mechanism.",
    labels=(Label("mechanism", ("private_decoding", "noisy_vote", "public")),),
)
PRIVACY_BUDGET_CONSUMED: Final = Instrument(
    name="privacy_budget_consumed",
    kind=Kind.GAUGE,
    help="Epsilon that a user's whole history costs; the largest come first.",
    unit="epsilon",
    labels=(Label("user_id", most=200),),
    audience=Audience.OPERATOR,
)
DP_NOISE_SCALE: Final = Instrument(
    name="dp_noise_scale",
    kind=Kind.HISTOGRAM,
    help="Standard deviation of the noise on votes, in slots. Text has none: it is drawn.",
    unit="slots",
    buckets=(0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
)
AUTH_FAILURES: Final = Instrument(
    name="auth_failures_total", kind=Kind.COUNTER, help="Logins and credentials that were refused."
)
ACCESS_VIOLATIONS: Final = Instrument(
    name="access_violations_total", kind=Kind.COUNTER, help="Requests that were not allowed."
)
ALERTS: Final = Instrument(
    name="security_alerts_total",
    kind=Kind.COUNTER,
    help="Alerts, by kind.",
    labels=(
        Label("kind", ("brute_force", "unusual_consumption", "suspicious_input", "certificate")),
    ),
)
REDACTED: Final = Instrument(
    name="prompt_values_redacted_total",
    kind=Kind.COUNTER,
    help="Values that left as tokens, by type.",
    labels=(Label("type", most=80),),
)
IN_FLIGHT: Final = Instrument(
    name="answers_in_flight", kind=Kind.GAUGE, help="Answers that are being made."
)
CACHE_HIT_RATIO: Final = Instrument(
    name="cache_hit_ratio", kind=Kind.GAUGE, help="Of look-ups in the cache of released answers."
)
NODES: Final = Instrument(
    name="nodes",
    kind=Kind.GAUGE,
    help="Registered nodes, by whether they can be asked.",
    labels=(Label("state", ("ready", "away")),),
)
NODE_TLS: Final = Instrument(
    name="node_channels",
    kind=Kind.GAUGE,
    help="Nodes, by the key exchange of their latest connection.",
    labels=(Label("group", ("X25519MLKEM768", "X25519", "other", "none")),),
)
CLIENT_TLS: Final = Instrument(
    name="client_channels",
    kind=Kind.GAUGE,
    help="Connections of clients since the start, by key exchange; refused: it was not hybrid.",
    labels=(Label("group", ("X25519MLKEM768", "X25519", "other", "refused")),),
)
CERTIFICATE_LEFT: Final = Instrument(
    name="certificate_expiry_seconds",
    kind=Kind.GAUGE,
    help="Until a certificate ends: the router's own towards nodes, and every node's.",
    unit="seconds",
    labels=(Label("whose", most=200),),
)

TABLE: Final[tuple[Instrument, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Instrument)
)
"""All rows, in the order above."""
