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

WHOLE = [ClipRule.BOUND, ClipRule.NORMALISE]


@given(norm=NORMS, clip_norm=st.floats(1e-6, 1e6), rule=st.sampled_from(WHOLE))
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


@given(
    norms=st.lists(
        st.floats(min_value=0.0, max_value=2.0**60, width=32)
        | st.sampled_from([math.inf, math.nan]),
        min_size=1,
        max_size=9,
    ),
    clip_norm=st.floats(1e-6, 1e6),
    rule=st.sampled_from(list(ClipRule)),
)
def test_all_layers_of_an_example_together_never_pass_the_bound(
    norms: list[float], clip_norm: float, rule: ClipRule
) -> None:
    squares_K1 = torch.tensor(norms).square().unsqueeze(1)
    factors_K = Clip(clip_norm, rule).layer_factors(squares_K1)[:, 0].tolist()
    if not bool(torch.isfinite(squares_K1).all()):
        assert factors_K == [0.0] * len(norms)
        return
    parts = [factor * norm for factor, norm in zip(factors_K, norms, strict=True)]
    assert math.hypot(*parts) <= clip_norm * (1 + 1e-5)
    if rule is ClipRule.BOUND_LAYERS:
        assert max(parts) <= clip_norm / math.sqrt(len(norms)) * (1 + 1e-5)
    else:
        assert len(set(factors_K)) == 1


def test_a_rule_for_layers_has_no_factor_for_a_whole_gradient() -> None:
    with pytest.raises(InvalidParameter, match="bound_layers"):
        Clip(1.0, ClipRule.BOUND_LAYERS).factors(torch.ones(2))
