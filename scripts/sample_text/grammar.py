"""A word list is a text file of sections; a text is one random expansion of its lines.

`[name]` opens a section, `key: a|b` adds alternatives to a key. Inside an alternative, `[x|y]` is a
choice and `{slot}` a value: from the caller's bindings first, else one alternative of that key.
`{slot:tag}` draws once per text and is the same at every later mention.
"""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

Rules = dict[str, list[str]]
Bindings = dict[str, str]

_HERE = Path(__file__).parent
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
_SECTION = re.compile(r"^\[([^|\]]+)\]$")


def load(name: str) -> dict[str, Rules]:
    """Read `name` beside this file into {section: {key: alternatives}}."""
    sections: dict[str, Rules] = {}
    rules: Rules = {}
    for raw in (_HERE / name).read_text(encoding="utf-8").splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if title := _SECTION.match(line):
            rules = sections.setdefault(title[1], {})
            continue
        key, _, value = line.partition(":")
        rules.setdefault(key, []).extend(split_top(value.strip()))
    return sections


def split_top(text: str) -> list[str]:
    """Split at `|` outside brackets."""
    parts, depth, start = [], 0, 0
    for i, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "|" and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def expand(rng: Random, text: str, bindings: Bindings, rules: Rules) -> str:
    """Resolve every choice and slot of `text`, innermost first; tagged draws land in `bindings`."""
    while True:
        if choice := _CHOICE.search(text):
            picked = rng.choice(choice[1].split("|"))
            text = text[: choice.start()] + picked + text[choice.end() :]
        elif slot := _SLOT.search(text):
            text = text[: slot.start()] + _value(rng, slot, bindings, rules) + text[slot.end() :]
        else:
            return text


def _value(rng: Random, slot: re.Match[str], bindings: Bindings, rules: Rules) -> str:
    """The text of one slot: bound, remembered, or drawn."""
    name, tag = slot[1], slot[2]
    memory = f"{name}:{tag}" if tag else name
    if memory in bindings:
        return bindings[memory]
    lower = name[0].lower() + name[1:]
    if lower != name and name not in rules:
        value = _value_of(rng, lower, tag, bindings, rules)
        return value[0].upper() + value[1:]
    value = expand(rng, rng.choice(rules[name]), bindings, rules)
    if tag:
        bindings[memory] = value
    return value


def _value_of(rng: Random, name: str, tag: str | None, bindings: Bindings, rules: Rules) -> str:
    """The lower-case slot behind a capitalised one, so `{He}` and `{he}` agree."""
    return expand(rng, f"{{{name}:{tag}}}" if tag else f"{{{name}}}", bindings, rules)
