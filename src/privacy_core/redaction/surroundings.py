"""Words around a candidate: what a person reads to know which number this is.

Words count as wholes (`lic` is not in `public`), in lower case, as the folded text has them. The
nearest word decides: in `order 123, call 555 0100` the first number is a reference, the second a
phone. Hints (column names, key paths) stand right before the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

from privacy_core.redaction.normalization import fold

_REACH: Final = 56  # characters before a candidate that are read
_WORD: Final = re.compile(r"[a-z\xaa\xb5\xba\xdf-\xff]+|#|[0-9]+")
_NEXT_WORD: Final = re.compile(r"[^a-z\xdf-\xff0-9\n]{0,4}([a-z\xdf-\xff]+)")
_PIECE: Final = re.compile(r"[A-Z]?[a-z\xdf-\xff]+|[A-Z]+(?![a-z])")

# kind | words of every language we know, whole and in lower case
_TABLE: Final = """
phone|phone phones telephone tel telf telfs tlf tlfs tfno tfnos tlfno telefono teléfono teléfonos telefon telefonnummer téléphone telefone telefoon mobile mobil móvil movil portable celular cell cellphone handy call calls called calling dial ring reach fax faxes telefax text texted sms whatsapp signal hotline landline desk pager office extension ext llamar llame llama contacto appeler appelez joindre anrufen rufnummer ruf tél mob ph phn voicemail switchboard gsm telefono cellulare numeru telefonu puhelin puh telefonszám тел телефон τηλ callback contact contact hp handphone msisdn message messages telef registered
card|card cards visa mastercard amex maestro discover diners jcb credit debit tarjeta carte karte kreditkarte carta cartão pan cc ccn cvv charged kartennummer
iban|iban
bank|account accounts acct konto kontonummer cuenta compte conto routing aba rtn iban bank sort wire transfer deposit checking savings clabe bsb
bic|bic swift
ssn|ssn social security ss soc sec ssa itin socialsecurity
birth|born birth birthday birthdate dob nacimiento nacido nacida nació naissance né née nato nata nascita nascimento nascido nascida geboren geburtsdatum geburtstag geb geboortedatum bday
date|date dated dates fecha fechas datum data day expires expiry valid issued admission discharge admitted discharged ingreso alta visit when
since|on since until till by from el am le du vom desde hasta depuis seit bis jour
version|version versions v ver release section sections sec article articles chapter § build firmware python rev revision step clause paragraph fig figure table port ratio score
reference|order orders invoice invoices ref reference tracking isbn issn page pages epoch commit sku model part port sha hash md5 build views view bolt file line row item items lot batch total price amount usd eur gbp qty quantity timestamp unix lat lon lng latitude longitude size bytes pixels mm cm kg version ticket issue bug pull article doi pmid euros dollars serial
ip|ip ipv ipv4 ipv6 host server address gateway subnet dns login
age|age aged edad âge alter età
passport|passport pasaporte passeport reisepass reisepassnummer passaporto passaporte paspoort паспорт
zip|zip zipcode postcode postal postleitzahl plz cp cap code codigo código
vehicle|vin chassis vehicle car plate
crypto|bitcoin btc wallet ethereum eth crypto address litecoin
geo|lat lon lng latitude longitude coordinates gps location latitud longitud coordenadas geo position
"""  # noqa: E501 -- one kind a line


def _read(table: str) -> dict[str, tuple[str, ...]]:
    kinds: dict[str, tuple[str, ...]] = {}
    for line in table.strip().splitlines():
        kind, words = line.split("|")
        add_words(kinds, kind, words.split())
    return kinds


def add_words(kinds: dict[str, tuple[str, ...]], kind: str, words: Iterable[str]) -> None:
    """Say that each of `words`, as the folded text spells it, speaks for `kind`."""
    for word in words:
        for piece in _WORD.findall(fold(word).plain.decode("latin-1").lower()):
            if kind not in kinds.get(piece, ()):
                kinds[piece] = (*kinds.get(piece, ()), kind)


KINDS: Final[dict[str, tuple[str, ...]]] = _read(_TABLE)
_FAR: Final = 99


@lru_cache(maxsize=256)
def words_of(kind: str) -> frozenset[str]:
    """Every word that speaks for a kind."""
    return frozenset(word for word, kinds in KINDS.items() if kind in kinds)


def hint_words(hints: Sequence[str]) -> tuple[str, ...]:
    """Words of column names and key paths: `customerPhone_no` is customer, phone, no."""
    words: list[str] = []
    for hint in hints:
        plain = fold(hint).plain.decode("latin-1")
        words.extend(piece.lower() for piece in _PIECE.findall(plain))
    return tuple(words)


Heard = list[tuple[int, tuple[str, ...], str]]
"""Words that speak for something: how many words away, for which kinds, the word; nearest first."""


def heard_before(lower: str, start: int) -> Heard:
    """The words before a place that speak for a kind.

    Args:
        lower: the text in lower case.
        start: the place, an index of it.
    """
    floor = start - _REACH if start > _REACH else 0
    words = _WORD.findall(lower, floor, start)
    if floor and words and lower[floor - 1].isalpha() and lower[floor].isalpha():
        words[0] = ""  # cut in the middle
    words.reverse()
    return [(away, KINDS[word], word) for away, word in enumerate(words) if word in KINDS]


class Surroundings:
    """The words near one candidate, and for each kind how many words away its nearest word is.

    Args:
        before: the words before the candidate.
        lower: the text in lower case.
        end: where the candidate ends.
        hints: words that stand beside the text.
    """

    __slots__ = ("_heard",)

    def __init__(self, before: Heard, lower: str, end: int, hints: tuple[str, ...] = ()) -> None:
        self._heard = before
        if hints:
            told = [(k // 4, w) for k, w in enumerate(reversed(hints)) if w in KINDS]
            self._heard = [*before, *((away, KINDS[word], word) for away, word in told)]
        behind = _NEXT_WORD.match(lower, end)
        if behind is not None and behind[1] in KINDS:
            self._heard = [*self._heard, (2, KINDS[behind[1]], behind[1])]
        if self._heard is not before:
            self._heard.sort(key=_away)  # of equals the first stays the first

    def distance(self, kind: str) -> int:
        """Words between the candidate and the nearest word of `kind`; 99 if there is none."""
        for away, kinds, _ in self._heard:
            if kind in kinds:
                return away
        return _FAR

    def speaks_for(self, kind: str, against: Iterable[str] = ("reference",)) -> bool:
        """Whether a word of `kind` is near, and none of the kinds `against` is nearer."""
        near = self.distance(kind)
        if near == _FAR:
            return False
        for away, kinds, _ in self._heard:
            if away >= near:
                break
            for other in against:
                if other in kinds:
                    return False
        return True

    def speaks_for_any(self, kinds: frozenset[str]) -> bool:
        """Whether a word of one of these kinds is near."""
        return any(not kinds.isdisjoint(heard) for _, heard, _ in self._heard)

    def evidence(self, kind: str) -> tuple[str, ...]:
        """The word of our table that spoke for `kind`."""
        for _, kinds, word in self._heard:
            if kind in kinds:
                return (f"context word: {word}",)
        return ()


_away: Final = itemgetter(0)
