"""`ask`: a question to a router; `login`: a token for it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from federated_dp_llm.cli import output
from federated_dp_llm.cli.output import Json
from federated_dp_llm.cli.remote import DEFAULT_URL, TOKEN_VARIABLE, Url, call


def ask(  # noqa: PLR0913  one parameter an option
    question: Annotated[str, typer.Argument(help="What you want to know.")],
    *,
    epsilon: Annotated[
        float | None,
        typer.Option(min=0.0, help="The most epsilon for any patient. Default: the router's."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Read no records; free.")] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="One of the possible answers; give two or more.")
    ] = None,
    consensus: Annotated[
        bool, typer.Option("--consensus", help="Let the records vote on the answer, priced.")
    ] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="At most so many tokens.")] = 64,
    department: Annotated[str | None, typer.Option(help="Whose budget, of yours.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Ask a question, and see what it cost.

    The token of `login`, or an API key, is read from FEDERATED_DP_LLM_TOKEN.
    """
    body: dict[str, Any] = {
        "prompt": question,
        "max_tokens": max_tokens,
        "require_consensus": consensus,
        "labels": label or [],
        "privacy_budget": epsilon,
        "department": department,
        "context": "none" if public else None,
    }
    with output.failures_reported(as_json):
        body = {name: value for name, value in body.items() if value is not None}
        answer = call(url, "POST", "/v1/inference", body)
        facts = [
            ("cost", answer["privacy_cost"]),
            ("left", answer["remaining_budget"]),
            ("mechanism", answer["mechanism"]),
            ("nodes", answer["node_id"]),
            ("ended by", answer["finish_reason"]),
        ]
    output.deliver(answer, f"{answer['response']}\n\n{output.table(facts)}", as_json=as_json)


def login(
    user: Annotated[str, typer.Argument(help="Your user name.")],
    *,
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, envvar="")] = "",
    code: Annotated[str | None, typer.Option(help="Of your authenticator.")] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Log in, and print a token to put into FEDERATED_DP_LLM_TOKEN."""
    with output.failures_reported(as_json):
        body = {"user_id": user, "password": password, "mfa_code": code}
        answer = call(url, "POST", "/v1/auth", body, needs_token=False)
    words = f"export {TOKEN_VARIABLE}={answer['token']}"
    output.deliver(answer, words, as_json=as_json)
