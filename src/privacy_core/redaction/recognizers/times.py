"""Dates in figures and in words, years, times of day.

Months and days are read in English, Spanish, French, German, Italian, Portuguese, Dutch and Catalan.
A date beside a word of birth is a DATE_OF_BIRTH. Versions, fractions, articles and addresses of the
network have the same characters: figures with dots need a four-digit year or a word that says date,
and a bare year needs a word before it that takes a time (`in 1997`, `desde 2004`).
"""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer
from privacy_core.redaction.surroundings import Surroundings

_MONTH: Final = (
    "(?:january|february|march|april|may|june|july|august|september|october|november|december"
    "|jan|feb|mar|apr|jun|jul|aug|sept|sep|oct|nov|dec"
    "|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|setiembre|octubre|noviembre"
    "|diciembre|ene|abr|ago|dic"
    "|janvier|f\xe9vrier|mars|avril|mai|juin|juillet|ao\xfbt|septembre|octobre|novembre|d\xe9cembre"
    "|janv|f\xe9vr|avr|juil|d\xe9c"
    "|januar|j\xe4nner|februar|m\xe4rz|juni|juli|oktober|dezember|m\xe4r|okt|dez"
    "|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre"
    "|janeiro|fevereiro|mar\xe7o|maio|junho|julho|setembro|outubro|novembro|dezembro"
    "|januari|februari|maart|mei|augustus|mrt"
    "|gener|febrer|mar\xe7|maig|juny|juliol|agost|setembre|desembre)"
)
_DAY: Final = r"(?:3[01]|[12][0-9]|0?[1-9])"
_ORDINAL: Final = r"(?:st|nd|rd|th|er|\xba|\xb0|\.)?"
_YEAR: Final = r"(?:1[5-9]|20)[0-9]{2}"
_OF: Final = r"(?:of |de |del |d'|de l'ann\xe9e |del a\xf1o |de a\xf1o |of the year )?"
_CLOCK: Final = r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?"
_ZONE: Final = r"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?"
_HALF: Final = r"(?: ?[ap]\.?m\b\.?)?"

_WORDS: Final = (
    rf"(?i)\b{_DAY}{_ORDINAL}(?: ?(?:-|to|and|/|al|au|bis|y|et|und) ?{_DAY}{_ORDINAL})?"
    rf"[ -]?(?:day )?{_OF}{_MONTH}\b\.?(?:,? {_OF}{_YEAR}\b|[-/ ]{_YEAR}\b|-[0-9]{{2}}\b|,? '[0-9]{{2}}\b)?"
    rf"|\b{_MONTH}\b\.? (?:the )?{_DAY}(?:st|nd|rd|th)?(?: ?- ?{_DAY}(?:st|nd|rd|th)?)?\b"
    rf"(?:,? ?{_YEAR}\b|,? '[0-9]{{2}}\b)?"
    rf"|\b{_MONTH}\b\.?,? ?{_OF}(?:the year )?{_YEAR}\b"
    rf"|\b{_YEAR}[ -]{_MONTH}[ -]{_DAY}\b"
    rf"|\b{_MONTH}[-/ ]'?[0-9]{{2}}\b"
    rf"|\b(?:early|late|mid|end of|beginning of|the end of)[- ]{_MONTH}\b(?:,? {_YEAR}\b)?"
)
# sorted: RE2 makes a tree of words that begin alike where they stand together
_ANY_MONTH: Final = "(?:" + "|".join(sorted(_MONTH[3:-1].split("|"))) + ")"
_BESIDE_MONTH: Final = (
    rf"(?i)[0-9]{_ORDINAL}[ -]?(?:day )?{_OF}{_ANY_MONTH}\b"
    rf"|\b{_ANY_MONTH}(?:\b\.?,? ?(?:the )?{_OF}(?:the year )?|[-/ ]'?)[0-9]"
)
_MONTH_ONLY: Final = re.compile(rf"(?i){_MONTH}[-/ ]'?\d{{2}}")


def _decide_words(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if start and (text[start - 1].isalnum() or text[start - 1] in "_"):
        return
    if end < len(text) and text[end].isalnum() and text[end - 1] != ".":
        return
    while text[end - 1] in ". ":
        end -= 1
    if text[max(0, start - 14) : start].endswith(
        ("Hospital ", "Universitario ", "Calle ", 'rio "')
    ):
        return  # named after a day: Hospital 12 de Octubre
    if text[start:end].isalpha():
        return
    body = text[start:end]
    if _MONTH_ONLY.fullmatch(body) and not re.fullmatch(
        r"(?i)[a-z\xdf-\xff]{3,}['-]\S+|\D+ '\d\d|\D+ (?:0?[1-9]|[12]\d|3[01])", body
    ):
        return
    around = page.around(start, end)
    verb = body[:3] in ("may", "mar") and not re.search(r"\d{4}", body)
    if verb and min(around.distance("date"), around.distance("since")) > 1:
        return  # `may 5`
    yield _dated(start, end, around, "date.words")


def _dated(start: int, end: int, around: Surroundings, rule: str) -> Mark:
    """A date, or a date of birth where a word of birth is nearest."""
    if around.distance("birth") <= 5:
        return Mark(start, end, "DATE_OF_BIRTH", "date.birth", around.evidence("birth"))
    return Mark(start, end, "DATE", rule, around.evidence("date"))


# ---- figures

_FIGURES: Final = (
    rf"\b{_YEAR}([-/.])(?:1[0-2]|0?[1-9])[-/.]{_DAY}(?:(?:T|,? ){_CLOCK}{_HALF}{_ZONE})?"
    rf"|\b[0-9]{{1,2}} ?[-/.] ?[0-9]{{1,2}} ?(?:[-/.] ?|//)(?:{_YEAR}|[0-9]{{2}})(?:,? {_CLOCK}{_HALF})?"
    rf"|\b(?:1[0-2]|0?[1-9])[/.-]{_YEAR}\b"
    rf"|\b{_YEAR}\xfe[0-9]{{1,2}}\xfe(?:[0-9]{{1,2}}\xfe)?"
    rf"|\b{_DAY}/(?:1[0-2]|0?[1-9])\b|\b(?:1[0-2]|0?[1-9])/{_DAY}\b"
    rf"|\b(?:19|20)[0-9]{{2}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])\b"
).replace("([-/.])", "[-/.]")
_JOINED: Final = (
    r"[0-9]/[0-9]|[0-9] ?[-/.] ?[0-9]{1,2} ?[-/.]|[0-9][.-](?:1[5-9]|20)[0-9]{2}\b|[0-9]\xfe[0-9]"
    r"|(?:19|20)[0-9]{6}"
)
_SHORT: Final = re.compile(r"(\d{1,2}) ?([-/.]) ?(\d{1,2}) ?([-/.])(?: ?|/)(\d{2}|\d{4})(?![\d])")
_LONG: Final = re.compile(r"\d{4}([-/.])\d{1,2}([-/.])\d{1,2}")


def _decide_figures(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if _glued(text, start, end):
        return
    body = text[start:end]
    around = page.around(start, end)
    if around.distance("version") <= 1 and around.distance("date") > around.distance("version"):
        return
    short = _SHORT.match(body)
    if short is not None:
        rule = _judge_short(short, around)
    elif (long := _LONG.match(body)) is not None:
        rule = "date.iso" if long[1] == long[2] else None
    elif body.isdigit():
        rule = "date.compact" if _says_date(around) else None
    elif "\xfe" in body:
        rule = "date.figures"
    elif len(body) <= 5:
        rule = "date.day_month" if _says_date(around) and around.distance("date") <= 1 else None
    else:
        rule = _judge_month_year(body, around)
    if rule is not None:
        yield _dated(start, end, around, rule)


def _judge_month_year(body: str, around: Surroundings) -> str | None:
    """`03/1987` is a month; `1/2048` is one only where a word says so."""
    in_use = 1900 <= int(body[-4:]) < 2040
    free = around.distance("reference") > 1
    return "date.month_year" if free and (in_use or _says_date(around)) else None


def _says_date(around: Surroundings) -> bool:
    near = min(around.distance(kind) for kind in ("date", "since", "birth"))
    return near <= 2 and near < around.distance("reference")


def _judge_short(match: re.Match[str], around: Surroundings) -> str | None:
    """Day, month, year in figures: which rule, or None for versions and the impossible."""
    first, mark, second, other, year = match.groups()
    a, b = int(first), int(second)
    if mark != other or not (1 <= a <= 31 and 1 <= b <= 31 and min(a, b) <= 12):
        return None
    if len(year) == 4:
        return "date.figures"
    if mark == "/" or _says_date(around):
        return "date.figures_short"
    if mark == "." and len(first) == len(second) == 2 and around.distance("version") > 3:
        return "date.figures_dots"
    return "date.figures_dashes" if mark == "-" and len(first) == len(second) == 2 else None


def _glued(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (before.isalnum() or before in "_$#"):
        return True
    if before and before in "-/.," and start >= 2 and text[start - 2].isdigit():
        return True
    return bool(after) and (
        after[0].isalnum()
        or after[0] in "_%"
        or (after[0] in "-/.," and after[1:2].isdigit() and after[0] != ",")
    )


# ---- years

_YEARS: Final = rf"\b{_YEAR}(?:s\b|(?: ?[-/] ?|\band\b)(?:{_YEAR}|[0-9]{{2}})\b)?|'[0-9]0s\b"
_BEFORE_YEAR: Final = re.compile(
    r"(?:^|[^\w])(?:in|since|by|until|till|from|of|during|before|after|year|years|between|around|circa"
    r"|late|early|mid|to|born|through|throughout|and|or|en|desde|hasta|a\xf1o|a\xf1os|del|de|el|durante|depuis"
    r"|jusqu'en|vers|ann\xe9e|fin|d\xe9but|im|jahr|jahre|seit|bis|ab|nel|dal|del|anno|em|ano|sinds"
    r"|spring|summer|autumn|fall|winter|season|class|copyright|\(c\)|\xa9|verano|oto\xf1o"
    r"|invierno|primavera|entre|y|et|und|vor|nach|en l'an|as of|fiscal|fy|dated|l'an|sommer|herbst)"
    r"[ \n]{1,2}$"
)
_NUMBERED: Final = re.compile(
    r"(?:page|pages|p\.|pp\.|no\.|nos\.|n\xba|n\xb0|room|port|version|article|art\.|section|\xa7|line|chapter"
    r"|model|rule|order|invoice|epoch|build|#)[ ]?$"
)
_COUNTED: Final = re.compile(
    r"[ -]?(?:kg|g|mg|ml|l|km|m|cm|mm|people|persons|men|women|employees|euros?|dollars?|pounds?|usd|eur|gbp"
    r"|calories|kcal|mah|rpm|mhz|hz|w|kw|words|pages|times|units|items|copies|steps|votes|shares"
    r"|hours|days|miles|years|seats|inhabitants|members|students|x)\b"
)


def _decide_year(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if not _is_free_year(text, page.lower, start, end):
        return
    if page.mentions("birth"):
        around = page.around(start, end)
        if around.distance("birth") <= 4:
            yield Mark(start, end, "DATE_OF_BIRTH", "date.birth", around.evidence("birth"))
            return
    rule = _year_rule(page, start, end)
    if rule is not None:
        yield Mark(start, end, "DATE", rule)


def _is_free_year(text: str, lower: str, start: int, end: int) -> bool:
    """Whether nothing around four digits makes them a part of something else, or a count."""
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (before.isalnum() or before in "_/.,$#:=@+"):
        return False
    if before == "-" and (text[start - 2 : start - 1].isdigit() or not after[:1].strip()):
        return False
    if after and (
        after[0].isalnum() or after[0] in "_%@" or (after[0] in "-/.,:" and after[1:2].isalnum())
    ):
        return False
    if after[:1] == " " and after[1:2].isdigit():
        return False  # `to 1987 74 Diakou Street`
    return not (_NUMBERED.search(lower, max(0, start - 10), start) or _COUNTED.match(lower, end))


def _year_rule(page: Page, start: int, end: int) -> str | None:
    text = page.text
    if _BEFORE_YEAR.search(page.lower, max(0, start - 16), start):
        return "date.year_context"
    closes = text[end : end + 1] == ")" and int(text[start : start + 4]) >= 1800  # not `IgG 1620)`
    opens = text[start - 1 : start] == "("
    if opens or closes or text[end : end + 1] == "s" or end - start > 4:
        return "date.year_brackets"
    if _stands_alone(text, start, end) and page.around(start, end).distance("reference") > 3:
        return "date.year"
    return None


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no capital and no number is next to a year: it is no house number, no act of law."""
    before, after = text[max(0, start - 24) : start].split(), text[end : end + 24].split()
    upper = bool(before) and before[-1].lstrip("([")[:1].isupper()
    return not upper and not (after and (after[0][0].isupper() or after[0][0].isdigit()))


# ---- days of the week, times of day

_MONTHS_ALONE: Final = (
    r"(?i)\b(?:in|since|during|last|next|until|en|mes de|desde|hasta|im|seit|depuis|fin) "
    r"(?:early |late )?(?:january|february|march|april|may|june|july|august|september|october"
    r"|november|december|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre"
    r"|noviembre|diciembre|janvier|f\xe9vrier|avril|juin|juillet|ao\xfbt|septembre|octobre|novembre"
    r"|d\xe9cembre|januar|februar|m\xe4rz|juni|juli|oktober|dezember)\b"
)


def _decide_month(page: Page, start: int, end: int) -> Iterator[Mark]:
    first = page.text.rindex(" ", start, end) + 1
    if not page.text[end : end + 1].isalnum():
        yield Mark(first, end, "DATE", "date.month", ("word before a month",))


_WEEKDAYS: Final = (
    r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?\b|\b(?:lunes|martes|mi\xe9rcoles|jueves|viernes"
    r"|s\xe1bado|domingo|lundi|mardi|mercredi|jeudi|vendredi|samedi|dimanche|Montag|Dienstag|Mittwoch"
    r"|Donnerstag|Freitag|Samstag|Sonnabend|Sonntag)s?\b"
)


# a day that comes back is no date: every Sunday, the last Sunday of May
_RECURRING: Final = re.compile(
    r"(?:the last|the first|every|each|los|les|le|jeden|todos los|tous les) $"
)


def _decide_weekday(page: Page, start: int, end: int) -> Iterator[Mark]:
    if not _RECURRING.search(page.lower, max(0, start - 12), start):
        yield Mark(start, end, "DATE", "date.weekday")


_TIME: Final = (
    rf"\b{_CLOCK}{_HALF}|\b(?:1[0-2]|0?[1-9])(?:[.:][0-5][0-9])? ?[apAP]\.?[mM]\b\.?"
    r"|\b(?:[01]?[0-9]|2[0-3]) ?h(?:[0-5][0-9])?\b|\b(?:[01]?[0-9]|2[0-3])(?:[.:][0-5][0-9])? Uhr\b"
)


def _decide_time(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (before in ":.,-_/$#" or before.isalnum()):
        return
    if after and (
        after[0] in "_%" or after[0].isalnum() or (after[0] in ":.,-" and after[1:2].isdigit())
    ):
        return
    around = page.around(start, end)
    if min(around.distance("version"), around.distance("reference")) <= 1:
        return  # ratio 1:25:37
    while text[end - 1] == "." and text[end - 2] not in "mM":
        end -= 1
    yield Mark(start, end, "TIME", "time.clock")


_DATES: Final = ("DATE", "DATE_OF_BIRTH")
_BIRTHS: Final = (("DATE_OF_BIRTH", "birth"),)

RECOGNIZERS: Final = (
    Recognizer(
        "date_words",
        rf"(?i)(?:early|late|mid|of)[- ]{_ANY_MONTH}\b",
        _WORDS,
        _decide_words,
        near=_BESIDE_MONTH,
        finds=_DATES,
        told=_BIRTHS,
    ),
    Recognizer(
        "date_figures",
        (),
        _FIGURES,
        _decide_figures,
        digits=True,
        again=True,
        near=_JOINED,
        close=True,
        finds=_DATES,
        told=_BIRTHS,
    ),
    Recognizer(
        "year",
        (),
        _YEARS,
        _decide_year,
        digits=True,
        near=r"\b(?:1[5-9]|20)[0-9]{2}|'[0-9]0s",
        close=True,
        finds=_DATES,
        told=_BIRTHS,
    ),
    Recognizer(
        "month",
        (),
        _MONTHS_ALONE,
        _decide_month,
        finds=("DATE",),
    ),
    Recognizer(
        "weekday",
        (),
        _WEEKDAYS,
        _decide_weekday,
        finds=("DATE",),
    ),
    Recognizer(
        "time",
        (),
        _TIME,
        _decide_time,
        digits=True,
        near=r"(?i)[0-9] ?(?::|[ap]\.?m|h|uhr)",
        close=True,
        finds=("TIME",),
    ),
)
