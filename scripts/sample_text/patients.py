"""Patients who do not exist: identity, habits and the measurements of one visit.

Telephone numbers are 555-0100 to 555-0199 (reserved for fiction) behind area codes of the form N9X
(reserved, never assigned); record numbers start with ZZ, which the imaginary clinic never issues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from sample_text.grammar import Bindings, Rules, expand, load

PEOPLE = load("people.txt")["names"]
_FIRST_DAY = date(2023, 1, 2)
_DAYS = 900
_CHILD_BELOW = 16
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_RESERVED_AREAS = [291, 293, 296, 391, 394, 397, 491, 498, 592, 595, 693, 697, 791, 796, 892, 895]
_RETIRES = 67
_YOUNG_FAMILY_TO, _CHRONIC_FROM = 55, 38
_YOUNG = re.compile(r"children|mother|flat")
_ALSO_YOUNG = re.compile(r"nil|asthma|depression|migraine|psoriasis|appendix")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """One invented person; `facts` are the slots that stay the same in all their records."""

    user_id: str
    age: int
    sex: str
    facts: Bindings
    base: dict[str, int]

    @property
    def is_child(self) -> bool:
        return self.age < _CHILD_BELOW


def patient(rng: Random, number: int) -> Patient:
    """Invent patient `number`; the number is all that makes the record number unique."""
    sex = rng.choice("FM")
    age = rng.randint(2, 8) if rng.random() < 0.05 else _adult_age(rng)
    height = rng.randint(150, 178) if sex == "F" else rng.randint(162, 192)
    base = {
        "ht": height,
        "wt": round(rng.gauss(27.5, 4.0) * (height / 100) ** 2),
        "sys": rng.randint(108, 136) + age // 6,
        "dia": rng.randint(66, 82),
        "hr": rng.randint(62, 84),
    }
    base["wt"] = max(46, base["wt"])
    if age < _CHILD_BELOW:
        base |= {"wt": 8 + 3 * age - rng.randint(0, age), "hr": rng.randint(92, 110)}
    return Patient(
        user_id=f"patient-{number:04d}",
        age=age,
        sex=sex,
        facts=_facts(rng, number, age, sex),
        base=base,
    )


def visit_facts(rng: Random, who: Patient, vitals: str) -> Bindings:
    """The date and the measurements of one visit; `vitals` names the profile of the illness."""
    day = _weekday(_FIRST_DAY + timedelta(days=rng.randrange(_DAYS)))
    born = date.fromisoformat(who.facts["born"])
    b = who.base
    wt = b["wt"] + rng.randint(-2, 2)
    sys, dia = b["sys"] + rng.randint(-6, 8), b["dia"] + rng.randint(-4, 6)
    if vitals == "high":
        sys, dia = sys + rng.randint(22, 38), dia + rng.randint(12, 20)
    hr = (
        b["hr"]
        + rng.randint(-5, 6)
        + {"fever": 22, "warm": 10, "breath": 18, "fast": 34}.get(vitals, 0)
    )
    temp = 36.3 + rng.randrange(8) / 10 + {"fever": 1.6, "warm": 0.9}.get(vitals, 0.0)
    spo2 = rng.randint(96, 99) - {"fever": 2, "breath": 4}.get(vitals, 0)
    best = 10 * rng.randint(38, 52 if who.sex == "F" else 62)
    age = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return {
        "date": f"{day.day:02d}-{_MONTHS[day.month - 1]}-{day:%y}",
        "time": f"{rng.randint(8, 17):02d}:{5 * rng.randrange(12):02d}",
        "age": str(age), "wt": str(wt), "ht": str(b["ht"]),
        "bmi": f"{wt / (b['ht'] / 100) ** 2:.1f}",
        "bp": f"{sys}/{dia}", "hr": str(hr), "temp": f"{temp:.1f}", "spo2": f"{spo2}%",
        "rr": str(rng.randint(13, 17) + {"fever": 5, "breath": 8}.get(vitals, 0)),
        "pef": str(round(best * rng.uniform(0.48, 0.72), -1)).removesuffix(".0"),
        "pefbest": str(best), "hba1c": str(rng.randint(52, 94)),
        "gluc": f"{rng.uniform(7.2, 17.9):.1f}", "phq": str(rng.randint(11, 22)),
        "hb": str(rng.randint(78, 108)), "tsh": f"{rng.uniform(5.2, 14.8):.1f}",
        "batch": f"{rng.randint(100, 999)}",
    }  # fmt: skip


def observations(rng: Random, seen: Bindings, vitals: str, child: bool) -> str:
    """The vital signs a clinician would write for this illness, in house shorthand."""
    bp, hr, temp = f"BP {seen['bp']}", f"HR {seen['hr']}", f"T {seen['temp']}"
    rr, spo2 = f"RR {seen['rr']}", f"SpO2 {seen['spo2']}"
    if child:
        return ", ".join([temp, hr, rr])
    if vitals in {"fever", "breath"}:
        return ", ".join([temp, hr, rr, spo2])
    if vitals in {"high", "sugar"}:
        return rng.choice(
            [f"{bp}, {hr}", f"{bp}, {hr}, wt {seen['wt']}", f"{bp}, BMI {seen['bmi']}"]
        )
    if vitals == "fast":
        return f"{hr}, {bp}"
    return rng.choice([f"{bp}, {hr}", f"{temp}, {bp}", f"{hr}, {bp}, {temp}", "obs normal", bp])


def _facts(rng: Random, number: int, age: int, sex: str) -> Bindings:
    """Name, address, numbers and habits, drawn independently of one another."""
    born = date(2024 - age, rng.randint(1, 12), rng.randint(1, 28))
    first = rng.choice(PEOPLE["female" if sex == "F" else "male"])
    surname = rng.choice(PEOPLE["surname"])
    # 7919 is coprime to 900,000: distinct numbers give distinct record numbers, out of order.
    record = 100_000 + (number * 7919 * 31) % 900_000
    road = f"{rng.choice(PEOPLE['street'])} {rng.choice(PEOPLE['way'])}"
    work = [w for w in PEOPLE["work"] if _fits_age(w, age)]
    facts = {
        "first": first, "surname": surname, "name": f"{first} {surname}",
        "title": "Mr" if sex == "M" else rng.choice(["Mrs", "Ms"]),
        "sex": sex, "he": "he" if sex == "M" else "she", "his": "his" if sex == "M" else "her",
        "born": born.isoformat(), "dob": f"{born:%d.%m.%Y}",
        "dobsaid": f"{born.day} {born:%B} {born.year}", "mrn": f"ZZ-{record}",
        "phone": f"({rng.choice(_RESERVED_AREAS)}) 555-01{rng.randrange(100):02d}",
        "address": f"{rng.randint(1, 98)} {road}",
        "town": rng.choice(PEOPLE["town"]), "work": rng.choice(work),
        "doctor": rng.choice(PEOPLE["clinician"]),
    }  # fmt: skip
    habits: Rules = {k: PEOPLE[k] for k in ("home", "smoke", "drink", "allergy", "past")}
    habits["home"] = [h for h in habits["home"] if age < _YOUNG_FAMILY_TO or not _YOUNG.search(h)]
    if age < _CHRONIC_FROM:
        habits["past"] = [p for p in habits["past"] if _ALSO_YOUNG.search(p)]
    for key, alternatives in habits.items():
        facts[key] = expand(rng, rng.choice(alternatives), facts, PEOPLE)
    if age < _CHILD_BELOW:
        facts |= {"past": "PMH nil", "allergy": rng.choice(["NKDA", "pen allergy (rash)"])}
    return facts


def _adult_age(rng: Random) -> int:
    """Older people come more often."""
    return (
        max(rng.randint(18, 88), rng.randint(18, 88)) if rng.random() < 0.5 else rng.randint(18, 88)
    )


def _fits_age(work: str, age: int) -> bool:
    """Keep students young and pensioners old."""
    if "student" in work:
        return age < _RETIRES // 2
    return ("retired" in work) == (age > _RETIRES)


def _weekday(day: date) -> date:
    """The clinic is closed at weekends."""
    saturday = 5
    return day - timedelta(days=2) if day.weekday() >= saturday else day
