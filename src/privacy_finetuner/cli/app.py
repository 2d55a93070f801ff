"""The application: which commands there are."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

import typer

from privacy_finetuner import __version__
from privacy_finetuner.cli import (
    accountant,
    audit,
    budget,
    certificate,
    checkpoint,
    config,
    datasets,
    demo,
    evaluate,
    explain,
    export,
    gateway,
    generate,
    jobs,
    keys,
    login,
    mcp,
    output,
    protect,
    redaction,
    report,
    reveal,
    scan,
    search,
    security,
    serve,
    train,
    worker,
)
from privacy_finetuner.cli.options import Json

_TRAINING: Final = "Train and use a model"
_EXPLAIN: Final = "Understand the guarantee"
_REDACTION: Final = "Redact what leaves"
_SERVICE: Final = "Run a service"

app = typer.Typer(
    name="privacy-finetuner",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Fine-tune language models on sensitive text with differential privacy.\n\n"
    "A run is planned before its first gradient: epsilon and delta are a promise to everyone in "
    "the data, and the noise that keeps it is solved from them.",
    epilog="Begin with a plan, which spends nothing:\n\n"
    "privacy-finetuner train --model ./model --data records.jsonl --epsilon 8 --output ./private "
    "--dry-run",
)
app.command(rich_help_panel=_TRAINING, epilog=train.EPILOG)(train.train)
app.command(rich_help_panel=_TRAINING, epilog=search.EPILOG)(search.search)
app.command(rich_help_panel=_TRAINING, epilog=demo.EPILOG)(demo.demo)
app.command(rich_help_panel=_TRAINING, epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(rich_help_panel=_TRAINING, epilog=generate.EPILOG)(generate.generate)
app.command(rich_help_panel=_TRAINING, epilog=export.EPILOG)(export.export)
app.command(rich_help_panel=_REDACTION, epilog=scan.EPILOG)(scan.scan)
app.command(rich_help_panel=_REDACTION, epilog=protect.EPILOG)(protect.protect)
app.command(rich_help_panel=_REDACTION, epilog=explain.EPILOG)(explain.explain)
app.command(rich_help_panel=_REDACTION, epilog=reveal.EPILOG)(reveal.reveal)
app.command(rich_help_panel=_EXPLAIN, epilog=report.EPILOG)(report.report)
app.command(rich_help_panel=_EXPLAIN, epilog=audit.EPILOG)(audit.audit)
app.command(rich_help_panel=_SERVICE, epilog=serve.EPILOG)(serve.serve)
app.command(rich_help_panel=_SERVICE, epilog=worker.EPILOG)(worker.worker)
app.command(rich_help_panel=_SERVICE, epilog=login.LOGIN_EPILOG)(login.login)
app.command(rich_help_panel=_SERVICE, epilog=login.LOGOUT_EPILOG)(login.logout)
app.command(rich_help_panel=_SERVICE, epilog=mcp.EPILOG)(mcp.mcp)
app.add_typer(jobs.app, name="jobs", rich_help_panel=_SERVICE)
app.add_typer(datasets.app, name="datasets", rich_help_panel=_SERVICE)
app.add_typer(security.app, name="security", rich_help_panel=_SERVICE)
app.add_typer(gateway.app, name="gateway", rich_help_panel=_REDACTION)
app.add_typer(accountant.app, name="accountant", rich_help_panel=_EXPLAIN)
app.add_typer(budget.app, name="budget", rich_help_panel=_EXPLAIN)
app.add_typer(redaction.app, name="redaction", rich_help_panel=_REDACTION)
app.add_typer(certificate.app, name="certificate", rich_help_panel=_EXPLAIN)
app.add_typer(checkpoint.app, name="checkpoint", rich_help_panel=_SERVICE)
app.add_typer(keys.app, name="keys", rich_help_panel=_SERVICE)
app.add_typer(config.app, name="config", rich_help_panel=_SERVICE)


@app.command(rich_help_panel=_EXPLAIN, epilog="Example: privacy-finetuner version --json")
def version(as_json: Json = False) -> None:
    """Print the version of this program and of what it computes with."""
    with output.failures_reported(as_json):
        document = {
            "version": __version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("torch", "transformers", "peft")},
        }
        text = f"privacy-finetuner {__version__}\n" + "\n".join(
            f"{name} {number}" for name, number in document.items() if name != "version"
        )
    output.deliver(document, text, as_json=as_json)
