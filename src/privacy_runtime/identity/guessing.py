"""Words that people build passwords of, and how to see through what they put around them.

A short list of our own, not a copy of a leaked one. With a least length of 12 characters the usual
leaked passwords are too short by themselves; what passes is such a word with something around it,
in capitals, with digits for letters, or twice. All of that is undone before the comparison.
"""

from __future__ import annotations

import re
from typing import Final

_WORDS: Final = """
    password passwort passwd passphrase pass secret geheim letmein welcome willkommen login signin
    admin administrator root superuser user guest default changeme changeit change please test
    testing demo example sample temp temporary qwerty qwertz azerty qwertyuiop asdfgh asdfghjkl
    zxcvbn zxcvbnm yxcvbn iloveyou love monkey dragon master shadow sunshine princess football
    baseball soccer hockey superman batman pokemon starwars whatever trustno trustnoone freedom
    computer internet access server system database oracle postgres mysql redis docker kubernetes
    company business office summer winter spring autumn monday friday january december hello world
    hallo bonjour hola abc abcd abcde abcdef abcdefgh privacy finetuner privacyfinetuner hospital
    clinic patient doctor health medical bank banking finance research training model secure
    security supersecret topsecret mypassword yourpassword thisisasecret correcthorsebatterystaple
    correcthorse michael jennifer jordan ashley charlie thomas daniel jessica michelle hunter
    """
_LIST: Final = frozenset(_WORDS.split())
_LEET: Final = str.maketrans("0134578@$!|+", "oleastbasilt")
_RUNS: Final = ("abcdefghijklmnopqrstuvwxyz", "01234567890123456789", "qwertyuiop", "asdfghjkl")
_RUNS_BOTH: Final = tuple(text for run in _RUNS for text in (run, run[::-1]))
_NO_LETTER: Final = re.compile(r"[^a-z]+")
_ENDS: Final = re.compile(r"^[\W\d_]+|[\W\d_]+$")
LEAST_OWN: Final = 6
"""How many characters must be left once the words, runs and repetitions are taken away."""


def is_common(password: str, *, about: str = "") -> bool:
    """Whether a guesser tries this early: little is left without common words, runs, repetitions.

    Args:
        password: what was proposed.
        about: text that a guesser knows, such as the user's name.
    """
    text = password.casefold()
    known = frozenset(w for w in _NO_LETTER.split(about.casefold()) if len(w) >= 3)
    plain = _ENDS.sub("", text)
    spellings = {text, plain, text.translate(_LEET), plain.translate(_LEET)}
    return any(_own_characters(spelling, known | _LIST) < LEAST_OWN for spelling in spellings)


def _own_characters(text: str, words: frozenset[str]) -> int:
    """How many different characters no word, run or repetition explains."""
    rest = _without_repetition(text)
    for word in sorted((w for w in words if w in rest), key=lambda w: (-len(w), w)):
        rest = rest.replace(word, " ")
    return len(set("".join(_without_runs(part) for part in rest.split())))


def _without_repetition(text: str) -> str:
    """The shortest text of which this is a repetition."""
    return text[: (text + text).find(text, 1)] if text else text


def _without_runs(text: str) -> str:
    """Cut stretches of three and more that follow the alphabet, the digits or a keyboard row."""
    kept: list[str] = []
    position = 0
    while position < len(text):
        length = 3
        while length <= len(text) - position and any(
            text[position : position + length] in run for run in _RUNS_BOTH
        ):
            length += 1
        if length > 3:
            position += length - 1
        else:
            kept.append(text[position])
            position += 1
    return "".join(kept)
