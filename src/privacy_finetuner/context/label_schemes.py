"""What other people call the things that we find: the table behind `redaction evaluate`.

A label of a marked file is looked up here, then among our own names and their aliases
(`privacy_core.redaction.entities`). `-` in the right column: the scheme marks it, we do not count
it as personal data, and it is left out of every score (and counted in the report).

A scheme may be coarser than ours. A finding whose label a file never marks counts as a broader one
that the file does mark (`BROADER`); without any it is not scored, unless asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Final

from privacy_core.redaction.entities import ENTITIES, UnknownEntity, resolve

# scheme | its label | ours
_TABLE: Final = """
i2b2 2014|PATIENT DOCTOR|PERSON
i2b2 2014|HOSPITAL|ORGANIZATION
i2b2 2014|STREET|ADDRESS
i2b2 2014|LOCATION_OTHER|LOCATION
i2b2 2014|IPADDR|IP_ADDRESS
i2b2 2014|MEDICALRECORD|MEDICAL_RECORD
i2b2 2014|BIOID|BIOMETRIC_ID
i2b2 2014|LICENSE|ID_NUMBER
i2b2 2006|ID|ID_NUMBER
MEDDOCAN|NOMBRE_SUJETO_ASISTENCIA NOMBRE_PERSONAL_SANITARIO|PERSON
MEDDOCAN|FAMILIARES_SUJETO_ASISTENCIA SEXO_SUJETO_ASISTENCIA OTROS_SUJETO_ASISTENCIA|-
MEDDOCAN|FECHAS|DATE
MEDDOCAN|EDAD_SUJETO_ASISTENCIA|AGE
MEDDOCAN|PROFESION|PROFESSION
MEDDOCAN|TERRITORIO PAIS|LOCATION
MEDDOCAN|CALLE|ADDRESS
MEDDOCAN|HOSPITAL INSTITUCION CENTRO_SALUD|ORGANIZATION
MEDDOCAN|ID_SUJETO_ASISTENCIA|MEDICAL_RECORD
MEDDOCAN|ID_ASEGURAMIENTO NUMERO_BENEF_PLAN_SALUD|HEALTH_PLAN
MEDDOCAN|ID_TITULACION_PERSONAL_SANITARIO ID_EMPLEO_PERSONAL_SANITARIO ID_CONTACTO_ASISTENCIAL|ID_NUMBER
MEDDOCAN|NUMERO_TELEFONO NUMERO_FAX|PHONE
MEDDOCAN|CORREO_ELECTRONICO|EMAIL
MEDDOCAN|URL_WEB|URL
MEDDOCAN|DIREC_PROT_INTERNET|IP_ADDRESS
MEDDOCAN|IDENTIF_VEHICULOS_NRSERIE_PLACAS|VEHICLE_ID
MEDDOCAN|IDENTIF_DISPOSITIVOS_NRSERIE|DEVICE_ID
MEDDOCAN|IDENTIF_BIOMETRICOS|BIOMETRIC_ID
TAB|DATETIME|DATE
TAB|CODE|ID_NUMBER
TAB|DEM|NATIONALITY
TAB|LOC|LOCATION
TAB|ORG|ORGANIZATION
TAB|QUANTITY|AMOUNT
TAB|MISC|-
ECHR French and Spanish|PER LEGAL_PROFESSIONAL|PERSON
ECHR French and Spanish|ETHNIC_CATEGORY NATIONALITY|NATIONALITY
ECHR French and Spanish|CURRENCY|AMOUNT
Presidio|PERSON|PERSON
Presidio|GPE LOCATION|LOCATION
Presidio|STREET_ADDRESS|ADDRESS
Presidio|DATE_TIME|DATE
Presidio|NRP|NATIONALITY
Presidio|TITLE PREFIX|-
Presidio|DOMAIN_NAME|URL
Presidio|CREDIT_CARD|PAYMENT_CARD
Presidio|US_BANK_NUMBER|BANK_ACCOUNT
Presidio|US_ITIN|US_SSN
Presidio|MEDICAL_LICENSE|ID_NUMBER
spaCy (OntoNotes)|NORP|NATIONALITY
spaCy (OntoNotes)|FAC|LOCATION
spaCy (OntoNotes)|MONEY|AMOUNT
spaCy (OntoNotes)|PRODUCT EVENT WORK_OF_ART LAW LANGUAGE PERCENT ORDINAL CARDINAL|-
CoNLL 2003|PER|PERSON
HIPAA|NAME NAMES|PERSON
HIPAA|GEOGRAPHIC GEOGRAPHIC_SUBDIVISION|LOCATION
HIPAA|DATES|DATE
HIPAA|TELEPHONE FAX|PHONE
HIPAA|BENEFICIARY HEALTH_PLAN_BENEFICIARY|HEALTH_PLAN
HIPAA|ACCOUNT|BANK_ACCOUNT
HIPAA|CERTIFICATE LICENSE_NUMBER|ID_NUMBER
HIPAA|WEB_URL|URL
structured_synthetic|NID|NATIONAL_ID
structured_synthetic|SSN|US_SSN
structured_synthetic|IP|IP_ADDRESS
LifeBench|ID|ID_NUMBER
WNUT 2017|CORPORATION GROUP|ORGANIZATION
WNUT 2017|CREATIVE_WORK|-
PII masking sets|FIRSTNAME LASTNAME MIDDLENAME GIVENNAME SURNAME FIRST_NAME LAST_NAME|PERSON
PII masking sets|STREETNAME BUILDINGNUMBER BUILDINGNUM SECONDARYADDRESS STREET_NAME|ADDRESS
PII masking sets|TELEPHONENUM PHONENUMBER PHONEIMEI|PHONE
PII masking sets|SOCIALNUM SOCIAL_SECURITY|US_SSN
PII masking sets|CREDITCARDNUMBER CREDIT_DEBIT_CARD|PAYMENT_CARD
PII masking sets|ACCOUNTNUM ACCOUNTNUMBER|BANK_ACCOUNT
PII masking sets|IDCARDNUM IDCARD|NATIONAL_ID
PII masking sets|DRIVERLICENSENUM|DRIVER_LICENSE
PII masking sets|TAXNUM|TAX_ID
PII masking sets|DATEOFBIRTH|DATE_OF_BIRTH
PII masking sets|COMPANYNAME|ORGANIZATION
PII masking sets|JOBTITLE JOBAREA|PROFESSION
PII masking sets|SEX GENDER|-
"""  # noqa: E501 -- one row a line

BROADER: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "DATE_OF_BIRTH": ("DATE",),
        "TIME": ("DATE",),
        "POSTAL_CODE": ("ADDRESS", "LOCATION"),
        "ADDRESS": ("LOCATION",),
        "COORDINATES": ("LOCATION",),
        "IBAN": ("BANK_ACCOUNT", "ID_NUMBER"),
        "BANK_ACCOUNT": ("ID_NUMBER",),
        "PAYMENT_CARD": ("ID_NUMBER",),
        "US_SSN": ("NATIONAL_ID", "ID_NUMBER"),
        "TAX_ID": ("NATIONAL_ID", "ID_NUMBER"),
        "PASSPORT": ("NATIONAL_ID", "ID_NUMBER"),
        "DRIVER_LICENSE": ("NATIONAL_ID", "ID_NUMBER"),
        "NATIONAL_ID": ("ID_NUMBER",),
        "MEDICAL_RECORD": ("ID_NUMBER",),
        "HEALTH_PLAN": ("ID_NUMBER",),
        "LICENSE_PLATE": ("VEHICLE_ID", "ID_NUMBER"),
        "VEHICLE_ID": ("ID_NUMBER",),
        "DEVICE_ID": ("ID_NUMBER",),
        "MAC_ADDRESS": ("DEVICE_ID", "ID_NUMBER"),
        "BIOMETRIC_ID": ("ID_NUMBER",),
        "IMAGE_ID": ("ID_NUMBER",),
    }
)


def rows() -> list[tuple[str, str, str | None]]:
    """The table: scheme, its label, ours (None where it is left out)."""
    table = []
    for line in _TABLE.strip().splitlines():
        scheme, labels, ours = line.split("|")
        table += [(scheme, label, None if ours == "-" else ours) for label in labels.split()]
    return table


_KNOWN: Final[Mapping[str, str | None]] = MappingProxyType(
    {label: ours for _, label, ours in rows()}
)


def canonical(label: str) -> str | None:
    """Our name for a label of some scheme; None where it is left out of the scores.

    Raises:
        UnknownEntity: neither the table nor our own names hold it; carries the nearest names.
    """
    key = "_".join(label.strip().upper().replace("-", "_").split())
    if key in _KNOWN:
        return _KNOWN[key]
    try:
        return resolve(key).name
    except UnknownEntity:
        names = {*_KNOWN, *ENTITIES}
        raise UnknownEntity(label, tuple(difflib.get_close_matches(key, names, n=3))) from None


def counted_as(label: str, marked: Container[str]) -> tuple[str, ...]:
    """Labels under which a finding may be scored against a file that marks `marked`.

    One, its own, where the file marks it; else every broader one that the file marks, nearest
    first (a postal code belongs to the street in one scheme and to the town in another); none.
    """
    if label in marked:
        return (label,)
    return tuple(broader for broader in BROADER.get(label, ()) if broader in marked)
