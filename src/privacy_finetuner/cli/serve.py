"""`serve`: the service on this machine, in the foreground."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from privacy_core.errors import InvalidParameter
from privacy_finetuner import __version__
from privacy_finetuner.cli import output
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.worker import DEFAULT_HOME, command
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.service import Deployment, PlainHttpRefused, Service
from privacy_finetuner.service.telemetry import observed
from privacy_runtime import logs
from privacy_runtime.identity import AccountConflict, bootstrap_admin
from privacy_runtime.listening import bracketed, is_anywhere, is_loopback, stoppable
from privacy_runtime.metrics import Metrics
from privacy_runtime.secret import Secret

if TYPE_CHECKING:
    from privacy_runtime.http import HttpPolicy
    from privacy_runtime.http.server import ServerOptions

EPILOG: Final = (
    "Example: privacy-finetuner serve --home ./privacy-finetuner-home --port 8080\n\n"
    "The first start makes the user `admin` and shows a password for one use: open the address, "
    "change it, enrol a second factor. Ctrl-C stops in order: jobs go on at the next start."
)
FIRST_LOGIN: Final = "first-login.txt"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_NETWORK: Final = "Network"
_ALLOWED: Final = "What jobs may name"


def serve(  # noqa: PLR0913 -- one parameter an option
    *,
    home: Annotated[
        Path, typer.Option(help="Folder of the deployment: keys, runs, databases. Made if missing.")
    ] = DEFAULT_HOME,
    config: Annotated[
        Path | None, typer.Option(help="The environment's configuration. Default: none is needed.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at.", rich_help_panel=_NETWORK)
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65_535, help="Port to listen at.", rich_help_panel=_NETWORK)
    ] = 8080,
    origin: Annotated[
        str | None,
        typer.Option(
            help="Where browsers find it: https://pf.example. Default: as they ask.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="A further name it answers to.", rich_help_panel=_NETWORK),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address or network of a proxy whose X-Forwarded-For is believed.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-tls-proxy",
            help="A proxy in front speaks HTTPS: plain HTTP here is not what clients speak.",
            rich_help_panel=_NETWORK,
        ),
    ] = False,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(
            help="Certificate chain in PEM, to speak HTTPS here.", rich_help_panel=_NETWORK
        ),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="Its key in PEM.", rich_help_panel=_NETWORK)
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Training jobs at the same time, on this machine.")
    ] = 1,
    allow_data: Annotated[
        list[Path] | None,
        typer.Option(help="A further folder of records.", rich_help_panel=_ALLOWED),
    ] = None,
    allow_models: Annotated[
        list[Path] | None,
        typer.Option(help="A further folder of models.", rich_help_panel=_ALLOWED),
    ] = None,
    allow_hub: Annotated[
        list[str] | None,
        typer.Option(help="A model that may come from a hub, by name.", rich_help_panel=_ALLOWED),
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the API, the pages and workers, on this machine, until Ctrl-C.

    Works without any configuration: one process, SQLite, everything below **--home**. The first
    start makes an administrator, whose password for one use is shown once on the terminal (or, if
    there is none, written to `first-login.txt` in the home, for its owner alone); with **--json**
    it stands in the one document on stdout. In production, passwords are not taken over plain HTTP
    from other machines.
    """
    stdout = sys.stdout  # inside, it is stderr: a library that prints cannot spoil the document
    with output.failures_reported(as_json), ExitStack() as closing:
        settled = (
            EnvironmentConfig.from_env() if config is None else EnvironmentConfig.from_file(config)
        )
        network = Network(
            host=host,
            port=port,
            origin=origin or settled.service.origin,
            names=(*settled.service.hosts, *(host_name or ())),
            proxies=(*settled.service.proxies, *(proxy or ())),
            certificate=tls_certificate,
            key=tls_key,
        )
        if settled.environment == "production" and not behind_tls_proxy:
            network.require_private()
        metrics, audited = Metrics(version=__version__), logs.Audited()
        closing.enter_context(observed(settled, metrics=metrics, audited=audited))
        deployment = Deployment(
            datasets=tuple(path.absolute() for path in allow_data or ()),
            models=tuple(path.absolute() for path in allow_models or ()),
            hub_models=frozenset(allow_hub or ()),
        )
        service = closing.enter_context(
            Service.open(
                settled, home=home, deployment=deployment, metrics=metrics, audited=audited
            )
        )
        first = _first_login(service, is_shown=as_json or stdout.isatty())
        document = {"address": network.address, "home": str(service.home), **first}
        words = command(
            service.home,
            None if config is None else config.absolute(),
            allow_data=deployment.datasets,
            allow_models=deployment.models,
            allow_hub=sorted(deployment.hub_models),
        )
        with stoppable():
            with redirect_stdout(stdout):
                _announced(document, as_json=as_json)
            _serve(service, network, words, workers)
    if not as_json:
        output.stderr_console().print("stopped; start again with the same --home to go on")


class Network:
    """Where the service listens and what it is called.

    Raises:
        InvalidParameter: one of certificate and key is missing.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        origin: str | None,
        names: tuple[str, ...],
        proxies: tuple[str, ...],
        certificate: Path | None,
        key: Path | None,
    ) -> None:
        if (certificate is None) != (key is None):
            raise InvalidParameter(
                "tls_certificate, tls_key", found="one of them", expected="both, or neither"
            )
        self.host, self.port, self.origin = host, port, origin
        self.names, self.proxies = names, proxies
        self.certificate, self.key = certificate, key

    @property
    def address(self) -> str:
        """Where to open it in a browser."""
        if self.origin is not None:
            return self.origin
        scheme = "http" if self.certificate is None else "https"
        shown = "127.0.0.1" if is_anywhere(self.host) else self.host
        return f"{scheme}://{bracketed(shown)}:{self.port}"

    def require_private(self) -> None:
        """Refuse to take passwords over plain HTTP from other machines.

        Raises:
            PlainHttpRefused: the address is no loopback one, and nothing speaks TLS.
        """
        if self.certificate is None and not is_loopback(self.host):
            raise PlainHttpRefused(self.host)

    def policy(self) -> HttpPolicy:
        """How the application meets the network."""
        from privacy_runtime.http import HttpPolicy  # noqa: PLC0415 -- the web framework

        own = () if is_anywhere(self.host) else (bracketed(self.host).lower(),)
        named = () if self.origin is None else (urlsplit(self.origin).hostname or "",)
        hosts = (*_LOOPBACK, *own, *named, *(name.lower() for name in self.names))
        return HttpPolicy(
            hosts=tuple(dict.fromkeys(hosts)), origin=self.origin, proxies=self.proxies
        )

    def options(self) -> ServerOptions:
        """How the server listens."""
        from privacy_runtime.http.server import ServerOptions  # noqa: PLC0415

        return ServerOptions(
            host=self.host,
            port=self.port,
            certificate=None if self.certificate is None else str(self.certificate),
            key=None if self.key is None else str(self.key),
        )


def _serve(service: Service, network: Network, words: list[str], workers: int) -> None:
    """Serve until a signal says to stop."""
    from privacy_finetuner.api.app import create_app  # noqa: PLC0415 -- the web framework
    from privacy_finetuner.jobs.pool import WorkerPool  # noqa: PLC0415
    from privacy_runtime.http.server import serve as run  # noqa: PLC0415

    pool = WorkerPool(words, _bounded(service, workers), clock=service.clock)
    app = create_app(service, policy=network.policy(), pool=pool)
    run(app, network.options())


def _bounded(service: Service, workers: int) -> int:
    """How many workers to begin with: within the policy, where workers follow the queue."""
    scaling = service.config.scaling
    if not workers or not scaling.enable_auto_scaling:
        return workers
    policy = scaling.scaling_policy
    return max(policy.min_nodes, min(workers, policy.max_nodes), 1)


def _first_login(service: Service, *, is_shown: bool) -> dict[str, Any]:
    """Make the administrator at the first start, and hand out their password, once."""
    try:
        user, first = bootstrap_admin(service.identity.accounts)
    except AccountConflict:  # not the first start
        return {"admin": None, "one_time_password": None, "one_time_password_file": None}
    password = (first or Secret("")).reveal()
    if is_shown:
        return {
            "admin": user.name,
            "one_time_password": password,
            "one_time_password_file": None,
        }
    place = service.home / FIRST_LOGIN
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{user.name}\n{password}\n")
    return {"admin": user.name, "one_time_password": None, "one_time_password_file": str(place)}


def _announced(document: dict[str, Any], *, as_json: bool) -> None:
    """Say where it is, and at the first start how to get in: to stdout, which is no log."""
    lines = [f"Privacy Finetuner at {document['address']} (home {document['home']})"]
    if document["one_time_password"] is not None:
        lines += [
            f"first login: user {document['admin']}, password {document['one_time_password']}",
            "it is shown once, opens nothing but its own change, and ends in three days",
        ]
    elif document["one_time_password_file"] is not None:
        lines.append(f"first login: see {document['one_time_password_file']}, then delete it")
    lines.append("Ctrl-C stops it")
    output.deliver(document, "\n".join(lines), as_json=as_json)
    sys.stdout.flush()
