"""The form of a certificate, field by field: what must be there, and nothing else may be.

A check is a function of a value and its place; it raises `MalformedCertificate`.
What plan, event and the findings of an audit mean is for their own codecs (`certificate_check`).
docs/certificates.md says what each field means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

from privacy_core.dp_events import CODEC_VERSION
from privacy_core.errors import InvalidParameter
from privacy_core.guarantee import NeighbouringRelation, PrivacyUnit
from privacy_finetuner.assessment.certificate_errors import MalformedCertificate
from privacy_finetuner.training.plan import PLAN_VERSION
from privacy_runtime.signing import instant_of

CERTIFICATE_TYPE: Final = "privacy-finetuner/certificate"
CERTIFICATE_VERSION: Final = 1
COMMITMENT_SCHEME: Final = "HMAC-SHA-256/records-1"
TEXT_MAX: Final = 4096

Check: TypeAlias = Callable[[object, str], None]


def require_form(document: object) -> None:
    """Check the form of a whole certificate.

    Raises:
        MalformedCertificate: the first field that has another form, by its place.
    """
    _CERTIFICATE(document, "certificate")


def _refuse(place: str, found: object, expected: str) -> NoReturn:
    # The value itself may be anything; its kind is enough to find it.
    raise MalformedCertificate(place, found=_kind(found), expected=expected)


def _kind(found: object) -> str:
    names = {"dict": "an object", "list": "a list", "str": "a text", "bool": "true or false",
             "NoneType": "null", "int": "a number", "float": "a number"}  # fmt: skip
    return names.get(type(found).__name__, type(found).__name__)


def _exactly(value: object) -> Check:
    def check(found: object, place: str) -> None:
        if found != value or type(found) is not type(value):
            _refuse(place, found, repr(value))

    return check


def _one_of(*values: str) -> Check:
    def check(found: object, place: str) -> None:
        if not isinstance(found, str) or found not in values:
            _refuse(place, found, f"one of {', '.join(values)}")

    return check


def _text(pattern: str, expected: str) -> Check:
    compiled = re.compile(pattern, re.DOTALL)

    def check(found: object, place: str) -> None:
        if not isinstance(found, str) or not compiled.fullmatch(found):
            _refuse(place, found, expected)

    return check


def _instant(found: object, place: str) -> None:
    try:
        instant_of(found)
    except InvalidParameter:
        _refuse(place, found, "an instant like 2026-01-31T12:00:00Z")


def _number(low: float, high: float = math.inf) -> Check:
    def check(found: object, place: str) -> None:
        is_number = isinstance(found, int | float) and not isinstance(found, bool)
        if not is_number or not low <= float(found) <= high:  # type: ignore[arg-type]  # is_number
            _refuse(place, found, f"a number from {low:g} to {high:g}")

    return check


def _whole(least: int) -> Check:
    def check(found: object, place: str) -> None:
        if not isinstance(found, int) or isinstance(found, bool) or found < least:
            _refuse(place, found, f"a whole number >= {least}")

    return check


def _optional(inner: Check) -> Check:
    def check(found: object, place: str) -> None:
        if found is not None:
            inner(found, place)

    return check


def _list_of(inner: Check, *, least: int = 0) -> Check:
    def check(found: object, place: str) -> None:
        if not isinstance(found, list) or len(found) < least:
            _refuse(place, found, f"a list of at least {least}")
        for index, item in enumerate(found):
            inner(item, f"{place}[{index}]")

    return check


def _map_of(name: Check, inner: Check, *, least: int = 0) -> Check:
    def check(found: object, place: str) -> None:
        if not isinstance(found, Mapping) or len(found) < least:
            _refuse(place, found, f"an object with at least {least} entries")
        for key, item in found.items():
            name(key, f"{place}, a name in it")
            inner(item, f"{place}.{key}")

    return check


def _object(fields: Mapping[str, Check]) -> Check:
    def check(found: object, place: str) -> None:
        if not isinstance(found, Mapping):
            _refuse(place, found, "an object")
        for missing in sorted(set(fields) - set(found)):
            raise MalformedCertificate(f"{place}.{missing}", found="nothing", expected="a value")
        surplus = len(set(found) - set(fields))
        if surplus:
            raise MalformedCertificate(
                place, found=f"{surplus} fields too many", expected=f"only {', '.join(fields)}"
            )
        for name, inner in fields.items():
            inner(found[name], f"{place}.{name}")

    return check


def _flag(found: object, place: str) -> None:
    if not isinstance(found, bool):
        _refuse(place, found, "true or false")


def _any_object(found: object, place: str) -> None:
    if not isinstance(found, Mapping):
        _refuse(place, found, "an object")


# No control characters and no marks that turn the direction of writing: what is shown is what is
# there, on a terminal and on paper.
_PLAIN: Final = r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
_SHORT: Final = _text(rf"{_PLAIN}{{1,256}}", "one line of 1 to 256 characters")
_LONG: Final = _text(rf"{_PLAIN}{{1,{TEXT_MAX}}}", f"one line of 1 to {TEXT_MAX} characters")
_DIGEST: Final = _text(r"[0-9a-f]{64}", "64 lower-case hexadecimal digits")
_ID: Final = _text(r"[0-9a-f]{32}", "32 lower-case hexadecimal digits")
_FILE: Final = _text(r"[A-Za-z0-9._-]{1,256}\.safetensors", "the name of a .safetensors file")
_EPSILON: Final = _number(0)
_RELATION: Final = _one_of(*(relation.value for relation in NeighbouringRelation))
_UNIT: Final = _one_of(*(unit.value for unit in PrivacyUnit))
_ACCOUNTANT: Final = _one_of("pld", "rdp", "gdp")

_PLAN: Final = _object(
    {
        "version": _exactly(PLAN_VERSION),
        "examples": _whole(1),
        "expected_batch_size": _whole(1),
        "steps": _whole(1),
        "steps_asked": _whole(1),
        "noise_multiplier": _number(0),
        "gradient_noise_multiplier": _number(0),
        "count_noise_multiplier": _optional(_number(0)),
        "statistics_noise_multiplier": _optional(_number(0)),
        "clip_norm": _number(0),
        "clip_rule": _SHORT,
        "delta": _number(0, 1),
        "accountant": _ACCOUNTANT,
        "relation": _RELATION,
        "unit": _UNIT,
        "max_examples_per_user": _whole(1),
        "sampler": _SHORT,
        "secure_rng": _flag,
        "groups": _whole(1),
        "correlation": _optional(_any_object),
        "canaries": _whole(0),
        "event": _any_object,
    }
)
"""What a plan writes of itself; its codec checks what the numbers say of each other."""

_TOP: Final[Mapping[str, Check]] = {
    "type": _exactly(CERTIFICATE_TYPE),
    "version": _exactly(CERTIFICATE_VERSION),
    "id": _ID,
    "issued_at": _instant,
    "expires_at": _instant,
    "issued_with": _SHORT,
    "signer": _object(
        {
            "algorithm": _exactly("Ed25519"),
            "key_id": _ID,
            "public_key": _DIGEST,
            "not_before": _instant,
            "not_after": _instant,
        }
    ),
    "guarantee": _object(
        {
            "epsilon": _EPSILON,
            "delta": _number(0, 1),
            "relation": _RELATION,
            "unit": _UNIT,
            "max_examples_per_user": _whole(1),
            "accountant": _ACCOUNTANT,
        }
    ),
    "prices": _object({"pld": _optional(_EPSILON), "rdp": _optional(_EPSILON)}),
    "peer": _optional(
        _object({"accountant": _SHORT, "version": _SHORT, "epsilon": _optional(_EPSILON)})
    ),
    "event": _object({"version": _exactly(CODEC_VERSION), "event": _any_object}),
    "plan": _PLAN,
    "run": _object(
        {
            "job_id": _SHORT,
            "charged_steps": _whole(1),
            "record_head": _DIGEST,
            "record_entries": _whole(1),
            "engine": _SHORT,
            "noise": _SHORT,
        }
    ),
    "ledger": _optional(
        _object(
            {
                "account": _SHORT,
                "guarantee": _object(
                    {
                        "epsilon": _EPSILON,
                        "delta": _number(0, 1),
                        "relation": _RELATION,
                        "unit": _UNIT,
                    }
                ),
                "reservation": _SHORT,
                "status": _SHORT,
                "scopes": _list_of(_SHORT, least=1),
                "entry": _optional(_object({"seq": _whole(1), "hash": _DIGEST})),
            }
        )
    ),
    "dataset": _object(
        {
            "examples": _whole(1),
            "commitment": _optional(
                _object({"scheme": _exactly(COMMITMENT_SCHEME), "value": _DIGEST})
            ),
        }
    ),
    "weights": _map_of(_FILE, _DIGEST, least=1),
    "software": _object({"python": _SHORT, "libraries": _map_of(_SHORT, _SHORT, least=1)}),
    "audit": _optional(
        _object(
            {
                "outside_guarantee": _exactly(True),
                "findings": _list_of(_any_object, least=1),
                "report_digest": _DIGEST,
            }
        )
    ),
    "assumptions": _list_of(_LONG, least=1),
    "outside_guarantee": _list_of(_LONG, least=1),
    "signature": _text(r"[0-9a-f]{128}", "128 lower-case hexadecimal digits"),
}
_CERTIFICATE: Final = _object(_TOP)
FIELDS: Final = tuple(sorted(_TOP))
"""The names at the top of a certificate, in the order in which canonical JSON has them."""
