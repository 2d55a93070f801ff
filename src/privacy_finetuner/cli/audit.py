"""`audit`: what a run's canaries say of its epsilon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Device, Json
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.files import write_atomic

if TYPE_CHECKING:
    from privacy_finetuner.assessment.attacks import MembershipInferenceResult
    from privacy_finetuner.assessment.audit import Audit

EPILOG: Final = (
    "Example: privacy-finetuner train ... --audit-canaries 1000 --output ./private && "
    "privacy-finetuner audit ./private --html audit.html\n\n"
    "Exit codes: 0 no violation, 4 the claimed epsilon is refuted, 2 bad input, 1 anything else."
)


def audit(
    folder: Annotated[
        Path, typer.Argument(help="The --output folder of a run with --audit-canaries.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="The model that training started from, for attacks on real text. Default: the one "
            "that the run names."
        ),
    ] = None,
    members: Annotated[
        Path | None,
        typer.Option(help="Records that were trained on: attack them too (exact figures)."),
    ] = None,
    non_members: Annotated[
        Path | None,
        typer.Option(
            help="Records that were not, from the same source: needed with --members. A random "
            "split made beforehand, or the comparison is void."
        ),
    ] = None,
    output_file: Annotated[
        Path | None,
        typer.Option("--output", help="Write the audit as JSON: outside the guarantee."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with plots: outside the guarantee.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Bound a run's epsilon from below, by canaries that it carried, and hold it against the claim.

    A run trained with `--audit-canaries` had made-up records in its data, each by a secret coin.
    The audit guesses the coins from what the run released. Too many right guesses refute the
    claimed epsilon, with 95 per cent confidence and without assumptions about the model. Beside the
    bound stands what an ideal attacker could have found with as many canaries: an audit that finds
    little shows little, and none shows that a claim is true.

    Nothing is written unless `--output` or `--html` says where.
    """
    with output.failures_reported(as_json):
        from privacy_finetuner.assessment import audit as audits  # noqa: PLC0415 -- loads scipy

        if (members is None) != (non_members is None):
            raise ConfigurationError(
                "--members and --non-members belong together: an attack is measured by how well it "
                "tells one from the other; nothing was audited"
            )
        console = output.stderr_console()
        audited = audits.audit(
            folder,
            device=device,
            progress=lambda words: console.print(f"{words} ...", soft_wrap=True, markup=False),
        )
        document, attacks = audited.to_dict(), None
        if members is not None and non_members is not None:
            console.print("attacking the model on the records named ...")
            attacks = _attacks(audited, folder, base, members, non_members, device)
            document["attacks"] = attacks.to_dict()
        _write(audited, document, attacks, output_file, html)
    output.deliver(
        document, output.facts(f"Audit of {folder}", _rows(audited, attacks)), as_json=as_json
    )
    if audited.verdict.value == "violation":
        raise typer.Exit(int(output.ExitCode.VIOLATION))


def _attacks(
    audited: Audit,
    folder: Path,
    base: str | None,
    members: Path,
    non_members: Path,
    device: str,
) -> MembershipInferenceResult:
    """Membership inference on real text."""
    from privacy_finetuner.assessment.audit_attacks import attacks_on_text  # noqa: PLC0415 -- torch

    return attacks_on_text(
        folder,
        base=base or audited.seal.base,
        members=members,
        non_members=non_members,
        device=device,
    )


def _write(
    audited: Audit,
    document: dict[str, Any],
    attacks: MembershipInferenceResult | None,
    output_file: Path | None,
    html: Path | None,
) -> None:
    if output_file is not None:
        write_atomic(output_file, json.dumps(document, indent=1, allow_nan=False).encode())
    if html is not None:
        from privacy_finetuner.reports.audit_page import write_page  # noqa: PLC0415 -- plots

        write_page(audited, html, attacks=attacks)


def _rows(audited: Audit, attacks: MembershipInferenceResult | None) -> list[tuple[str, object]]:
    """What a person should see of an audit."""
    rows: list[tuple[str, object]] = [
        ("verdict", audited.verdict.value.upper()),
        ("claimed", f"epsilon {audited.theory:.4g} at delta {audited.plan.delta:.3g}"),
    ]
    for finding in audited.findings:
        bound = finding.bound
        rows.append(
            (
                {"one_run": "one-run bound", "f_dp": "one-run f-DP bound"}[bound.method.value],
                f"epsilon >= {bound.epsilon:.3g} ({bound.correct} of {bound.guesses} guesses "
                f"right; an ideal attacker: {finding.ceiling.expected:.2f}; claim "
                f"{finding.theory:.4g}): {finding.verdict.value}",
            )
        )
    rows += [
        ("estimate, no bound", f"epsilon {audited.estimate.epsilon:.3g}"),
        ("canaries", f"{audited.seal.count} of kind {audited.seal.kind}"),
        ("AUC of scores", str(audited.auc)),
    ]
    for attack in () if attacks is None else attacks.attacks:
        found = attack.at_fpr_1_percent.tpr
        rate = "too few non-members" if found is None else str(found)
        rows.append((f"attack: {attack.name}", f"AUC {attack.auc}, TPR at 1 % FPR {rate}"))
    if attacks is not None:
        rows += [("attacks are void", reason) for reason in attacks.void_reasons]
    return [*rows, *(("note", note) for note in audited.notes)]
