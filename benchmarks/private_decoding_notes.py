"""Made-up notes and a small language model of them, for `private_decoding.py`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

seeded = np.random.default_rng  # made-up records; what is drawn privately comes from SystemEntropy
CONDITIONS = ["asthma", "angina", "anaemia", "migraine", "pneumonia", "diabetes", "gout", "eczema"]
DRUGS = [f"drug{i}" for i in range(24)]
ADVICE = [f"advice{i}" for i in range(16)]
SIGNS = [f"sign{i}" for i in range(30)]


@dataclass(frozen=True)
class Protocol:
    """What a hospital does about a condition."""

    drug: str
    dose: str
    advice: str
    weeks: str


class Notes:
    """Made-up notes, and the numbers of their words."""

    def __init__(self, seed: int) -> None:
        self._chance = seeded(seed)
        self.public = {c: self._protocol() for c in CONDITIONS}
        self.private = {c: self._protocol() for c in CONDITIONS}
        self.words: dict[str, int] = {}

    def _protocol(self) -> Protocol:
        pick = self._chance.choice
        dose, weeks = f"{5 * self._chance.integers(1, 9)}mg", f"{self._chance.integers(1, 9)}w"
        return Protocol(str(pick(DRUGS)), dose, str(pick(ADVICE)), weeks)

    def note(self, condition: str, protocols: dict[str, Protocol], faith: float) -> list[int]:
        """One note; each part follows the protocol with this probability, else any other one."""
        parts = [
            protocols[condition] if self._chance.random() < faith else self._protocol()
            for _ in range(4)
        ]
        one, two = self._chance.choice(SIGNS, 2)
        age = f"{10 * self._chance.integers(2, 9)}s"
        text = (
            f"patient in {age} with {one} and {two} . found {condition} . started {parts[0].drug} "
            f"at {parts[1].dose} daily . told {parts[2].advice} . back in {parts[3].weeks} . end"
        )
        return [self.words.setdefault(word, len(self.words)) for word in text.split()]


class Model:
    """An interpolated trigram; with a record, also what followed the longest match in it."""

    def __init__(self, notes: list[list[int]], size: int) -> None:
        self.size = size
        self._counts: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(size))
        for note in notes:
            for at, token in enumerate(note):
                for back in range(min(at, 2) + 1):
                    self._counts[tuple(note[at - back : at])][token] += 1

    def public(self, prefix: list[int]) -> np.ndarray:  # [V], probabilities
        """What comes next, without any record."""
        law = np.full(self.size, 1 / self.size)
        for back in range(3):
            counts = (
                self._counts.get(tuple(prefix[len(prefix) - back :]))
                if back <= len(prefix)
                else None
            )
            if counts is not None:
                seen, kinds = counts.sum(), np.count_nonzero(counts)
                law = (counts + kinds * law) / (seen + kinds)
        return law

    def with_records(self, prefix: list[int], records: list[list[int]]) -> np.ndarray:  # [s, V]
        """What comes next, with each record in the context."""
        public = self.public(prefix)
        laws = np.tile(public, (len(records), 1))
        for row, record in enumerate(records):
            for length, trust in ((3, 0.9), (2, 0.8), (1, 0.3)):
                tail = prefix[-length:]
                after = [
                    record[i + length]
                    for i in range(len(record) - length)
                    if record[i : i + length] == tail
                ]
                if after and len(tail) == length:
                    laws[row] *= 1 - trust
                    np.add.at(laws[row], after, trust / len(after))
                    break
        return laws


@dataclass(frozen=True)
class Position:
    """What is known where a token of a held-out note follows."""

    token: int
    public: np.ndarray  # [V], log-probabilities
    private: np.ndarray  # [s, V]


def world(slots: int, positions: int, seed: int = 7) -> tuple[Notes, Model, list[Position]]:
    notes = Notes(seed)
    chance = seeded(seed + 1)
    public = [notes.note(str(c), notes.public, 0.8) for c in chance.choice(CONDITIONS, 3000)]
    records = {c: [notes.note(c, notes.private, 0.85) for _ in range(slots)] for c in CONDITIONS}
    held_out = [
        (str(c), notes.note(str(c), notes.private, 0.85)) for c in chance.choice(CONDITIONS, 99)
    ]
    model = Model(public, len(notes.words))
    found = [
        Position(
            note[at],
            np.log(model.public(note[:at])).astype(np.float32),
            np.log(model.with_records(note[:at], records[c])).astype(np.float32),
        )
        for c, note in held_out
        for at in range(3, len(note))
    ]
    return notes, model, found[:positions]
