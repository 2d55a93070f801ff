"""What the router is told: budgets (`DPConfig`), and a deployment as a whole (`RouterConfig`)."""

from federated_dp_llm.config.budgets import DPConfig, DPMechanism
from federated_dp_llm.config.reading import KEYS, RouterConfig
from federated_dp_llm.config.sections import NAME, Cohort, Department, NodeSpec

__all__ = [
    "KEYS",
    "NAME",
    "Cohort",
    "DPConfig",
    "DPMechanism",
    "Department",
    "NodeSpec",
    "RouterConfig",
]
