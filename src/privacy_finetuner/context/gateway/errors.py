"""What the gateway refuses, as a tree.

PrivacyError (privacy_core)
+-- ConfigurationError (privacy_finetuner)
|   +-- PolicyError        a policy file is not one; every problem at once, with path and line
+-- GatewayRefused         the gateway was not started, or a command could not be done
+-- MessageRefused         one message may not pass; the reason is a word of ours, never its text

A refused message reached nobody: its sender hears the reason, the other side hears nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar

from privacy_core.errors import PrivacyError
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.settings.faults import Fault


class PolicyError(ConfigurationError):
    """A policy cannot be used. Nothing was started; all problems are listed."""

    code: ClassVar[str] = "policy_error"

    def __init__(self, source: str, problems: Sequence[Fault]) -> None:
        super().__init__(source, tuple(problems))
        self.source = source
        self.problems = tuple(problems)

    def __str__(self) -> str:
        listed = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{self.source} is not a usable policy; nothing was started{listed}"


class GatewayRefused(PrivacyError):
    """The gateway was not started, or the command was not carried out. Nothing was changed."""

    code: ClassVar[str] = "gateway_refused"


class Reason(StrEnum):
    """Why a message did not pass."""

    AUDIT_FAILED = "audit_failed"
    CYCLE = "cycle"
    DETECTOR_FAILED = "detector_failed"
    DETECTOR_SLOW = "detector_slow"
    INTERNAL = "internal"
    MALFORMED = "malformed"
    NOT_ALLOWED = "not_allowed"
    NUMBER = "number"
    RATE_LIMITED = "rate_limited"
    RAW_VALUE = "raw_value"
    TOO_LARGE = "too_large"
    TOOL_CHANGED = "tool_changed"
    UNKNOWN_TOKEN = "unknown_token"  # noqa: S105  not a password
    UNKNOWN_STATE = "unknown_state"
    UPSTREAM_DOWN = "upstream_down"
    UPSTREAM_SLOW = "upstream_slow"


SENTENCES: dict[Reason, str] = {
    Reason.AUDIT_FAILED: "the audit journal cannot be written",
    Reason.CYCLE: "the message has passed this gateway before",
    Reason.DETECTOR_FAILED: "its text could not be examined",
    Reason.DETECTOR_SLOW: "examining its text took longer than the policy allows",
    Reason.INTERNAL: "the gateway could not handle it",
    Reason.MALFORMED: "the server's answer is not what the protocol says",
    Reason.NOT_ALLOWED: "the policy does not allow it",
    Reason.NUMBER: "it carries a sensitive number where the tool's schema takes no token",
    Reason.RATE_LIMITED: "more calls than the policy allows",
    Reason.RAW_VALUE: "it carries a sensitive value in clear; use the token of the value",
    Reason.TOO_LARGE: "it is larger or deeper than the policy allows",
    Reason.TOOL_CHANGED: "the tool has changed since it was approved; an operator must approve it",
    Reason.UNKNOWN_TOKEN: "it carries a token that this session did not issue",
    Reason.UNKNOWN_STATE: "its request state was not issued by this gateway, or has expired",
    Reason.UPSTREAM_DOWN: "the server behind the gateway is not available",
    Reason.UPSTREAM_SLOW: "the server behind the gateway did not answer in time",
}


class MessageRefused(PrivacyError):
    """One message may not pass. It reached nobody; the session goes on."""

    code: ClassVar[str] = "message_refused"

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"refused by the privacy gateway ({self.reason}): {SENTENCES[self.reason]}"
