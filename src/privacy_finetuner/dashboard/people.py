"""People and their programs: users, roles, one-time passwords, API keys."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response

from privacy_core.errors import InvalidParameter
from privacy_finetuner.dashboard.job_views import names_of_people
from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.pages import Pages
from privacy_finetuner.dashboard.site import Asked
from privacy_runtime.http import Access
from privacy_runtime.identity import (
    PEOPLE_ONLY,
    ROLE_SCOPES,
    AccountConflict,
    NotAllowed,
    Role,
    Scope,
    User,
    WrongTenant,
)

DAYS: Final = ("7", "30", "90", "365")
_ROLES: Final = (
    (Role.VIEWER, marked("viewer: looks at jobs, results and budgets")),
    (Role.ANALYST, marked("analyst: asks models, protects text, asks for budget")),
    (Role.TRAINER, marked("trainer: starts jobs and exports models")),
    (
        Role.PRIVACY_OFFICER,
        marked("privacy officer: grants budget, sees what is outside the guarantee"),
    ),
    (Role.ADMIN, marked("administrator: makes users; sees nobody's results outside the guarantee")),
)


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    pages.get("/users", _users, Scope.USERS_READ)
    pages.get("/users/new", _new_user, Scope.USERS_WRITE)
    pages.post("/users", _make_user, Scope.USERS_WRITE)
    pages.get("/users/{user}", _user, Scope.USERS_WRITE)
    pages.act("POST", "/users/{user}", _changing(pages.access), Scope.USERS_WRITE)
    pages.get("/keys", _keys, Scope.KEYS_OWN)
    pages.post("/keys", _issue, Scope.KEYS_OWN)
    pages.act("POST", "/keys/{key}/revoke", _revoking(pages.access), Scope.KEYS_OWN)


def _users(asked: Asked) -> Response:
    return asked.show("users.html", users=asked.service.identity.accounts.users(asked.who))


def _new_user(asked: Asked) -> Response:
    return asked.show("user_new.html", roles=_ROLES, form={"role": "trainer"}, faults={})


def _make_user(asked: Asked) -> Response:
    form, faults = asked.form, {}
    role = next((known for known in Role if known.value == form.get("role")), None)
    try:
        if role is not None:
            made, secret = asked.service.identity.accounts.create_user(
                asked.who, form.get("name", ""), role
            )
            return asked.show("user_secret.html", user=made, secret=secret.reveal(), is_new=True)
        faults["role"] = asked.say(marked("Choose a role."))
    except InvalidParameter as error:
        faults["name"] = asked.say(marked("expected %(range)s")) % {"range": error.expected}
    except AccountConflict:
        faults["name"] = asked.say(marked("This name is taken."))
    return asked.show("user_new.html", 422, roles=_ROLES, form=dict(form), faults=faults)


def _user(asked: Asked) -> Response:
    return asked.show("user.html", user=_held(asked), roles=_ROLES, fault="")


def _held(asked: Asked) -> User:
    """A user of the organisation.

    Raises:
        WrongTenant: there is none of this id here.
    """
    for each in asked.service.identity.accounts.users(asked.who):
        if each.id == asked.path["user"]:
            return each
    raise WrongTenant(asked.who.subject, scope=Scope.USERS_WRITE)


def _changing(access: Access) -> Callable[[Asked], Awaitable[Response]]:
    async def change(asked: Asked) -> Response:
        response = await access.run(_change, asked)
        access.forget_subject(asked.path["user"])
        return response

    return change


def _change(asked: Asked) -> Response:
    user, identity, who = _held(asked), asked.service.identity, asked.who
    try:
        match asked.form.get("act"):
            case "role":
                identity.accounts.set_role(who, user.id, Role(asked.form.get("role", "")))
            case "disable":
                identity.accounts.disable(who, user.id)
            case "enable":
                identity.accounts.enable(who, user.id)
            case "factor":
                identity.factors.reset(who, user.id)
            case "password":
                secret = identity.accounts.reset_password(who, user.id)
                return asked.show(
                    "user_secret.html", user=user, secret=secret.reveal(), is_new=False
                )
            case _:
                return _not_ours(asked, user)
    except AccountConflict as error:
        return asked.show("user.html", 409, user=user, roles=_ROLES, fault=str(error))
    except ValueError:
        return _not_ours(asked, user)
    return asked.see(f"/users/{user.id}", said="user-changed")


def _not_ours(asked: Asked, user: User) -> Response:
    fault = asked.say(marked("Nothing was changed: the form is not one of this page."))
    return asked.show("user.html", 422, user=user, roles=_ROLES, fault=fault)


def _keys(asked: Asked) -> Response:
    return _keys_shown(asked)


def _keys_shown(asked: Asked, status: int = 200, *, secret: str = "", fault: str = "") -> Response:
    names = names_of_people(asked)
    return asked.show(
        "keys.html",
        status,
        keys=asked.service.identity.api_keys.keys(asked.who),
        scopes=sorted(asked.who.scopes - PEOPLE_ONLY),
        days=DAYS,
        secret=secret,
        fault=fault,
        form=dict(asked.form),
        owner=lambda key: names.get(key.owner, key.owner[:12]),
    )


def _issue(asked: Asked) -> Response:
    known = frozenset().union(*ROLE_SCOPES.values())
    wanted = [scope for scope in known if f"scope:{scope}" in asked.form]
    days = asked.form.get("days", "90")
    try:
        issued = asked.service.identity.api_keys.issue(
            asked.who,
            label=asked.form.get("label", "").strip(),
            scopes=wanted,
            valid_days=int(days) if days in DAYS else 90,
        )
    except InvalidParameter:
        said = asked.say(marked("A key needs a name and at least one thing that it may do."))
        return _keys_shown(asked, 422, fault=said)
    except NotAllowed:
        said = asked.say(marked("A key cannot do what you may not do yourself."))
        return _keys_shown(asked, 403, fault=said)
    return _keys_shown(asked, secret=issued.text.reveal())


def _revoking(access: Access) -> Callable[[Asked], Awaitable[Response]]:
    async def revoke(asked: Asked) -> Response:
        key = asked.path["key"]
        await access.run(asked.service.identity.api_keys.revoke, asked.who, key)
        access.forget(key)
        return asked.see("/keys", said="key-revoked")

    return revoke
