"""Options that the commands of redaction share, and what they make."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TextIO, TypeAlias

import typer

from privacy_finetuner.context.guard import ContextGuard
from privacy_finetuner.context.lookout import KEEP, rules_of
from privacy_finetuner.context.strategies import RedactionStrategy
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.world import SystemEntropy

if TYPE_CHECKING:
    from privacy_runtime.pseudonyms.keys import RedactionKeys

WHAT: Final = "What counts"
HOW: Final = "What takes its place"
PLACES: Final = "Files"


class LevelName(StrEnum):
    """Sensitivity levels by name."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class FormatName(StrEnum):
    """Formats of standard input by name."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    HTML = "html"


Level: TypeAlias = Annotated[
    LevelName,
    typer.Option(
        help="low: validated identifiers and secrets. medium: also what points at one person. "
        "high: also what narrows the circle, such as places, dates and ages.",
        rich_help_panel=WHAT,
    ),
]
Preserve: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Types to leave, separated by commas: DATE,ORG.", rich_help_panel=WHAT),
]
Columns: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="NAME=TYPE: all of a column (or of what stands under a JSON key) is of that type. "
        "NAME=keep: leave it alone. May be repeated.",
        rich_help_panel=WHAT,
    ),
]
Allow: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File of values that are never redacted, one a line.", rich_help_panel=WHAT),
]
Deny: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="File of values that always are, one a line.", rich_help_panel=WHAT),
]
Threshold: TypeAlias = Annotated[
    float,
    typer.Option(
        help="Precision that redactions shall have; raises the level's own threshold.",
        rich_help_panel=WHAT,
    ),
]
NoNames: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-names",
        help="Look for values of known form only; names, places and organisations stay.",
        rich_help_panel=WHAT,
    ),
]
Locales: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Countries whose identifiers count, separated by commas: US,DE. Default: all.",
        rich_help_panel=WHAT,
    ),
]
Strategies: TypeAlias = Annotated[
    str,
    typer.Option(
        "--strategy",
        help="One or several, separated by commas, in order of preference: "
        + ", ".join(strategy.value for strategy in RedactionStrategy)
        + ".",
        rich_help_panel=HOW,
    ),
]
KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        help="File of the keys that hashes, tokens and surrogates need, and that lead back. "
        "Default: PRIVACY_FINETUNER_REDACTION_KEYS names one, or "
        "PRIVACY_FINETUNER_REDACTION_KEY holds the key.",
        rich_help_panel=HOW,
    ),
]
Tenant: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Whose data it is: hashes and tokens of two tenants have nothing in common.",
        rich_help_panel=HOW,
    ),
]
EncodingName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Encoding of text files. Default: UTF-8, or as a byte order mark or page says.",
        rich_help_panel=PLACES,
    ),
]
Format: TypeAlias = Annotated[
    FormatName,
    typer.Option(
        "--format", help="Format of standard input; files say theirs.", rich_help_panel=PLACES
    ),
]


def columns_of(given: Iterable[str] | None) -> dict[str, str]:
    """`--column` options as rules.

    Raises:
        ConfigurationError: one has no `=`. UnknownEntity: one is no type; names the nearest.
    """
    rules = {}
    for each in given or ():
        name, equals, rule = each.rpartition("=")
        if not equals or not name or not rule:
            raise ConfigurationError(
                f"--column is {each[:40]!r}, expected NAME=TYPE or NAME={KEEP}; nothing was written"
            )
        rules[name] = rule
    return dict(rules_of(rules) or {})


def values_of(path: Path | None) -> tuple[str, ...]:
    """The lines of a list, without blank ones."""
    if path is None:
        return ()
    return tuple(line.strip() for line in path.read_text("utf-8").splitlines() if line.strip())


def keys_at(path: Path | None, *, create: bool = False) -> RedactionKeys | None:
    """The keys of a file, of the environment, or none.

    Raises:
        ConfigurationError: there is no such file; says how to make one.
        KeyFileRefused: it is not a key file, or others may read it.
    """
    from privacy_runtime.pseudonyms import keys  # noqa: PLC0415 -- loads cryptography

    if path is None:
        names = (keys.ENVIRONMENT_FILE, keys.ENVIRONMENT_KEY)
        return keys.RedactionKeys.from_env() if any(map(os.environ.get, names)) else None
    if path.exists():
        return keys.RedactionKeys.load(path)
    if not create:
        raise ConfigurationError(
            f"there is no key file {path}; nothing was written. To make one: --key-file {path} "
            "--create-key. Whoever has it can undo the redaction; without it nobody can"
        )
    return keys.RedactionKeys.generate(SystemEntropy(), path)


def guard_of(  # noqa: PLR0913 -- one argument an option
    *,
    strategy: str = RedactionStrategy.PII_REMOVAL.value,
    threshold: float = 0.8,
    key_file: Path | None = None,
    create_key: bool = False,
    tenant: str = "default",
    no_names: bool = False,
    locales: str | None = None,
    allow: Path | None = None,
    deny: Path | None = None,
) -> ContextGuard:
    """The guard that the options describe.

    Raises:
        ConfigurationError: a keyed strategy without a key: what it wrote would lead nowhere.
    """
    from privacy_finetuner.context.strategies import strategies_of  # noqa: PLC0415

    strategies = strategies_of(strategy.split(","))
    keys = keys_at(key_file, create=create_key)
    keyed = [each.value for each in strategies if each.needs_key]
    if keyed and keys is None:
        raise ConfigurationError(
            f"the strategy {keyed[0]} needs a key that outlives this command; nothing was "
            "written. Say --key-file FILE, and --create-key where there is none yet"
        )
    return ContextGuard(
        strategies,
        threshold,
        keys=keys,
        tenant=tenant,
        names=None if no_names else "shipped",
        locales=None if locales is None else [each.strip() for each in locales.split(",")],
        allow=values_of(allow),
        deny=values_of(deny),
    )


def names_of(text: str | None) -> tuple[str, ...]:
    """Names in a comma-separated option."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def standard_input() -> Any:
    """Standard input as bytes."""
    return sys.stdin.buffer


def is_file(source: BinaryIO) -> bool:
    """Whether all of an input is there already, so that nobody waits for single lines."""
    try:
        return stat.S_ISREG(os.fstat(source.fileno()).st_mode)
    except OSError:  # not a file of the system: a test's
        return False


@contextmanager
def reader_may_leave(stdout: TextIO) -> Iterator[None]:
    """End quietly when whoever reads our output has enough, as `head` does."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        raise typer.Exit from None
