"""The signed certificate of a run, where one lies in its folder or beside it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_errors import CertificateError
from privacy_finetuner.assessment.certificate_view import grouped, standing_of
from privacy_finetuner.reports.folder import RunFolder
from privacy_runtime.signing import KeyHome, SigningError, TrustedKeys
from privacy_runtime.world import SystemClock

FILE_NAME: Final = "certificate.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What a run's certificate says of itself.

    `is_forged`: it was changed, or contradicts itself or the run. Otherwise `is_genuine` says
    whether it is in date and signed by a key that the reader trusts.
    """

    file: str
    verdict: str
    is_genuine: bool
    is_forged: bool
    key_id: str = ""
    expires_at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Write it as JSON-ready data."""
        return asdict(self)


def certified(
    run: RunFolder, *, trusted: TrustedKeys | None = None, now: datetime | None = None
) -> Certified | None:
    """Find and check the certificate of a run; `None` where there is none.

    `certificate.json` in the run's folder is taken to be about this run; one in the folder above
    only where it names this run's record.

    Args:
        run: the run.
        trusted: whose signatures count; default: what this account trusts.
        now: the time of checking; default: now.
    """
    known = KeyHome.of(os.environ).trusted() if trusted is None else trusted
    instant = SystemClock().now() if now is None else now
    inside, beside = run.folder / FILE_NAME, run.folder.parent / FILE_NAME
    if inside.is_file():
        return _checked(inside, run, known, instant)
    if beside.is_file() and _names(beside, run):
        return _checked(beside, run, known, instant)
    return None


def _checked(path: Path, run: RunFolder, trusted: TrustedKeys, now: datetime) -> Certified:
    try:
        standing = standing_of(path.read_bytes(), trusted=trusted, now=now)
    except (CertificateError, SigningError) as error:
        return Certified(file=str(path), verdict=str(error), is_genuine=False, is_forged=True)
    document = standing.certificate.document
    if document["run"]["record_head"] != run.entries[-1].hash:
        return Certified(
            file=str(path),
            verdict="it is about another run, or the run record grew since",
            is_genuine=False,
            is_forged=True,
        )
    return Certified(
        file=str(path),
        verdict=standing.verdict,
        is_genuine=standing.is_genuine,
        is_forged=False,
        key_id=grouped(document["signer"]["key_id"]),
        expires_at=document["expires_at"],
    )


def _names(path: Path, run: RunFolder) -> bool:
    try:
        document = Certificate.parse(path.read_bytes()).document
    except (CertificateError, SigningError):
        return False
    return bool(document["run"]["record_head"] == run.entries[-1].hash)
