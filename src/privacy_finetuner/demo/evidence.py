"""What the demonstration leaves as proof: an audit of the private run, and its certificate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from privacy_runtime.files import write_atomic
from privacy_runtime.signing import SigningKey
from privacy_runtime.world import Clock, Entropy

if TYPE_CHECKING:
    from privacy_finetuner.assessment.audit import Audit

PRIVATE_MODEL: Final = "private-model"
AUDIT: Final = "audit.json"
AUDIT_PAGE: Final = "audit.html"
CERTIFICATE: Final = "certificate.json"


def audit_run(output: Path) -> Audit:
    """Audit the private run by its canaries; writes figures and a page beside the model."""
    from privacy_finetuner.assessment.audit import audit  # noqa: PLC0415 -- loads scipy
    from privacy_finetuner.reports.audit_page import write_page  # noqa: PLC0415 -- loads plots

    audited = audit(output / PRIVATE_MODEL)
    write_atomic(output / AUDIT, _encoded(audited))
    write_page(audited, output / AUDIT_PAGE)
    return audited


def words(audited: Audit) -> str:
    """One sentence for the console."""
    most = max(finding.ceiling.expected for finding in audited.findings)
    return (
        f"Audit by {audited.seal.count} canaries: epsilon is at least {audited.epsilon:.2f} of the "
        f"claimed {audited.theory:.2f}; an ideal attacker would find {most:.2f}: "
        f"{audited.verdict.value}"
    )


def certify(
    output: Path,
    training: Sequence[dict[str, str]],
    key: SigningKey,
    clock: Clock,
    entropy: Entropy,
    audited: Audit | None,
) -> Path:
    """Sign for the private run, with a commitment to the records that only we can open."""
    from privacy_finetuner.assessment import certificate_issue  # noqa: PLC0415 -- the run first
    from privacy_finetuner.assessment.commitment import Opening  # noqa: PLC0415
    from privacy_finetuner.training.records import read_records  # noqa: PLC0415

    opening, target = Opening.fresh(entropy), output / CERTIFICATE
    report = None if audited is None else _encoded(audited)
    made = certificate_issue.issue(
        output / PRIVATE_MODEL,
        key,
        now=clock.now(),
        entropy=entropy,
        commitment=opening.commit(read_records(list(training)).fingerprint),
        audit=None if report is None else (json.loads(report), hashlib.sha256(report).hexdigest()),
    )
    opening_file = output / f"{CERTIFICATE}.opening"
    opening_file.unlink(missing_ok=True)
    opening.write(opening_file)
    write_atomic(target, made.content)
    return target


def _encoded(audited: Audit) -> bytes:
    return json.dumps(audited.to_dict(), indent=1, allow_nan=False).encode()
