"""Ages, nationalities, religions, professions: what narrows the circle around a person.

The span of an age is the number in English (`[AGE]-year-old`), number and unit elsewhere, as the
guidelines of the clinical corpora have it (`72 años`).
"""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer

_TENS: Final = "(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)"
_ONES: Final = "(?:one|two|three|four|five|six|seven|eight|nine)"
_NUMBER: Final = (
    rf"(?:1[0-2][0-9]|[0-9]{{1,2}}|{_TENS}(?:-{_ONES})?|{_ONES}|ten|eleven|twelve|thirteen|fourteen"
    r"|fifteen|sixteen|seventeen|eighteen|nineteen)"
)
_UNIT: Final = r"(?:years?|yrs?|months?|weeks?|days?|mos?|wks?)"
_SPANISH: Final = (
    r"(?:un|una|uno|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez|once|doce|trece|catorce|quince"
    r"|diecis\xe9is|diecisiete|dieciocho|diecinueve|veinte|treinta|cuarenta|cincuenta|sesenta|setenta"
    r"|ochenta|noventa)"
)
_AGE: Final = (
    rf"(?i)\b{_NUMBER}[ -]?{_UNIT}[ -](?:old\b|of age\b)|\b{_NUMBER}[ -]?(?:y/o|yo|y\.o\.?|yrs? old)\b"
    rf"|\b(?:aged?|ages)(?: of| is|:)? {_NUMBER}\b|\bage ?[:=] ?{_NUMBER}\b"
    rf"|\b(?:turn|turns|turned|turning) {_NUMBER}\b"
    rf"|\b(?:he|she|i|they|who) (?:was|were|is|am|are) {_NUMBER}\b"
    rf"|\b{_NUMBER}[ -]?(?:yr|yrs|year)[ -]old\b|\b[0-9]{{1,3}} ?[MF]\b,? "
    r"|\b(?:edad|\xe2ge|alter|et\xe0|idade|leeftijd) ?:? {0,3}[0-9]{1,3}\b(?: {1,2}(?:a\xf1os?|mes|meses|semanas|d\xedas?|dias?|ans|mois"
    r"|jahre|monate|anni|anos|jaar))?"
    rf"|\b(?:[0-9]{{1,3}}|{_SPANISH})(?: y (?:medio|{_SPANISH}))? ?(?:a\xf1os?|mes|meses|semanas?|d\xedas?)\b"
    r"(?: y medio)?(?: de (?:edad|vida)\b)?"
    r"|\b[0-9]{1,3} ans\b|\b[0-9]{1,3}[ -]?(?:jahre alt|j\xe4hrige[rnms]?|j\xe4hrig)\b"
    r"|\balter von [0-9]{1,3} jahren\b|\b[0-9]{1,3} (?:anni|anos de idade|jaar oud)\b"
)
_VALUE: Final = re.compile(rf"(?i)(?<![A-Za-z]){_NUMBER}(?![A-Za-z0-9])")
_ENGLISH: Final = re.compile(
    r"(?i)old|of age|y/o|yo\b|y\.o|^aged?|^ages|^turn|\b(?:was|were|is|am|are)\b|[MF],? $"
)
# words before a length of time that is not an age
_DURATION: Final = re.compile(
    r"(?:hace|hac\xeda|luego de|m\xe1s de|durante|tras|desde|\xfaltimos|\xfaltimas|cada|unos|unas|pr\xf3ximos|primeros|primeras|siguientes|m\xe1s|menos"
    r"|en|por|cabo de|casi|despu\xe9s de|antes de|evoluci\xf3n de|seguimiento de|ciclo de|periodo de|y a"
    r"|pendant|depuis|dans|apr\xe8s|de plus de|peine de|emprisonnement de|dur\xe9e de|prisi\xf3n de|pena de"
    r"|plazo de|plazo m\xe1ximo de|supervivencia de|otros|otras|dos|tres|\d a|\d o|\d-|\()[ ]{0,2}$"
)
# what follows a length of time that is counted from an event
_SINCE: Final = re.compile(
    r" (?:de|del|d'|du|des|despu\xe9s|m\xe1s|antes|tras|en|apr\xe8s|avant|d'emprisonnement)\b(?! edad| vida)"
)
# months, weeks and days are an age only right behind a child
_BODY: Final = re.compile(
    r"(?:edad|var\xf3n|mujer|ni\xf1[oa]|paciente|lactante|beb\xe9|nacid[oa]|hij[oa]|\xe2g\xe9e?)[ ](?:de[ ])?$"
)
_PERSON: Final = re.compile(
    r"(?:edad|var\xf3n|mujer|ni\xf1[oa]|paciente|hombre|hij[oa]s?|herman[oa]s?|padre|madre|lactante|los|las|a los"
    r"|beb\xe9|chic[oa]|joven|adolescente|abuel[oa]|ti[oa]|\xe2g\xe9e?s?|\xe2ge|\xe9tait|avait|a|tiene|ten\xeda|de|con|,|:)[ ]{0,2}"
    r"(?:de[ ])?$"
)


def _decide_age(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    body = text[start:end]
    if start and (text[start - 1].isalnum() or text[start - 1] in "_$-./"):
        return
    value = _VALUE.search(body)
    if _ENGLISH.search(body):
        if value is not None and _is_english_age(page, start, end, value):
            last = start + value.end()
            plus = text[last : last + 1] == "+" and value.group().isdigit()  # the band `90+`
            yield Mark(start + value.start(), last + plus, "AGE", "age.english")
    elif value is not None and body[:1].isalpha() and not _SPELT.match(body):
        yield Mark(start + value.start(), end, "AGE", "age.labelled")
    else:
        tail = next((t for t in (" de edad", " de vida") if body.lower().endswith(t)), "")
        if tail or "j\xe4hrig" in body or " alt" in body:
            yield Mark(start, end - len(tail), "AGE", "age.unit_of_age")
        elif _is_lifetime(page.lower, start, end, body):
            yield Mark(start, end, "AGE", "age.unit")


_SPELT: Final = re.compile(rf"(?i){_SPANISH}\b")
_BE: Final = re.compile(r"[A-Za-z ]*(?:was|were|is|am|are) ")
_COUNTED: Final = re.compile(
    r" ?(?:%|years? (?!old)|hours|days|miles|km|kg|minutes|of |cm|percent|and |to |or |-)"
)


def _is_english_age(page: Page, start: int, end: int, value: re.Match[str]) -> bool:
    """Whether `she was 78` or `54 M` is an age and not a count, a price or a time."""
    body = page.text[start:end]
    if body[:1].isdigit() and body.rstrip(" ,")[-1:] in "MF":
        return _clinical(page, start)
    if not _BE.match(body):
        return True
    after = page.lower[end : end + 8]
    decimal = after[:1] in tuple("%.,:/$") and after[1:2].isdigit()
    counted = decimal or after[:1].isalnum() or _COUNTED.match(after) is not None
    return not counted and value.group().isdigit() and int(value.group()) >= 3


def _is_lifetime(lower: str, start: int, end: int, body: str) -> bool:
    """Whether a number of years or months is how old somebody is, not how long something took."""
    before = lower[max(0, start - 24) : start]
    if _SINCE.match(lower, end) or _DURATION.search(before):
        return False
    years = "a\xf1o" in body or "ans" in body or "ann" in body
    return (_PERSON if years else _BODY).search(before) is not None


def _clinical(page: Page, start: int) -> bool:
    """Whether `54 M, ` can be age and sex: at the begin of a line or after a comma."""
    before = page.text[max(0, start - 2) : start]
    return not before or before[-1] in "\n(" or before == ", "


_NATIONALITIES: Final = (
    "Afghan|Albanian|Algerian|American|Andorran|Angolan|Argentine|Argentinian|Armenian|Australian|Austrian|"
    "Azerbaijani|Bahraini|Bangladeshi|Basque|Belarusian|Belgian|Bolivian|Bosnian|Brazilian|British|Bulgarian|"
    "Burmese|Cambodian|Cameroonian|Canadian|Catalan|Chadian|Chechen|Chilean|Chinese|Colombian|Congolese|Croatian|Croat|"
    "Cuban|Cypriot|Czech|Danish|Dane|Dominican|Dutch|Ecuadorian|Egyptian|English|Eritrean|Estonian|Ethiopian|"
    "Filipino|Finnish|French|Georgian|German|Ghanaian|Greek|Greenlander|Guatemalan|Haitian|Honduran|Hungarian|Icelandic|"
    "Indian|Indonesian|Iranian|Iraqi|Irish|Israeli|Italian|Ivorian|Jamaican|Japanese|Jordanian|Kazakh|Kenyan|"
    "Korean|Kosovar|Kurdish|Kurd|Kuwaiti|Latvian|Lebanese|Libyan|Lithuanian|Luxembourger|Macedonian|Malaysian|Maltese|"
    "Mexican|Moldovan|Mongolian|Montenegrin|Moroccan|Nepalese|Nicaraguan|Nigerian|Norwegian|Pakistani|"
    "Palestinian|Panamanian|Paraguayan|Peruvian|Polish|Portuguese|Qatari|Romanian|Roma|Russian|Rwandan|Saudi|"
    "Scottish|Senegalese|Serbian|Serb|Singaporean|Slovak|Slovakian|Slovene|Slovenian|Somali|Spanish|Spaniard|Sudanese|"
    "Swedish|Swede|Swiss|Syrian|Taiwanese|Tanzanian|Thai|Tunisian|Turkish|Turk|Turkmen|Ugandan|Ukrainian|"
    "Uruguayan|Uzbek|Venezuelan|Vietnamese|Welsh|Yemeni|Zambian|Zimbabwean|"
    "Muslim|Christian|Catholic|Protestant|Orthodox|Jewish|Hindu|Buddhist|Sikh|Sunni|Shiite|Shia|Alevi|Yazidi|"
    "African|Asian|European|Hispanic|Latino|Latina|Caucasian|Republican|Democrat"
)
_NATIONALITY: Final = rf"\b(?:{_NATIONALITIES})s?\b"


def _decide_nationality(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if (start and (text[start - 1].isalnum() or text[start - 1] in "-_/")) or text[
        end : end + 1
    ].isalnum():
        return
    yield Mark(start, end, "NATIONALITY", "nationality.list")


_JOBS: Final = (
    "advocate|artist|assistant|captain|dancer|gendarme|guard|instructor|medical practitioner|owner|practitioner|principal|research assistant|sergeant|singer|student|tutor|watchman|"
    "accountant|actor|actress|analyst|architect|attorney|baker|banker|barber|bricklayer|broker|builder|businessman|"
    "businesswoman|butcher|carpenter|cashier|chef|chemist|civil servant|cleaner|clerk|coach|consultant|cook|"
    "dentist|designer|developer|director|doctor|driver|economist|editor|electrician|engineer|farmer|firefighter|"
    "fisherman|gardener|hairdresser|headteacher|housewife|janitor|jeweller|journalist|judge|laborer|labourer|lawyer|lecturer|librarian|"
    "machinist|manager|mayor|mechanic|midwife|miner|musician|notary|nurse|officer|painter|paramedic|pharmacist|"
    "photographer|physician|physicist|physiotherapist|pilot|plumber|police officer|policeman|politician|priest|"
    "professor|programmer|prosecutor|psychiatrist|psychologist|publisher|receptionist|salesman|scientist|secretary|"
    "shopkeeper|soldier|solicitor|surgeon|tailor|teacher|technician|therapist|trader|translator|veterinarian|"
    "waiter|waitress|welder|writer|"
    "abogad[oa]|administrativ[oa]|agricultor|alba\xf1il|ama de casa|azafata|bombero|cami\xf3nero|camarer[oa]|carpintero|"
    "cociner[oa]|conductor|dependient[ea]|electricista|enfermer[oa]|funcionari[oa]|ganadero|ingenier[oa]|jardinero|"
    "jubilad[oa]|limpiadora|maestr[oa]|mec\xe1nico|militar|minero|peluquer[oa]|pensionista|periodista|pescador|polic\xeda|"
    "profesora?|soldador|veterinari[oa]|avocate?|instituteur|institutrice|infirmi\xe8re?|ouvri\xe8re?|ing\xe9nieure?"
)
# a profession of somebody: `a lawyer`, `works as a nurse`, `profession: baker`
_PROFESSION: Final = (
    rf"(?i)\b(?:an?|as|work(?:s|ed|ing)? as(?: an?)?|(?:the )?former|retired|was the|is the|de profesi\xf3n|profesi\xf3n:?|profession:?|occupation:?|job:?"
    rf"|trabaja(?:ba)? (?:como|de)|como|by profession|,) (?:[a-z\xdf-\xff]{{3,14}} )?(?:{_JOBS})\b"
)
_JOB: Final = re.compile(rf"(?i)\b(?:{_JOBS})$")


def _decide_profession(page: Page, start: int, end: int) -> Iterator[Mark]:
    found = _JOB.search(page.text, start, end)
    if found is not None:
        yield Mark(found.start(), end, "PROFESSION", "profession.list")


RECOGNIZERS: Final = (
    Recognizer(
        "age",
        r"(?i)(?:years?|yrs?|months?|weeks?|days?|mos|wks?)[ -](?:old|of)|[0-9] ?-?y[/o.]|\bage|\bturn"
        r"|\b(?:was|were|is|am|are) [0-9]|edad|\xe2ge|\balter|et\xe0|a\xf1o|mes\b|meses|semana|d\xeda"
        r"|[0-9] ans\b|j\xe4hrig|jahre|jaar|anni|anos|[0-9] ?[MF]\b",
        _AGE,
        _decide_age,
        finds=("AGE",),
    ),
    Recognizer(
        "nationality",
        (),
        _NATIONALITY,
        _decide_nationality,
        finds=("NATIONALITY",),
    ),
    Recognizer("profession", (), _PROFESSION, _decide_profession, finds=("PROFESSION",)),
)
