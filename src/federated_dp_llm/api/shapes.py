"""Bodies and answers of the routes, as they are documented.

What is asked is checked here: unknown fields, wrong types, numbers that are not finite. Limits that
an administrator may change are checked where the request is asked.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from federated_dp_llm.config import NAME
from privacy_runtime.identity import Role

_LONGEST_SECRET: Final = 4096
_PROMPT_MOST: Final = 1_000_000
NAME_PATTERN: Final = f"^{NAME.pattern}$"

Epsilon = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False, examples=[1.0])]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64, examples=["emergency"])]
UserId = Annotated[str, Field(min_length=1, max_length=128, examples=["doctor_smith"])]
Password = Annotated[str, Field(min_length=1, max_length=_LONGEST_SECRET)]
Code = Annotated[str, Field(min_length=1, max_length=64, examples=["123456"])]
Reason = Annotated[str, Field(min_length=8, max_length=1000, pattern=r"^[^\x00]*$")]


class Body(BaseModel):
    """What is sent: nothing beside the known fields, and no type for another."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Shown(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True)


class InferenceRequest(Body):
    """One question.

    `user_id` may be left out: the token says who asks, and another name is refused.
    """

    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=_PROMPT_MOST,
            pattern=r"\S",
            examples=["Analyze patient symptoms: fever, cough, fatigue"],
        ),
    ]
    max_tokens: Annotated[int, Field(ge=1, le=16_384)] = 512
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.7
    privacy_budget: Epsilon | None = None
    require_consensus: bool = False
    priority: Annotated[int, Field(ge=1, le=5)] = 3
    department: Name | None = None
    user_id: UserId | None = None
    context: Literal["records", "none"] | None = None
    labels: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^\S(.*\S)?$")]],
        Field(max_length=64),
    ] = []
    public_tail: bool = False
    cohort: Name = "all"
    stream: bool = False


class PromptRewriting(Shown):
    """What local differential privacy says of the prompt; of nobody's record.

    `epsilon`: of the whole prompt, `tokens` times `epsilon_per_token`: large wherever the words can
    still be read, and then no protection to rely on.
    """

    epsilon: float
    epsilon_per_token: float
    tokens: int


class InferenceAnswer(Shown):
    """The documented answer, and what it rests on."""

    success: Literal[True] = True
    response: str
    privacy_cost: float
    remaining_budget: float
    node_id: str
    processing_time: float
    consensus_reached: bool | None
    confidence_score: float | None
    confidence_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    request_id: str
    finish_reason: Literal["stop", "length", "privacy_budget", "public_tail"]
    mechanism: Literal["private_decoding", "noisy_vote", "public"]
    slots: int
    rho: float
    delta: float
    prompt_tokens: int
    completion_tokens: int
    public_support: float | None
    public_from: int | None
    round_trips: int
    cached: bool
    redacted: dict[str, int]
    rewriting: PromptRewriting | None


class LoginRequest(Body):
    """A user, a password, and a code where there is a second factor."""

    user_id: UserId
    password: Password
    mfa_code: Code | None = None


class LoginAnswer(Shown):
    """A token of this login. `privacy_budget`: what was left at that moment; decides nothing."""

    token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  the name of a type
    expires_in: int
    refresh_token: str
    user_id: str
    department: str | None
    permissions: list[str]
    privacy_budget: float


class RefreshRequest(Body):
    """The newest refresh token of a login; it can be used once."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=128)]


class PasswordRequest(Body):
    """A password and its successor: also the way out of one that is for one use."""

    user_id: UserId
    old_password: Password
    new_password: Password
    mfa_code: Code | None = None


class CodeRequest(Body):
    """The first code of a new authenticator."""

    code: Code


class Enrolment(Shown):
    """A seed for an authenticator, shown once."""

    secret: str
    uri: str


class RecoveryCodes(Shown):
    """Ten codes, each for one login without the authenticator; shown once."""

    recovery_codes: list[str]


class KeyRequest(Body):
    """A key for a program of one's own: it may ask questions and read one's budget."""

    label: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[ -~]+$")]
    valid_days: Annotated[int, Field(ge=1, le=366)] = 90


class KeyIssued(Shown):
    """A new key, shown once."""

    id: str
    api_key: str
    expires_at: datetime


class Done(Shown):
    """It was done."""

    done: Literal[True] = True


class BudgetAnswer(Shown):
    """The documented budget. Nothing refills: `daily_limit` is what is left of the lifetime."""

    user_id: str
    total_budget: float
    consumed: float
    held: float
    remaining: float
    daily_limit: float
    delta: float
    last_refresh: None = None
    next_refresh: None = None


class BudgetLine(Shown):
    """One user in the overview."""

    total_budget: float
    consumed: float
    remaining: float
    percentage_used: float


class BudgetStatus(Shown):
    """Every user who asked, and every department."""

    delta: float
    users: dict[str, BudgetLine]
    departments: dict[str, BudgetLine]


class BudgetHistory(Shown):
    """What a user's answers cost: the latest ones, and each day's sum."""

    user_id: str
    answers: list[dict[str, Any]]
    days: dict[str, float]


class GrantRequest(Body):
    """More for a user, over their lifetime, and why."""

    epsilon: Epsilon
    reason: Reason


class UserRequest(Body):
    """A new user and where they belong."""

    user_id: UserId
    role: Annotated[Role, Field(strict=False)]
    departments: Annotated[list[Name], Field(min_length=1, max_length=32)]


class UserCreated(Shown):
    """A new user, and a password for one use, shown once."""

    user_id: str
    role: Role
    departments: list[str]
    one_time_password: str


class DepartmentsRequest(Body):
    """To which departments a user belongs; the first is the default."""

    departments: Annotated[list[Name], Field(min_length=1, max_length=32)]


class UserAnswer(Shown):
    """A user, as administrators see one."""

    user_id: str
    role: Role
    departments: list[str]
    is_disabled: bool
    has_second_factor: bool


class NodeRequest(Body):
    """The documented node."""

    node_id: Name
    endpoint: Annotated[
        str, Field(pattern=r"^https?://[^\s/?#@]+/?$", max_length=512, examples=["https://a:8443"])
    ]
    compute_capacity: Annotated[str, Field(max_length=64)] = ""
    specializations: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=32)
    ] = []
    security_level: Annotated[str, Field(max_length=32)] = ""
    slots: Annotated[int, Field(ge=0, le=65_536)] = 0


class NodeAnswer(Shown):
    """A node as it is registered, and how it stands."""

    node_id: str
    endpoint: str
    slots: int
    compute_capacity: str
    specializations: list[str]
    security_level: str
    state: str
    tls_group: str | None = None


class PrivacyChange(Body):
    """What of the section `privacy` may be changed."""

    epsilon_per_query: Epsilon | None = None
    max_epsilon_per_query: Epsilon | None = None
    max_budget_per_user: Epsilon | None = None
    max_budget_per_department: Epsilon | None = None
    delta: Annotated[float | None, Field(gt=0, lt=1, allow_inf_nan=False)] = None


class PerformanceChange(Body):
    """What of the section `performance` may be changed."""

    max_concurrent_requests: Annotated[int | None, Field(ge=1, le=100_000)] = None
    cache_size: Annotated[int | None, Field(ge=0, le=10_000_000)] = None
    connection_pool_size: Annotated[int | None, Field(ge=1, le=10_000)] = None
    max_prompt_characters: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=16_384)] = None


class SecurityChange(Body):
    """What of the section `security` may be changed."""

    token_expiry_hours: Annotated[float | None, Field(ge=0.25, le=24, allow_inf_nan=False)] = None
    require_mfa: bool | None = None
    audit_retention_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    unusual_factor: Annotated[float | None, Field(gt=1, le=1000, allow_inf_nan=False)] = None


class ConfigRequest(Body):
    """The documented change; `reason` is needed where a lifetime cap changes."""

    privacy: PrivacyChange = PrivacyChange()
    performance: PerformanceChange = PerformanceChange()
    security: SecurityChange = SecurityChange()
    reason: Reason | None = None


class ConfigAnswer(Shown):
    """The configuration that may be changed, and what a change did."""

    privacy: dict[str, Any]
    performance: dict[str, Any]
    security: dict[str, Any]
    changed: list[str] = []
    needs_restart: list[str] = []
    notes: list[str] = []


class Health(Shown):
    """The documented health. A figure that is not known is null."""

    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    version: str
    components: dict[str, str]
    metrics: dict[str, float | None]
