"""Values that their label names: `MRN: 4482`, `Fuhrerschein Nr. B072RRE2`, `(no. 18403/91)`.

Most identifiers of the world have no checksum and no shape of their own; people write what they are
beside them. A row is a type and the labels that announce it, in the languages we know. A value needs
a digit, so that `patient id required` is no number; a driving licence or a medical record is found
this way only, never by shape (`[A-Z][0-9]{1,12}` finds every cell of a spreadsheet).
"""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.automata import in_any_case
from privacy_core.redaction.normalization import fold
from privacy_core.redaction.scanning import Mark, Page, Recognizer

# type | labels, separated by `;`, in lower case; a blank stands for a blank, `-`, `_` or nothing
_TABLE: Final = """
MEDICAL_RECORD|mrn;medical record;medical record number;medical rec;med rec;patient id;patient identifier;patient number;patient no;hospital number;hospital no;hospital id;chart number;chart no;chart;unit number;encounter;encounter id;encounter number;visit number;visit id;admission number;admission no;accession;accession number;specimen id;health record;record number;record no;record id;ehr id;emr id;case id;cipa;nhc;nºhc;hc;nº historia;historia clínica;historia clinica;número de historia;num historia;n historia;icu;numéro de dossier;dossier médical;numéro patient;n° patient;ipp;patientennummer;patienten id;patienten nr;fallnummer;krankenakte;aufnahmenummer;cartella clinica;numero cartella;prontuário;patiëntnummer;chi number;chi
HEALTH_PLAN|health plan;health plan id;health plan number;health plan beneficiary;member id;member number;member no;membership number;policy number;policy no;policy id;policy;insurance number;insurance no;insurance id;insurance policy;health insurance;health insurance number;medicaid;medicaid id;medicaid number;medicare;medicare number;medicare id;mbi;hicn;beneficiary id;beneficiary number;subscriber id;subscriber number;group number;group id;health card;health card number;ohip;ohip number;phn;nass;nº afiliación;número de afiliación;tarjeta sanitaria;nº tarjeta sanitaria;cip;nuss;naf;póliza;número de póliza;krankenversicherungsnummer;versichertennummer;versichertennr;krankenversichertennummer;kvnr;versicherungsnummer;carte vitale;numéro d'assuré;tessera sanitaria;zorgverzekeringsnummer;polisnummer
PASSPORT|passport;passport number;passport no;passport num;passport id;passport #;passportnumber;pasaporte;número de pasaporte;nº pasaporte;nº de pasaporte;passeport;numéro de passeport;n° de passeport;reisepass;reisepassnummer;reisepass nr;passnummer;passaporto;numero di passaporto;passaporte;paspoort;paspoortnummer;паспорт
DRIVER_LICENSE|driver's license;drivers license;driver license;driver's licence;drivers licence;driver licence;driving licence;driving license;driver's license number;driver's licence number;drivers license number;driver license number;driving licence number;driving license number;driver's license no;driving licence no;driverlicense;dl number;dl no;dl;dln;licence number driver;permis de conduire;numéro de permis;führerschein;führerscheinnummer;führerschein nr;carnet de conducir;permiso de conducir;licencia de conducir;patente di guida;patente;carta de condução;cnh;rijbewijs;rijbewijsnummer;körkort;prawo jazdy
LICENSE_PLATE|license plate;licence plate;license plate number;licence plate number;number plate;plate number;plate no;plate;vehicle registration;registration plate;vehicle registration number;vrn;reg plate;car registration;matrícula del vehículo;matrícula;placa;plaque d'immatriculation;immatriculation;kennzeichen;kfz kennzeichen;autokennzeichen;targa;kenteken
VEHICLE_ID|vin;vin number;vin no;vehicle identification number;vehicle id;vehicle identification;chassis number;chassis no;chassis;número de bastidor;bastidor;fahrgestellnummer;fin;numéro de châssis;engine number
DEVICE_ID|serial number;serial no;serial;s/n;sn;device id;device identifier;device serial;device serial number;imei;imei number;meid;imsi;iccid;udid;udi;android id;advertising id;idfa;pacemaker serial;implant serial;lot number;número de serie;nº de serie;n° de série;numéro de série;seriennummer;gerätenummer;machine id;hardware id;asset tag;equipment id
BANK_ACCOUNT|account number;account no;account num;account #;acct number;acct no;acct;a/c;a/c no;bank account;bank account number;bank account no;checking account;savings account;checking account number;savings account number;accountnumber;kontonummer;konto nr;konto;kontonr;bankkonto;numéro de compte;n° de compte;compte bancaire;número de cuenta;nº de cuenta;cuenta bancaria;cuenta corriente;cuenta;ccc;clabe;cbu;conto corrente;numero di conto;conta corrente;conta bancária;rekeningnummer;bankgiro;plusgiro;sort code;bsb;routing number;routing no;routing;aba;aba number;bankleitzahl;blz;iban
NATIONAL_ID|nhs number;nhs no;nhs;national id;national id number;national identity number;national identification number;national insurance number;national insurance;ni number;nino;identity card;identity card number;identity number;identity no;id card;id card number;id card no;personal id;personal id number;personal identification number;personal number;citizen id;citizen number;resident id;aadhaar;aadhaar number;aadhar;pesel;bsn;burgerservicenummer;cpf;curp;dni;d n i;nie;nif;dni/nif;documento de identidad;documento nacional de identidad;cédula;cédula de identidad;cc;rut;sin;social insurance number;codice fiscale;cod fiscale;personnummer;personnr;henkilötunnus;hetu;fødselsnummer;cpr nummer;cpr;rodné číslo;cnp;oib;emšo;jmbg;egn;isikukood;asmens kodas;personas kods;kennitala;ahv nummer;ahv;avs;numéro avs;numéro de sécurité sociale;numéro de sécu;n° de sécurité sociale;sécurité sociale;nir;carte d'identité;carte nationale d'identité;cni;personalausweis;personalausweisnummer;ausweisnummer;ausweis nr;carta d'identità;cartão de cidadão;bilhete de identidade;tc kimlik;tc kimlik no;nric;nric no;cnic;nik;hkid;mykad;teudat zehut;sa id;rsa id;снилс
US_SSN|ssn;ssn number;social security;social security number;social security no;soc sec;soc sec no;ss number;ss#;ssn#;social;itin
TAX_ID|tax id;tax id number;tax identification number;tax number;tax no;tax file number;taxpayer id;tin;ein;fein;employer identification number;vat number;vat no;vat id;vat;vat reg no;utr;unique taxpayer reference;steuernummer;steuer nr;st-nr;steuer id;steueridentifikationsnummer;steuer identifikationsnummer;idnr;ust id;ust idnr;ust id nr;numéro fiscal;numéro de tva;n° tva;siret;siren;cif;nit;rfc;cuit;cuil;cnpj;partita iva;p iva;p.iva;btw nummer;btw nr;kvk;kvk nummer;tfn;abn;acn;gstin;gst number;pan number;pan;pan card;инн;nip;regon
USERNAME|username;user name;user id;userid;login;login name;login id;account name;screen name;handle;usuario;nombre de usuario;nom d'utilisateur;identifiant;benutzername;nutzername;nome utente;gebruikersnaam;skype;skype id;telegram;twitter;instagram
BIOMETRIC_ID|biometric id;fingerprint id;fingerprint template;fingerprint hash;voiceprint;voiceprint id;voice print id;iris scan id;iris id;retina scan id;face id template;face template;biometric template;biometric identifier;palm print id
IMAGE_ID|photo id number;photo file;patient photo;photograph;photo number;image id;image file;face photo;full-face photo;imagen;foto id
ID_NUMBER|episodio;nº episodio;número de episodio;application no;application nos;application number;case no;case nos;case number;case file;case reference;case ref;docket no;docket number;docket;file no;file number;file nº;claim number;tracking number;tracking no;parcel number;claim no;claim id;complaint no;petition no;judgment no;decision no;certificate number;certificate no;certificate;licence number;licence no;license number;license no;license #;registration number;registration no;registration id;employee id;employee number;employee no;staff id;staff number;customer id;customer number;customer no;client id;client number;client no;account id;student id;student number;student no;member #;badge number;badge no;loan number;contract number;contract no;permit number;permit no;ticket number;booking reference;confirmation number;reservation number;id number;id no;id num;id #;identification number;id;identifier;npi;npi number;dea number;dea no;dea;provider id;nºcol;nº col;n col;núm colegiado;nº colegiado;número de colegiado;colegiado;nº de colegiado;expediente;nº expediente;número de expediente;expte;recurso nº;recurso número;demanda nº;demandas nos;sentencia nº;causa nº;diligencias previas;ref. paciente;requête no;requête n°;requêtes nos;requête nº;affaire no;affaire n°;pourvoi no;pourvoi n°;dossier n°;dossier no;arrêt no;aktenzeichen;az;geschäftszeichen;kundennummer;kunden nr;vertragsnummer;mitgliedsnummer;personalnummer;matrikelnummer;numéro client;n° client;número de cliente;codice cliente;klantnummer;rollstuhl nr;criminal record no;prisoner number;inmate number;inmate id;booking number;alien number;a number;visa number;visa no;green card;seaman book
"""


def _read(table: str) -> dict[str, str]:
    types: dict[str, str] = {}
    for line in table.strip().splitlines():
        label, names = line.split("|")
        for name in names.split(";"):
            types[_key(fold(name).plain.decode("latin-1").lower())] = label
    return types


def _key(label: str) -> str:
    return re.sub(r"[ _-]+", "", label)


LABELS: Final = _read(_TABLE)


def _spellings() -> tuple[str, ...]:
    """Every label with a blank, a hyphen, a low line or nothing between its words."""
    names = {
        fold(name).plain.decode("latin-1").lower()
        for line in _TABLE.strip().splitlines()
        for name in line.split("|")[1].split(";")
    }
    return tuple(
        sorted({name.replace(" ", join) for name in names for join in (" ", "-", "_", "")})
    )


_JOIN: Final = (
    r"(?:\(?(?:numbers?|num|number|no|nos|nr|n\xba|n\xb0|n\xfamero|num\xe9ro|nummer|#|id|code|card"
    r"|lautet|is|was|are|es|ist|est|\xe8|of|s|sas)\b\.?\)?|[:=#.(\[]|->|=>|\xba|\xb0|- |-(?=\d))"
)
_CONNECT: Final = re.compile(
    rf"(?:['\"]? ?{_JOIN}){{0,4}}['\"]? {{0,3}}(?:\n(?=[A-Z0-9-]{{5}}))?", re.I
)
# groups of letters and digits, joined by one sign; blanks join groups of digits
_VALUE: Final = re.compile(
    r"#?(?:[A-Za-z0-9]{1,40}(?:[-/.:_][A-Za-z0-9]{1,40}){0,8})(?:(?<=\d) (?=\d)\d{1,12}(?:[-/.][A-Za-z0-9]{1,12}){0,3}){0,6}"
    r"(?: ?[A-Za-z](?![A-Za-z0-9]))?"
)
_NAME: Final = re.compile(
    r"@?[A-Za-z0-9\xc0-\xff_][A-Za-z0-9\xc0-\xff_.+-]{1,62}[A-Za-z0-9\xc0-\xff_-]"
)
_DIRECT: Final = re.compile(
    r"[:=#]|->|n\xba|n\xb0|\bno\b|nr\b|number|numero|n\xfamero|num\xe9ro|nummer", re.I
)
_DATE: Final = re.compile(
    r"\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}-\d\d-\d\d|\d{1,2}:\d\d(?::\d\d)?|(?:19|20)\d\d"
)
_UNITS: Final = re.compile(
    r" ?(?:%|kg|g|mg|ml|cm|mm|h|hours|days|years|a\xf1os|d\xedas|meses|ans|euros?|eur|usd|min)\b"
)
# labels that are words of daily speech: they need a sign or `no.` between them and the value
_SHY: Final = frozenset(
    _key(fold(name).plain.decode("latin-1"))
    for name in [
        "policy",
        "chart",
        "encounter",
        "accession",
        "plate",
        "certificate",
        "social",
        "konto",
        "cuenta",
        "patente",
        "matrícula",
        "placa",
        "cc",
        "dl",
        "fin",
        "sn",
        "id",
        "identifier",
        "pan",
        "az",
        "docket",
        "routing",
        "login",
        "handle",
        "skype",
        "telegram",
        "twitter",
        "instagram",
        "serial",
        "cap",
        "hc",
        "icu",
        "chi",
        "cip",
        "naf",
        "nie",
        "sin",
        "nit",
        "expediente",
        "chassis",
        "medicare",
        "medicaid",
        "nhs",
        "photograph",
        "usuario",
        "vat",
        "passport",
        "green card",
        "a number",
        "targa",
        "vin",
        "imagen",
        "recurso",
        "tin",
        "ein",
        "insurance policy",
        "health insurance",
        "national insurance",
        "identity card",
        "id card",
        "dni",
        "episodio",
        "iban",
        "utr",
        "siren",
        "social security",
        "health plan",
        "record number",
    ]
)


def _decide(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if start and (text[start - 1].isalnum() or text[start - 1] in "@/."):
        return
    after = text[end : end + 1]
    if after.isalnum() and (text[end - 1].isalnum() or not after.isdigit()):
        return
    name = _key(page.lower[start:end])
    label = LABELS.get(name)
    if label is None:
        return
    joint = _CONNECT.match(text, end)
    assert joint is not None  # noqa: S101 -- every part is optional
    direct = (
        bool(_DIRECT.search(joint.group()))
        or name[-1:] in "#\xba\xb0"
        or name.endswith(("number", "no", "nummer"))
    )
    if label == "USERNAME":
        yield from _user(text, joint.end(), direct)
        return
    value = _VALUE.match(text, joint.end())
    if value is None or (name in _SIGNED and not re.search("[:#=]", joint.group())):
        return
    if name in _SHY and not direct and not _plain_number(value.group()):
        return
    yield from _judge(page, label, name, value, direct)


# abbreviations that mean other things without a sign: `s/n` is also "sin numero"
_SIGNED: Final = frozenset(
    {"s/n", "sn", "fin", "dl", "id", "cc", "hc", "az", "cap", "icu", "chi", "cip", "naf"}
)


def _plain_number(value: str) -> bool:
    """Whether a value without a sign before it is long enough to be no count of things."""
    return sum(c.isdigit() for c in value) >= 5


def _user(text: str, at: int, direct: bool) -> Iterator[Mark]:
    value = _NAME.match(text, at)
    if value is None or text[value.end() : value.end() + 1] == "@":
        return
    body = value.group()
    if (direct and (any(not c.isalpha() for c in body) or body.islower())) or (
        any(c.isdigit() or c == "_" for c in body) and not body.isdigit()
    ):
        yield Mark(value.start(), value.end(), "USERNAME", "label.username", ("label: user name",))


def _judge(page: Page, label: str, name: str, value: re.Match[str], direct: bool) -> Iterator[Mark]:
    text = page.text
    first, last = value.span()
    body = value.group()
    if body.startswith("#"):
        first, body = first + 1, body[1:]
    digits = sum(c.isdigit() for c in body)
    longest = max((len(run) for run in re.findall(r"\d+", body)), default=0)
    if digits < 2 or (digits < 4 and not direct) or text[last : last + 1] == "@":
        return
    if body.split(" ")[0].isalpha() or (body[:1].islower() and not direct and digits < 5):
        return
    if _DATE.fullmatch(body) and not (direct and body.isdigit() and label != "ID_NUMBER"):
        return
    if longest < 2 or (digits < 5 and _UNITS.match(text, last)):
        return
    minimum = 4 if label in ("BANK_ACCOUNT", "NATIONAL_ID", "US_SSN", "TAX_ID", "PASSPORT") else 2
    if digits < minimum or (len(body) < 4 and name in _SHY):
        return
    yield Mark(
        first,
        last,
        label,
        f"label.{label.lower()}" if direct else "label.near",
        (f"label: {name}",),
    )


# ---- numbers of court files, written without their noun: `(no. 18403/91)`, `nos. 1/02 and 3/04`

_FILE: Final = (
    r"\b(?i:nos?\.?|n[\xba\xb0]s?|nr\.?|num\.|\xba|case) ?[A-Z]{0,4} ?[0-9]{1,6}/(?:19|20)?[0-9]{2}\b"
    r"|\b[0-9]{1,3} [A-Z]{1,3} [0-9]{1,5}/[0-9]{2}\b|\b[0-9]{3,6}/(?:[0-9]{2}|(?:19|20)[0-9]{2})\b"
    r"|\b[IVXLC]{1,5} ?[A-Z]{1,4} ?[0-9]{1,5}/[0-9]{2,4}\b|\b[A-Z]{1,4} ?[0-9]{2,6}/[0-9]{2,4}\b"
)
_FILE_NUMBER: Final = re.compile(r"(?:[A-Za-z]{1,4} ?)?\d{1,6}/\d{2,4}$")


# the ends of its nouns, capitals or three digits before the number
_SLASHED: Final = r"(?:[OoSsRrMmEe\xba\xb0]\.? {0,2}|[A-Z] ?|[0-9]{2})[0-9]{1,6}/[0-9]{2}"


def _decide_file(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if (start and (text[start - 1].isalnum() or text[start - 1] in "/-.")) or (
        text[end : end + 1] in ("/", "-") and text[end + 1 : end + 2].isalnum()
    ):
        return
    match = re.search(
        r"(?:\d{1,3} [A-Z]{1,3} |(?<![A-Za-z])[IVXLC]{1,5} ?[A-Z]{1,4} ?|(?<![A-Za-z])(?![Nn]os?\b)[A-Z]{1,4} ?)?\d{1,6}/\d{2,4}$",
        text[start:end],
    )
    if match is None:
        return
    if re.match(r"(?:TA|PA|BP|FC|AV|RR|OD|OI)\b", match.group()):
        return  # blood pressure, visual acuity
    first = start + match.start()
    bare = match.start() == 0 and " " not in match.group() and match.group()[0].isdigit()
    lead = page.lower[max(0, start - 40) : start]
    if re.search(
        r"(?:directive|regulation|resolution|law|act|article|ley|decreto|r\xe8glement|version|order|protocol|real) (?:\((?:eu|ec)\) )?(?:no\.? )?$",
        lead,
    ):
        return
    if bare and not re.search(
        r"(?:nos?\.|nos?|applications?|cases?|n[\xba\xb0]s?) ?\(?[0-9/., andyetu&]*$", lead
    ):
        return
    yield Mark(first, end, "ID_NUMBER", "label.court_file", ("number of a court file",))


_LIST: Final = (
    r"\b[Nn]os\. [0-9][0-9/.]{0,12}(?:(?:, | and |, and | to | & )[0-9][0-9/.]{0,12}){1,40}"
)


def _decide_list(page: Page, start: int, end: int) -> Iterator[Mark]:
    if re.search(
        r"(?:articles?|protocols?|laws?|rules?|sections?|volumes?|pages?) $",
        page.lower[max(0, start - 12) : start],
    ):
        return
    for number in re.finditer(r"\d[\d/.]*", page.text[start:end]):
        last = start + number.end() - (number.group()[-1] == ".")
        yield Mark(
            start + number.start(), last, "ID_NUMBER", "label.number_list", ("list of numbers",)
        )


def _announced() -> str:
    """What no text with a labelled value is without: a label, what may join it, and the value.

    A value has a digit before its first blank; a user name has one, a low line, or a joint.
    """
    spelled: dict[bool, list[str]] = {False: [], True: []}
    for name in _spellings():
        of_user = LABELS[_key(name)] == "USERNAME"
        spelled[of_user].append(in_any_case(name))
    joint = r"['\"]? ?" + _JOIN.replace(r"\b", "").replace(r"(?=\d)", "")
    blanks = r"['\"]? {0,3}\n?"
    return (
        rf"(?i)(?:^|[^A-Za-z0-9])(?:(?:{'|'.join(spelled[False])})(?:{joint}){{0,4}}{blanks}"
        rf"#?[A-Za-z0-9/.:_-]*[0-9]"
        rf"|(?:{'|'.join(spelled[True])})(?:{joint}|{blanks}@?[A-Za-z0-9\xc0-\xff_.+-]*[0-9_]))"
    )


RECOGNIZERS: Final = (
    Recognizer("number_list", (b"nos. ", b"Nos. "), _LIST, _decide_list, digits=True),
    Recognizer("label", _announced(), _spellings(), _decide, alone=True),
    Recognizer("court_file", (), _FILE, _decide_file, digits=True, near=_SLASHED, close=True),
)
