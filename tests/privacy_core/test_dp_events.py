from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_core.dp_events import (
    DEPTH_MAX,
    Composed,
    DpEvent,
    Gaussian,
    Laplace,
    MixtureOfGaussians,
    NonPrivate,
    NoOp,
    PoissonSampled,
    PoissonSelection,
    SampledWithoutReplacement,
    Selection,
    SelfComposed,
    TruncatedPoissonSampled,
    from_json,
    to_json,
)
from privacy_core.errors import InvalidParameter, MalformedEvent

noise = st.floats(min_value=1e-6, max_value=1e6, exclude_min=True)
probability = st.floats(min_value=0, max_value=1)
leaves = st.one_of(
    st.just(NoOp()),
    st.just(NonPrivate()),
    st.builds(Gaussian, noise),
    st.builds(Laplace, noise),
    st.builds(
        lambda sigma, p: MixtureOfGaussians(sigma, (0.0, 1.0, 2.5), (1 - p, p / 2, p - p / 2)),
        noise,
        probability,
    ),
)


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(PoissonSampled, probability, inner),
        st.builds(
            TruncatedPoissonSampled,
            st.integers(1, 10**6),
            probability,
            st.integers(1, 10**4),
            inner,
        ),
        st.builds(SampledWithoutReplacement, st.just(100), st.integers(0, 100), inner),
        st.builds(SelfComposed, inner, st.integers(0, 10**9)),
        st.builds(Selection, inner, st.floats(-0.9, 10), st.floats(1e-6, 1)),
        st.builds(PoissonSelection, inner, noise),
        st.builds(lambda parts: Composed(tuple(parts)), st.lists(inner, max_size=3)),
    )


events = st.recursive(leaves, _grown, max_leaves=6)


@settings(deadline=None, max_examples=200)
@given(event=events)
def test_an_event_survives_its_json_form(event: DpEvent) -> None:
    text = json.dumps(to_json(event))

    assert from_json(json.loads(text)) == event


@settings(deadline=None, max_examples=50)
@given(event=events)
def test_equal_events_hash_equally(event: DpEvent) -> None:
    assert hash(from_json(to_json(event))) == hash(event)


DOCUMENT = {"version": 1, "event": {"type": "Gaussian", "noise_multiplier": 1.0}}


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ([], "an event document is an object"),
        ({"version": 2, "event": {}}, "version 2"),
        ({"event": {"type": "NoOp"}}, "version None"),
        ({"version": 1}, "event is an object"),
        ({"version": 1, "event": {"type": "Free"}}, "event.type is 'Free'"),
        ({"version": 1, "event": {"type": "Gaussian"}}, "has fields"),
        ({"version": 1, "event": {"type": "NoOp", "cost": 0}}, "has fields"),
        ({"version": 1, "event": {"type": "Gaussian", "noise_multiplier": "1"}}, "is a number"),
        ({"version": 1, "event": {"type": "Gaussian", "noise_multiplier": True}}, "is a number"),
        ({"version": 1, "event": {"type": "Gaussian", "noise_multiplier": 10**400}}, "2.63"),
        ({"version": 1, "event": {"type": "Gaussian", "noise_multiplier": -1.0}}, "noise_mult"),
        ({"version": 1, "event": {"type": "Gaussian", "noise_multiplier": math.nan}}, "noise_m"),
        ({"version": 1, "event": {"type": "Composed", "events": {}}}, "is a list"),
        (
            {"version": 1, "event": {"type": "Composed", "events": [{"type": "NoOp"}, 3]}},
            r"event\.events\[1\]",
        ),
        (
            {
                "version": 1,
                "event": {"type": "SelfComposed", "count": 2.5, "event": {"type": "NoOp"}},
            },
            "count is 2.5",
        ),
    ],
)
def test_a_document_that_is_not_an_event_is_refused_with_its_place(
    document: object, place: str
) -> None:
    with pytest.raises(MalformedEvent, match=place):
        from_json(document)


def test_a_bottomless_document_is_refused() -> None:
    event: dict[str, Any] = {"type": "NoOp"}
    for _ in range(DEPTH_MAX + 1):
        event = {"type": "SelfComposed", "count": 1, "event": event}

    with pytest.raises(MalformedEvent, match="nested"):
        from_json({"version": 1, "event": event})


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(0.0),
        lambda: Gaussian(math.inf),
        lambda: Gaussian(math.nan),
        lambda: Laplace(-1.0),
        lambda: PoissonSampled(1.1, NoOp()),
        lambda: PoissonSampled(math.nan, NoOp()),
        lambda: TruncatedPoissonSampled(0, 0.1, 1, NoOp()),
        lambda: TruncatedPoissonSampled(10, 0.1, 0, NoOp()),
        lambda: SampledWithoutReplacement(10, 11, NoOp()),
        lambda: SelfComposed(NoOp(), -1),
        lambda: SelfComposed(NoOp(), True),
        lambda: MixtureOfGaussians(1.0, (), ()),
        lambda: MixtureOfGaussians(1.0, (1.0,), (0.5, 0.5)),
        lambda: MixtureOfGaussians(1.0, (-1.0, 1.0), (0.5, 0.5)),
        lambda: MixtureOfGaussians(1.0, (0.0, 1.0), (0.5, 0.6)),
    ],
)
def test_a_number_outside_its_domain_is_refused(make: Any) -> None:
    with pytest.raises(InvalidParameter):
        make()
