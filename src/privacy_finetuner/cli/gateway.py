"""`privacy-finetuner gateway`: a proxy between an agent and its tools that lets no value pass.

The gateway itself is `privacy_finetuner.context.gateway`; these commands write, check and serve its
policy, approve tools that changed, and read its audit trail.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json

if TYPE_CHECKING:
    from privacy_finetuner.context.gateway.policy import Policy
    from privacy_runtime.journal import Entry, Journal

POLICY_VARIABLE: Final = "PRIVACY_FINETUNER_GATEWAY_POLICY"
DEPTH_VARIABLE: Final = "PRIVACY_FINETUNER_GATEWAY_DEPTH"
DEEPEST: Final = 4
_EXAMPLE: Final = "privacy-finetuner gateway"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Put redaction between an agent and its MCP servers.\n\n"
    "The agent's client starts the gateway in the place of its servers. What they answer reaches "
    "the model with tokens in the place of names, numbers and secrets; a tool that the policy "
    "trusts with a type gets the values back. Client and servers stay as they are.",
    epilog="Begin: privacy-finetuner gateway init, edit gateway.yaml, then privacy-finetuner "
    "gateway check and privacy-finetuner gateway run.",
)

PolicyFile: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--policy", envvar=POLICY_VARIABLE, help="The policy file; `gateway init` writes one."
    ),
]
DEFAULT_POLICY: Final = Path("gateway.yaml")


@app.command(epilog=f"Example: {_EXAMPLE} init --policy gateway.yaml")
def init(*, policy: PolicyFile = DEFAULT_POLICY, as_json: Json = False) -> None:
    """Write a commented policy to begin with. A file that is there is left alone."""
    from privacy_finetuner.context.gateway.example import EXAMPLE  # noqa: PLC0415 -- as needed

    with output.failures_reported(as_json), policy.open("x", encoding="utf-8") as file:
        file.write(EXAMPLE)
    output.deliver({"policy": str(policy)}, f"wrote {policy}; name your servers", as_json=as_json)


@app.command(epilog=f"Example: {_EXAMPLE} check --policy gateway.yaml --json")
def check(*, policy: PolicyFile = DEFAULT_POLICY, as_json: Json = False) -> None:
    """Say what a policy lets pass, or everything that is wrong with it, with path and line.

    No server is started.
    """
    with output.failures_reported(as_json):
        found = _policy(policy)
        document = _described(found)
    rows = [("digest", found.digest[:16]), ("journal", found.journal)]
    rows += [
        (server["name"], f"{server['zone']}, reveals {', '.join(server['reveal']) or 'nothing'}")
        for server in document["servers"]
    ]
    output.deliver(document, output.facts(f"Policy {policy}", rows), as_json=as_json)


@app.command(epilog=f"Example: {_EXAMPLE} run --policy gateway.yaml --http 127.0.0.1:8765")
def run(
    *,
    policy: PolicyFile = DEFAULT_POLICY,
    http: Annotated[
        str | None,
        typer.Option(help="Serve at HOST:PORT instead of over standard input and output."),
    ] = None,
) -> None:
    """Serve: over standard input and output, for a client that starts it, or over HTTP.

    An address that other machines can reach needs the policy's `auth` section. Nothing is printed
    while serving over standard output: it belongs to the protocol.
    """
    with output.failures_reported(False):
        found = _policy(policy)
        _require_no_recursion()
        _serve(found, None if http is None else _address(http))


@app.command(epilog=f"Example: {_EXAMPLE} approve mail send_mail --by 'A. Officer'")
def approve(
    server: Annotated[str | None, typer.Argument(help="The server's name in the policy.")] = None,
    tool: Annotated[str | None, typer.Argument(help="The tool's own name.")] = None,
    *,
    policy: PolicyFile = DEFAULT_POLICY,
    by: Annotated[str, typer.Option(help="Who looked at it; kept in the journal.")] = "",
    digest: Annotated[
        str, typer.Option(help="What was looked at, as listed; refused if it changed since.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Approve a tool that is new or changed; without arguments, list what waits."""
    from privacy_finetuner.context.gateway import pinning  # noqa: PLC0415 -- loads the SDK

    with output.failures_reported(as_json), _journal(_policy(policy)) as journal:
        if server is None or tool is None:
            pins = pinning.pins(journal)
        else:
            _require_name(by)
            pins = [pinning.approve(journal, server, tool, by=by, digest=digest)]
    document = {
        "tools": [
            {
                "server": pin.server,
                "tool": pin.tool,
                "standing": str(pin.standing),
                "approved": pin.approved,
                "waiting": pin.waiting,
            }
            for pin in pins
        ]
    }
    rows = [
        (f"{pin.server} {pin.tool}", f"{pin.standing} {(pin.waiting or pin.approved)[:16]}")
        for pin in pins
    ]
    output.deliver(document, output.facts("Tools", rows), as_json=as_json)


@app.command(epilog=f"Example: {_EXAMPLE} audit --policy gateway.yaml --last 50 --json")
def audit(
    *,
    policy: PolicyFile = DEFAULT_POLICY,
    last: Annotated[int, typer.Option(min=1, help="How many entries, the newest ones.")] = 20,
    as_json: Json = False,
) -> None:
    """Check the chain of the audit trail, and show what passed: types, counts, tools, no values."""
    from privacy_finetuner.context.gateway import trail  # noqa: PLC0415 -- loads the SDK

    with output.failures_reported(as_json), _journal(_policy(policy)) as journal:
        head = journal.verify(trail.STREAM)
        entries = list(trail.read(journal))[-last:]
    document = {
        "intact": True,
        "entries": [{"at": e.at, "type": e.type, "seq": e.seq, **e.body} for e in entries],
        "head": {"seq": head.seq, "hash": head.hash},
    }
    rows = [(entry.at[:19], _said(entry)) for entry in entries]
    output.deliver(
        document, output.facts(f"Audit trail, {head.seq} entries, intact", rows), as_json=as_json
    )


def _serve(policy: Policy, address: tuple[str, int] | None) -> None:
    import anyio  # noqa: PLC0415 -- as needed

    from privacy_finetuner.context.gateway import serving, wiring  # noqa: PLC0415 -- loads the SDK

    if address is not None:
        serving.require_guarded(policy, address[0])
    # Commands keep libraries from printing to standard output; here it is the protocol's.
    with redirect_stdout(sys.__stdout__), wiring.opened(policy) as gateway:
        if address is None:
            anyio.run(serving.serve_stdio, gateway)
        else:
            host, port = address
            output.stderr_console().print(f"serving at http://{host}:{port}{serving.PATH}")
            anyio.run(partial(serving.serve_http, gateway, host, port))


def _policy(path: Path) -> Policy:
    from privacy_finetuner.context.gateway.policy_file import load_policy  # noqa: PLC0415

    return load_policy(path)


@contextmanager
def _journal(policy: Policy) -> Iterator[Journal]:
    from privacy_finetuner.context.gateway.errors import GatewayRefused  # noqa: PLC0415
    from privacy_finetuner.context.gateway.wiring import journal_of  # noqa: PLC0415

    if policy.journal is None or not Path(policy.journal).exists():
        raise GatewayRefused(
            f"there is no journal at {policy.journal}: the gateway has not run with this policy yet"
        )
    with journal_of(policy) as journal:
        yield journal


def _require_name(by: str) -> None:
    from privacy_finetuner.context.gateway.errors import GatewayRefused  # noqa: PLC0415

    if not by.strip():
        raise GatewayRefused("an approval needs a name: --by; nothing was changed")


def _require_no_recursion() -> None:
    """Stop gateways that start themselves: every one counts the ones above it."""
    from privacy_finetuner.context.gateway.errors import GatewayRefused  # noqa: PLC0415

    depth = os.environ.get(DEPTH_VARIABLE, "0")
    if not depth.isdigit() or int(depth) >= DEEPEST:
        raise GatewayRefused(
            f"{depth} gateways stand above this one: a policy starts its own gateway; not started"
        )
    os.environ[DEPTH_VARIABLE] = str(int(depth) + 1)


def _address(text: str) -> tuple[str, int]:
    from privacy_finetuner.context.gateway.errors import GatewayRefused  # noqa: PLC0415

    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise GatewayRefused(f"--http is {text!r}, expected HOST:PORT; not started")
    return host.strip("[]"), int(port)


def _described(policy: Policy) -> dict[str, Any]:
    return {
        "digest": policy.digest,
        "journal": policy.journal,
        "level": policy.redaction.level,
        "servers": [
            {
                "name": server.name,
                "zone": str(server.zone),
                "reveal": sorted(server.reveal),
                "allow": list(server.allow),
                "rules": [
                    {"tool": r.pattern, "zone": str(r.zone), "reveal": sorted(r.reveal)}
                    for r in server.rules
                ],
            }
            for server in policy.servers
        ],
    }


def _said(entry: Entry) -> str:
    """One entry in one line."""
    body = entry.body
    where = f"{body.get('server', '')} {body.get('tool', '')}"
    if "items" not in body:
        return f"{entry.type.removeprefix('gateway.')} {where}"
    if body["refused"]:
        return f"{body['direction']} {where}: refused, {body['refused']}"
    items = ", ".join(f"{i['count']} {i['type']} {i['act']}" for i in body["items"])
    return f"{body['direction']} {where}: {items}"
