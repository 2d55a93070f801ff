"""`login` and `logout`: who one is at a service, kept for the next commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Final, NoReturn

import typer

from privacy_finetuner.cli import output, remote
from privacy_finetuner.cli.options import Json
from privacy_finetuner.cli.remote import ProfileName
from privacy_finetuner.client import Client, ClientError, CredentialsFile, NotLoggedIn, Profile
from privacy_finetuner.client.credentials import DEFAULT_PROFILE, default_file
from privacy_finetuner.client.errors import ServiceError, Unauthenticated
from privacy_finetuner.errors import ConfigurationError
from privacy_runtime.secret import Secret

LOGIN_EPILOG: Final = (
    "Example: privacy-finetuner login --url https://privacy.example.org --username ada\n\n"
    "In a script: privacy-finetuner login --url ... --username ada --password-stdin < password.txt,"
    " or set PRIVACY_FINETUNER_API_KEY and PRIVACY_FINETUNER_URL and do not log in at all."
)
LOGOUT_EPILOG: Final = "Example: privacy-finetuner logout --profile clinic"


def login(
    *,
    url: Annotated[
        str,
        typer.Option(
            envvar=remote.URL_VARIABLE, help="Address of the service: https://HOST[:PORT]."
        ),
    ],
    username: Annotated[str | None, typer.Option(help="Asked for where it is left out.")] = None,
    profile: Annotated[
        str,
        typer.Option(envvar=remote.PROFILE_VARIABLE, help="Under which name to keep this login."),
    ] = DEFAULT_PROFILE,
    mfa_token: Annotated[
        str | None,
        typer.Option(
            help="Six digits of the authenticator, or a recovery code. Asked for if needed."
        ),
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from the first line of stdin."),
    ] = False,
    allow_http: Annotated[
        bool,
        typer.Option(
            "--allow-http",
            help="Send the password over http:// to another machine: for private networks.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Log in at a service, for this and later commands.

    The password is asked for without being shown, and is not kept. What is kept is a session that
    renews itself, in a file for you alone (mode 0600) in your folder for configuration. It ends
    with **logout**, after half an hour without use, and after twelve hours in any case.

    A password for one use (a first login, a reset) is exchanged for one of your own on the way.
    """
    with remote.failures_reported(as_json):
        dialogue = _Dialogue(
            url=url,
            username=username or typer.prompt("User name", err=True),
            password=_password(password_stdin),
            mfa_token=mfa_token,
            allow_http=allow_http,
            asks=not password_stdin and sys.stdin.isatty(),
        )
        with dialogue.logged_in() as client:
            grant = client.grant
            if grant is None:
                raise NotLoggedIn("the service gave no session; nothing was kept")
            kept = CredentialsFile(default_file(os.environ))
            kept.save(
                profile,
                Profile(
                    url=client.url, username=dialogue.username, grant=grant, allow_http=allow_http
                ),
            )
            me = client.account.me()
    document = {
        "url": client.url,
        "username": dialogue.username,
        "profile": profile,
        "organisation": me.tenant,
        "scopes": sorted(me.scopes),
        "file": str(kept.path),
    }
    text = (
        f"logged in at {client.url} as {dialogue.username} (profile {profile}); may: "
        f"{', '.join(sorted(me.scopes))}"
    )
    output.deliver(document, text, as_json=as_json)


def logout(
    *,
    profile: ProfileName = None,
    everything: Annotated[
        bool, typer.Option("--all", help="End the sessions of all profiles.")
    ] = False,
    as_json: Json = False,
) -> None:
    """End a session, at the service and here.

    What is kept here is removed in any case; if the service did not answer, its part of the session
    ends by itself after half an hour.
    """
    with remote.failures_reported(as_json):
        kept = CredentialsFile(default_file(os.environ))
        names = sorted(kept.profiles()) if everything else [kept.load(profile)[0]]
        ended = [_ended(kept, name) for name in names]
    document = {"profiles": ended}
    lines = [
        f"logged out: {one['profile']}"
        + ("" if one["ended"] else " (here only: the service did not answer)")
        for one in ended
    ]
    output.deliver(document, "\n".join(lines) or "nobody was logged in", as_json=as_json)


def _ended(kept: CredentialsFile, name: str) -> dict[str, Any]:
    with Client.from_profile(name, file=kept.path) as client:
        try:
            client.logout()
        except ClientError as error:
            kept.remove(name)
            return {"profile": name, "ended": isinstance(error, NotLoggedIn | Unauthenticated)}
    return {"profile": name, "ended": True}


class _Dialogue:
    """One person logging in: asks for what the service says is missing."""

    def __init__(
        self,
        *,
        url: str,
        username: str,
        password: Secret,
        mfa_token: str | None,
        allow_http: bool,
        asks: bool,
    ) -> None:
        self.username = username
        self._url = url
        self._password = password
        self._mfa_token = mfa_token
        self._allow_http = allow_http
        self._asks = asks

    def logged_in(self) -> Client:
        """A client with a session, after as many questions as it takes."""
        try:
            return self._attempt()
        except ServiceError as error:
            if error.code == "code_required" and self._mfa_token is None:
                self._mfa_token = self._answer("Code of the authenticator", error)
                return self.logged_in()
            if error.code == "password_change_required":
                self._change(error)
                return self.logged_in()
            raise

    def _attempt(self) -> Client:
        return Client.login(
            self._url,
            self.username,
            self._password,
            mfa_token=self._mfa_token,
            allow_http=self._allow_http,
        )

    def _change(self, error: ServiceError) -> None:
        """Exchange a password for one use."""
        if not self._asks:
            self._refuse(error)
        output.stderr_console().print("this password is for one use; choose your own")
        chosen = Secret(
            typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
        )
        Client.change_password(
            self._url,
            self.username,
            self._password,
            chosen,
            mfa_token=self._mfa_token,
            allow_http=self._allow_http,
        )
        self._password = chosen

    def _answer(self, question: str, error: ServiceError) -> str:
        if not self._asks:
            self._refuse(error)
        return str(typer.prompt(question, err=True))

    def _refuse(self, error: ServiceError) -> NoReturn:
        raise ConfigurationError(
            f"{error.message} [{error.code}], and there is no terminal to ask at: log in at one, "
            "or pass --mfa-token; nothing was kept"
        ) from error


def _password(from_stdin: bool) -> Secret:
    if not from_stdin:
        return Secret(typer.prompt("Password", hide_input=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise ConfigurationError("standard input holds no password; nothing was sent")
    return Secret(line)
