"""The privacy certificate: what a run did to its data, signed, for anybody to recompute.

    run folder --issue--> certificate.json --verify--> genuine, or why not

A certificate holds the event, not a claim about it. Its epsilon is recomputed by two accountants
from the event, the event from the plan, and every figure that follows from another is compared with
it. The signature says who answers for it, and that no byte was changed since.

The file is RFC 8785 JSON and one newline. The signature is Ed25519 over the same JSON without the
field `signature`. docs/certificates.md specifies every field; `certificate_issue` signs,
`certificate_check` verifies, `certificate_view` shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from privacy_core import dp_events
from privacy_core.dp_events import DpEvent
from privacy_finetuner.assessment.certificate_errors import NotACertificate
from privacy_finetuner.assessment.certificate_fields import (
    CERTIFICATE_TYPE,
    CERTIFICATE_VERSION,
    require_form,
)
from privacy_finetuner.training.plan import DPTrainingPlan
from privacy_runtime.signing import (
    DOCUMENT_MAX,
    NotCanonical,
    PublicKey,
    canonical_bytes,
    parse_canonical,
    parse_json,
)

_OUTSIDE: Final = (
    "what the starting weights knew before this run",
    "facts that hold without any one unit: what is true of people in general can be learned",
    "a secret that stands in the records of many units",
    "other releases about the same units: other runs, evaluations, searches; their prices add up",
    "the number of records and the settings of the plan: they are treated as public",
    "the duration of the run, and files that only an unfinished run has",
)
_WEAK_NOISE: Final = (
    "the noise came from a generator that is not cryptographic: who guesses its state can "
    "subtract it"
)
_AUDITED: Final = "the audit: it read the records exactly; its figures are not private"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Certificate:
    """A certificate as it was read; its form is right, nothing else is checked.

    `content` is the file, byte for byte.
    """

    document: Mapping[str, Any]
    content: bytes

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read the bytes of a certificate file.

        Raises:
            NotACertificate: something else, or a version that is not known here.
            NotCanonical: JSON, but not in the form that is signed.
            MalformedCertificate: a field is missing, surplus or of another form.
        """
        body = content.removesuffix(b"\n")
        if len(body) > DOCUMENT_MAX:
            raise NotACertificate(f"{len(body)} bytes, at most {DOCUMENT_MAX} are read")
        _require_certificate(body)
        if body == content:
            raise NotCanonical("a certificate file ends in one newline")
        document = parse_canonical(body)
        require_form(document)
        return cls(document=document, content=content)

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is under: the document without it."""
        return canonical_bytes({k: v for k, v in self.document.items() if k != "signature"})

    @property
    def signer(self) -> PublicKey:
        """The key that it says it was signed with, and how long that one says it is valid."""
        signer = self.document["signer"]
        return PublicKey(
            public_key=signer["public_key"],
            not_before=signer["not_before"],
            not_after=signer["not_after"],
        )

    @property
    def plan(self) -> DPTrainingPlan:
        """The plan. Raises `ConfigurationError` where it is none."""
        return DPTrainingPlan.from_json(dict(self.document["plan"]))

    @property
    def event(self) -> DpEvent:
        """The event. Raises `MalformedEvent` where it is none."""
        return dp_events.from_json(self.document["event"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file: names this very certificate."""
        return hashlib.sha256(self.content).hexdigest()

    def __repr__(self) -> str:
        """Name it."""
        return f"Certificate(id={self.document['id']})"


def outside_guarantee(plan: DPTrainingPlan, *, has_audit: bool) -> list[str]:
    """What the guarantee does not cover. Follows from the plan: nobody can leave a line out."""
    return [
        *_OUTSIDE,
        *([] if plan.secure_rng else [_WEAK_NOISE]),
        *([_AUDITED] if has_audit else []),
    ]


def _require_certificate(body: bytes) -> None:
    """Tell what is no certificate at all from a certificate that was changed."""
    try:
        document = parse_json(body)
    except NotCanonical as error:
        raise NotACertificate(f"this is no certificate: {error}") from None
    if not isinstance(document, dict) or document.get("type") != CERTIFICATE_TYPE:
        hint = ""
        if isinstance(document, dict) and "record_head" in document:
            hint = (
                ": it is the unsigned statement of a run; make a certificate with "
                "`privacy-finetuner certificate issue RUN_DIR --output FILE`"
            )
        raise NotACertificate(f"this is JSON and no certificate{hint}")
    if document.get("version") != CERTIFICATE_VERSION:
        raise NotACertificate(
            "the certificate is of a version that this program does not know, it reads version "
            f"{CERTIFICATE_VERSION}; nothing in it was believed"
        )
