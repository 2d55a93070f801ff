"""`report`: what a folder promises, has spent and has left, checked again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json

if TYPE_CHECKING:
    from privacy_finetuner.reports import Certified, Check, RunFolder

EPILOG: Final = "Example: privacy-finetuner report ./private --html report.html"


def report(
    folder: Annotated[Path, typer.Argument(help="The --output folder of a run.")],
    html: Annotated[
        Path | None, typer.Option(help="Where to write the page. Default: FOLDER/report.html.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a run promised and spent, price it again, and write a page to share.

    The epsilon is recomputed from the stored event, not copied, and every weight file is compared
    with what the run left. If something does not agree, or a certificate beside the run is not
    genuine, the exit code is 1.
    """
    with output.failures_reported(as_json):
        from privacy_finetuner import reports  # noqa: PLC0415 -- plots take a second to load

        found = reports.read_folder(folder)
        checked = reports.check(found)
        signed = reports.certified(found)
        target = reports.write_html(folder, html)
        document = _document(found, checked, signed, target)
    output.deliver(document, output.facts(f"Report of {folder}", _rows(document)), as_json=as_json)
    if not checked.agrees or (signed is not None and signed.is_forged):
        raise typer.Exit(int(output.ExitCode.FAILED))


def _document(
    found: RunFolder, checked: Check, signed: Certified | None, target: Path
) -> dict[str, Any]:
    plan = found.plan
    stored = found.report or {}
    return {
        "folder": str(found.folder),
        "status": found.status,
        "epsilon": checked.epsilon_reported,
        "delta": plan.delta,
        "relation": plan.relation.value,
        "unit": plan.unit.value,
        "accountant": plan.accountant,
        "noise_multiplier": plan.noise_multiplier,
        "sample_rate": plan.sampling_probability,
        "steps_charged": found.charged_steps,
        "steps_planned": plan.steps,
        "privacy_spent": stored.get("privacy_spent"),
        "privacy_remaining": stored.get("privacy_remaining"),
        "lifetime_spent": stored.get("lifetime_spent"),
        "recomputed": checked.to_dict(),
        "certificate": None if signed is None else signed.to_dict(),
        "command": found.command,
        "html": str(target),
    }


def _rows(document: dict[str, Any]) -> list[tuple[str, object]]:
    names = (
        "status", "epsilon", "delta", "relation", "unit", "accountant", "noise_multiplier",
        "sample_rate", "steps_charged", "steps_planned",
    )  # fmt: skip
    rows: list[tuple[str, object]] = [(output.words(name), document[name]) for name in names]
    for name in ("privacy_spent", "privacy_remaining", "lifetime_spent"):
        amount = document[name]
        if amount is not None:
            value = f"epsilon {amount['epsilon']:.6g}, delta {amount['delta']:.3g}"
            rows.append((output.words(name), value))
    again = document["recomputed"]
    rows += [("recomputed", finding) for finding in again["findings"]]
    rows.append(("agrees", "yes" if again["agrees"] else "NO: do not rely on the reported epsilon"))
    signed = document["certificate"]
    rows.append(("certificate", "none: nobody has signed" if signed is None else signed["verdict"]))
    rows += [("price it yourself", document["command"]), ("page", document["html"])]
    return rows
