"""Entries, accounts and reservations as JSON data, and back; closed and versioned.

Stability promise: a field is never removed and its meaning never changes. What this version does
not know is refused (`MalformedEntry`), never skipped. Amounts are decimal strings of units (see
`amounts`), floats are written by `repr`; both come back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final, TypeAlias

from privacy_core import dp_events
from privacy_core.budget.amounts import from_digits, to_digits
from privacy_core.budget.charges import Charge, Currency
from privacy_core.budget.commands import (
    ApproveVoid,
    Commit,
    Expire,
    Grant,
    OpenAccount,
    ProposeVoid,
    Refund,
    Reserve,
    ResetClock,
    Signature,
    Watermark,
    Window,
)
from privacy_core.budget.entries import (
    AccountOpened,
    ClockReset,
    Committed,
    Entry,
    Expired,
    Granted,
    Refunded,
    Reserved,
    Voided,
    VoidProposed,
    Watermarked,
)
from privacy_core.budget.scopes import parse_scope
from privacy_core.budget.states import Reservation, ScopeState, Status
from privacy_core.errors import InvalidParameter, MalformedEntry, MalformedEvent
from privacy_core.guarantee import Guarantee, NeighbouringRelation, PrivacyUnit

CODEC_VERSION: Final = 1

Read: TypeAlias = Callable[[object, str], Any]
"""From JSON data and its place in the document to a value."""

_WHOLE_MOST: Final = 1 << 63


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Write an entry: `{"version": 1, "type": "Reserved", "command": {...}, "at_us": ...}`.

    Lossless: `entry_from_json(entry_to_json(e)) == e`.
    """
    return {"version": CODEC_VERSION, "type": type(entry).__name__, **_written(entry)}


def entry_from_json(document: object) -> Entry:
    """Read what `entry_to_json` wrote.

    Raises:
        MalformedEntry: unknown version, type, currency, list of orders or event; missing or surplus
            field; wrong value. The message names the place, as a path into the document.
    """
    body = _versioned(document)
    kind = _ENTRIES.get(str(body.pop("type", None)))
    if kind is None:
        raise MalformedEntry(f"entry type is not one of {sorted(_ENTRIES)}")
    entry: Entry = _record(kind)(body, "entry")
    return entry


def scope_state_to_json(state: ScopeState) -> dict[str, Any]:
    """Write an account's state, for a store's row. Lossless."""
    return {"version": CODEC_VERSION, "state": _written(state)}


def scope_state_from_json(document: object) -> ScopeState:
    """Read what `scope_state_to_json` wrote.

    Raises:
        MalformedEntry: as for `entry_from_json`.
    """
    state: ScopeState = _record(ScopeState)(_versioned(document).get("state"), "state")
    return state


def reservation_to_json(reservation: Reservation) -> dict[str, Any]:
    """Write a reservation, for a store's row. Lossless."""
    return {"version": CODEC_VERSION, "reservation": _written(reservation)}


def reservation_from_json(document: object) -> Reservation:
    """Read what `reservation_to_json` wrote.

    Raises:
        MalformedEntry: as for `entry_from_json`.
    """
    held: Reservation = _record(Reservation)(_versioned(document).get("reservation"), "reservation")
    return held


def charge_to_json(charge: Charge) -> dict[str, Any]:
    """Write a charge on its own, for checkpoints and certificates. Lossless."""
    return {"version": CODEC_VERSION, "charge": _charge_written(charge)}


def charge_from_json(document: object) -> Charge:
    """Read what `charge_to_json` wrote.

    Raises:
        MalformedEntry: as for `entry_from_json`.
    """
    charge: Charge = _record(Charge)(_versioned(document).get("charge"), "charge")
    return charge


def _versioned(document: object) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        raise MalformedEntry(f"a document is an object, found {type(document).__name__}")
    body = dict(document)
    if body.pop("version", None) != CODEC_VERSION:
        raise MalformedEntry(
            f"version {document.get('version')!r} is not known here, expected {CODEC_VERSION}"
        )
    return body


def _written(value: Any) -> dict[str, Any]:
    """A record, field by field."""
    return {f.name: _written_field(f.name, getattr(value, f.name)) for f in fields(type(value))}


def _written_field(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _AMOUNTS:
        return to_digits(value)
    if name == "event":
        return dp_events.to_json(value)
    if name == "scope":
        return str(value)
    if name in {"scopes", "protection", "quota"}:
        return [str(scope) for scope in value]
    if isinstance(value, Charge):
        return _charge_written(value)
    if name in _RECORDS:
        return _written(value)
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=1024)
def _charge_written(charge: Charge) -> dict[str, Any]:
    """Cached: callers price an act once and reserve it often. The result is only ever read."""
    return _written(charge)


def _record(kind: type) -> Read:
    """A reader of records of one kind: exactly its fields, each by its own reader."""
    names = [f.name for f in fields(kind)]

    def read(data: object, path: str) -> Any:
        if not isinstance(data, Mapping):
            raise MalformedEntry(f"{path} is an object, found {type(data).__name__}")
        if set(data) != set(names):
            raise MalformedEntry(
                f"{path} ({kind.__name__}) has fields {sorted(map(str, data))}, "
                f"expected {sorted(names)}"
            )
        readers = {**_READERS, **_SPECIAL.get(kind, {})}
        values = {name: readers[name](data[name], f"{path}.{name}") for name in names}
        try:
            return kind(**values)
        except (InvalidParameter, TypeError) as error:
            raise MalformedEntry(f"{path}: {error}") from error

    return read


def _text(data: object, path: str) -> str:
    if not isinstance(data, str):
        raise MalformedEntry(f"{path} is text, found {type(data).__name__}")
    return data


def _whole(data: object, path: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int) or abs(data) > _WHOLE_MOST:
        raise MalformedEntry(f"{path} is a whole number below 2^63, found {type(data).__name__}")
    return data


def _number(data: object, path: str) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float) or abs(data) > _WHOLE_MOST:
        raise MalformedEntry(f"{path} is a number, found {type(data).__name__}")
    return float(data)


def _scope(data: object, path: str) -> Any:
    try:
        return parse_scope(_text(data, path))
    except InvalidParameter as error:
        raise MalformedEntry(f"{path}: {error}") from error


def _event(data: object, path: str) -> Any:
    try:
        return dp_events.from_json(data)
    except MalformedEvent as error:
        raise MalformedEntry(f"{path}: {error}") from error


def _amounts(data: object, path: str) -> Any:
    return from_digits(data, path=path)


def _listed(read: Read) -> Read:
    def read_all(data: object, path: str) -> Any:
        if not isinstance(data, list):
            raise MalformedEntry(f"{path} is a list, found {type(data).__name__}")
        return tuple(read(item, f"{path}[{i}]") for i, item in enumerate(data))

    return read_all


def _or_none(read: Read) -> Read:
    return lambda data, path: None if data is None else read(data, path)


def _one_of(kind: type[Currency | NeighbouringRelation | PrivacyUnit | Status]) -> Read:
    known = [str(member) for member in kind]

    def read(data: object, path: str) -> Any:
        if data not in known:
            raise MalformedEntry(f"{path} is {data!r}, expected one of {known}")
        return kind(data)

    return read


_ENTRIES: Final[Mapping[str, type]] = {
    kind.__name__: kind
    for kind in (
        AccountOpened,
        Granted,
        Reserved,
        Watermarked,
        Committed,
        Refunded,
        Expired,
        VoidProposed,
        Voided,
        ClockReset,
    )
}
_AMOUNTS: Final = frozenset(
    {"caps", "window_caps", "committed", "reserved", "window_used", "rdp", "basic", "gdp"}
)
_RECORDS: Final = frozenset({"command", "guarantee", "signature", "window"})

_READERS: Final[Mapping[str, Read]] = {
    **dict.fromkeys(_AMOUNTS, _amounts),
    **dict.fromkeys(("key", "reservation", "person", "reason", "orders"), _text),
    **dict.fromkeys(("at_us", "expires_at_us", "length_s", "window_index", "version"), _whole),
    **dict.fromkeys(("epsilon", "delta"), _number),
    **dict.fromkeys(("scopes", "protection", "quota"), _listed(_scope)),
    **dict.fromkeys(("charge", "consumed"), _record(Charge)),
    **dict.fromkeys(("actual", "watermark", "settled"), _or_none(_record(Charge))),
    "scope": _scope,
    "event": _event,
    "ttl_s": _whole,
    "authorisers": _listed(_text),
    "void_proposed_by": _or_none(_text),
    "guarantee": _record(Guarantee),
    "signature": _record(Signature),
    "window": _or_none(_record(Window)),
    "currency": _one_of(Currency),
    "relation": _one_of(NeighbouringRelation),
    "unit": _one_of(PrivacyUnit),
    "status": _one_of(Status),
}
_SPECIAL: Final[Mapping[type, Mapping[str, Read]]] = {
    Watermark: {"ttl_s": _or_none(_whole)},
    OpenAccount: {"caps": _or_none(_amounts)},
    AccountOpened: {"command": _record(OpenAccount)},
    Granted: {"command": _record(Grant)},
    Reserved: {"command": _record(Reserve)},
    Watermarked: {"command": _record(Watermark)},
    Committed: {"command": _record(Commit)},
    Refunded: {"command": _record(Refund)},
    Expired: {"command": _record(Expire)},
    VoidProposed: {"command": _record(ProposeVoid)},
    Voided: {"command": _record(ApproveVoid)},
    ClockReset: {"command": _record(ResetClock)},
}
