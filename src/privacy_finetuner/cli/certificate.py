"""`privacy-finetuner certificate issue|show|verify`: a run's guarantee, signed and recomputable.

These commands load neither torch nor a database: a verifier has neither.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from privacy_core.errors import InvalidParameter
from privacy_finetuner.assessment import certificate_check, certificate_issue
from privacy_finetuner.assessment.certificate import Certificate
from privacy_finetuner.assessment.certificate_errors import RunDiffers
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_runtime.files import WriteFailed, write_atomic
from privacy_runtime.signing import (
    KeyHome,
    SigningKey,
    TrustedKeys,
    opened_key,
    parse_json,
)
from privacy_runtime.world import SystemClock, SystemEntropy

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Certify a finished run, and check certificates.\n\n"
    "A certificate is a signed file from which anybody recomputes the epsilon, by two independent "
    "accountants, without the model and without the data. The signature says who answers for it.",
    epilog="Begin: privacy-finetuner certificate issue ./private --output certificate.json",
)

File: TypeAlias = Annotated[Path, typer.Argument(help="The certificate.")]
Trusted: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="Whose signatures count: a file of public keys. Default: this account's own "
        "(~/.config/privacy-finetuner/trusted-keys.json)."
    ),
]
Data: TypeAlias = Annotated[
    Path | None, typer.Option(help="The records that were used, to commit to (or to compare).")
]
TextField: TypeAlias = Annotated[str, typer.Option(help="With --data: the field with the text.")]
_OPENING: Final = ".opening"


@app.command(
    epilog="Example: privacy-finetuner certificate issue ./private --output certificate.json"
)
def issue(  # noqa: PLR0913  # every argument is an option of the command
    run_dir: Annotated[Path, typer.Argument(help="The --output folder of a finished run.")],
    *,
    output_file: Annotated[
        Path, typer.Option("--output", help="The certificate to write; replaced if it is there.")
    ],
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Ed25519 key to sign with; made where none is, and said so. Default: this "
            "account's (~/.config/privacy-finetuner/signing-key.pem)."
        ),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(help="An audit's JSON: verdict and ceiling are shown, outside the guarantee."),
    ] = None,
    expires_days: Annotated[
        int, typer.Option(help="Days that it is valid; at most as long as its key.")
    ] = certificate_issue.VALID_DAYS,
    data: Data = None,
    text_field: TextField = "text",
    model_card: Annotated[
        bool, typer.Option("--model-card", help="Also put a section into RUN_DIR/README.md.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Certify a finished run: check it against its record and its weights, price it, sign it.

    Nothing is signed that does not verify. With **--data** the certificate holds a keyed commitment
    to the records; its key goes to FILE.opening (mode 0600), for you: who has it can confirm a
    guess of the records.
    """
    with output.failures_reported(as_json):
        clock, entropy = SystemClock(), SystemEntropy()
        home = KeyHome.of(os.environ)
        path = key_file or home.key_file
        if not path.exists():  # a run that cannot be certified makes no key
            certificate_issue.require_certifiable(run_dir)
        if key_file is None:
            key, is_new = home.own_key(entropy, now=clock.now())
        else:  # somebody's own file is never replaced: one that has run out is refused
            key, is_new = opened_key(key_file, entropy, now=clock.now())
        opening_file = output_file.with_name(output_file.name + _OPENING)
        opening, commitment = _committed(data, text_field, opening_file)
        made = certificate_issue.issue(
            run_dir,
            key,
            now=clock.now(),
            entropy=entropy,
            valid_days=expires_days,
            commitment=commitment,
            audit=None if audit is None else _audit(audit),
        )
        if opening is not None:
            opening.write(opening_file)
        write_atomic(output_file, made.content)
        document = {
            "certificate": str(output_file),
            **_named(made),
            "key_file": str(path),
            "key_was_made": is_new,
            "trusted_here": _trusted_here(home, key),
            "opening": None if opening is None else str(opening_file),
            "model_card": str(_write_card(run_dir, made, key)) if model_card else None,
        }
    output.deliver(document, output.facts("Certified", _rows(document)), as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner certificate show certificate.json --pdf certificate.pdf"
)
def show(
    file: File,
    *,
    html: Annotated[Path | None, typer.Option(help="Write a page, for screen and printer.")] = None,
    pdf: Annotated[Path | None, typer.Option(help="Write a PDF, A4.")] = None,
    model_card: Annotated[
        bool, typer.Option("--model-card", help="Print a section for a Hugging Face model card.")
    ] = False,
    readme: Annotated[
        Path | None, typer.Option(help="Put that section into this README.md.")
    ] = None,
    trusted_keys: Trusted = None,
    as_json: Json = False,
) -> None:
    """Say in plain words what a certificate promises, and write it as page, paper, model card.

    A certificate that was changed or contradicts itself is not shown. One that is out of date or
    signed by a key you do not trust is, and says so at the top.
    """
    with output.failures_reported(as_json):
        from privacy_finetuner.assessment import (  # noqa: PLC0415 -- templates and fonts
            certificate_page,
            certificate_paper,
            certificate_view,
        )

        standing = certificate_view.standing_of(
            file.read_bytes(), trusted=_trusted(trusted_keys), now=SystemClock().now()
        )
        view = certificate_view.view_of(standing)
        section = certificate_page.model_card(view) if model_card or readme else ""
        if html is not None:
            write_atomic(html, certificate_page.page(view).encode())
        if pdf is not None:
            write_atomic(pdf, certificate_paper.paper(view))
        if readme is not None:
            certificate_page.write_model_card(readme, section)
        document = {
            "genuine": standing.is_genuine,
            "verdict": standing.verdict,
            "findings": list(standing.findings),
            **_named(standing.certificate),
            "certificate": standing.certificate.document,
            "html": None if html is None else str(html),
            "pdf": None if pdf is None else str(pdf),
            "readme": None if readme is None else str(readme),
            "model_card": section or None,
        }
    text = section if model_card else _shown(view)
    output.deliver(document, text, as_json=as_json)


@app.command(
    epilog="Example: privacy-finetuner certificate verify certificate.json --run ./private"
)
def verify(  # noqa: PLR0913  # every argument is an option of the command
    file: File,
    *,
    trusted_keys: Trusted = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Also compare with this run's weights, record and plan."),
    ] = None,
    allow_unknown_key: Annotated[
        bool,
        typer.Option("--allow-unknown-key", help="Check everything but who signed: no origin."),
    ] = False,
    with_peer: Annotated[
        bool,
        typer.Option("--with-peer", help="Also price it with dp-accounting, if it is installed."),
    ] = False,
    data: Data = None,
    opening: Annotated[
        Path | None, typer.Option(help="With --data: the key of the commitment (FILE.opening).")
    ] = None,
    text_field: TextField = "text",
    as_json: Json = False,
) -> None:
    """Recompute a certificate. The exit code is 0 only when it is genuine.

    Checked are its form, the signature, the price of its event by two accountants, every figure
    that follows from another, the time, and whether you trust the key. A signature by a key that
    you do not know shows that nothing was changed, not who signed: exit code 1.
    """
    with output.failures_reported(as_json):
        found = certificate_check.verify(
            file.read_bytes(),
            trusted=_trusted(trusted_keys),
            now=SystemClock().now(),
            allow_unknown_key=allow_unknown_key,
            run=run,
            with_peer=with_peer,
        )
        findings = list(found.findings)
        if data is not None or opening is not None:
            findings.append(_opened(found.certificate, data, opening, text_field))
        signed_by = "a key you do not trust: origin unknown"
        if found.trusted is not None:
            signed_by = found.trusted.name or "a key you trust"
        document = {
            "genuine": found.trusted is not None,
            "consistent": True,
            "signed_by": signed_by,
            "findings": findings,
            **_named(found.certificate),
        }
    title = "Genuine" if found.trusted is not None else "Consistent, of unknown origin"
    output.deliver(document, output.facts(title, _verified_rows(document)), as_json=as_json)


def _trusted(path: Path | None) -> TrustedKeys:
    return KeyHome.of(os.environ).trusted() if path is None else TrustedKeys.read(path)


def _trusted_here(home: KeyHome, key: SigningKey) -> bool:
    """Trust the key that this account has just signed with; a home that is read-only forgets."""
    try:
        home.trust(key.public)
    except WriteFailed:
        return False
    return True


def _committed(data: Path | None, text_field: str, opening_file: Path) -> Any:
    """An opening and the commitment to the records in a file; nothing where none is named."""
    if data is None:
        return None, None
    from privacy_finetuner.assessment.commitment import Opening  # noqa: PLC0415 -- reads records

    if opening_file.exists():
        raise InvalidParameter("opening", found=str(opening_file), expected="no file yet")
    opening = Opening.fresh(SystemEntropy())
    return opening, opening.commit(_fingerprint(data, text_field))


def _opened(
    certificate: Certificate, data: Path | None, opening: Path | None, text_field: str
) -> str:
    from privacy_finetuner.assessment.commitment import Opening  # noqa: PLC0415 -- reads records

    if data is None or opening is None:
        raise InvalidParameter("data", found="one of two", expected="--data and --opening")
    commitment = certificate.document["dataset"]["commitment"]
    if commitment is None:
        raise RunDiffers(["the certificate names no records: it was issued without --data"])
    if not Opening.read(opening).fits(commitment, _fingerprint(data, text_field)):
        raise RunDiffers(["these are not the records, or not the opening, of the commitment"])
    return "the records are those that the issuer committed to"


def _fingerprint(data: Path, text_field: str) -> str:
    from privacy_finetuner.training.records import read_records  # noqa: PLC0415 -- reads records

    return read_records(data, text_field=text_field).fingerprint


def _audit(path: Path) -> tuple[dict[str, Any], str]:
    content = path.read_bytes()
    document = parse_json(content)
    if not isinstance(document, dict):
        raise InvalidParameter("audit", found=str(path), expected="the JSON of an audit")
    return document, hashlib.sha256(content).hexdigest()


def _write_card(run_dir: Path, made: Certificate, key: SigningKey) -> Path:
    from privacy_finetuner.assessment import (  # noqa: PLC0415 -- templates
        certificate_page,
        certificate_view,
    )

    standing = certificate_view.standing_of(
        made.content, trusted=TrustedKeys([key.public]), now=SystemClock().now()
    )
    readme = run_dir / "README.md"
    section = certificate_page.model_card(certificate_view.view_of(standing))
    certificate_page.write_model_card(readme, section)
    return readme


def _named(certificate: Certificate) -> dict[str, Any]:
    document = certificate.document
    return {
        "id": document["id"],
        "epsilon": document["guarantee"]["epsilon"],
        "delta": document["guarantee"]["delta"],
        "unit": document["guarantee"]["unit"],
        "relation": document["guarantee"]["relation"],
        "prices": document["prices"],
        "key_id": document["signer"]["key_id"],
        "expires_at": document["expires_at"],
        "fingerprint": certificate.fingerprint,
    }


def _rows(document: dict[str, Any]) -> list[tuple[str, object]]:
    made = "made just now; keep a copy, hand out the .pub beside it"
    known = "this account trusts it" if document["trusted_here"] else "not put among trusted keys"
    rows: list[tuple[str, object]] = [
        ("certificate", document["certificate"]),
        ("guarantee", _guarantee(document)),
        ("key id", document["key_id"]),
        ("key file", document["key_file"]),
        ("key", made if document["key_was_made"] else known),
        ("expires", document["expires_at"]),
    ]
    if document["opening"]:
        rows.append(("opening", f"{document['opening']}: secret, for the holder of the records"))
    if document["model_card"]:
        rows.append(("model card", document["model_card"]))
    rows.append(("check it", f"privacy-finetuner certificate verify {document['certificate']}"))
    return rows


def _verified_rows(document: dict[str, Any]) -> list[tuple[str, object]]:
    return [
        ("guarantee", _guarantee(document)),
        ("signed by", document["signed_by"]),
        ("key id", document["key_id"]),
        *((("checked", finding)) for finding in document["findings"]),
        ("SHA-256", document["fingerprint"]),
    ]


def _guarantee(document: dict[str, Any]) -> str:
    unit, relation = document["unit"], document["relation"].replace("_", " ")
    return f"epsilon {document['epsilon']:.6g}, delta {document['delta']:g} per {unit}, {relation}"


def _shown(view: Any) -> str:
    """A certificate for a terminal."""
    lines = [view.claim, view.about, view.verdict, "", *view.promised, "", "Not promised:"]
    lines += [f"  - {said}" for said in view.not_promised]
    lines += ["Assumed:", *(f"  - {said}" for said in view.assumptions)]
    if view.audit:
        lines += ["Audit, outside the guarantee:", *(f"  {said}" for said in view.audit)]
    for title, rows in view.tables.items():
        lines += ["", title, *(f"  {name}: {value}" for name, value in rows)]
    return "\n".join([*lines, "", f"SHA-256 of the certificate: {view.fingerprint}"])
