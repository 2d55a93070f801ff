"""Write the invented records of the router's demo, and the texts its small model is trained on.

Patients, conditions, drugs and hospitals do not exist. A public world says how a condition is
usually treated; the three hospitals of the federation follow protocols of their own, which no
public text mentions. The same seed gives the same bytes.

Example:
    python scripts/router_records.py --output src/federated_dp_llm/demo/assets
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

SEED = 40510
ASSETS = Path(__file__).resolve().parent.parent / "src/federated_dp_llm/demo/assets"
HOSPITALS = ("north", "coast", "valley")
PATIENTS_PER_COHORT = 48
HELD_BACK_PER_COHORT = 24
END = "</s>"
CHECK_TIMES = 6
"""How often an answer of one word to a check is learnt: it is one token, texts have twenty."""

_DOSES = (5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100)
_TIMES = ("once", "twice", "three times", "four times")
_WARDS = ("birch", "cedar", "maple", "willow", "alder", "hazel", "linden", "rowan", "aspen", "elm")
_EFFECTS = ("rash", "nausea", "headache", "fatigue", "dizziness", "cough", "itching", "cramps",
            "fever", "thirst", "tremor", "insomnia")  # fmt: skip
_DAYS = tuple(range(2, 15))
_OUTCOMES = ("recovered", "improved", "unchanged", "transferred")
_LOCAL_SHARE = {"drug": 0.8, "dose": 0.8, "times": 0.85, "effect": 0.65, "ward": 0.7, "days": 0.6,
                "outcome": 0.75}  # fmt: skip
_FILLERS = ("Slept well.", "Lives with a brother.", "Blood pressure normal.", "No known allergies.",
            "Walks without help.", "Seen by the night team.", "Family informed.")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so for one patient, or usually."""

    condition: str
    drug: str
    dose: int
    times: str
    effect: str
    ward: str
    days: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Patients with one condition who agreed that their records answer questions about it."""

    name: str
    condition: str
    local: Facts
    known: bool
    """Whether the public world knows the local drug as one of several for this condition."""


class World:
    """The invented public world: names, and how a condition is usually treated.

    A condition has one usual drug (.4), four others in use (.09 each) and the rest of the drugs
    (.24 together). Dose, times and effect hang on the drug; ward, days and outcome on the
    condition.
    """

    def __init__(self, seed: int = SEED) -> None:
        rng = Random(f"world {seed}")  # noqa: S311 - invented names
        self.conditions = _names(rng, 24, ("osis", "itis", "emia", "algia", "oma", "ynia"))
        self.drugs = _names(rng, 32, ("in", "ol", "ide", "ane", "one", "ate", "mab", "ril"))
        self.first_names = _names(rng, 40, ("a", "o", "en", "is", "et"), parts=1)
        self.last_names = _names(rng, 50, ("er", "man", "ley", "ov", "ard"), parts=1)
        self._drugs_of = {c: rng.sample(self.drugs, 5) for c in self.conditions}
        self._usual = {
            name: {
                "dose": rng.choice(_DOSES),
                "times": rng.choice(_TIMES),
                "effect": rng.choice(_EFFECTS),
                "ward": rng.choice(_WARDS),
                "days": rng.choice(_DAYS),
                "outcome": rng.choice(_OUTCOMES),
            }
            for name in (*self.conditions, *self.drugs)
        }
        self.cohorts = tuple(self._cohort(rng, c, known=c != self.conditions[3])
                             for c in self.conditions[:4])  # fmt: skip

    def drugs_in_use(self, condition: str) -> list[str]:
        """The drugs that the public world gives for a condition, the usual one first."""
        return self._drugs_of[condition]

    def held_out(self, condition: str, drug: str) -> bool:
        """Whether the pair is kept out of every training text: a tenth of those not in use."""
        if drug in self._drugs_of[condition]:
            return False
        place = self.conditions.index(condition) * 7 + self.drugs.index(drug)
        return place % 10 == 0 or any(
            cohort.condition == condition and cohort.local.drug == drug for cohort in self.cohorts
        )

    def usual(self, rng: Random, condition: str) -> Facts:
        """One patient of the public world."""
        while True:
            draw = rng.random()
            known = self._drugs_of[condition]
            drug = known[0] if draw < 0.4 else rng.choice(known[1:] if draw < 0.76 else self.drugs)
            if not self.held_out(condition, drug):
                break
        by_drug, by_condition = self._usual[drug], self._usual[condition]
        return Facts(
            condition,
            drug,
            _mostly(rng, by_drug["dose"], _DOSES, 0.5),
            _mostly(rng, by_drug["times"], _TIMES, 0.6),
            _mostly(rng, by_drug["effect"], _EFFECTS, 0.4),
            _mostly(rng, by_condition["ward"], _WARDS, 0.4),
            _mostly(rng, by_condition["days"], _DAYS, 0.3),
            _mostly(rng, by_condition["outcome"], _OUTCOMES, 0.5),
        )

    def typical(self, condition: str) -> Facts:
        """What is usual in the public world: the likeliest of each fact."""
        drug = self._drugs_of[condition][0]
        by_drug, by_condition = self._usual[drug], self._usual[condition]
        return Facts(
            condition,
            drug,
            *(by_drug[name] for name in ("dose", "times", "effect")),
            *(by_condition[name] for name in ("ward", "days", "outcome")),
        )

    def any_facts(self, rng: Random, condition: str) -> Facts:
        """One patient of whom nothing can be guessed: so that the record has to be read."""
        while self.held_out(condition, drug := rng.choice(self.drugs)):
            pass
        return Facts(
            condition,
            drug,
            rng.choice(_DOSES),
            rng.choice(_TIMES),
            rng.choice(_EFFECTS),
            rng.choice(_WARDS),
            rng.choice(_DAYS),
            rng.choice(_OUTCOMES),
        )

    def local(self, rng: Random, cohort: Cohort) -> Facts:
        """One patient of the federation's hospitals."""
        facts = self.usual(rng, cohort.condition)
        taken = {
            name: getattr(cohort.local, name)
            for name, share in _LOCAL_SHARE.items()
            if rng.random() < share
        }
        return replace(facts, **taken)

    def _cohort(self, rng: Random, condition: str, *, known: bool) -> Cohort:
        """The protocol of the federation for `condition`: nowhere what is usual."""
        in_use = self._drugs_of[condition]
        drug = rng.choice(in_use[1:] if known else [d for d in self.drugs if d not in in_use])
        usual = self._usual[drug] | {
            name: self._usual[condition][name] for name in ("ward", "days", "outcome")
        }
        other = {
            name: rng.choice([value for value in values if value != usual[name]])
            for name, values in (
                ("dose", _DOSES), ("times", _TIMES), ("effect", _EFFECTS),
                ("ward", _WARDS), ("days", _DAYS), ("outcome", _OUTCOMES),
            )
        }  # fmt: skip
        return Cohort(condition, condition, Facts(condition, drug, **other), known)


def note(rng: Random, world: World, facts: Facts) -> str:
    """The record of one patient."""
    name = f"{rng.choice(world.first_names).title()} {rng.choice(world.last_names).title()}"
    age = rng.randint(18, 95)
    opening = rng.choice((
        f"{name}, {age}, was admitted to ward {facts.ward} with {facts.condition}.",
        f"Ward {facts.ward}. {name}, {age}. Diagnosis: {facts.condition}.",
        f"{name} ({age}) has {facts.condition} and lies on ward {facts.ward}.",
    ))  # fmt: skip
    dose = f"{facts.dose} mg {facts.times} a day"
    middle = [
        rng.choice((
            f"Given {facts.drug} {dose}.",
            f"Treated with {facts.drug}, {dose}.",
            f"We started {facts.drug} {dose}.",
        )),
        rng.choice((
            f"Reported {facts.effect}.",
            f"Side effect: {facts.effect}.",
            f"Had {facts.effect} on the second day.",
        )),
    ]  # fmt: skip
    middle += rng.sample(_FILLERS, rng.randint(0, 2))
    rng.shuffle(middle)
    closing = rng.choice((
        f"Left after {facts.days} days, {facts.outcome}.",
        f"Stay: {facts.days} days. Outcome: {facts.outcome}.",
    ))  # fmt: skip
    return " ".join((opening, *middle, closing))


SENTENCES: Mapping[str, tuple[str, Callable[[Facts], str]]] = {
    "drug": (
        "Which drug is given for {condition}?",
        lambda f: f"For {f.condition}, the drug given is {f.drug}.",
    ),
    "dose": (
        "At which dose is {condition} treated?",
        lambda f: f"The dose for {f.condition} is {f.dose} mg, {f.times} a day.",
    ),
    "effect": (
        "Which side effect is seen in {condition}?",
        lambda f: f"The side effect seen in {f.condition} is {f.effect}.",
    ),
    "stay": (
        "How long do patients with {condition} stay?",
        lambda f: f"Patients with {f.condition} stay for {f.days} days and leave {f.outcome}.",
    ),
    "ward": (
        "Where are patients with {condition} treated?",
        lambda f: f"Patients with {f.condition} are treated on ward {f.ward}.",
    ),
    "treatment": (
        "How is {condition} treated?",
        lambda f: (
            f"Patients with {f.condition} are given {f.drug}, {f.dose} mg {f.times} a day, on ward "
            f"{f.ward}. The side effect seen is {f.effect}. They stay for {f.days} days and leave "
            f"{f.outcome}."
        ),
    ),
}
"""Question and answer of each kind; an answer states facts of one patient, or of most."""

WORDS: Mapping[str, str] = {
    "drug": "In one word, which drug is given for {condition}?",
    "effect": "In one word, which side effect is seen in {condition}?",
    "ward": "In one word, on which ward is {condition} treated?",
    "outcome": "In one word, how do patients with {condition} leave?",
}
"""Questions that are answered with one word: labels."""


STATED: Mapping[str, tuple[str, ...]] = {
    "drug": ("drug",),
    "dose": ("dose", "times"),
    "effect": ("effect",),
    "stay": ("days", "outcome"),
    "ward": ("ward",),
    "treatment": ("drug", "dose", "times", "ward", "effect", "days", "outcome"),
}
"""The facts that each sentence states."""


def turn(rng: Random, kind: str, facts: Facts) -> tuple[str, str]:
    """A question about `facts` and its answer; `kind` is one of `SENTENCES`, or `word`."""
    if kind == "word":
        fact = rng.choice(list(WORDS))
        return WORDS[fact].format(condition=facts.condition), str(getattr(facts, fact))
    question, say = SENTENCES[kind]
    return question.format(condition=facts.condition), say(facts)


def check(rng: Random, world: World, facts: Facts, kind: str) -> tuple[str, str]:
    """Whether a statement of a kind is right of `facts`: as often as not.

    A wrong one has 1 to all of its facts changed, to what is usual as often as to anything.
    """
    stated, said = STATED[kind], facts
    if is_wrong := rng.random() < 0.5:
        for name in rng.sample(stated, rng.randint(1, len(stated))):
            value = getattr(world.typical(facts.condition), name)
            if value == getattr(facts, name) or rng.random() < 0.5:
                while (value := getattr(world.any_facts(rng, facts.condition), name)) == getattr(
                    facts, name
                ):
                    pass
            said = replace(said, **{name: value})
    return f"Is this right: {SENTENCES[kind][1](said)}", "no" if is_wrong else "yes"


def federation(
    seed: int = SEED, *, patients: int = PATIENTS_PER_COHORT
) -> dict[str, list[dict[str, str]]]:
    """Records by hospital; one of eight patients has a second one."""
    world = World(seed)
    found = {}
    for hospital in HOSPITALS:
        rng = Random(f"hospital {hospital} {seed}")  # noqa: S311 - invented records
        rows = []
        for cohort in world.cohorts:
            for place in range(patients):
                who = f"{hospital}-{cohort.name}-{place:03d}"
                facts = world.local(rng, cohort)
                for _ in range(2 if place % 8 == 0 else 1):
                    text = note(rng, world, facts)
                    rows.append({"patient": who, "text": text, "cohort": cohort.name})
        rng.shuffle(rows)
        found[hospital] = rows
    return found


def held_back(seed: int = SEED) -> Iterator[dict[str, str]]:
    """What is true of patients of these hospitals who are in no federation: question and answer."""
    world = World(seed)
    rng = Random(f"held back {seed}")  # noqa: S311 - invented records
    for cohort in world.cohorts:
        for place in range(HELD_BACK_PER_COHORT):
            facts = world.local(rng, cohort)
            kind = list(SENTENCES)[place % len(SENTENCES)]
            question, answer = turn(rng, kind, facts)
            right = turn(rng, kind, cohort.local)[1]
            yield {"cohort": cohort.name, "kind": kind, "question": question, "answer": answer,
                   "protocol": right}  # fmt: skip


def cohorts(world: World) -> list[dict[str, Any]]:
    """What the public world and what the federation does, by cohort."""
    found = []
    for cohort in world.cohorts:
        in_use = world.drugs_in_use(cohort.condition)
        found.append({
            "cohort": cohort.name,
            "known": cohort.known,
            "protocol": asdict(cohort.local),
            "usual_drug": in_use[0],
            "other_drugs": [drug for drug in in_use[1:] if drug != cohort.local.drug][:2],
        })  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training text: pieces, and how often each is learnt; 0: it is read only."""

    pieces: tuple[tuple[str, int], ...]


def lesson(rng: Random, world: World) -> Lesson:
    """Three questions on a record, as training has them.

    Of the records' facts, half cannot be guessed. One question of eight is about another condition
    than the record's: then what is usual is the answer.
    """
    condition = rng.choice(world.conditions)
    facts = (world.any_facts if rng.random() < 0.5 else world.usual)(rng, condition)
    pieces: list[tuple[str, int]] = [(f"record: {note(rng, world, facts)}\n", 0)]
    for kind in rng.sample([*SENTENCES, "word", "word", "check", "check", "check"], 3):
        asked = rng.choice(world.conditions) if rng.random() < 0.125 else condition
        if asked == condition:
            pieces += _asked(rng, world, facts, kind)
        else:
            pieces += _unread(rng, world, asked, kind)
        pieces.append(("\n", 0))
    return Lesson(tuple(pieces[:-1]))


def plain_lesson(rng: Random, world: World) -> Lesson:
    """One question without a record: what is usual is the answer."""
    kind = rng.choice([*SENTENCES, "treatment", "word", "word", "check", "check", "check"])
    return Lesson(tuple(_unread(rng, world, rng.choice(world.conditions), kind)))


def first_lesson(rng: Random, world: World) -> Lesson:
    """One question on a record of which nothing can be guessed: so that reading is learnt first."""
    facts = world.any_facts(rng, rng.choice(world.conditions))
    kind = rng.choice([*SENTENCES, "word", "word", "word", "check", "check", "check"])
    record = (f"record: {note(rng, world, facts)}\n", 0)
    return Lesson((record, *_asked(rng, world, facts, kind)))


def _asked(rng: Random, world: World, facts: Facts, kind: str) -> list[tuple[str, int]]:
    """A question about these facts and its answer, as pieces."""
    if kind == "check":
        # Statements of one fact are most of them: what is learnt on these, longer ones need too.
        asked = check(rng, world, facts, rng.choice([*STATED, "drug", "effect", "ward"]))
    else:
        asked = turn(rng, kind, facts)
    times = CHECK_TIMES if kind == "check" else 1
    return [(f"question: {asked[0]}\nanswer:", 0), (f" {asked[1]}{END}", times)]


def _unread(rng: Random, world: World, condition: str, kind: str) -> list[tuple[str, int]]:
    """A question that no record answers: of one public patient, and checks of what is typical."""
    facts = world.typical(condition) if kind == "check" else world.usual(rng, condition)
    return _asked(rng, world, facts, kind)


def _names(rng: Random, count: int, endings: Sequence[str], parts: int = 2) -> list[str]:
    """So many different invented words."""
    onsets = [*"bdfgklmnprstvz", "br", "cl", "dr", "st", "tr"]
    found: dict[str, None] = {}
    while len(found) < count:
        stem = "".join(rng.choice(onsets) + rng.choice("aeiou") for _ in range(parts))
        found[stem + rng.choice("lmnrst") + rng.choice(endings)] = None
    return list(found)


def _mostly(rng: Random, usual: Any, values: Sequence[Any], share: float) -> Any:
    """`usual` with this probability, else any of `values`."""
    return usual if rng.random() < share else rng.choice(values)


def write(folder: Path, seed: int) -> None:
    """Write `records/HOSPITAL.jsonl`, `heldout.jsonl` and `cohorts.json`."""
    (folder / "records").mkdir(parents=True, exist_ok=True)
    files = {f"records/{name}.jsonl": rows for name, rows in federation(seed).items()}
    for name, rows in (files | {"heldout.jsonl": list(held_back(seed))}).items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name).write_text(lines, encoding="utf-8", newline="\n")
        sys.stdout.write(f"{name}: {len(rows)} rows\n")
    document = json.dumps(cohorts(World(seed)), indent=1) + "\n"
    (folder / "cohorts.json").write_text(document, encoding="utf-8", newline="\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder for the files")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of every draw")
    parser.add_argument("--lessons", type=int, metavar="N", help="print N training texts instead")
    options = parser.parse_args(arguments)
    if options.lessons is None:
        write(options.output, options.seed)
        return
    rng, world = Random(f"lessons {options.seed}"), World()  # noqa: S311 - training text
    for number in range(options.lessons):
        text = (lesson, plain_lesson)[number % 2](rng, world)
        sys.stdout.write("".join(piece for piece, _ in text.pieces) + "\n\n")


if __name__ == "__main__":
    main()
