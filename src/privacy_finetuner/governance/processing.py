"""The record of processing activities: what is done with which people's data, on what ground.

It has the fields of Art. 30(1) GDPR; `missing` names those that are empty, so that nobody takes a
short record for a complete one. Records are never edited away: a change is a new version of the
record, and the stream `compliance` keeps them all.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Self

from privacy_core.errors import InvalidParameter
from privacy_finetuner.governance.deadlines import law
from privacy_finetuner.governance.errors import RecordConflict
from privacy_finetuner.governance.records import Document, Records, Step, new_id
from privacy_runtime.journal import Journal
from privacy_runtime.world import Clock, Entropy

STREAM: Final = "compliance"
LONGEST_RETENTION_DAYS: Final = 36_500
TEXT_MOST: Final = 500
SEVERAL_MOST: Final = 50
SUBJECTS_MOST: Final = 10**11


class DataCategory(StrEnum):
    """What kind of data it is. The second group is special in the sense of Art. 9 and 10 GDPR."""

    PERSONAL_IDENTIFIERS = "personal_identifiers"
    CONTACT_DATA = "contact_data"
    DEMOGRAPHIC_DATA = "demographic_data"
    BEHAVIORAL_DATA = "behavioral_data"
    COMMUNICATIONS = "communications"
    FINANCIAL_DATA = "financial_data"
    EMPLOYMENT_DATA = "employment_data"
    EDUCATION_DATA = "education_data"
    LOCATION_DATA = "location_data"
    DEVICE_DATA = "device_data"
    CHILDRENS_DATA = "childrens_data"

    HEALTH_DATA = "health_data"
    GENETIC_DATA = "genetic_data"
    BIOMETRIC_DATA = "biometric_data"
    ETHNIC_ORIGIN = "ethnic_origin"
    POLITICAL_OPINIONS = "political_opinions"
    RELIGIOUS_BELIEFS = "religious_beliefs"
    TRADE_UNION_MEMBERSHIP = "trade_union_membership"
    SEX_LIFE = "sex_life"
    CRIMINAL_OFFENCES = "criminal_offences"


SPECIAL: Final = frozenset(
    {
        DataCategory.HEALTH_DATA,
        DataCategory.GENETIC_DATA,
        DataCategory.BIOMETRIC_DATA,
        DataCategory.ETHNIC_ORIGIN,
        DataCategory.POLITICAL_OPINIONS,
        DataCategory.RELIGIOUS_BELIEFS,
        DataCategory.TRADE_UNION_MEMBERSHIP,
        DataCategory.SEX_LIFE,
    }
)
"""Art. 9(1) GDPR: these need a condition of Art. 9(2) besides the legal basis."""


class ProcessingPurpose(StrEnum):
    """What the data is used for."""

    MACHINE_LEARNING = "machine_learning"
    ANALYTICS = "analytics"
    RESEARCH = "research"
    SERVICE_PROVISION = "service_provision"
    QUALITY_IMPROVEMENT = "quality_improvement"
    SECURITY = "security"
    LEGAL_COMPLIANCE = "legal_compliance"
    MARKETING = "marketing"


class LegalBasis(StrEnum):
    """Art. 6(1)(a) to (f) GDPR."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"


class SpecialCondition(StrEnum):
    """Art. 9(2)(a) to (j) GDPR."""

    EXPLICIT_CONSENT = "explicit_consent"
    EMPLOYMENT_LAW = "employment_law"
    VITAL_INTERESTS = "vital_interests"
    NOT_FOR_PROFIT_BODY = "not_for_profit_body"
    MADE_PUBLIC = "made_public"
    LEGAL_CLAIMS = "legal_claims"
    SUBSTANTIAL_PUBLIC_INTEREST = "substantial_public_interest"
    HEALTH_CARE = "health_care"
    PUBLIC_HEALTH = "public_health"
    RESEARCH = "research"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is declared about a processing activity. Names and places, never anybody's data.

    Attributes:
        data_categories: at least one.
        data_subjects_count: an estimate in whole people.
        storage_location: where, such as a region of a data centre.
        retention_period: days from the record on; `None` where no end is set.
        special_condition: of Art. 9(2); needed where a category is special.
        controller: name and contact (Art. 30(1)(a)).
        subject_categories: whose data it is, such as `patients` (c).
        recipients: who receives it (d).
        transfers: third countries and safeguards (e).
        security_measures: a general description (g).
        dataset: the ledger's account of the records, or another name of the data set.
    """

    data_categories: tuple[DataCategory, ...]
    processing_purpose: ProcessingPurpose
    legal_basis: LegalBasis
    data_subjects_count: int
    storage_location: str
    retention_period: int | None = None
    special_condition: SpecialCondition | None = None
    controller: str = ""
    subject_categories: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    transfers: tuple[str, ...] = ()
    security_measures: tuple[str, ...] = ()
    dataset: str = ""

    def __post_init__(self) -> None:
        if not self.data_categories or len(set(self.data_categories)) < len(self.data_categories):
            raise InvalidParameter(
                "data_categories", found=len(self.data_categories), expected="distinct, at least 1"
            )
        _require_count("data_subjects_count", self.data_subjects_count, 0, SUBJECTS_MOST)
        if self.retention_period is not None:
            days = self.retention_period
            _require_count("retention_period", days, 1, LONGEST_RETENTION_DAYS)
        _require_text("storage_location", self.storage_location, least=1)
        for name in ("controller", "dataset"):
            _require_text(name, getattr(self, name), least=0)
        for name in ("subject_categories", "recipients", "transfers", "security_measures"):
            _require_several(name, getattr(self, name))
        special = SPECIAL.intersection(self.data_categories)
        if special and self.special_condition is None:
            raise InvalidParameter(
                "special_condition",
                found=None,
                expected=f"a condition of Art. 9(2) GDPR, for {sorted(special)[0]}",
            )

    @property
    def missing(self) -> tuple[str, ...]:
        """Fields of Art. 30(1) GDPR that are empty."""
        asked = ("controller", "subject_categories", "recipients", "security_measures")
        empty = [name for name in asked if not getattr(self, name)]
        return (*empty, "retention_period") if self.retention_period is None else tuple(empty)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """A recorded activity.

    Attributes:
        retention_ends: when the data must be gone; `None` where no end is set.
        frameworks: which laws it was recorded under.
        ended_at: when the processing was declared over; `None` while it goes on.
        version: counts changes from 1.
    """

    id: str
    activity: Activity
    frameworks: tuple[str, ...]
    created_at: datetime
    created_by: str
    retention_ends: datetime | None
    ended_at: datetime | None
    version: int

    @classmethod
    def of(cls, held: Document) -> Self:
        """Read a record."""
        return cls(
            id=held["id"],
            activity=_activity_of(held["activity"]),
            frameworks=tuple(held["frameworks"]),
            created_at=datetime.fromisoformat(held["created_at"]),
            created_by=held["created_by"],
            retention_ends=_instant(held["retention_ends"]),
            ended_at=_instant(held["ended_at"]),
            version=held["version"],
        )

    def is_overdue(self, now: datetime) -> bool:
        """Whether the data should be gone and the processing was not declared over."""
        ends = self.retention_ends
        return self.ended_at is None and ends is not None and now > ends


class ProcessingRegister:
    """The register of an installation. Who may read and write is checked by the caller.

    Args:
        journal: holds the stream.
        frameworks: laws of the configuration; what applies to an activity is chosen among them.
        clock, entropy: the world.
    """

    def __init__(
        self, journal: Journal, *, frameworks: Sequence[str], clock: Clock, entropy: Entropy
    ) -> None:
        self._records = Records(journal, STREAM, "processing activity")
        self._frameworks = tuple(frameworks)
        self._clock, self._entropy = clock, entropy

    def record(self, tenant: str, activity: Activity, *, by: str) -> Processing:
        """Record an activity.

        Raises:
            JournalError: the database is away; nothing was recorded.
        """
        record = new_id("proc", self._entropy)
        frameworks = applying(self._frameworks, activity)

        def decide(_: Document | None, at: str) -> Step:
            document = {
                "id": record,
                "activity": asdict(activity),
                "frameworks": frameworks,
                "created_at": at,
                "created_by": by,
                "retention_ends": _retention_ends(at, activity.retention_period),
                "ended_at": None,
                "version": 1,
            }
            return Step(type="processing.recorded", document=document, more={"by": by})

        return Processing.of(self._records.write(tenant, record, decide, key=record))

    def end(self, tenant: str, record: str, *, by: str, reason: str) -> Processing:
        """Declare an activity over: its data is not processed any more.

        Raises:
            UnknownRecord, RecordConflict: there is none, or it is over already.
        """
        _require_text("reason", reason, least=1)

        def decide(held: Document, at: str) -> Step:
            if held["ended_at"] is not None:
                raise RecordConflict(record, found="over already", expected="going on")
            document = {**held, "ended_at": at, "version": held["version"] + 1}
            return Step(
                type="processing.ended", document=document, more={"by": by, "reason": reason}
            )

        held = self._records.change(tenant, record, decide, key=f"{record}:ended:{by}")
        return Processing.of(held)

    def get(self, tenant: str, record: str) -> Processing:
        """One activity; `UnknownRecord` if there is none."""
        return Processing.of(self._records.get(tenant, record))

    def find(
        self,
        tenant: str,
        *,
        category: DataCategory | None = None,
        purpose: ProcessingPurpose | None = None,
        text: str = "",
    ) -> list[Processing]:
        """Activities, newest first; `text` is looked for in places, names and recipients."""
        found = [Processing.of(each) for each in self._records.all(tenant)]
        return [
            each
            for each in found
            if (category is None or category in each.activity.data_categories)
            and (purpose is None or each.activity.processing_purpose is purpose)
            and (not text or text.casefold() in _searched(each.activity))
        ]

    def overdue(self, tenant: str, now: datetime) -> list[Processing]:
        """Activities whose data should be gone by now."""
        return [each for each in self.find(tenant) if each.is_overdue(now)]


def applying(frameworks: Sequence[str], activity: Activity) -> list[str]:
    """Which of the configured laws an activity is recorded under.

    HIPAA is about health information only; the others are about any personal data.
    """
    concerns_health = DataCategory.HEALTH_DATA in activity.data_categories
    return [name for name in frameworks if name != "hipaa" or concerns_health]


def frameworks_of(configured: Sequence[str], regions: Sequence[str]) -> list[str]:
    """The laws of a configuration: those it names, or else those of the regions it names."""
    return list(configured) or law().regimes_of(tuple(regions))


def as_csv(register: Sequence[Processing]) -> str:
    """The register as a table for an authority. A cell never begins a formula (CWE-1236)."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    rows = [export_row(each) for each in register]
    names = list(rows[0]) if rows else ["processing_id"]
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in names])
    return table.getvalue()


def export_row(each: Processing) -> dict[str, Any]:
    """One activity with the fields of Art. 30(1) GDPR by name."""
    activity = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(each.activity).items()
    }
    return {
        "processing_id": each.id,
        **activity,
        "compliance_frameworks": list(each.frameworks),
        "recorded_at": each.created_at,
        "recorded_by": each.created_by,
        "retention_ends": each.retention_ends,
        "ended_at": each.ended_at,
        "version": each.version,
        "missing": list(each.activity.missing),
    }


def _cell(value: object) -> str:
    text = value.isoformat() if isinstance(value, datetime) else value
    text = (
        "; ".join(map(str, text)) if isinstance(text, list) else str("" if text is None else text)
    )
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text


def _activity_of(held: Document) -> Activity:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in held.items()
    }
    condition = values["special_condition"]
    values |= {
        "data_categories": tuple(map(DataCategory, values["data_categories"])),
        "processing_purpose": ProcessingPurpose(values["processing_purpose"]),
        "legal_basis": LegalBasis(values["legal_basis"]),
        "special_condition": None if condition is None else SpecialCondition(condition),
    }
    return Activity(**values)


def _searched(activity: Activity) -> str:
    texts = [activity.storage_location, activity.controller, activity.dataset]
    several = (activity.recipients, activity.transfers, activity.subject_categories)
    return json.dumps([*texts, *(list(each) for each in several)], ensure_ascii=False).casefold()


def _retention_ends(at: str, days: int | None) -> str | None:
    if days is None:
        return None
    return (datetime.fromisoformat(at) + timedelta(days=days)).isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _require_count(name: str, found: int, least: int, most: int) -> None:
    if not least <= found <= most:
        raise InvalidParameter(name, found=found, expected=f"{least} to {most}")


def _require_text(name: str, text: str, *, least: int) -> None:
    if not least <= len(text.strip()) <= TEXT_MOST or not text.isprintable():
        raise InvalidParameter(
            name, found=f"{len(text)} characters", expected=f"{least} to {TEXT_MOST}, printable"
        )


def _require_several(name: str, texts: Sequence[str]) -> None:
    if len(texts) > SEVERAL_MOST:
        raise InvalidParameter(name, found=len(texts), expected=f"at most {SEVERAL_MOST}")
    for text in texts:
        _require_text(name, text, least=1)
