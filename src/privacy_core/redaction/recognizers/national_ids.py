"""National identity, social insurance and tax numbers: one table, one dispatch.

A row says in which shapes a scheme is written (`9` digit, `A` letter, `X` either, others as they
are), the words that stand beside it, and which module of python-stdnum knows its checksum. A `!`
before a shape says that its grouping alone, with a right checksum, is distinctive enough; any other
shape needs a context word, since one of ten random numbers passes a one-digit checksum.

Numbers without a scheme here are still found where a label names them (`recognizers.labels`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from privacy_core.redaction.scanning import LONG_NUMBER, Mark, Page, Recognizer
from privacy_core.redaction.surroundings import KINDS, Surroundings, add_words
from privacy_core.redaction.validators import passes_checksum

# module of python-stdnum | label | shapes | context words
_TABLE: Final = """
al.nipt|TAX_ID|A99999999A|nipt nuis
ar.cuit|TAX_ID|!99-99999999-9;99999999999|cuit cuil
ar.dni|NATIONAL_ID|99.999.999;99999999|dni documento
at.tin|TAX_ID|!99-999/9999;999999999|abgabenkontonummer steuernummer
at.uid|TAX_ID|!AAA99999999;AAA 99999999|uid umsatzsteuer
at.vnr|NATIONAL_ID|9999 999999;9999999999|svnr vsnr versicherungsnummer sozialversicherungsnummer sozialversicherung
au.abn|TAX_ID|99 999 999 999;99999999999|abn
au.tfn|TAX_ID|999 999 999;999999999;99999999|tfn tax
az.voen|TAX_ID|9999999999|voen vöen
be.nn|NATIONAL_ID|!99.99.99-999.99;99.99.99.999.99;99999999999|rijksregisternummer registre national rrn niss insz nationaal
be.vat|TAX_ID|!AA9999999999;AA 9999.999.999;!9999.999.999|btw tva ondernemingsnummer entreprise
bg.egn|NATIONAL_ID|9999999999|egn егн
bg.pnf|NATIONAL_ID|9999999999|lnch лнч
br.cpf|NATIONAL_ID|!999.999.999-99;99999999999;999999999-99|cpf contribuinte
br.cnpj|TAX_ID|!99.999.999/9999-99;99999999999999|cnpj
by.unp|TAX_ID|999999999|unp унп
ca.sin|NATIONAL_ID|999 999 999;999-999-999;999999999|sin insurance social nas
ca.bn|TAX_ID|999999999AA9999;99999 9999 AA9999|bn business
ca.bc_phn|HEALTH_PLAN|9999 999 999;9999999999|phn health
ch.ssn|NATIONAL_ID|!999.9999.9999.99;9999999999999|ahv avs ahvnr sozialversicherungsnummer navs
ch.uid|TAX_ID|!AAA-999.999.999;AAA999999999|uid mwst che
cl.rut|NATIONAL_ID|!99.999.999-X;!9.999.999-X;99999999-X;9999999-X|rut run
cn.ric|NATIONAL_ID|!999999999999999999;!99999999999999999A|身份证 ric resident identity
co.nit|TAX_ID|999.999.999-9;999999999-9;9999999999|nit
cr.cpf|NATIONAL_ID|9-9999-9999;99-9999-9999|cédula cedula
cu.ni|NATIONAL_ID|99999999999|carné identidad
cy.vat|TAX_ID|AA99999999A;99999999A|vat φπα
cz.rc|NATIONAL_ID|!999999/9999;9999999999|rodné rč číslo
cz.dic|TAX_ID|AA99999999;AA999999999;AA9999999999|dič dic
de.idnr|TAX_ID|99 999 999 999;99999999999|steuer steuerid steueridentifikationsnummer idnr identifikationsnummer steuernummer tin
de.vat|TAX_ID|AA999999999;AA 999999999|ust ustid ustidnr umsatzsteuer
dk.cpr|NATIONAL_ID|!999999-9999;9999999999|cpr personnummer
dk.cvr|TAX_ID|99999999;99 99 99 99;AA99999999|cvr
do.cedula|NATIONAL_ID|!999-9999999-9;99999999999|cédula cedula
do.rnc|TAX_ID|9-99-99999-9;999999999|rnc
ec.ci|NATIONAL_ID|999999999-9;9999999999|cédula cedula ci
ec.ruc|TAX_ID|9999999999999|ruc
ee.ik|NATIONAL_ID|99999999999|isikukood ik
ee.kmkr|TAX_ID|AA999999999|kmkr
es.dni|NATIONAL_ID|!99999999A;!99999999-A;!99.999.999-A;99999999 A;99.999.999 A;!99.999.999A|dni nif documento identidad identificación
es.nie|NATIONAL_ID|!A9999999A;!A-9999999-A;A9999999-A;A-9999999A|nie nif extranjero documento identidad identificación
es.cif|TAX_ID|A99999999;A-99999999;A9999999A|cif nif
fi.hetu|NATIONAL_ID|!999999-999X;!999999A999X;999999+999X|hetu henkilötunnus personbeteckning
fi.alv|TAX_ID|AA99999999|alv
fi.ytunnus|TAX_ID|9999999-9|ytunnus tunnus
fr.nir|NATIONAL_ID|!9 99 99 99 999 999 99;999999999999999;!9 99 99 99 999 999;!9999999999999 99;9999999999999|nir sécurité sociale insee sécu nss numéro
fr.nif|TAX_ID|99 99 999 999 999;9999999999999|nif fiscal spi
fr.siret|TAX_ID|999 999 999 99999;99999999999999|siret
fr.siren|TAX_ID|999 999 999;999999999|siren
fr.tva|TAX_ID|AAXX999999999;AAXX 999 999 999;AA XX 999999999|tva
gb.nhs|NATIONAL_ID|999 999 9999;999-999-9999;9999999999|nhs
gb.utr|TAX_ID|9999999999;99999 99999|utr
gb.vat|TAX_ID|AA999999999;AA 999 9999 99;999 9999 99|vat
gb_nino|NATIONAL_ID|!AA 99 99 99 A;!AA999999A;!AA 999999 A;!AA-99-99-99-A;AA999999 A|nino national insurance ni
gr.amka|NATIONAL_ID|99999999999|amka αμκα
gr.vat|TAX_ID|AA999999999;999999999|αφμ afm φπα
gt.nit|TAX_ID|9999999-X;99999999X|nit
hr.oib|NATIONAL_ID|99999999999;AA99999999999|oib
hu.anum|TAX_ID|!99999999-9-99;AA99999999|adószám
id.nik|NATIONAL_ID|9999999999999999|nik ktp
id.npwp|TAX_ID|!99.999.999.9-999.999;999999999999999|npwp
ie.pps|NATIONAL_ID|9999999A;9999999AA|pps ppsn
ie.vat|TAX_ID|AA9999999A;AA9999999AA|vat
il.idnr|NATIONAL_ID|999999999;9-9999999-9|teudat zehut mispar id
in_.aadhaar|NATIONAL_ID|9999 9999 9999;9999-9999-9999;999999999999|aadhaar aadhar uidai uid adhar
in_.gstin|TAX_ID|!99AAAAA9999AXAX;99AAAAA9999A9AX|gstin gst
in_.pan|TAX_ID|AAAAA9999A|pan
in_.epic|NATIONAL_ID|AAA9999999|epic voter
is_.kennitala|NATIONAL_ID|!999999-9999;9999999999|kennitala kt
it.codicefiscale|NATIONAL_ID|!AAAAAA99A99A999A;AAA AAA 99A99 A999A|codice fiscale cf
it.iva|TAX_ID|99999999999;AA99999999999|iva partita
jp.in_|NATIONAL_ID|9999 9999 9999;9999-9999-9999;999999999999|kojin mynumber my
ke.pin|TAX_ID|!A999999999A|kra pin
kr.rrn|NATIONAL_ID|!999999-9999999;9999999999999|rrn jumin resident
kr.brn|TAX_ID|999-99-99999|brn business
lt.asmens|NATIONAL_ID|99999999999|asmens kodas
lt.pvm|TAX_ID|AA999999999;AA999999999999|pvm
lu.tva|TAX_ID|AA99999999|tva
lv.pvn|NATIONAL_ID|!999999-99999;AA99999999999;99999999999|personas kods pvn
ma.ice|TAX_ID|999999999999999|ice
md.idno|TAX_ID|9999999999999|idno idnp
mk.edb|TAX_ID|9999999999999;AA9999999999999|edb
mt.vat|TAX_ID|AA99999999;AA 9999-9999|vat
mu.nid|NATIONAL_ID|A999999999999X|nid
mx.curp|NATIONAL_ID|!AAAA999999AAAAAAX9|curp
mx.rfc|TAX_ID|AAAA999999XXX;AAA999999XXX|rfc
my.nric|NATIONAL_ID|!999999-99-9999;999999999999|nric mykad ic
nl.bsn|NATIONAL_ID|999999999;9999.99.999;999 999 999;9999 99 999|bsn burgerservicenummer sofinummer sofi
nl.btw|TAX_ID|!AA999999999A99;AA9999.99.999.A.99|btw
no.fodselsnummer|NATIONAL_ID|999999 99999;99999999999|fødselsnummer personnummer fnr
no.mva|TAX_ID|AA 999 999 999 AAA;999999999AAA;999 999 999 AAA|mva
no.orgnr|TAX_ID|999 999 999;999999999|orgnr organisasjonsnummer
nz.ird|TAX_ID|99-999-999;999-999-999;99999999;999999999|ird
pe.cui|NATIONAL_ID|99999999-X;999999999|dni cui
pe.ruc|TAX_ID|99999999999|ruc
pk.cnic|NATIONAL_ID|!99999-9999999-9;9999999999999|cnic nic
pl.pesel|NATIONAL_ID|99999999999|pesel
pl.nip|TAX_ID|999-999-99-99;999-99-99-999;9999999999;AA9999999999|nip
pl.regon|TAX_ID|999999999;99999999999999|regon
pt.cc|NATIONAL_ID|99999999 9 AX9;999999999AX9|cartão cidadão cc
pt.nif|TAX_ID|999 999 999;999999999;AA999999999|nif contribuinte fiscal
py.ruc|TAX_ID|99999999-9;9999999-9|ruc
ro.cnp|NATIONAL_ID|9999999999999|cnp
ro.cf|TAX_ID|AA99999999;AA9999999;AA999999|cif cui
rs.pib|TAX_ID|999999999|pib
ru.inn|TAX_ID|9999999999;999999999999|инн inn
ru_snils|NATIONAL_ID|!999-999-999 99;99999999999|снилс snils
se.personnummer|NATIONAL_ID|!999999-9999;!99999999-9999;999999+9999;9999999999;999999999999|personnummer pnr personnr samordningsnummer
se.orgnr|TAX_ID|999999-9999;9999999999|orgnr organisationsnummer
se.vat|TAX_ID|!AA999999999999|moms vat
sg_nric|NATIONAL_ID|!A9999999A|nric fin
sg.uen|TAX_ID|99999999A;999999999A|uen
si.emso|NATIONAL_ID|9999999999999|emšo emso jmbg
si.ddv|TAX_ID|AA99999999;99999999|ddv davčna
sk.rc|NATIONAL_ID|!999999/9999|rodné číslo
sk.dph|TAX_ID|AA9999999999|dph
sv.nit|TAX_ID|!9999-999999-999-9|nit
th.pin|NATIONAL_ID|!9-9999-99999-99-9;9999999999999|pin thai id
th.tin|TAX_ID|9999999999999|tin
tr.tckimlik|NATIONAL_ID|99999999999|kimlik tckn tc
tr.vkn|TAX_ID|9999999999|vkn vergi
tw_id|NATIONAL_ID|A999999999|roc taiwan arc
tw.ubn|TAX_ID|99999999|ubn
ua.rntrc|TAX_ID|9999999999|rntrc рнокпп іпн
us.ein|TAX_ID|99-9999999|ein employer fein
us.itin|US_SSN|!999-99-9999;999 99 9999|itin
us.ptin|TAX_ID|!A99999999|ptin
us_npi|ID_NUMBER|9999999999|npi
us_dea|ID_NUMBER|AA9999999|dea
us_mbi|HEALTH_PLAN|9AX9AX9AA99;9AX9-AX9-AA99|medicare mbi beneficiary
us_ssn|US_SSN|!999-99-9999;999 99 9999;999.99.9999;999999999|ssn social security soc ss
uy.rut|TAX_ID|999999999999|rut
ve.rif|TAX_ID|!A-99999999-9;A999999999|rif
vn.mst|TAX_ID|9999999999;9999999999-999|mst
za.idnr|NATIONAL_ID|999999 9999 99 9;9999999999999|id south african sa identity
za.tin|TAX_ID|9999999999;9999/999/99/9|tin tax
"""  # noqa: E501 -- one scheme a line; words as they are written

# Words that say "an identity number follows" without saying which.
_GENERAL: Final = """
    id ids identity identification identifier identité identidad identificación identità identidade
    national nationalid citizen resident social insurance tax taxpayer fiscal fiscale steuer nid tin
    identifikation ausweis ausweisnummer personalausweis persnr dni nif documento government ssn
    cédula cedula kennitala vat ein passport patient subject person registration
"""


_ANY: Final = "any identity"  # the words of all schemes and the general ones


class Scheme(NamedTuple):
    """One way to number people or companies."""

    name: str
    label: str
    distinctive: frozenset[str]

    @property
    def country(self) -> str:
        """ISO 3166 code in lower case."""
        return self.name[:2]


def _read(table: str) -> tuple[dict[str, Scheme], dict[str, tuple[Scheme, ...]]]:
    schemes: dict[str, Scheme] = {}
    shapes: dict[str, tuple[Scheme, ...]] = {}
    for line in table.strip().splitlines():
        name, label, forms, words = line.split("|")
        every = forms.split(";")
        strong = frozenset(s for f in every if f[0] == "!" for s in _expand(f[1:]))
        schemes[name] = scheme = Scheme(name, label, strong)
        for form in every:
            for shape in _expand(form.lstrip("!")):
                shapes[shape] = (*shapes.get(shape, ()), scheme)
        add_words(KINDS, name, words.split())
        add_words(KINDS, _ANY, words.split())
    add_words(KINDS, "identity", _GENERAL.split())
    add_words(KINDS, _ANY, _GENERAL.split())
    return schemes, shapes


def _expand(form: str) -> list[str]:
    """A form with `X` (digit or letter) as every shape it may take."""
    if "X" not in form:
        return [form]
    head, tail = form.split("X", 1)
    return [s for char in "9A" for s in _expand(head + char + tail)]


SCHEMES, _SHAPES = _read(_TABLE)

_DISTINCTIVE: Final = frozenset(shape for s in SCHEMES.values() for shape in s.distinctive)
_NAMES_OF: Final = {
    shape: frozenset(["identity", *(s.name for s in held)]) for shape, held in _SHAPES.items()
}
_TO_SHAPE: Final = {c: "9" for c in range(48, 58)} | {
    c: "A" for c in (*range(65, 91), *range(97, 123))
}


def shape_of(text: str) -> str:
    """The text with `9` for digits and `A` for letters."""
    return text.translate(_TO_SHAPE)


def _shape_pattern(shape: str) -> str:
    """An RE2 pattern for one shape."""
    classes = {"9": "[0-9]", "A": "[A-Za-z]", "X": "[A-Za-z0-9]"}
    runs = re.findall(r"9+|A+|X+|[^9AX]", shape)
    return "".join(
        f"{classes[run[0]]}{{{len(run)}}}" if run[0] in classes else re.escape(run) for run in runs
    )


def _pattern() -> str:
    """Every shape that is not digits alone, longest first; then runs of digits."""
    grouped = sorted((s for s in _SHAPES if not s.isdigit()), key=lambda s: (-len(s), s))
    return r"\b(?:" + "|".join([*map(_shape_pattern, grouped), "[0-9]{8,18}"]) + r")\b"


def _decide(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text[start:end]
    shape = shape_of(text)
    schemes = _SHAPES.get(shape)
    if schemes is None or _glued(page.text, start, end):
        return
    if shape not in _DISTINCTIVE and not page.mentions(_ANY):
        return
    around = page.around(start, end)
    if shape not in _DISTINCTIVE and not around.speaks_for_any(_NAMES_OF[shape]):
        return
    # a checksum costs more than a look at the words, so words first, the nearest scheme first
    verdicts = [
        (verdict[0], scheme.name, verdict[1], scheme)
        for scheme in schemes
        if (verdict := _verdict(scheme, shape, around)) is not None
    ]
    for _, name, rule, scheme in sorted(verdicts):
        if passes_checksum(name, text):
            evidence = (f"checksum: {name}", *around.evidence(name))
            yield Mark(start, end, scheme.label, rule, evidence)
            return


def _verdict(scheme: Scheme, shape: str, around: Surroundings) -> tuple[int, str] | None:
    """How far the deciding word is, and the rule if the checksum is right; None refuses."""
    if around.speaks_for(scheme.name, ("reference", "phone")):
        return around.distance(scheme.name), "national_id.checksum_context"
    general = around.speaks_for("identity", ("reference", "phone"))
    if shape in scheme.distinctive:
        if general:
            return 40 + around.distance("identity"), "national_id.checksum_identity"
        blocked = around.distance("reference") <= 1 and shape.isdigit()
        return None if blocked else (80, "national_id.checksum_grouping")
    if general and around.distance("identity") <= 3 and not shape.isdigit():
        return 60 + around.distance("identity"), "national_id.checksum_identity"
    return None


def _glued(text: str, start: int, end: int) -> bool:
    """Whether the candidate is a part of a longer number, word or path."""
    before, after = text[start - 1 : start], text[end : end + 2]
    if before and (
        before.isalnum() or (before in "_/\\=&.-+" and text[start - 2 : start - 1].isalnum())
    ):
        return True
    return bool(after) and (after[0].isalnum() or (after[0] in "-_/.@" and after[1:2].isalnum()))


def labels_of(schemes: Iterable[Scheme]) -> frozenset[str]:
    """Entity types of schemes."""
    return frozenset(scheme.label for scheme in schemes)


RECOGNIZER: Final = Recognizer(
    "national_id",
    (),
    _pattern(),
    _decide,
    again=True,
    digits=True,
    near=LONG_NUMBER,
    close=True,
)
