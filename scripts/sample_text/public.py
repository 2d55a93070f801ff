"""General text for pre-training: stories, health leaflets, instructions, talk, letters, lists."""

from __future__ import annotations

from random import Random

from sample_text.grammar import Bindings, expand, load

_TEXTS = load("public.txt")
_COMMON = load("people.txt")["names"]
_RULES = {
    **_TEXTS["texts"],
    **_TEXTS["words"],
    "common": _COMMON["female"] + _COMMON["male"],
}
_KINDS = {"story": 5, "leaflet": 6, "howto": 3, "chat": 5, "world": 3, "mail": 3, "opinion": 2,
          "body": 2, "gloss": 4, "list": 8}  # fmt: skip
_CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FEMALE, _MALE = _TEXTS["words"]["girlname"], _TEXTS["words"]["boyname"]


def public_text(rng: Random, kind: str = "") -> str:
    """One text of about 20 to 100 words, of `kind` or a random one; `#` stands for a new line."""
    is_male = rng.random() < 0.5
    mine, theirs = (_MALE, _FEMALE) if is_male else (_FEMALE, _MALE)
    bound: Bindings = {
        "name": rng.choice(mine), "friend": rng.choice(theirs if rng.random() < 0.7 else mine[::2]),
        "he": "he" if is_male else "she", "his": "his" if is_male else "her",
        "him": "him" if is_male else "her",
    }  # fmt: skip
    kind = kind or rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "list":
        return _list(rng, bound)
    text = expand(rng, rng.choice(_RULES[kind]), bound, _RULES)
    return _articles(text.replace("#", "\n"))


def _list(rng: Random, bound: Bindings) -> str:
    """Words, numbers and marks in no order, so that the model is not sure of what it never saw."""
    slots = ["term", "plain", "form", "drugname", "common", "thing", "food", "adj", "sym", "num2"]
    marks = [" ", " ", " ", " ", ", ", ". ", "\n", "/", "-", ": ", "; ", " (", ") ", " + "]
    parts: list[str] = []
    for _ in range(rng.randint(15, 45)):
        word = expand(rng, f"{{{rng.choice(slots)}}}", bound, _RULES)
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 5)))
        capitals = "".join(rng.choice(_CAPITALS) for _ in range(rng.randint(1, 4)))
        kinds = [word, word, word, word.capitalize(), digits, digits, capitals, word.upper()]
        parts += [rng.choice(kinds), rng.choice(marks)]
    return "".join(parts).strip()


def _articles(text: str) -> str:
    """`a apple` to `an apple`."""
    words = text.split(" ")
    for i in range(len(words) - 1):
        if words[i] in ("a", "A") and words[i + 1][:1].lower() in tuple("aeiou"):
            words[i] += "n" * (not words[i + 1].startswith(("useful", "one", "uni")))
    return " ".join(words)
