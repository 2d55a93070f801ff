"""Logging in and out, and one's own account."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from privacy_finetuner.api.routes import By, Visiting, operation, router_of
from privacy_finetuner.api.shapes import accounts as shapes
from privacy_finetuner.api.shapes.bodies import Done
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.envelope import Json
from privacy_runtime.identity import Scope

SessionId = Annotated[str, Path(min_length=1, max_length=64, examples=["s_5b0c"])]


class Auth:
    """The acts of `identity` over HTTP.

    Args:
        service: whose identity.
        access: runs password checks two at a time, and forgets who logged out.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._identity, self._access = service.identity, access

    @operation(
        "POST",
        "/login",
        None,
        raw=shapes.TokensAnswer,
        refuses=(401, 403),
        rate="login",
        is_secret=True,
    )
    async def login(self, body: shapes.LoginRequest, visit: Visiting) -> Any:
        """Log in.

        `code_required` (401): the password is right and a code is missing: ask for one and send
        all three. `password_change_required` (403): the password is for one use; change it with
        `POST /auth/password`. `login_refused` (401): any of the three is wrong; which one is not
        said. `login_delayed` (429): too many failures; wait as long as `Retry-After` says.
        """
        tokens = await self._access.run_login(
            self._identity.logins.log_in,
            body.username,
            body.password,
            source=visit.network,
            code=body.mfa_token,
        )
        return Json(tokens.to_json())

    @operation(
        "POST",
        "/refresh",
        None,
        raw=shapes.TokensAnswer,
        refuses=(401, 409),
        rate="login",
        is_secret=True,
    )
    def refresh(self, body: shapes.RefreshRequest) -> Any:
        """Renew a session: spend a refresh token for its successor and an access token.

        A token that comes back after it was spent ends the whole session: somebody has a copy.
        """
        return Json(self._identity.sessions.refresh(body.refresh_token).to_json())

    @operation("POST", "/logout", Scope.ACCOUNT_SELF)
    async def logout(self, by: By, request: Request, response: Response) -> Done:
        """End this session: its refresh tokens, its access tokens and its cookie, at once."""
        await self._access.log_out(request, response, by)
        return Done()

    @operation("POST", "/password", None, refuses=(401,), rate="login", is_secret=True)
    async def change_password(self, body: shapes.PasswordRequest, visit: Visiting) -> Done:
        """Replace a password, also one for one use. Every session of the user ends."""
        await self._access.run_login(
            self._identity.logins.change_password,
            body.username,
            body.old_password,
            body.new_password,
            source=visit.network,
            code=body.mfa_token,
        )
        return Done()

    @operation("GET", "/me", Scope.ACCOUNT_SELF)
    def me(self, by: By) -> shapes.Me:
        """Say who asks, and what they may with this login."""
        return shapes.Me.of(by)

    @operation("GET", "/sessions", Scope.ACCOUNT_SELF)
    def list_sessions(self, by: By) -> shapes.SessionsAnswer:
        """List one's own sessions that go on, the newest first."""
        return shapes.SessionsAnswer(
            items=[
                shapes.SessionAnswer(
                    session_id=each.id,
                    method=each.method,
                    founded_at=each.founded_at,
                    used_at=each.used_at,
                    is_this=each.is_this,
                )
                for each in self._identity.sessions.own(by)
            ]
        )

    @operation("DELETE", "/sessions/{session_id}", Scope.ACCOUNT_SELF, status=204)
    def end_session(self, session_id: SessionId, by: By) -> Response:
        """End one of one's own sessions, with its tokens and its cookie, at once."""
        self._identity.sessions.end_own(by, session_id)
        self._access.forget(session_id)
        return Response(status_code=204)

    @operation("POST", "/mfa", Scope.ACCOUNT_SELF, is_secret=True)
    def enrol_mfa(self, by: By) -> shapes.EnrolmentAnswer:
        """Begin to enrol a second factor.

        The seed is shown here and nowhere else; it counts after `POST /auth/mfa/confirm`. A factor
        that is in use stays in use until then.
        """
        enrolment = self._identity.factors.begin(by)
        return shapes.EnrolmentAnswer(secret=enrolment.seed.reveal(), uri=enrolment.link.reveal())

    @operation(
        "POST", "/mfa/confirm", Scope.ACCOUNT_SELF, refuses=(422,), rate="login", is_secret=True
    )
    def confirm_mfa(self, body: shapes.CodeRequest, by: By) -> shapes.RecoveryCodes:
        """Put the new second factor in force with its first code.

        Every session of the user ends, this one too: log in with a code. The recovery codes are
        shown here and nowhere else.
        """
        codes = self._identity.factors.confirm(by, body.code)
        self._access.forget_subject(by.subject)
        return shapes.RecoveryCodes(recovery_codes=[code.reveal() for code in codes])

    @operation("POST", "/recovery-codes", Scope.ACCOUNT_SELF, refuses=(422,), is_secret=True)
    def renew_recovery_codes(self, by: By) -> shapes.RecoveryCodes:
        """Void the recovery codes and make ten others, shown here and nowhere else."""
        codes = self._identity.factors.renew_recovery_codes(by)
        return shapes.RecoveryCodes(recovery_codes=[code.reveal() for code in codes])


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/auth`."""
    return router_of(Auth(service, access), access, tag="auth", prefix="/auth")


def alias(service: Service, access: Access) -> APIRouter:
    """`POST /auth/login`, as the documents write it; the same as below `/api/v1`."""
    made = APIRouter(include_in_schema=False)
    made.add_api_route(
        "/auth/login",
        Auth(service, access).login,
        methods=["POST"],
        name="login_alias",
        response_model=None,
        dependencies=[Depends(access.limited("login"))],
    )
    return made
