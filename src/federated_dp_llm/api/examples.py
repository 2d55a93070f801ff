"""One example of each body and answer, put into the OpenAPI document and checked by its schemas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_ANSWER: Final = {
    "success": True,
    "response": "For clagelynia, the drug given is minisin.",
    "privacy_cost": 0.84,
    "remaining_budget": 9.41,
    "node_id": "hospital_a+hospital_b+hospital_c",
    "processing_time": 0.75,
    "consensus_reached": True,
    "confidence_score": 0.86,
    "confidence_interval": [0.78, 0.94],
    "request_id": "q_5b0c2f0d9a7e41c8b1d3e6f7a8b9c0d1",
    "finish_reason": "stop",
    "mechanism": "private_decoding",
    "slots": 96,
    "rho": 0.0121,
    "delta": 1e-05,
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "public_support": -0.41,
    "public_from": None,
    "round_trips": 3,
    "cached": False,
    "redacted": {"PERSON": 1},
    "rewriting": None,
}
_USAGE: Final = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "privacy_cost": 0.84,
    "remaining_budget": 9.41,
}
_PRIVACY: Final = {k: v for k, v in _ANSWER.items() if k not in ("success", "response")}
_TEXT: Final = _ANSWER["response"]
_PASSWORD: Final = "quince umbrella 47 fjord"  # noqa: S105  the documents' own example
_NODE: Final = {
    "node_id": "hospital_a",
    "endpoint": "https://hospital-a.local:8443",
    "compute_capacity": "4xA100",
    "specializations": ["cardiology", "emergency"],
    "security_level": "high",
    "slots": 32,
}
_LIVE: Final[Mapping[str, Mapping[str, Any]]] = {
    "privacy": {"epsilon_per_query": 0.1, "max_budget_per_user": 10.0},
    "performance": {"max_concurrent_requests": 100, "cache_size": 1000},
    "security": {"token_expiry_hours": 8.0, "require_mfa": False},
}
_BUDGET: Final = {"total_budget": 10.0, "consumed": 2.5, "remaining": 7.5}

EXAMPLES: Final[Mapping[str, Any]] = {
    "InferenceRequest": {
        "prompt": "Which drug is given for clagelynia?",
        "max_tokens": 64,
        "temperature": 0.7,
        "privacy_budget": 1.0,
        "require_consensus": True,
        "priority": 3,
        "department": "emergency",
    },
    "InferenceAnswer": _ANSWER,
    "ChatRequest": {
        "model": "private",
        "messages": [{"role": "user", "content": "Which drug is given for clagelynia?"}],
        "max_tokens": 64,
        "privacy_budget": 1.0,
    },
    "ChatCompletion": {
        "id": "chatcmpl-q_5b0c2f0d9a7e41c8b1d3e6f7a8b9c0d1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "private",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": _TEXT, "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": _USAGE,
        "privacy": _PRIVACY,
    },
    "CompletionRequest": {"model": "public", "prompt": "For a fever", "max_tokens": 16},
    "TextCompletion": {
        "id": "cmpl-q_5b0c2f0d9a7e41c8b1d3e6f7a8b9c0d1",
        "object": "text_completion",
        "created": 1_760_000_000,
        "model": "public",
        "choices": [{"index": 0, "text": _TEXT, "finish_reason": "length", "logprobs": None}],
        "usage": _USAGE,
        "privacy": _PRIVACY,
    },
    "ModelList": {
        "object": "list",
        "data": [
            {
                "id": "private",
                "object": "model",
                "created": 0,
                "owned_by": "federated-dp-llm",
                "reads_records": True,
            }
        ],
    },
    "LoginRequest": {"user_id": "doctor_smith", "password": _PASSWORD, "mfa_code": "123456"},
    "LoginAnswer": {
        "token": "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1XzEifQ.c2ln",
        "token_type": "bearer",
        "expires_in": 3600,
        "refresh_token": "r_Jx2uV7Zb",
        "user_id": "doctor_smith",
        "department": "emergency",
        "permissions": ["models:query"],
        "privacy_budget": 9.41,
    },
    "RefreshRequest": {"refresh_token": "r_Jx2uV7Zb"},
    "PasswordRequest": {
        "user_id": "doctor_smith",
        "old_password": "one-time-4711-lantern",
        "new_password": _PASSWORD,
    },
    "CodeRequest": {"code": "123456"},
    "KeyRequest": {"label": "ward round script", "valid_days": 90},
    "GrantRequest": {"epsilon": 2.0, "reason": "study 17, approved by the privacy board"},
    "BudgetAnswer": {
        "user_id": "doctor_smith",
        **_BUDGET,
        "held": 0.0,
        "daily_limit": 7.5,
        "delta": 1e-05,
        "last_refresh": None,
        "next_refresh": None,
    },
    "BudgetStatus": {
        "delta": 1e-05,
        "users": {"doctor_smith": {**_BUDGET, "percentage_used": 25.0}},
        "departments": {
            "emergency": {
                "total_budget": 100.0,
                "consumed": 2.5,
                "remaining": 97.5,
                "percentage_used": 2.5,
            }
        },
    },
    "BudgetHistory": {
        "user_id": "doctor_smith",
        "answers": [
            {
                "at": "2026-11-22T08:00:00Z",
                "request_id": "q_5b0c2f0d9a7e41c8b1d3e6f7a8b9c0d1",
                "mechanism": "private_decoding",
                "privacy_cost": 0.84,
                "rho": 0.0121,
                "tokens": 12,
                "cohort": "all",
                "department": "emergency",
            }
        ],
        "days": {"2026-11-22": 0.84},
    },
    "UserRequest": {
        "user_id": "doctor_smith",
        "role": "analyst",
        "departments": ["emergency"],
    },
    "DepartmentsRequest": {"departments": ["emergency", "surgery"]},
    "NodeRequest": _NODE,
    "NodeAnswer": {**_NODE, "state": "healthy", "tls_group": "X25519MLKEM768"},
    "ConfigRequest": {**_LIVE, "reason": "caps of the new department"},
    "ConfigAnswer": {**_LIVE, "changed": ["performance.cache_size"], "needs_restart": [],
                     "notes": []},
    "Health": {
        "status": "healthy",
        "timestamp": "2026-11-22T08:00:00Z",
        "version": "1.0.0",
        "components": {"journal": "healthy", "nodes": "healthy"},
        "metrics": {"requests_per_second": 12.5, "average_latency": 0.85},
    },
}  # fmt: skip
"""By the name of the schema."""


def with_examples(make: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """An application's `openapi` with an example at each of these schemas."""

    def openapi() -> dict[str, Any]:
        document = make()
        schemas = document["components"]["schemas"]
        for name, example in EXAMPLES.items():
            schemas[name]["examples"] = [example]
        return document

    return openapi
