"""Street addresses, postal codes, coordinates."""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer

_UPPER: Final = r"[A-Z\xc0-\xde]"
_LETTER: Final = r"[A-Za-z\xc0-\xff.'-]"
_CAP: Final = rf"{_UPPER}{_LETTER}{{0,24}}"
_LOW: Final = r"(?:de|del|de la|de las|de los|la|las|los|el|y|e|i|da|do|dos|das|di|della|dei|des|du|d'|l'|le|les|et|von|der|den|van|of|the)"
_UNIT: Final = r"(?:,? ?\n? {0,3}(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Flat|Room|Rm|Bldg|Building)\.? ?#?[A-Za-z0-9-]{1,6}\b|,? #[0-9A-Za-z-]{1,6}\b)?"
_ZIP: Final = r"(?:[A-Z]{2},? [0-9]{5}(?:-[0-9]{4})?\b)"
_TAIL: Final = rf"(?:,? ?\n? ?(?:{_CAP}[ ]?){{1,3}},? {_ZIP})?"

_SUFFIX: Final = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way|Parkway|Pkwy"
    r"|Circle|Cir|Crescent|Cres|Close|Highway|Hwy|Trail|Trl|Row|Mews|Gardens|Grove|Hill|Park|Plaza|Alley|Loop|Turnpike|Expressway|Quay|Walk)"
)
_COMPOUND: Final = (
    r"(?:stra\xdfe|strasse|str\.?|weg|platz|allee|gasse|ring|damm|ufer|steig|chaussee|straat|laan|gracht|plein|kade|dreef|singel"
    r"|gatan|v\xe4gen|gata|veien|vegen|vej|gade|all\xe9|katu|tie|kuja|utca|ulica)"
)
_STREET: Final = (
    r"(?:\b(?:Calle|calle|CALLE|Avda|Avda\.|Avenida|avenida|Av|Av\.|Avd\.|Plaza|Plza\.?|Pza\.?|Pl\.|Paseo|P\xba\.?|Camino|Carretera|Ctra\.?|Ronda|Traves\xeda|Carrera|Carrer|Avinguda|Vialidad|R\xfaa|Rua|Urb\.?|Pol\xedgono"
    r"|Glorieta|Pasaje|Cuesta|Bulevar|Gran V\xeda|GRAN V\xcdA|Via|Viale|Piazza|Corso|Largo|Travessa|Pra\xe7a|ul\.|al\.|os\.)|\b[Cc]/)"
)
_ADDRESS: Final = "|".join(
    (
        # 221B Baker Street, Apt 4
        rf"\b[0-9]{{1,6}}[A-Za-z]?(?:[-/][0-9]{{1,5}}[A-Za-z]?)? (?:[NSEW]\.? |North |South |East |West )?(?:{_CAP} |[0-9]{{1,3}}(?:st|nd|rd|th) ){{1,4}}{_SUFFIX}\b\.?(?: (?:NE|NW|SE|SW|N|S|E|W|North|South|East|West)\b)?{_UNIT}{_TAIL}",
        # Hauptstraße 12a, Prinsengracht 263
        rf"\b{_UPPER}[a-z\xdf-\xff.-]{{1,30}}{_COMPOUND} [0-9]{{1,4}} ?[a-zA-Z]?\b(?:-[0-9]{{1,4}})?",
        rf"\b{_UPPER}[a-z\xdf-\xff.-]{{1,30}}[ -](?:Stra\xdfe|Strasse|Str\.|Weg|Platz|Allee|Ring|Damm) [0-9]{{1,4}} ?[a-z]?\b",
        # 12 bis, rue de la Paix
        rf"\b[0-9]{{1,4}}(?: ?bis| ?ter| ?[A-D])?,? (?:rue|Rue|RUE|avenue|av\.|boulevard|Boulevard|bd|Bd|bld|place|chemin|Chemin|all\xe9e|all\xe9es|impasse|quai|cours|route|square|sentier|passage)"
        rf"(?: {_LOW}){{0,2}}(?: ?{_CAP}| [0-9]{{1,2}}){{1,4}}",
        # Calle de la Vega, 9, 3 D
        rf"{_STREET} ?(?:{_LOW} ?){{0,3}}"
        rf"(?:[A-Za-z\xc0-\xff.'-]{{1,24}} ?){{1,6}},? ?(?:(?:n\xba|n\xb0|no|num\.?|N\xba|n\.|km\.?) ?)?(?:[0-9]{{1,5}}[A-Za-z\xaa\xba]?(?:[-/][0-9]{{1,4}}[\xaa\xba]?){{0,3}}|s/n|S/N)"
        rf"(?:(?:,|, | - |-| )(?:[0-9]{{1,2}}(?:\xba|\xaa|o\b|a\b)? ?-?(?:[A-Z]\b|[0-9]\b|[Dd]er\b|[Ii]z[qd]?a?\b|[Dd]cha\b)?|[Bb]ajo(?:[ ,]{{0,2}}[A-Z])?|piso [0-9]{{1,2}}|[A-H]\b)){{0,3}}",
        # 5049 Harjukuja 54 Suite 12, Oulu, FI 90100
        rf"\b[0-9]{{1,6}} (?:[0-9]{{1,6}} )?(?:{_CAP} ){{1,5}}(?:[0-9]{{1,5}}[a-z]? ?)?,?[ \n]{{0,4}}(?:Apt\.|Suite|Apartment|Unit) #?[0-9]{{1,5}}[A-Z]?\b(?:,?[ \n]{{0,4}}(?:{_CAP} ?){{1,3}})?(?:[ \n]{{0,2}},?[ \n]{{0,4}}(?:[A-Z]{{2}}|{_CAP}(?: {_CAP})?),? [0-9]{{3,6}}\b)?",
        # P.O. Box 12
        r"\b(?:P\. ?O\. ?|PO |p\.o\. |P\.O )[Bb]ox [0-9]{1,6}\b|\b(?:Postfach|Apartado(?: de Correos)?|Bo\xeete [Pp]ostale|BP|Postbus|Casella Postale|Postbox) [0-9]{1,6}\b"
        r"|\b(?:PSC|Unit) [0-9]{1,5},? Box [0-9]{1,5}(?:,? ?\n? ?[AFD]PO,? [A-Z]{2},? [0-9]{5})?",
    )
)
_NOT_STREETS: Final = re.compile(
    r"(?i)\b(?:via|corso|calle|av|largo|plaza) (?:de|a|la|el|los|las|e|oral|intravenosa|email|e-mail|el|un|una)? ?(?:los|las)? ?\d"
)
# "calle" begins "called", and "Av" begins "Average": those name no street.
_STREET_BEGINS: Final = re.compile(_STREET)
_STREET_STANDS: Final = re.compile(rf"{_STREET}(?!(?<=[^\W\d_])[^\W\d_])")


def _decide_address(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if start and (text[start - 1].isalnum() or text[start - 1] in "_/.$"):
        return
    end = _whole_numbers(text, start, end)
    while text[end - 1] in " ,-\n":
        end -= 1
    body = text[start:end]
    if _NOT_STREETS.match(body):
        return
    if _STREET_BEGINS.match(body) and not _STREET_STANDS.match(body):
        return
    if body[:4].lower() in ("via ", "al. ", "os. ") and not body[4:5].isupper():
        return
    if "\n" in body and not re.search(r"[A-Z]{2},? [0-9]{5}|Apt|Suite|Unit|Box", body):
        return
    yield Mark(start, end, "ADDRESS", "address.street")


def _whole_numbers(text: str, start: int, end: int) -> int:
    """Where an address ends that would end within a number: before it, or else behind it.

    `Calle de Alcalá, 261, 28046 Madrid` would take the floor `28` from the postal code.
    """
    if not (text[end - 1].isdigit() and text[end : end + 1].isdigit()):
        return end
    before = end
    while text[before - 1].isdigit():
        before -= 1
    if any(c.isdigit() for c in text[start:before]):
        return before
    while text[end : end + 1].isdigit():
        end += 1
    return end


_ADDRESS_LABEL: Final = (
    r"(?i)\b(?:address|home address|street address|mailing address|postal address|domicilio|direcci\xf3n|adresse|anschrift"
    r"|indirizzo|endere\xe7o|adres|domicile|wohnhaft in) ?: {0,3}[^\n:;|\t]{5,90}"
)


def _decide_labelled(page: Page, start: int, end: int) -> Iterator[Mark]:
    """The rest of the line behind `Address:`, up to its last number or abbreviation."""
    text = page.text
    first = text.index(":", start) + 1
    while text[first : first + 1] == " ":
        first += 1
    stop = re.compile(r"\.(?= ?\n)|\.{1,2} ?$|\. (?=[A-Z][a-z]+ [a-z]|[A-Z][a-z]+:)|\n").search(
        text, first, end
    )
    last = stop.start() if stop else end
    cut = (
        re.compile(r" ?\b[A-Za-z\xc0-\xff/-]+ ?$").search(text, first, last)
        if text[last : last + 1] == ":"
        else None
    )
    last = cut.start() if cut else last
    while last > first and text[last - 1] in " .,":
        last -= 1
    body = text[first:last]
    if (
        "@" not in body
        and "//" not in body
        and (any(c.isdigit() for c in body) or "s/n" in body)
        and any(c.isalpha() for c in body)
    ):
        yield Mark(first, last, "ADDRESS", "address.labelled", ("label: address",))


_UK: Final = r"(?:GIR ?0AA|[A-PR-UWYZ](?:[0-9]{1,2}|[A-HK-Y][0-9]{1,2}|[0-9][A-HJKPS-UW]|[A-HK-Y][0-9][ABEHMNPRV-Y]) [0-9][ABD-HJLNP-UW-Z]{2})"
_CANADA: Final = r"[ABCEGHJ-NPRSTVXY][0-9][ABCEGHJ-NPRSTV-Z][ -]?[0-9][ABCEGHJ-NPRSTV-Z][0-9]"
_STATE: Final = "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY]|PR|A[AEP])"
_POSTAL: Final = (
    rf"\b{_UK}\b|\b{_CANADA}\b|\b{_STATE},? [0-9]{{5}}(?:-[0-9]{{4}})?\b"
    r"|\b[1-9][0-9]{3} ?[A-Z]{2}\b"
    r"|(?i:\b(?:zip ?code|zip|postal ?code|post ?code|postleitzahl|plz|c\.p\.|cp|c\xf3digo postal|code postal|cap|cep|pincode|pin code)"
    r"\b(?: is| es| est| ist)?[ :.=#-]{0,4}[A-Za-z0-9]{2,5}[ -]?[A-Za-z0-9]{0,5}\b)"
    rf"|\b[0-9]{{5}} {_UPPER}[a-z\xdf-\xff]"
)
_CODE: Final = re.compile(
    rf"{_UK}|{_CANADA}|\d{{5}}-\d{{4}}|\d{{3}} \d{{2}}\b|\d{{4}} ?[A-Z]{{2}}\b|[A-Z]{{1,2}}-\d{{4,5}}|\d{{2}}-\d{{3}}\b|\d{{5}}-\d{{3}}|\d{{3,7}}"
)
_HOUSE: Final = re.compile(r" [A-Z\xc0-\xde][\w.'-]*(?: [\w.'-]+){0,2} \d")
_BEFORE_CODE: Final = re.compile(r"(?:[,.(\n]|\d|s/n| - |\u00ba|\u00aa|- ?|\b[DEFIA]-)[ \n]{0,2}$")


_TOWN: Final = re.compile(r" {1,2}[A-Z][a-z\xdf-\xff]")
_WITH_STATE: Final = re.compile(r"[A-Z]{2}[ ,]")
_NO_CODES: Final = frozenset(
    {"AM", "PM", "BC", "AD", "KB", "MB", "GB", "KG", "KM", "SS", "SA", "SD", "UI", "ML", "MG", "CC"}
)


def _decide_postal(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    before = text[start - 1 : start]
    code = _CODE.search(text, start, end)
    if code is None or (before and (before.isalnum() or before in "_/$")):
        return
    first, last = code.span()
    around = page.around(first, last)
    rule: str | None = "postal.form"
    if first > start:
        rule = "postal.state" if _WITH_STATE.match(text, start) else "postal.label"
    elif text[first:last].isdigit():
        rule = "postal.town" if _is_before_town(text, first, last) else None
    elif text[first].isdigit():
        town = _TOWN.match(text, last) is not None and text[last - 2 : last] not in _NO_CODES
        rule = "postal.netherlands" if town else None
    elif " " not in text[first:last] and around.distance("zip") > 3:
        rule = None  # T4N2M1 is a stage of cancer
    if rule is None or (first == start and around.distance("reference") <= 2):
        return
    yield Mark(first, last, "POSTAL_CODE", rule, around.evidence("zip"))


def _is_before_town(text: str, first: int, last: int) -> bool:
    """Whether five digits before a capital are `28046 Madrid`, not `50345 Wingertweg 126`."""
    lead = _BEFORE_CODE.search(text, max(0, first - 6), first) is not None
    return last - first == 5 and lead and _HOUSE.match(text, last) is None


_POINT: Final = (
    r"[+-]?[0-9]{1,2}\.[0-9]{3,15}\xb0? ?[NS]?[,;]? {0,2}[+-]?[0-9]{1,3}\.[0-9]{3,15}\xb0? ?[EWO]?"
    r"|(?i:\blat(?:itude)?[ :=\"']{1,4}[+-]?[0-9]{1,2}\.[0-9]{2,15}[ ,;\"']{1,4}(?:lon|lng|long|longitude)[ :=\"']{1,4}[+-]?[0-9]{1,3}\.[0-9]{2,15})"
    r"|[0-9]{1,2}\xb0 ?[0-9]{1,2}' ?(?:[0-9]{1,2}(?:\.[0-9]{1,6})?(?:\"|'') ?)?[NS][, ]{1,3}[0-9]{1,3}\xb0 ?[0-9]{1,2}' ?(?:[0-9]{1,2}(?:\.[0-9]{1,6})?(?:\"|'') ?)?[EWO]"
)


def _decide_point(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    body = text[start:end].rstrip()
    end = start + len(body)
    numbers = [float(number) for number in re.findall(r"[+-]?\d{1,3}\.\d+", body)]
    if len(numbers) == 2 and not (abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180):
        return
    if (start and (text[start - 1].isalnum() or text[start - 1] in "._")) or text[
        end : end + 1
    ].isalnum():
        return
    if "," not in body and not re.search(r"(?i)[NSEW\xb0]|lat", body):
        return
    around = page.around(start, end)
    exact = min((len(n.split(".")[1]) for n in re.findall(r"\d+\.\d+", body)), default=6)
    if around.speaks_for("geo", ()) or "\xb0" in body or "at" in body or exact >= 4:
        yield Mark(start, end, "COORDINATES", "coordinates.pair", around.evidence("geo"))


# what no address is without: a word of streets and its number, or one of these near it
_STREET_AND_NUMBER: Final = (
    rf"{_STREET}[A-Za-z\xaa\xba\xc0-\xff.' -]*,? ?(?:(?:n\xba|n\xb0|no|num\.?|N\xba|n\.|km\.?) ?)?"
    r"(?:[0-9]|[sS]/[nN])"
)
_HOUSE_NUMBER: Final = (
    rf"[0-9][A-Za-z]? (?:[NSEW]\.? )?(?:{_UPPER}{_LETTER}*|[0-9]{{1,3}}(?:st|nd|rd|th)) "
    rf"(?:{_UPPER}|[0-9]{{1,3}}(?:st|nd|rd|th) )|(?:Apt\.|Suite|Apartment|Unit) #?[0-9]"
    r"|[0-9](?: ?bis| ?ter| ?[A-D])?,? (?:[Rr]ue|RUE|av|[Bb]o|[Bb]d|bld|pl|[Cc]h|all|imp|quai|cours"
    rf"|route|sq|sen|pas)|(?:{_COMPOUND}|Stra\xdfe|Strasse|Str\.|Weg|Platz|Allee|Ring|Damm) [0-9]"
    r"|(?:[Bb]ox|Postfach|Apartado|Correos|[Pp]ostale|BP|Postbus|Postbox) [0-9]"
)
_POSTAL_HINT: Final = (
    r"[0-9A-Z] [0-9][A-Z]{2}\b|GIR ?0|[A-Z][0-9][A-Z][ -]?[0-9][A-Z][0-9]|\b[A-Z]{2},? [0-9]{5}"
    r"|\b[0-9]{4} ?[A-Z]{2}\b|(?i:\b(?:zip|zip ?code|postal ?code|post ?code|postleitzahl|plz|c\.p\.|cp"
    r"|(?:c\xf3digo|code) postal|cap|cep|pin ?code)\b(?: is| es| est| ist)?[ :.=#-]{0,4}"
    r"[A-Za-z0-9]{0,5}[ -]?[A-Za-z0-9]{0,4}[0-9])"
    rf"|\b[0-9]{{5}} {_UPPER}"
)

_POINT_HINT: Final = (
    r"\.[0-9]{3,15}\xb0? ?[NS]?[,;]? {0,2}[+-]?[0-9]{1,3}\.[0-9]{3}|\xb0 ?[0-9]"
    r"|(?i:\blat(?:itude)?[ :=\"']{1,4}[+-]?[0-9])"
)

RECOGNIZERS: Final = (
    Recognizer(
        "address",
        _STREET_AND_NUMBER,
        _ADDRESS,
        _decide_address,
        digits=True,
        near=_HOUSE_NUMBER,
    ),
    Recognizer(
        "address_label",
        r"(?i)(?:addres|domicil|direcci|adres|anschrift|indirizzo|endere|wohnhaft)"
        r"[a-z\xe7\xf3\xf3 ]{0,5}:",
        _ADDRESS_LABEL,
        _decide_labelled,
        digits=True,
    ),
    Recognizer("postal", (), _POSTAL, _decide_postal, digits=True, near=_POSTAL_HINT),
    Recognizer("coordinates", (), _POINT, _decide_point, digits=True, near=_POINT_HINT, close=True),
)
