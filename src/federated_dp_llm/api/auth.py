"""Logging in, one's own account, and the users of the organisation.

The documented `POST /auth` gives an access token of identity: signed with Ed25519, an hour at most,
renewed with the refresh token until the login is over (`security.token_expiry_hours`). Its claim
`privacy_budget` is written, because the documents show it, and never read.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from federated_dp_llm.api import shapes
from federated_dp_llm.api.door import Door
from federated_dp_llm.api.routes import By, Routes, Visiting
from federated_dp_llm.api.service import Service
from federated_dp_llm.security import AuthEvent
from privacy_runtime.http import Access, Fault, InvalidRequest, NotFound
from privacy_runtime.identity import LoginRefused, Principal, Scope, Tokens
from privacy_runtime.identity.user_rows import spelled

_QUERY_SCOPES: Final = (Scope.MODELS_QUERY, Scope.BUDGETS_READ)


class Auth:
    """Acts of identity over HTTP.

    Args:
        service: whose identity.
        access: runs password checks two at a time.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._service, self._access = service, access
        self._identity = service.identity

    async def log_in(self, body: shapes.LoginRequest, visit: Visiting) -> shapes.LoginAnswer:
        """Log in.

        `code_required` (401): the password is right and a code is missing. `login_refused` (401):
        something is wrong; which is not said. `password_change_required` (403): the password is for
        one use; change it with `POST /v1/auth/password`. `login_delayed` (429): too many failures.
        """
        name = spelled(body.user_id)
        try:
            tokens = await self._access.run_login(
                self._identity.logins.log_in,
                name,
                body.password,
                source=visit.network,
                code=body.mfa_code,
            )
        except LoginRefused:
            event = AuthEvent(name, success=False)
            await self._access.run(self._service.monitor.monitor_authentication, event)
            raise
        self._service.monitor.monitor_authentication(AuthEvent(name, success=True))
        return await self._access.run(self._answer, tokens)

    async def refresh(self, body: shapes.RefreshRequest) -> shapes.LoginAnswer:
        """Renew a login: spend a refresh token for its successor and a token."""
        tokens = await self._access.run(self._identity.sessions.refresh, body.refresh_token)
        return await self._access.run(self._answer, tokens)

    async def log_out(self, by: By, request: Request, response: Response) -> shapes.Done:
        """End this login."""
        await self._access.log_out(request, response, by)
        return shapes.Done()

    async def change_password(self, body: shapes.PasswordRequest, visit: Visiting) -> shapes.Done:
        """Replace a password, also one for one use. Every login of the user ends."""
        await self._access.run_login(
            self._identity.logins.change_password,
            body.user_id,
            body.old_password,
            body.new_password,
            source=visit.network,
            code=body.mfa_code,
        )
        return shapes.Done()

    def enrol_mfa(self, by: By) -> shapes.Enrolment:
        """Begin to enrol a second factor; it counts after it was confirmed."""
        enrolment = self._identity.factors.begin(by)
        return shapes.Enrolment(secret=enrolment.seed.reveal(), uri=enrolment.link.reveal())

    def confirm_mfa(self, body: shapes.CodeRequest, by: By) -> shapes.RecoveryCodes:
        """Put the second factor in force with its first code; log in again then."""
        codes = self._identity.factors.confirm(by, body.code)
        self._access.forget_subject(by.subject)
        return shapes.RecoveryCodes(recovery_codes=[code.reveal() for code in codes])

    def issue_key(self, body: shapes.KeyRequest, by: By) -> shapes.KeyIssued:
        """Make a key for a program: it asks questions in one's name, on one's budget."""
        scopes = [scope for scope in _QUERY_SCOPES if scope in by.scopes]
        made = self._identity.api_keys.issue(
            by, label=body.label, scopes=scopes, valid_days=body.valid_days
        )
        return shapes.KeyIssued(
            id=made.key.id, api_key=made.text.reveal(), expires_at=made.key.expires_at
        )

    def create_user(self, body: shapes.UserRequest, by: By) -> shapes.UserCreated:
        """Make a user, with a password for one use that is shown here and nowhere else."""
        self._require_departments(body.departments)
        user, first = self._identity.accounts.create_user(by, body.user_id, body.role)
        self._service.records.put_member(user.name, body.departments, by=by.subject)
        return shapes.UserCreated(
            user_id=user.name,
            role=user.role,
            departments=list(body.departments),
            one_time_password=first.reveal(),
        )

    def list_users(self, by: By) -> list[shapes.UserAnswer]:
        """List the users of the organisation."""
        members = self._service.records.members()
        return [
            shapes.UserAnswer(
                user_id=user.name,
                role=user.role,
                departments=list(members.get(user.name, ())),
                is_disabled=user.is_disabled,
                has_second_factor=user.has_code,
            )
            for user in self._identity.accounts.users(by)
        ]

    def move_user(self, user_id: str, body: shapes.DepartmentsRequest, by: By) -> shapes.UserAnswer:
        """Put a user into departments. What they spent stays with where they spent it."""
        self._require_departments(body.departments)
        found = {user.name: user for user in self._identity.accounts.users(by)}.get(user_id)
        if found is None:
            raise NotFound("there is no such user")
        self._service.records.put_member(user_id, body.departments, by=by.subject)
        return next(one for one in self.list_users(by) if one.user_id == user_id)

    def _answer(self, tokens: Tokens) -> shapes.LoginAnswer:
        service, principal = self._service, tokens.principal
        user = service.name_of(principal.subject)
        own = service.records.departments_of(user)
        left = service.standings.of_users([user])[user].remaining
        return shapes.LoginAnswer(
            token=self._token(principal, tokens, left),
            expires_in=tokens.expires_in_s,
            refresh_token=tokens.refresh_token.reveal(),
            user_id=user,
            department=own[0] if own else None,
            permissions=sorted(scope.value for scope in principal.scopes),
            privacy_budget=left,
        )

    def _token(self, principal: Principal, tokens: Tokens, left: float) -> str:
        """The login's token once more, with the claim that the documents show in it."""
        ends = self._identity.tokens.verify(tokens.access_token.reveal()).expires_at
        text, _ = self._identity.tokens.issue(
            principal, ends=ends, privacy_budget={"remaining": left}
        )
        return text

    def _require_departments(self, names: list[str]) -> None:
        unknown = [
            n for n, name in enumerate(names) if self._service.config.department(name) is None
        ]
        if unknown:
            raise InvalidRequest(
                [
                    Fault(f"body.departments[{n}]", "should be a department of this router")
                    for n in unknown
                ]
            )


def router(service: Service, access: Access, door: Door) -> APIRouter:
    """The routes."""
    auth = Auth(service, access)
    routes = Routes(door, tag="auth")
    self_ = Scope.ACCOUNT_SELF
    login: dict[str, Any] = {"rate": "login"}
    routes.add("POST", "/auth", None, auth.log_in, refuses=(401, 403), aliases=("/auth",), **login)
    routes.add("POST", "/auth/refresh", None, auth.refresh, refuses=(401, 409), **login)
    routes.add("POST", "/auth/logout", self_, auth.log_out)
    routes.add("POST", "/auth/password", None, auth.change_password, refuses=(401, 403), **login)
    routes.add("POST", "/auth/mfa", self_, auth.enrol_mfa)
    routes.add("POST", "/auth/mfa/confirm", self_, auth.confirm_mfa, refuses=(422,), **login)
    routes.add("POST", "/auth/keys", Scope.KEYS_OWN, auth.issue_key, refuses=(422,))
    routes.add("GET", "/admin/users", Scope.USERS_READ, auth.list_users)
    routes.add("POST", "/admin/users", Scope.USERS_WRITE, auth.create_user, refuses=(409, 422))
    routes.add(
        "PUT", "/admin/users/{user_id}/departments", Scope.USERS_WRITE, auth.move_user,
        refuses=(404, 422),
    )  # fmt: skip
    return routes.router
