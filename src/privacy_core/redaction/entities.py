"""What can be found: one table of entity types, with their names, levels and legal meaning.

A type is found from its `level` on: `low` holds what is certain and dangerous, `medium` what points
at one person, `high` what narrows the circle. `hipaa` are the letters of the eighteen identifiers
of the Safe Harbor method (45 CFR 164.514(b)(2)(i), A to R) that the type covers.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from privacy_core.errors import PrivacyError


class UnknownEntity(PrivacyError, ValueError):
    """No entity type has this name or alias. Nothing was redacted."""

    code: ClassVar[str] = "unknown_entity"

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        super().__init__(name, nearest)
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        hint = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
        return f"there is no entity type {self.name!r}{hint}; nothing was redacted"


@dataclass(frozen=True, slots=True)
class EntityType:
    """One kind of personal or secret value.

    Attributes:
        name: canonical label of findings.
        placeholder: what stands in its place by default, for example `[PERSON]`.
        kind: `person`, `place`, `contact`, `time`, `government`, `money`, `health`, `thing`,
            `network`, `secret` or `quasi`.
        level: the lowest level that redacts it: `low`, `medium` or `high`.
        hipaa: letters of the Safe Harbor identifiers it covers, in alphabetical order.
        description: one line for the documentation.
        aliases: names that `resolve` accepts for it, in upper case.
    """

    name: str
    placeholder: str
    kind: str
    level: str
    hipaa: str
    description: str
    aliases: tuple[str, ...] = ()


# name | kind | level | HIPAA | description | aliases
_TABLE: Final = """
PERSON|person|medium|A|name of a person|PER NAME FULL_NAME PERSON_NAME FIRST_NAME LAST_NAME PATIENT DOCTOR
USERNAME|person|medium|R|account or login name|USER USER_NAME LOGIN HANDLE
LOCATION|place|high|B|place below or above a state|LOC GPE CITY COUNTRY STATE COUNTY PLACE
ADDRESS|place|medium|B|street address|STREET STREET_ADDRESS STREETADDRESS
POSTAL_CODE|place|medium|B|ZIP or postal code|ZIP ZIP_CODE ZIPCODE POSTCODE
COORDINATES|place|medium|B|latitude and longitude|GPS LAT_LONG GEO_COORDINATES
ORGANIZATION|quasi|high||company, hospital, court|ORG ORGANISATION COMPANY HOSPITAL INSTITUTION NRP_ORG
EMAIL|contact|low|F|e-mail address|EMAIL_ADDRESS E_MAIL MAIL
PHONE|contact|medium|DE|telephone or fax number|PHONE_NUMBER TELEPHONE FAX FAX_NUMBER MOBILE
URL|network|medium|N|web address or domain name|DOMAIN DOMAIN_NAME LINK WEBSITE
IP_ADDRESS|network|medium|O|IPv4 or IPv6 address|IP IPV4 IPV6 IPADDRESS
MAC_ADDRESS|network|medium|M|hardware address of a network card|MAC
DATE|time|high|C|calendar date or part of one|DATE_TIME DATETIME
DATE_OF_BIRTH|time|medium|C|date of birth|DOB BIRTHDATE BIRTHDAY BIRTH_DATE
AGE|time|high|C|age of a person|AGES
TIME|time|high||time of day|TIME_OF_DAY
PAYMENT_CARD|money|low|J|payment card number|CREDIT_CARD CREDIT_CARD_NUMBER CARD DEBIT_CARD CREDITCARD PAN
BANK_ACCOUNT|money|medium|J|account or routing number|ACCOUNT ACCOUNT_NUMBER US_BANK_NUMBER ROUTING_NUMBER ABA
IBAN|money|low|J|international bank account number|IBAN_CODE
SWIFT_BIC|money|medium||bank identifier code|BIC SWIFT SWIFT_CODE
CRYPTO_ADDRESS|money|low|R|wallet address|CRYPTO BITCOIN_ADDRESS WALLET
AMOUNT|money|high||sum of money|MONEY SALARY
US_SSN|government|low|G|United States social security number|SSN SOCIAL_SECURITY_NUMBER US_ITIN ITIN
NATIONAL_ID|government|low|R|national identity or social insurance number|NID ID_CARD NATIONAL_IDENTITY UK_NINO ES_NIF ES_NIE IN_AADHAAR
TAX_ID|government|low|R|tax or company registration number|TIN VAT VAT_NUMBER EIN TAX_NUMBER
PASSPORT|government|medium|R|passport number|PASSPORT_NUMBER US_PASSPORT
DRIVER_LICENSE|government|medium|K|driving licence number|DRIVERS_LICENSE DRIVING_LICENCE US_DRIVER_LICENSE DRIVER_LICENCE
MEDICAL_RECORD|health|medium|H|medical record or patient number|MRN MEDICAL_RECORD_NUMBER PATIENT_ID MEDICALRECORD
HEALTH_PLAN|health|medium|I|health insurance number|HEALTH_PLAN_NUMBER HEALTHPLAN INSURANCE_NUMBER MEMBER_ID
LICENSE_PLATE|thing|medium|L|vehicle registration plate|PLATE NUMBER_PLATE LICENCE_PLATE
VEHICLE_ID|thing|medium|L|vehicle identification number|VIN VEHICLE
DEVICE_ID|thing|medium|M|serial number, IMEI or UDI of a device|DEVICE IMEI SERIAL_NUMBER
BIOMETRIC_ID|thing|medium|P|reference to a fingerprint, voiceprint or iris template|BIOMETRIC BIOID FINGERPRINT
IMAGE_ID|thing|medium|Q|reference to a photograph of a person|PHOTO IMAGE FACE_PHOTO
SECRET|secret|low|R|password, API key, token or private key|API_KEY PASSWORD TOKEN PRIVATE_KEY CREDENTIAL CREDENTIALS
ID_NUMBER|quasi|medium|JKR|number that its label calls an identifier|ID IDNUM CODE CASE_NUMBER LICENSE CERTIFICATE_NUMBER IDENTIFIER
PROFESSION|quasi|high||profession of a person|JOB TITLE OCCUPATION
NATIONALITY|quasi|high||nationality, religion or political group|NRP DEM ETHNICITY RELIGION
"""  # noqa: E501 -- one type a line


def _read(table: str) -> Mapping[str, EntityType]:
    rows = (line.split("|") for line in table.strip().splitlines())
    return MappingProxyType(
        {
            name: EntityType(name, f"[{name}]", kind, level, hipaa, text, tuple(aliases.split()))
            for name, kind, level, hipaa, text, aliases in rows
        }
    )


ENTITIES: Final[Mapping[str, EntityType]] = _read(_TABLE)

_NAMES: Final[Mapping[str, EntityType]] = MappingProxyType(
    {alias: entity for entity in ENTITIES.values() for alias in (entity.name, *entity.aliases)}
)


def resolve(name: str) -> EntityType:
    """The type called `name`, by canonical name or alias, in any case; `-` and blanks are `_`.

    Raises:
        UnknownEntity: no type has this name; carries up to three names that look like it.
    """
    key = "_".join(name.strip().upper().replace("-", "_").split())
    found = _NAMES.get(key)
    if found is None:
        raise UnknownEntity(name, tuple(difflib.get_close_matches(key, _NAMES, n=3)))
    return found
