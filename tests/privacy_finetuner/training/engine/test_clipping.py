from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_finetuner.training.engine import Clip, ClipRule

NORMS = st.floats(min_value=0.0, max_value=2.0**127, width=32) | st.sampled_from(
    [math.inf, math.nan]
)


@given(norm=NORMS, clip_norm=st.floats(1e-6, 1e6), rule=st.sampled_from(list(ClipRule)))
def test_a_factor_times_its_norm_never_passes_the_bound(
    norm: float, clip_norm: float, rule: ClipRule
) -> None:
    factor = float(Clip(clip_norm, rule).factors(torch.tensor([norm]))[0])
    assert math.isfinite(factor)
    assert factor >= 0
    if math.isfinite(norm):
        assert factor * norm <= clip_norm * (1 + 1e-6)
    else:
        assert factor == 0


@pytest.mark.parametrize("norm", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_is_a_finite_number_above_zero(norm: float) -> None:
    with pytest.raises(InvalidParameter):
        Clip(norm)
