from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from privacy_core.redaction.findings import Finding
from privacy_core.redaction.overlaps import resolve_overlaps

STRENGTH = {"validated": 3, "labelled": 2, "form": 1}
findings = st.lists(
    st.builds(
        lambda start, length, label, score, rule: Finding(
            start, start + length, label, score, rule
        ),
        st.integers(0, 40),
        st.integers(1, 15),
        st.sampled_from(["A", "B"]),
        st.sampled_from([0.5, 0.9]),
        st.sampled_from(sorted(STRENGTH)),
    ),
    max_size=12,
)


def strength(finding: Finding) -> int:
    return STRENGTH[finding.rule]


@given(findings)
def test_what_stays_does_not_overlap_and_is_in_order(given_findings: list[Finding]) -> None:
    kept = resolve_overlaps(given_findings, strength, "7" * 60)
    assert all(a.end <= b.start for a, b in itertools.pairwise(kept))


@given(findings, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(given_findings: list[Finding], shuffle) -> None:  # type: ignore[no-untyped-def]
    mixed = list(given_findings)
    shuffle.shuffle(mixed)
    text = "ab12" * 15
    assert resolve_overlaps(mixed, strength, text) == resolve_overlaps(
        given_findings, strength, text
    )


@given(findings)
def test_what_a_strongest_finding_covers_stays_covered(given_findings: list[Finding]) -> None:
    kept = resolve_overlaps(given_findings, strength)
    best = max((strength(f) for f in given_findings), default=0)
    for finding in given_findings:
        if strength(finding) == best:
            assert any(k.start < finding.end and finding.start < k.end for k in kept)


def test_validated_beats_longer() -> None:
    card = Finding(5, 24, "PAYMENT_CARD", 0.9, "validated")
    phone = Finding(0, 30, "PHONE", 0.99, "form")
    assert resolve_overlaps([phone, card], strength)[0] == card


def test_longer_beats_shorter_at_equal_strength() -> None:
    long, short = Finding(0, 9, "B", 0.5, "form"), Finding(2, 9, "A", 0.9, "form")
    assert resolve_overlaps([short, long], strength) == (long,)


def test_the_rest_of_a_loser_with_digits_is_not_forgotten() -> None:
    text = "4111111111111111 12345678"
    card = Finding(0, 16, "PAYMENT_CARD", 0.9, "validated")
    phone = Finding(0, 25, "PHONE", 0.9, "form")
    kept = resolve_overlaps([card, phone], strength, text)
    assert [(f.start, f.end, f.label) for f in kept] == [(0, 16, "PAYMENT_CARD"), (17, 25, "PHONE")]
