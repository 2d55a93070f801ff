"""Layers become typed sections; every value knows its source, and every fault is found at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest

from privacy_runtime.secret import Secret
from privacy_runtime.settings.documents import compose
from privacy_runtime.settings.domains import (
    Address,
    Choice,
    Flag,
    Hidden,
    Number,
    OutsideDomain,
    Several,
    Text,
    Whole,
)
from privacy_runtime.settings.faults import Fault
from privacy_runtime.settings.schema import Conflict, Key, Settled, entries, settle
from privacy_runtime.settings.secrets import Lookup
from privacy_runtime.settings.sources import (
    Branch,
    from_document,
    from_keywords,
    from_variables,
)


@dataclass(frozen=True)
class Inner:
    """A section."""

    size: Annotated[int, Key("Size.", Whole(1, 9), "pieces")] = 3
    share: Annotated[float | None, Key("Share.", Number(above=0, most=1))] = None


@dataclass(frozen=True)
class Outer:
    """A schema."""

    mode: Annotated[str, Key("Mode.", Choice(("slow", "fast")))] = "slow"
    on: Annotated[bool, Key("On.", Flag())] = False
    names: Annotated[tuple[str, ...], Key("Names.", Several(Text(r"\w+", "a word")))] = ("a",)
    url: Annotated[Secret | None, Key("Address.", Address(("db",)))] = None
    word: Annotated[Secret | None, Key("Password.", Hidden())] = None
    inner: Inner = Inner()


def document(text: str, faults: list[Fault] | None = None) -> Branch:
    node, problems = compose(text, "f.yaml")
    assert problems == ()
    return from_document(node, "f.yaml", [] if faults is None else faults)


def settled(*layers: Branch, conflicts: Any = lambda _: (), **variables: str) -> Settled[Outer]:
    lookup = Lookup(variables, folder=Path("/nonexistent"))
    return settle(Outer, layers, lookup, conflicts)


def faults(text: str, **variables: str) -> list[str]:
    return [str(fault) for fault in settled(document(text), **variables).faults]


def variables(**given: str) -> tuple[Branch, list[str]]:
    found: list[Fault] = []
    paths = {entry.path: entry.key.domain.is_secret for entry in entries(Outer)}
    lookup = Lookup(given, folder=Path("/nonexistent"))
    tree = from_variables(paths, lookup, found, prefix="APP_", others=("APP_OTHER",))
    return tree, [str(fault) for fault in found]


def test_nothing_given_is_all_defaults() -> None:
    result = settled()

    assert result.values == Outer()
    assert {setting.source for setting in result.settings.values()} == {"default"}


def test_later_layers_win_key_by_key_and_say_so() -> None:
    file = document("mode: fast\non: true\ninner:\n  size: 5\n  share: 1e-5\nnames: [x, y]\n")
    environment, _ = variables(APP_ON="false", APP_INNER__SIZE="7", APP_NAMES="p, q")
    keywords = from_keywords({"inner": {"size": 9}})

    result = settled(file, environment, keywords)

    expected = Outer(mode="fast", names=("p", "q"), inner=Inner(size=9, share=1e-5))
    assert result.values == expected
    assert result.faults == ()
    sources = {path: setting.source for path, setting in result.settings.items()}
    assert sources == {
        "mode": "f.yaml:1",
        "on": "variable APP_ON",
        "names": "variable APP_NAMES",
        "url": "default",
        "word": "default",
        "inner.size": "keyword inner.size",
        "inner.share": "f.yaml:5",
    }


def test_what_a_later_layer_replaces_needs_no_secret() -> None:
    file = document("url: db://u:${NOT_THERE}@h/x\n")

    assert settled(file, from_keywords({"url": "db://h/x"})).faults == ()
    assert settled(file).faults != ()


def test_every_fault_is_found_at_once_with_its_line() -> None:
    assert faults(
        "mode: fsat\n"
        "on: yes\n"
        "nams: [a]\n"
        "names: [a, 'b c']\n"
        "inner:\n"
        "  size: '3'\n"
        "  share: 2\n"
        "  shape: 1\n"
        "url: http://x\n"
        "word: [a]\n"
    ) == [
        "line 3: nams: is not a known key; did you mean 'names'?",
        "line 1: mode: is 'fsat', expected one of slow, fast; did you mean 'fast'?",
        "line 2: on: is 'yes', expected true or false",
        "line 4: names: is ['a', 'b c'], expected a list, each a word, none twice",
        "line 9: url: is Secret(***), expected an address that begins with db:// or null",
        "line 10: word: is Secret(***), expected a text of at least 1 characters, without line "
        "ends or null",
        "line 8: inner.shape: is not a known key; did you mean 'share'?",
        "line 6: inner.size: is '3', expected a whole number from 1 to 9 (pieces)",
        "line 7: inner.share: is 2, expected a number above 0 and at most 1 or null",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inner: 3", "a section with keys of its own"),
        ("inner: [a]", "a section with keys of its own"),
        ("mode: {a: b}", "is a section"),
        ("names: [{a: b}]", "has a mapping in its list"),
        ("names: [a, a]", "none twice"),
        ("mode: null", "is null"),
        ("mode: 1", "is 1"),
        ("inner: {size: true}", "is true"),
        ("inner: {size: 3.0}", "is 3.0"),
        ("inner: {share: .nan}", "is nan"),
        ("inner: {share: true}", "is true"),
        ("inner: {size: 10}", "from 1 to 9"),
        ("url: 'db://h:99999/x'", "address"),
        ("url: 'db:///x'", "address"),
        ("url: 'db://h/ x'", "address"),
        ('word: "a\\nb"', "without line ends"),
        ("word: ''", "at least 1"),
    ],
)
def test_what_a_key_cannot_hold_is_refused(text: str, words: str) -> None:
    (found,) = faults(text)

    assert words in found


def test_an_empty_section_and_a_null_where_it_is_meant_are_nothing() -> None:
    assert settled(document("inner:\nurl: null\nword: ~\n")).values == Outer()


def test_a_variable_is_read_as_its_key_and_a_quoted_number_is_a_text() -> None:
    assert settled(document("inner: {size: '${N}'}"), N="5").values.inner.size == 5
    assert settled(document("inner:\n  share: ${X}\n"), X="1e-5").values.inner.share == 1e-5
    assert settled(document("word: ${N}"), N="12").values.word == Secret("12")
    assert faults("inner: {size: '5'}") != []


def test_a_fault_shows_a_reference_as_it_was_written() -> None:
    (found,) = faults("mode: ${DB_KEY}", DB_KEY="hunter2")

    assert "'${DB_KEY}'" in found
    assert "hunter2" not in found


def test_what_came_from_a_secret_is_masked_also_in_a_key_that_is_none() -> None:
    result = settled(document("mode: ${API_KEY}\nnames: ['${PLAIN}']"), API_KEY="fast", PLAIN="n")

    assert result.settings["mode"].shown == "Secret(***)"
    assert result.settings["mode"].source == "f.yaml:1 (variable API_KEY)"
    assert result.settings["names"].shown == ["n"]


@pytest.mark.parametrize("password", ["p@ss", "a/b", "a:b", "50%", "a b", "a#b", "a?b"])
def test_a_password_cannot_change_the_address_it_stands_in(password: str) -> None:
    (found,) = faults("url: db://u:${PW}@host/x", PW=password)

    assert "percent-encoded" in found
    assert password not in found
    assert settled(document("url: ${URL}"), URL="db://u:p%40@h/x").faults == ()


def test_variables_that_name_no_key_are_faults_unless_a_file_refers_to_them() -> None:
    _, found = variables(APP_INNER__SIZ="1", APP_OTHER="x", APP_OTHER_FILE="x", OTHER="y")

    (line,) = found
    assert "APP_INNER__SIZ" in line
    assert "did you mean 'APP_INNER__SIZE'" in line


def test_a_secret_variable_may_be_a_file_and_a_plain_one_may_not(tmp_path: Path) -> None:
    path = tmp_path / "word"
    path.write_text("hunter2\n")
    tree, none = variables(APP_WORD_FILE=str(path))
    _, refused = variables(APP_MODE_FILE=str(path))
    _, twice = variables(APP_WORD="x", APP_WORD_FILE=str(path))
    _, missing = variables(APP_WORD_FILE="/nonexistent")

    assert none == []
    assert settled(tree).values.word == Secret("hunter2")
    assert "hunter2" not in repr(tree)
    assert "no known key" in refused[0]
    assert any("both set" in line for line in twice)
    assert "No such file" in missing[0]


def test_conflicts_name_both_values_and_wait_until_each_is_right() -> None:
    def conflicts(values: Outer) -> Iterator[Conflict]:
        if values.mode == "fast" and values.inner.size > 4:
            yield Conflict(("inner.size", "mode"), "at most 4 when fast")

    (found,) = settled(document("mode: fast\ninner: {size: 5}"), conflicts=conflicts).faults
    wrong = settled(document("mode: fast\ninner: {size: 99}"), conflicts=conflicts).faults

    assert str(found) == (
        "line 2: inner.size: is 5, mode is fast (f.yaml:1); expected at most 4 when fast"
    )
    assert len(wrong) == 1


def test_a_domain_says_what_it_refuses_by_one_error() -> None:
    cases: Mapping[Any, list[Any]] = {
        Flag(): ["true", 1, None],
        Whole(0, 5): [True, 6, -1, "3", 2.0],
        Number(least=0, below=1): [1, -0.1, "0", float("inf"), 10**400],
        Hidden(8): ["short", 12345678, "with\x00null"],
        Several(Flag()): [3, {"a": 1}],
    }
    for domain, values in cases.items():
        for value in values:
            with pytest.raises(OutsideDomain):
                domain.read(value)
    assert Whole(0, 5).read(5) == 5
    assert Number(least=0, below=1).read(0) == 0.0
