"""`serve`: the router on this machine, in the foreground."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from privacy_core.errors import InvalidParameter
from privacy_runtime import logs, tracing
from privacy_runtime.listening import bracketed, is_anywhere, is_loopback, stoppable
from privacy_runtime.secret import Secret

if TYPE_CHECKING:
    from federated_dp_llm.api.service import Service
    from federated_dp_llm.config import RouterConfig
    from privacy_runtime.http import HttpPolicy

FIRST_LOGIN: Final = "first-login.txt"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")


def serve(
    *,
    config: Annotated[
        Path | None,
        typer.Option(help="The configuration. Default: SQLite in --home, on this machine only."),
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of keys and databases.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen at.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Port.")] = None,
    as_json: Json = False,
) -> None:
    """Serve the router until Ctrl-C.

    The first start makes an administrator, whose password for one use is shown once on the terminal
    (or, if there is none, written to `first-login.txt` in the home, for its owner alone). Change it
    with `POST /v1/auth/password`, then enrol a second factor.
    """
    stdout = sys.stdout  # inside, it is stderr: a library that prints cannot spoil the document
    with output.failures_reported(as_json), ExitStack() as closing:
        from federated_dp_llm.api.service import Service  # noqa: PLC0415  the web framework
        from federated_dp_llm.config import RouterConfig  # noqa: PLC0415

        server = {"host": host, "port": port}
        settled = RouterConfig.read(
            config,
            server={name: value for name, value in server.items() if value is not None},
            **({} if home is None else {"store": {"home": str(home)}}),
        )
        _require_private(settled)
        closing.enter_context(
            logs.install(secrets=secrets_of(settled), context=tracing.current_ids)
        )
        service = closing.enter_context(Service.open(settled))
        endpoint = settled.tracing.endpoint
        traces = tracing.install(
            None if endpoint is None else endpoint.reveal(),
            service="federated-dp-llm",
            ratio=settled.tracing.ratio,
        )
        closing.callback(traces.close)
        first = _first_login(service, is_shown=as_json or stdout.isatty())
        document = {"address": _address(settled), "home": str(service.home), **first}
        with stoppable():
            with redirect_stdout(stdout):
                _announced(document, as_json=as_json)
            _run(service)


def secrets_of(part: object) -> Iterator[Secret]:
    """Every secret of a configuration: none of them may be in a line."""
    if isinstance(part, Secret):
        yield part
    elif is_dataclass(part):
        for field in fields(part):
            yield from secrets_of(getattr(part, field.name))
    elif isinstance(part, Mapping):
        yield from secrets_of(tuple(part.values()))
    elif isinstance(part, tuple):
        for one in part:
            yield from secrets_of(one)


def _run(service: Service) -> None:
    from federated_dp_llm.api.app import create_app  # noqa: PLC0415
    from federated_dp_llm.gateway.serve import run as run_behind  # noqa: PLC0415
    from privacy_runtime.http.server import ServerOptions  # noqa: PLC0415
    from privacy_runtime.http.server import serve as run  # noqa: PLC0415

    server = service.config.server
    app = create_app(service, policy=policy_of(service.config))
    options = ServerOptions(host=server.host, port=server.port, tls=service.front_door.channel)
    if app.state.gateway is None:
        run(app, options)
    else:
        run_behind(app.state.gateway, options, otherwise=app)


def policy_of(config: RouterConfig) -> HttpPolicy:
    """How the application meets the network."""
    from urllib.parse import urlsplit  # noqa: PLC0415

    from privacy_runtime.http import HttpPolicy  # noqa: PLC0415

    server = config.server
    own = () if is_anywhere(server.host) else (bracketed(server.host).lower(),)
    named = () if server.origin is None else (urlsplit(server.origin).hostname or "",)
    hosts = (*_LOOPBACK, *own, *named, *(name.lower() for name in server.hosts))
    return HttpPolicy(
        hosts=tuple(dict.fromkeys(hosts)), origin=server.origin, proxies=server.proxies
    )


def _require_private(config: RouterConfig) -> None:
    """Refuse to take passwords over plain HTTP from other machines."""
    server = config.server
    speaks_tls = server.certificate is not None or server.behind_tls_proxy
    if config.environment == "production" and not speaks_tls and not is_loopback(server.host):
        raise InvalidParameter(
            "server.host",
            found=server.host,
            expected="a loopback address, server.certificate and server.key, or "
            "server.behind_tls_proxy; nothing was started",
        )


def _first_login(service: Service, *, is_shown: bool) -> dict[str, Any]:
    """Make the administrator at the first start, and hand out their password, once."""
    from privacy_runtime.identity import AccountConflict, Secret, bootstrap_admin  # noqa: PLC0415

    nothing = {"admin": None, "one_time_password": None, "one_time_password_file": None}
    if service.config.security.authentication == "none":
        return nothing
    try:
        user, first = bootstrap_admin(service.identity.accounts)
    except AccountConflict:  # not the first start
        return nothing
    password = (first or Secret("")).reveal()
    if is_shown:
        return {**nothing, "admin": user.name, "one_time_password": password}
    place = service.home / FIRST_LOGIN
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{user.name}\n{password}\n")
    return {**nothing, "admin": user.name, "one_time_password_file": str(place)}


def _announced(document: dict[str, Any], *, as_json: bool) -> None:
    lines = [f"Router at {document['address']} (home {document['home']})"]
    if document["one_time_password"] is not None:
        lines += [
            f"first login: user {document['admin']}, password {document['one_time_password']}",
            "it is shown once, opens nothing but its own change, and ends in three days",
        ]
    elif document["one_time_password_file"] is not None:
        lines.append(f"first login: see {document['one_time_password_file']}, then delete it")
    lines.append("Ctrl-C stops it")
    output.deliver(document, "\n".join(lines), as_json=as_json)


def _address(config: RouterConfig) -> str:
    server = config.server
    if server.origin is not None:
        return server.origin
    scheme = "http" if server.certificate is None else "https"
    shown = "127.0.0.1" if is_anywhere(server.host) else server.host
    return f"{scheme}://{bracketed(shown)}:{server.port}"
