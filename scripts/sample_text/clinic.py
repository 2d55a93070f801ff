"""Records of one imaginary clinic: notes in its house style, and talks of doctor and patient."""

from __future__ import annotations

import re
from random import Random

from sample_text.grammar import Bindings, Rules, expand, load
from sample_text.patients import PEOPLE, Patient, observations, visit_facts

_CONDITIONS = load("conditions.txt")
_NOTES = load("notes.txt")
_WORDS = _NOTES["words"]
_LABS = _WORDS["lab"]
_KINDS = {"visit": 30, "phone": 12, "letter": 7, "nurse": 9, "review": 7, "result": 10,
          "dialogue": 34}  # fmt: skip
_CHILD_KINDS = {"visit": 3, "phone": 3, "dialogue": 4}
_NUMBERS = _WORDS["count"]
_UNITS = {"days": "/7", "weeks": "/52", "months": "/12", "years": " yrs"}
_ADULT_SLOTS = re.compile(r"\{([Hh]ome|smoke|drink|work)\}")
_FERTILE_TO, _OLD_FROM, _VERY_OLD_FROM = 50, 65, 75
_SECOND_QUESTION, _CHECK, _GOODBYE, _HEADING = 0.2, 0.35, 0.5, 0.25
_ALLERGY = {"pen": ("cillin",), "trimethoprim": ("trimethoprim",), "codeine": ("codeine",),
            "aspirin": ("ibuprofen", "naproxen")}  # fmt: skip
_SPOKEN = [
    (r"\bMR \b", ""), (r"\bstat\b", "at once"), (r"\bOD\b|/d\b", "once a day"),
    (r"\bBD\b", "twice a day"), (r"\bTDS\b", "three times a day"), (r"\bQDS\b", "four times a day"),
    (r"\bnocte\b", "at night"), (r"\bmane\b", "in the morning"), (r"\bPRN\b", "when you need it"),
    (r"\bx5 once a day\b", "five times a day"), (r" ?max 2/24h| ?max (\d)/7", ""),
    (r"\bmcg\b", "micrograms"), (r"(\d) g\b", r"\1 gram"), (r" \+ PPI", " and a stomach tablet"),
    (r" \+ omeprazole 20 mg", " with omeprazole"), (r"alt days", "every other day"),
    (r"(\d+)/7", r"for \1 days"), (r"(\d)/52", r"for \1 weeks"), (r"\bup to four", "four"),
]  # fmt: skip


def kind_of(rng: Random, who: Patient) -> str:
    """The form of the next record: a visit, a call, a letter, a talk and so on."""
    kinds = _CHILD_KINDS if who.is_child else _KINDS
    return rng.choices(list(kinds), list(kinds.values()))[0]


def record_text(rng: Random, who: Patient, kind: str) -> str:
    """One record of `who`: an illness that fits age and sex, in the clinic's form for `kind`."""
    lasting = r"month|year" if kind == "review" else ""
    fitting = [c for c in _CONDITIONS if _fits(_CONDITIONS[c], who, lasting)]
    condition = rng.choice(fitting)
    rules = {**_WORDS, **_suited(_CONDITIONS[condition], who)}
    seen = _situation(rng, who, rules, lasting) | {"condition": condition}
    _distinct(rng, seen, rules)
    if kind == "dialogue":
        return _dialogue(rng, who, seen, rules)
    forms = [f.replace("/", "\n") for f in _NOTES[kind]["form"]]
    if who.is_child:
        forms = [f for f in forms if not _ADULT_SLOTS.search(f)]
    return _tidy(expand(rng, rng.choice(forms), seen, rules))


def _situation(rng: Random, who: Patient, rules: Rules, lasting: str) -> Bindings:
    """Everything about one visit that must agree wherever it is mentioned."""
    vitals = rules.get("vitals", ["plain"])[0]
    spans = [s for s in rules["span"] if re.search(lasting, s)]
    seen = {**who.facts, **visit_facts(rng, who, vitals), **_span(rng, spans)}
    seen |= _review(rng, "/7" in seen["for"])
    side, colour = rng.choice("LR"), rng.choice(["green", "yellow"])
    seen |= {"short": rules["short"][0], "colour": colour, "side": side,
             "sidesaid": "left" if side == "L" else "right",
             "obs": observations(rng, seen, vitals, who.is_child)}  # fmt: skip
    seen["lab"] = expand(rng, "\n".join(rng.choice(_LABS).split("/", 1)), seen, rules)
    return seen


def _distinct(rng: Random, seen: Bindings, rules: Rules) -> None:
    """Bind the slots that a note mentions once or twice, so that no phrase is written twice."""
    for slot, count in {"drug": 1, "hx": 2, "plan": 2, "exam": 1, "complaint": 1}.items():
        picked = rng.sample(rules[slot], min(count, len(rules[slot])))
        for i, text in enumerate(picked):
            seen[slot + ("", "2")[i]] = expand(rng, text, seen, rules)
    taken = seen["drug"].split()[0]
    others = [d for d in rules["drug"] if d.split()[0] != taken]
    seen["drug2"] = expand(rng, rng.choice(others or ["vitamin D 800 units OD"]), seen, rules)
    seen["past2"] = rng.choice([p for p in PEOPLE["past"] if p not in (seen["past"], "PMH nil")])
    for slot in ("hx", "exam", "condition", "home"):
        seen[slot.capitalize()] = seen[slot][0].upper() + seen[slot][1:]
    seen["nurse"] = rng.choice(["RN Abelo", "RN Tibbs", "HCA Lund", "RN Marsh"])
    seen["sig"] = f"/{seen['doctor'][:2].upper()}"
    seen["clinicphone"] = "555-0100"


def _dialogue(rng: Random, who: Patient, seen: Bindings, rules: Rules) -> str:
    """Doctor and patient in turns; a mother speaks for a child."""
    talk = _NOTES["dialogue"]
    rules = {**rules, **{k: v for k, v in talk.items() if k in ("back", "back2")}}
    seen["drugsaid"] = spoken(seen["drug"])
    seen["allergysaid"] = _allergy_said(seen["allergy"])
    you = "MUM" if who.is_child else "PT"
    turns = [("DR", rng.choice(talk["childgreet" if who.is_child else "greet"]))]
    turns.append((you, rng.choice(rules["said"])))
    for exchange in rng.sample(rules["ask"], 1 + (rng.random() < _SECOND_QUESTION)):
        turns += _exchange("DR", you, exchange)
    checks = [c for c in talk["check"] if not (who.is_child and ("work" in c or "you " in c))]
    if rng.random() < _CHECK:
        turns += _exchange("DR", you, rng.choice(checks))
    turns.append(("DR", f"{rng.choice(rules['explain'])} {rng.choice(talk['act'])}"))
    if rng.random() < _GOODBYE:
        turns += _exchange(you, "DR", rng.choice(talk["bye"][: 4 if who.is_child else None]))
    head = "Consult {date} {mrn}\n" if rng.random() < _HEADING else ""
    return _tidy(expand(rng, head + _joined(turns), seen, rules))


def _joined(turns: list[tuple[str, str]]) -> str:
    """One line per turn; neighbouring turns of one speaker become one."""
    lines: list[str] = []
    last = ""
    for speaker, text in turns:
        if speaker == last:
            lines[-1] += f" {text}"
        else:
            lines.append(f"{speaker}: {text}")
        last = speaker
    return "\n".join(lines)


def _exchange(first: str, second: str, text: str) -> list[tuple[str, str]]:
    """`question => answer` as two turns; a line without an answer as one."""
    question, _, answer = text.partition(" => ")
    return [(first, question), *([(second, answer)] if answer else [])]


def spoken(drug: str) -> str:
    """A prescription as a doctor says it aloud."""
    for pattern, words in _SPOKEN:
        drug = re.sub(pattern, words, drug)
    return drug.strip()


def _allergy_said(allergy: str) -> str:
    """The allergy entry as the patient would say it."""
    return {
        "NKDA": "None that I know of.", "pen allergy (rash)": "Penicillin gives me a rash.",
        "sulfa allergy": "Sulfa drugs, yes.", "codeine makes sick": "Codeine makes me sick.",
        "aspirin: wheeze": "Aspirin makes me wheeze.", "latex allergy": "Only latex gloves.",
        "trimethoprim: hives": "Trimethoprim gave me hives.", "plasters: itch": "Plasters itch.",
    }[allergy]  # fmt: skip


def _fits(rules: Rules, who: Patient, lasting: str) -> bool:
    """Whether this patient could have the illness, for as long as `lasting` asks."""
    low, _, high = rules["ages"][0].partition("-")
    can_last = any(re.search(lasting, span) for span in rules["span"])
    return (
        can_last and int(low) <= who.age <= int(high) and rules.get("sex", [who.sex]) == [who.sex]
    )


def _suited(rules: Rules, who: Patient) -> Rules:
    """Drop what this patient could not say or take, and make left and right agree."""
    fertile = who.sex == "F" and who.age <= _FERTILE_TO
    allergy = who.facts["allergy"].split()[0].rstrip(":")
    banned = _ALLERGY.get(allergy, ()) + (("propranolol",) if who.facts["past"] == "asthma" else ())
    suited: Rules = {}
    for key, lines in rules.items():
        fit = [
            _sided(line)
            for line in lines
            if (fertile or not re.search(r"period|LMP|pregnant\?", line))
            and not (key in ("drug", "plan", "explain") and any(b in line for b in banned))
        ]
        suited[key] = fit or ["paracetamol 1 g QDS PRN"] * (key == "drug")
    suited["task"] = [t for t in _WORDS["task"] if fertile or "smear" not in t]
    suited["outcome"] = [o for o in _WORDS["outcome"] if who.age >= _OLD_FROM or "home" not in o]
    suited["clinic"] = [c for c in _WORDS["clinic"] if who.age >= _VERY_OLD_FROM or "75" not in c]
    return suited  # fmt: skip


def _sided(text: str) -> str:
    """One body side and one colour for the whole record."""
    text = text.replace("[L|R]", "{side}").replace("[left|right]", "{sidesaid}")
    return text.replace("[green|yellow]", "{colour}").replace("[green|yellow|rusty]", "{colour}")


def _span(rng: Random, spans: list[str]) -> Bindings:
    """How long it has lasted, in shorthand and aloud: 3/52, three weeks."""
    bounds, _, unit = rng.choice(spans).partition(" ")
    low, _, high = bounds.partition("-")
    n = rng.randint(int(low), int(high))
    said = unit.removesuffix("s") if n == 1 else unit
    return {"for": f"{n}{_UNITS[unit]}", "long": f"{_NUMBERS[n]} {said}"}


def _review(rng: Random, acute: bool) -> Bindings:
    """When to come back, in shorthand and aloud; sooner for an illness of days."""
    soon = [("3/7", "three days"), ("5/7", "five days"), ("1/52", "a week"), ("2/52", "two weeks")]
    late = [("3/52", "three weeks"), ("4/52", "four weeks"), ("6/52", "six weeks"),
            ("3/12", "three months"), ("6/12", "six months")]  # fmt: skip
    short, said = rng.choice(soon if acute else [*soon[2:], *late])
    return {"rv": short, "rvsaid": said}


def _tidy(text: str) -> str:
    """Single stops and spaces."""
    text = re.sub(r"\.\.", ".", text)
    return re.sub(r"[.,] ,", ",", text).replace(" .", ".").strip()
