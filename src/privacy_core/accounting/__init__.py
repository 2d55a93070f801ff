"""Prices of private acts: epsilon and delta as upper bounds, and parameters that meet a target.

>>> event = dp_sgd_event(noise_multiplier=1.0, sample_rate=0.01, steps=1000)
>>> round(epsilon_of(event, delta=1e-5), 2)
1.83
"""

from __future__ import annotations

from privacy_core.accounting.accountant import (
    Accountant,
    accountant_named,
    accountant_names,
    delta_of,
    epsilon_of,
)
from privacy_core.accounting.calibration import (
    calibrate,
    calibrate_noise_multiplier,
    calibrate_sample_rate,
    calibrate_steps,
)
from privacy_core.accounting.dominating_gaussian import (
    DominatingGaussian,
    dominating_gaussian,
    gdp_epsilon_bound,
)
from privacy_core.accounting.dp_sgd import dp_sgd_event
from privacy_core.accounting.filters import LEDGER_ORDERS, GdpFilter, RdpFilter, ledger_curve
from privacy_core.accounting.rdp import ORDERS, delta_from_rdp, epsilon_from_rdp, rdp_curve
from privacy_core.accounting.sampling_schemes import SamplingScheme, Schedule, scheme_event

__all__ = [
    "LEDGER_ORDERS",
    "ORDERS",
    "Accountant",
    "DominatingGaussian",
    "GdpFilter",
    "RdpFilter",
    "SamplingScheme",
    "Schedule",
    "accountant_named",
    "accountant_names",
    "calibrate",
    "calibrate_noise_multiplier",
    "calibrate_sample_rate",
    "calibrate_steps",
    "delta_from_rdp",
    "delta_of",
    "dominating_gaussian",
    "dp_sgd_event",
    "epsilon_from_rdp",
    "epsilon_of",
    "gdp_epsilon_bound",
    "ledger_curve",
    "rdp_curve",
    "scheme_event",
]
