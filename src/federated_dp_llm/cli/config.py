"""`config`: a file to begin with, its faults, its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from privacy_core.errors import InvalidParameter

app = typer.Typer(no_args_is_help=True, help="The router's configuration.")
_HEAD: Final = """\
# A router. Every key: federated-dp-llm config keys. Check it: federated-dp-llm config check FILE
# Any key can be set by a variable, too: FEDERATED_DP_LLM_SERVER__PORT=9090
"""
_OPEN: Final = """
# nodes:
#   hospital_a: {endpoint: "https://hospital-a.example:8443", specializations: [cardiology]}
# departments:
#   emergency: {max_budget: 100}
#   front_desk: {context: none}     # reads no records
# cohorts:
#   all: {}
"""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("router.yaml"),
    *,
    as_json: Json = False,
) -> None:
    """Write a file with every key at its default."""
    with output.failures_reported(as_json):
        if path.exists():
            raise InvalidParameter("path", found=str(path), expected="no file; it was not changed")
        path.write_text(_HEAD + _document() + _OPEN)
    output.deliver({"file": str(path)}, f"{path} is written", as_json=as_json)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A configuration.")], *, as_json: Json = False
) -> None:
    """Check a file as a whole: every fault at once, with its line."""
    with output.failures_reported(as_json):
        from federated_dp_llm.config import RouterConfig  # noqa: PLC0415

        config = RouterConfig.read(path)
        if config.gateway:
            from federated_dp_llm.gateway.options import GatewayOptions  # noqa: PLC0415

            GatewayOptions.of(config.gateway).policy()
        given = [s for s in config.settings.values() if not s.is_default]
    document = {
        "file": str(path),
        "is_valid": True,
        "settings": {s.entry.path: s.shown for s in given},
        "nodes": [node.node_id for node in config.nodes],
    }
    rows = [(s.entry.path, s.shown, s.source) for s in given]
    text = f"{path} is valid\n{output.table(rows)}" if rows else f"{path} is valid"
    output.deliver(document, text, as_json=as_json)


@app.command()
def keys(*, as_json: Json = False) -> None:
    """List every key with its default and what it takes."""
    from federated_dp_llm.config import KEYS  # noqa: PLC0415

    found = [
        {
            "key": path,
            "default": _plain(entry.default),
            "takes": entry.key.expected,
            "says": entry.key.says,
        }
        for path, entry in KEYS.items()
    ]
    rows = [(one["key"], one["default"], one["says"]) for one in found]
    output.deliver({"keys": found}, output.table(rows), as_json=as_json)


def _document() -> str:
    from federated_dp_llm.config import KEYS  # noqa: PLC0415

    lines, section = [], ""
    for path, entry in KEYS.items():
        above, _, name = path.rpartition(".")
        if above != section:
            lines.append(f"\n{above}:")
            section = above
        value = _yaml(_plain(entry.default))
        commented = "# " if entry.default is None else ""
        indent = "  " if above else ""
        lines.append(f"{indent}{commented}{name}: {value}  # {entry.key.says}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
