"""A node's private records: a JSON Lines file, read strictly.

One record a line: `{"patient": "p-0017", "text": "...", "cohort": "consented-2026"}`. Without a
cohort the record is in `all` alone; every record is in `all`. Errors name the line and what is
wrong with it, never what stands in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import reason_of

EVERYONE: Final = "all"
"""The cohort of every record."""
TEXT_MAX: Final = 1 << 20
NAME_MAX: Final = 200
RECORDS_MAX: Final = 5_000_000


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One text about one patient. Its repr shows lengths only."""

    patient: str
    text: str
    cohort: str = EVERYONE

    def __repr__(self) -> str:
        return f"Record({len(self.text)} characters)"


_DECODER: Final = msgspec.json.Decoder(Record, strict=True)


@dataclass(frozen=True, slots=True, repr=False)
class Records:
    """The records of one file, in its order.

    Attributes:
        fingerprint: SHA-256 of the file's bytes. It changes with any record: keep it at the node.
    """

    records: tuple[Record, ...]
    fingerprint: str

    def __repr__(self) -> str:
        return f"Records({len(self.records)})"

    @property
    def patients(self) -> frozenset[str]:
        """Everybody whom a record is about."""
        return frozenset(record.patient for record in self.records)

    @property
    def cohorts(self) -> tuple[str, ...]:
        """`all`, and those that records name, sorted."""
        return tuple(sorted({EVERYONE, *(record.cohort for record in self.records)}))

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a file; all of it, or an error.

        Raises:
            InvalidParameter: it cannot be read, is empty, or a line is no record.
        """
        path = Path(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InvalidParameter(
                "records", found=f"{path}: {reason_of(error)}", expected="a JSON Lines file"
            ) from None
        return cls.parse(data, name=path.name)

    @classmethod
    def parse(cls, data: bytes, *, name: str = "records") -> Self:
        """Read the content of a file. Raises as `read`."""
        records = tuple(
            _record(line, f"{name}, line {number}")
            for number, line in enumerate(data.split(b"\n"), 1)
            if line.strip()
        )
        if not 1 <= len(records) <= RECORDS_MAX:
            raise InvalidParameter(
                "records", found=f"{name}: {len(records)} records", expected=f"1 to {RECORDS_MAX}"
            )
        return cls(records, hashlib.sha256(data).hexdigest())

    @classmethod
    def of(cls, records: Sequence[Record]) -> Self:
        """Records that are in memory already."""
        lines = b"\n".join(msgspec.json.encode(record) for record in records)
        return cls.parse(lines)


def _record(line: bytes, place: str) -> Record:
    """One line as a record; what is wrong with it is said without its content."""
    expected = '{"patient": "...", "text": "...", "cohort": "..."}, the cohort optional'
    try:
        record = _DECODER.decode(line)
    except msgspec.ValidationError:
        # msgspec names an unknown field, and a field's name may be a record's content.
        found = f"{place}: other fields, or a value that is no text"
        raise InvalidParameter("records", found=found, expected=expected) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidParameter("records", found=f"{place}: no JSON", expected=expected) from None
    for field, most in (("patient", NAME_MAX), ("cohort", NAME_MAX), ("text", TEXT_MAX)):
        length = len(getattr(record, field))
        if length > most or (length == 0 and field != "text"):
            raise InvalidParameter(
                "records", found=f"{place}: {field} of {length} characters", expected=f"1 to {most}"
            )
    return record
