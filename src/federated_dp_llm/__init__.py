"""Answers across institutions under privacy budgets.

>>> from federated_dp_llm import FederatedRouter, HospitalNode  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from federated_dp_llm.api.facade import FederatedRouter, HospitalNode
    from federated_dp_llm.config import DPConfig, DPMechanism, RouterConfig
    from federated_dp_llm.core.privacy_accountant import PrivacyAccountant
    from federated_dp_llm.core.query import Answer, Query
    from federated_dp_llm.errors import FederatedError, PrivacyBudgetExceeded

__all__ = [
    "Answer",
    "DPConfig",
    "DPMechanism",
    "FederatedError",
    "FederatedRouter",
    "HospitalNode",
    "PrivacyAccountant",
    "PrivacyBudgetExceeded",
    "Query",
    "RouterConfig",
]

_PLACES: Final = {
    "Answer": "core.query",
    "DPConfig": "config",
    "DPMechanism": "config",
    "FederatedError": "errors",
    "FederatedRouter": "api.facade",
    "HospitalNode": "api.facade",
    "PrivacyAccountant": "core.privacy_accountant",
    "PrivacyBudgetExceeded": "errors",
    "Query": "core.query",
    "RouterConfig": "config",
}
"""Loaded when asked for: a node needs no router, and a router no torch."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
