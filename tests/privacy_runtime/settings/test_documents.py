"""YAML is read by version 1.2, strictly, and cannot be made to grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from privacy_runtime.settings.documents import (
    MOST_BYTES,
    MOST_DEPTH,
    MOST_NODES,
    compose,
    plain,
    read_text,
    scalar,
)
from privacy_runtime.settings.sources import Branch, Leaf, from_document
from privacy_runtime.settings.templates import written


def value(text: str) -> Any:
    node, faults = compose(text)
    assert faults == ()
    assert isinstance(node, yaml.ScalarNode)
    return scalar(node)


def fault(text: str) -> str:
    node, faults = compose(text)
    assert node is None
    return "\n".join(map(str, faults))


# YAML 1.2.2, section 10.3.2: the regular expressions of the core schema, and its example.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-5", 1e-5), ("1E+3", 1000.0), (".5", 0.5), ("-.5e1", -5.0), ("3.", 3.0), ("1.0", 1.0),
        ("012", 12), ("0o14", 12), ("0x1F", 31), ("-3", -3), ("+7", 7), ("0", 0),
        ("true", True), ("False", False), ("TRUE", True), ("null", None), ("~", None),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("off", "off"), ("y", "y"), ("nUll", "nUll"),
        ("22:22", "22:22"), ("2026-01-01", "2026-01-01"), ("1_000", "1_000"), ("0b1", "0b1"),
        ("'1'", "1"), ('"true"', "true"), ("=", "="), ("<<", "<<"), ("1e", "1e"),
    ],
)  # fmt: skip
def test_a_scalar_is_what_version_1_2_says(text: str, expected: object) -> None:
    found = value(text)

    assert found == expected
    assert type(found) is type(expected)


def test_infinity_is_a_number_and_what_is_not_one_is_not() -> None:
    assert value(".inf") == float("inf")
    assert value("-.INF") == float("-inf")
    assert value(".nan") != value(".nan")
    assert plain("inf") == "inf"


def test_a_number_of_thousands_of_digits_is_not_read_as_one() -> None:
    assert value("9" * 5000) == "9" * 5000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "not YAML"),
        ("a: [1", "not YAML"),
        ("a: 1\n---\nb: 2\n", "another document"),
        ("a: !!python/object/apply:os.system [x]", "tags are not read"),
        ("a: !!python/name:os.system ''", "tags are not read"),
        ("a: !secret x", "tags are not read"),
        ("a: !!int x", "tags are not read"),
        ("a: !!timestamp 2026-01-01", "tags are not read"),
        ("a: *b", "undefined alias"),
        ("&a [*a]", "holds itself"),
        ("&a {b: {c: *a}}", "holds itself"),
        ("a: \x00", "not YAML"),
        ("[" * 40 + "]" * 40, f"deeper than {MOST_DEPTH}"),
        ("[" * 100_000, f"deeper than {MOST_DEPTH}"),
        ("{b: " * 20_000, f"deeper than {MOST_DEPTH}"),
        ("- x\n" * (MOST_NODES + 1), "more than"),
        ("x" * (MOST_BYTES + 1), "larger than"),
    ],
)
def test_what_is_not_plain_data_is_refused(text: str, words: str) -> None:
    assert words in fault(text)


def test_a_billion_laughs_are_refused_before_one_is_heard() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    assert "by its aliases" in fault("\n".join(lines))


def test_a_chain_of_aliases_is_no_way_around_the_depth() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 100))]

    assert f"more than {MOST_DEPTH} levels by its aliases" in fault("\n".join(lines))


def test_an_alias_stands_for_what_it_names() -> None:
    node, faults = compose("a: &x {c: 1}\nb: *x\n")
    tree = from_document(node, "t.yaml", [])

    assert faults == ()
    assert isinstance(tree.entries["b"], Branch)
    leaf = tree.entries["b"].entries["c"]
    assert isinstance(leaf, Leaf)
    assert leaf.value == 1


def test_a_key_given_twice_is_a_fault_at_any_depth() -> None:
    faults: list[Any] = []
    node, _ = compose("a:\n  b: 1\n  'b': 2\n[1]: x\n")
    from_document(node, "t.yaml", faults)

    assert [str(each) for each in faults] == [
        "line 3: a.b: is given twice; the first time in line 2",
        "line 4: the document: has a key that is not a text",
    ]


def test_a_file_is_utf_8_and_of_bounded_size(tmp_path: Path) -> None:
    cases = {
        "none": (None, "No such file"),
        "latin": ("ä".encode("latin-1"), "not UTF-8"),
        "wide": ("a: 1".encode("utf-16"), "not UTF-8"),
        "large": (b"#" * (MOST_BYTES + 1), "larger than"),
    }
    for name, (data, words) in cases.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        _, (found,) = read_text(tmp_path / name)
        assert words in str(found)
    (tmp_path / "mark").write_bytes("\ufeffa: ä".encode())
    assert read_text(tmp_path / "mark") == ("a: ä", ())
    assert "Is a directory" in str(read_text(tmp_path)[1][0])


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    node, faults = compose(text)

    assert (node is None) or not faults
    if node is not None:
        from_document(node, "t", [])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40).filter(lambda text: "$" not in text),
)


@given(st.lists(SCALARS, max_size=5))
def test_what_is_written_reads_back(values: list[Any]) -> None:
    node, faults = compose(written(values))

    assert faults == ()
    assert isinstance(node, yaml.SequenceNode)
    found = [scalar(item) for item in node.value]
    assert found == values
    assert list(map(type, found)) == list(map(type, values))
