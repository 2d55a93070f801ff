from __future__ import annotations

from typing import Any

import pytest

from privacy_core.budget import Scope, ScopeKind, parse_scope, protection, quota
from privacy_core.errors import InvalidParameter


@pytest.mark.parametrize(
    "scope",
    [
        protection("hospital-a", "2026-08"),
        protection("hospital-a", "2026-08", "subject 7"),
        quota("clinic"),
        quota("clinic", "research", "ada", "triage", "training"),
    ],
    ids=str,
)
def test_a_name_comes_back(scope: Scope) -> None:
    assert parse_scope(str(scope)) == scope


def test_a_quota_implies_those_above_it_and_a_block_stands_alone() -> None:
    leaf = quota("clinic", "research", "ada")

    assert leaf.with_ancestors == (quota("clinic"), quota("clinic", "research"), leaf)
    block = protection("hospital-a", "2026-08", "s7")
    assert block.with_ancestors == (block,)


def test_scopes_sort_the_same_way_in_any_order() -> None:
    scopes = [quota("b"), protection("z", "1"), quota("a", "b"), protection("a", "2")]

    assert sorted(scopes) == sorted(scopes[::-1])


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (ScopeKind.PROTECTION, ("cohort",)),
        (ScopeKind.PROTECTION, ("a", "b", "c", "d")),
        (ScopeKind.QUOTA, ()),
        (ScopeKind.QUOTA, ("a",) * 6),
        (ScopeKind.QUOTA, ("",)),
        (ScopeKind.QUOTA, ("a/b",)),
        (ScopeKind.QUOTA, (" a",)),
        (ScopeKind.QUOTA, ("a\n",)),
        (ScopeKind.QUOTA, ("a" * 129,)),
    ],
)
def test_a_path_outside_its_domain_is_refused(kind: ScopeKind, path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidParameter):
        Scope(kind, path)


@pytest.mark.parametrize("text", ["", "clinic", "people/a/b", "quota", "protection/a", None])
def test_what_is_no_name_is_refused(text: Any) -> None:
    with pytest.raises(InvalidParameter):
        parse_scope(text)
