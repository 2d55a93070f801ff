"""What the commands that talk to a router share: which one, and who asks."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import typer

from federated_dp_llm.cli.output import Refused
from privacy_core.errors import InvalidParameter

URL_VARIABLE: Final = "FEDERATED_DP_LLM_URL"
TOKEN_VARIABLE: Final = "FEDERATED_DP_LLM_TOKEN"  # noqa: S105  the name of a variable
_LIMIT_S: Final = 120.0

Url = Annotated[
    str,
    typer.Option(envvar=URL_VARIABLE, help="Address of the router.", rich_help_panel="Router"),
]
DEFAULT_URL: Final = "http://127.0.0.1:8080"


def call(url: str, method: str, path: str, body: Any = None, *, needs_token: bool = True) -> Any:
    """Ask a router, with the token of the environment.

    Raises:
        InvalidParameter: the environment has no token.
        Refused: the router said no, or cannot be reached.
    """
    import httpx2  # noqa: PLC0415  an HTTP client costs the help page nothing

    token = os.environ.get(TOKEN_VARIABLE, "")
    if needs_token and not token:
        raise InvalidParameter(
            TOKEN_VARIABLE, found="nothing", expected="an API key, or what `login` printed"
        )
    headers = {"Authorization": f"Bearer {token}"} if needs_token else {}
    try:
        answer = httpx2.request(
            method, url.rstrip("/") + path, json=body, headers=headers, timeout=_LIMIT_S
        )
    except httpx2.HTTPError as error:
        raise Refused("unreachable", f"{url}: {type(error).__name__}", 503) from error
    try:
        document = answer.json()
    except ValueError:
        document = {}
    if answer.is_success:
        return document
    said = document.get("error", {}) if isinstance(document, dict) else {}
    details = said.get("details", [])
    words = [said.get("message") or f"HTTP {answer.status_code}"]
    words += [f"{one['path']} {one['message']}" for one in details if "message" in one]
    raise Refused(said.get("code", "refused"), "; ".join(words), answer.status_code, details)
