"""The users of one's organisation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import accounts as shapes
from privacy_finetuner.api.shapes.bodies import Done
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page
from privacy_runtime.http.refusals import NotFound
from privacy_runtime.identity import Principal, Scope, User

UserId = Annotated[str, Path(min_length=1, max_length=64, examples=["u_0b5f"])]


class Users:
    """Accounts over HTTP. Acts that could take an account over ask for a fresh login.

    Args:
        service: whose users.
        access: forgets what it kept of whom this changes.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._identity, self._access = service.identity, access

    @operation("GET", "", Scope.USERS_READ)
    def list_users(self, by: By, page: Paged) -> Page[shapes.UserAnswer]:
        """List the users of the organisation, by name."""
        after = page.after(str)
        users = [u for u in self._identity.accounts.users(by) if not after or (u.name,) > after]
        found, cursor = page.page(users[: page.limit + 1], key=lambda user: (user.name,))
        return Page(items=[shapes.UserAnswer.of(user) for user in found], next_cursor=cursor)

    @operation("GET", "/{user_id}", Scope.USERS_READ)
    def get_user(self, user_id: UserId, by: By) -> shapes.UserAnswer:
        """Show a user."""
        return shapes.UserAnswer.of(self._user(by, user_id))

    @operation(
        "POST", "", Scope.USERS_WRITE, status=201, refuses=(409,), is_fresh=True, is_secret=True
    )
    def create_user(
        self, body: shapes.UserRequest, by: By, response: Response
    ) -> shapes.UserCreated:
        """Make a user. The answer holds a password for one use, shown here and nowhere else."""
        user, first = self._identity.accounts.create_user(by, body.name, body.role)
        response.headers["Location"] = f"/api/v1/users/{user.id}"
        fields = shapes.UserAnswer.of(user).model_dump()
        return shapes.UserCreated(**fields, one_time_password=first.reveal())

    @operation("PATCH", "/{user_id}", Scope.USERS_WRITE, refuses=(409,), is_fresh=True)
    def update_user(self, user_id: UserId, body: shapes.UserChange, by: By) -> shapes.UserAnswer:
        """Give a user another role, keep a user out, or let one in again.

        One change at a time. The user's sessions end, except when they are let in again.
        """
        accounts = self._identity.accounts
        if body.role is not None:
            accounts.set_role(by, user_id, body.role)
        elif body.is_disabled:
            accounts.disable(by, user_id)
        else:
            accounts.enable(by, user_id)
        self._access.forget_subject(user_id)
        return shapes.UserAnswer.of(self._user(by, user_id))

    @operation(
        "POST",
        "/{user_id}/password-reset",
        Scope.USERS_WRITE,
        refuses=(409,),
        is_fresh=True,
        is_secret=True,
    )
    def reset_password(self, user_id: UserId, by: By) -> shapes.OneTimePassword:
        """Give a user a password for one use, shown here and nowhere else. Their sessions end."""
        first = self._identity.accounts.reset_password(by, user_id)
        self._access.forget_subject(user_id)
        return shapes.OneTimePassword(one_time_password=first.reveal())

    @operation("POST", "/{user_id}/mfa-reset", Scope.USERS_WRITE, refuses=(409,), is_fresh=True)
    def reset_mfa(self, user_id: UserId, by: By) -> Done:
        """Remove the second factor of a user who lost it. Their sessions end."""
        self._identity.factors.reset(by, user_id)
        self._access.forget_subject(user_id)
        return Done()

    @operation("DELETE", "/{user_id}/sessions", Scope.USERS_WRITE)
    def revoke_sessions(self, user_id: UserId, by: By) -> Done:
        """End every session of a user."""
        self._identity.sessions.revoke_subject(by, user_id)
        self._access.forget_subject(user_id)
        return Done()

    def _user(self, by: Principal, user_id: str) -> User:
        for user in self._identity.accounts.users(by):
            if user.id == user_id:
                return user
        raise NotFound


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/users`."""
    return router_of(Users(service, access), access, tag="users", prefix="/users")
