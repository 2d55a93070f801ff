"""Signing in and out, the first password, the second factor, and one's own account.

The form keeps what was typed: where a code or another password is needed, the page's script puts
the further fields into the form that is on the screen, so no password is ever sent back. Without
scripts the form is shown again, and the password is typed again.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from privacy_finetuner.dashboard.languages import NAMES, marked
from privacy_finetuner.dashboard.pages import Act, Pages
from privacy_finetuner.dashboard.qr import qr_svg
from privacy_finetuner.dashboard.site import (
    LOCALE_COOKIE,
    THEME_COOKIE,
    THEMES,
    Asked,
    inside,
)
from privacy_runtime.http import Access, visit_of
from privacy_runtime.identity import (
    CodeRequired,
    EnrolmentRefused,
    LoginDelayed,
    LoginRefused,
    PasswordChangeRequired,
    PasswordRefused,
    Scope,
    StaleLogin,
)

_YEAR_S: Final = 365 * 86_400
_WRONG: Final = marked("The name, the password or the code is not right.")
_DELAYED: Final = marked(
    "There were too many failed attempts. Nothing was checked; try again in %(wait)s."
)
_REASONS: Final = {
    "old one": marked("it is the old one"),
    "at least": marked("it has fewer than 12 characters"),
    "common words": marked("it is made of common words, runs of characters, or your name"),
    "at most": marked("it is too long"),
}


def register(pages: Pages) -> None:
    """Add the pages of this module."""
    access = pages.access
    pages.get("/sign-in", _form, None)
    pages.act("POST", "/sign-in", _signing_in(access), None)
    pages.act("POST", "/sign-out", _signing_out(access), None)
    pages.act("POST", "/password", _first_password(access), None)
    pages.post("/preferences", _preferences, None)
    pages.get("/account", _account, Scope.ACCOUNT_SELF)
    pages.act("POST", "/account/sessions", _ending_sessions(access), Scope.ACCOUNT_SELF)
    pages.act("POST", "/account/sessions/{session}", _ending_one(access), Scope.ACCOUNT_SELF)
    pages.get("/account/second-factor", _enrolment, Scope.ACCOUNT_SELF)
    pages.post("/account/second-factor/begin", _begin, Scope.ACCOUNT_SELF)
    pages.act("POST", "/account/second-factor", _confirming(access), Scope.ACCOUNT_SELF)
    pages.post("/account/recovery-codes", _renew_codes, Scope.ACCOUNT_SELF)


def _form(asked: Asked) -> Response:
    if asked.principal is not None:
        return asked.see(inside(asked.query.get("next")))
    return _shown(asked, next=inside(asked.query.get("next")))


def _shown(asked: Asked, status: int = 200, **context: object) -> Response:
    known = {"need": "", "fault": "", "name": asked.form.get("name", ""), "next": "/"}
    context = {"elsewhere": _elsewhere(asked), **context}
    return asked.show("sign_in.html", status, **{**known, **context})


def _elsewhere(asked: Asked) -> tuple[str, str] | None:
    """The title and address of a login at another issuer, where one is configured."""
    oidc = asked.service.config.oidc
    if oidc.issuer is None or oidc.client_id is None or oidc.organisation is None:
        return None
    return oidc.title, f"/auth/oidc/{oidc.name}/login"


def _signing_in(access: Access) -> Act:
    count = access.limited("login")

    async def sign_in(asked: Asked) -> Response:
        form, following = asked.form, inside(asked.form.get("next"))
        await count(asked.request)
        try:
            tokens = await access.run_login(
                asked.service.identity.logins.log_in,
                form.get("name", ""),
                form.get("password", ""),
                source=visit_of(asked.request).address,
                code=form.get("code") or None,
            )
        except LoginRefused:
            return _shown(asked, 401, fault=asked.say(_WRONG), next=following)
        except LoginDelayed as error:
            return _shown(asked, 429, fault=_wait(asked, error), next=following)
        except CodeRequired:
            return _more(asked, "code", following)
        except PasswordChangeRequired:
            return _more(asked, "password", following)
        response = asked.see(following)
        await access.open_session(asked.request, response, tokens)
        return response

    return sign_in


def _more(asked: Asked, need: str, following: str) -> Response:
    """Ask for what is missing: in the form on the screen, or in a new one."""
    if asked.is_partial:
        response = asked.show("_sign_in_more.html", need=need, fault="")
        response.headers["hx-retarget"] = "#more"
        response.headers["hx-reswap"] = "innerHTML show:top"
        return response
    return _shown(asked, need=need, next=following)


def _first_password(access: Access) -> Act:
    """Replace a password that was for one use."""
    count = access.limited("login")

    async def change(asked: Asked) -> Response:
        form = asked.form
        following = inside(form.get("next"))
        again = {"need": "password", "next": following}
        await count(asked.request)
        if form.get("new") != form.get("again"):
            return _shown(asked, 422, fault=asked.say(marked("The two do not match.")), **again)
        try:
            await access.run_login(
                asked.service.identity.logins.change_password,
                form.get("name", ""),
                form.get("password", ""),
                form.get("new", ""),
                source=visit_of(asked.request).address,
                code=form.get("code") or None,
            )
        except PasswordRefused as error:
            said = asked.say(marked("This password cannot be used: %(reason)s."))
            return _shown(asked, 422, fault=said % {"reason": _reason(asked, error)}, **again)
        except (LoginRefused, CodeRequired):
            return _shown(asked, 401, fault=asked.say(_WRONG), **again)
        except LoginDelayed as error:
            return _shown(asked, 429, fault=_wait(asked, error), **again)
        return asked.see("/sign-in", said="password-changed", next=following)

    return change


def _reason(asked: Asked, error: PasswordRefused) -> str:
    """Why a password cannot be used, in the reader's language. It is not repeated."""
    text = str(error)
    for beginning, said in _REASONS.items():
        if beginning in text:
            return asked.say(said)
    return asked.say(marked("it is of a form that is not taken"))


def _wait(asked: Asked, error: LoginDelayed) -> str:
    return asked.say(_DELAYED) % {"wait": asked.language.duration(error.retry_after_s)}


def _signing_out(access: Access) -> Act:
    async def sign_out(asked: Asked) -> Response:
        response = asked.see("/sign-in", said="signed-out")
        if asked.principal is not None:
            await access.log_out(asked.request, response, asked.principal)
        return response

    return sign_out


def _preferences(asked: Asked) -> Response:
    """Keep the reader's language and colours in cookies of no meaning to anybody else."""
    response = asked.see(inside(asked.form.get("next")))
    chosen = {LOCALE_COOKIE: asked.form.get("locale"), THEME_COOKIE: asked.form.get("theme")}
    for name, known in ((LOCALE_COOKIE, tuple(NAMES)), (THEME_COOKIE, THEMES)):
        value = chosen[name]
        if value in known:
            response.set_cookie(
                name,
                str(value),
                max_age=_YEAR_S,
                httponly=True,
                samesite="lax",
                secure=visit_of(asked.request).is_tls,
            )
    return response


def _account(asked: Asked) -> Response:
    return _account_shown(asked)


def _account_shown(asked: Asked, status: int = 200, fault: str = "") -> Response:
    return asked.show(
        "account.html",
        status,
        needs_code=_needs_code(asked),
        codes=None,
        fault=fault,
        sessions=asked.service.identity.sessions.own(asked.who),
    )


def _ending_one(access: Access) -> Act:
    async def end(asked: Asked) -> Response:
        session = asked.path["session"]
        await access.run(asked.service.identity.sessions.end_own, asked.who, session)
        access.forget(session)
        return asked.see("/account", said="session-ended")

    return end


def _needs_code(asked: Asked) -> bool:
    return asked.who.scopes == {Scope.ACCOUNT_SELF}


def _ending_sessions(access: Access) -> Act:
    async def end(asked: Asked) -> Response:
        who = asked.who
        await access.run(asked.service.identity.sessions.revoke_subject, who, who.subject)
        access.forget_subject(who.subject)
        response = asked.see("/sign-in", said="signed-out")
        await access.log_out(asked.request, response, who)
        return response

    return end


def _enrolment(asked: Asked) -> Response:
    """Say what comes. The secret is made by a form: opening an address changes nothing."""
    return _second_factor(asked)


def _second_factor(asked: Asked, status: int = 200, **context: object) -> Response:
    known = {"needs_code": _needs_code(asked), "code": None, "fault": "", "stale": False}
    return asked.show("second_factor.html", status, **{**known, **context})


def _begin(asked: Asked) -> Response:
    try:
        enrolment = asked.service.identity.factors.begin(asked.who)
    except StaleLogin:
        return _second_factor(asked, 403, stale=True)
    picture = qr_svg(
        enrolment.link.reveal(), label=asked.say(marked("QR code for an authenticator"))
    )
    return _second_factor(asked, code=picture, seed=_grouped(enrolment.seed.reveal()))


def _confirming(access: Access) -> Act:
    async def confirm(asked: Asked) -> Response:
        try:
            codes = await access.run(
                asked.service.identity.factors.confirm, asked.who, asked.form.get("code", "")
            )
        except EnrolmentRefused:
            said = asked.say(
                marked("The code does not fit. Scan the new picture, or check the clock.")
            )
            return _second_factor(asked, 422, fault=said)
        response = asked.show(
            "recovery_codes.html", codes=[one.reveal() for one in codes], out=True
        )
        access.forget_subject(asked.who.subject)
        await access.log_out(asked.request, response, asked.who)
        return response

    return confirm


def _renew_codes(asked: Asked) -> Response:
    try:
        codes = asked.service.identity.factors.renew_recovery_codes(asked.who)
    except EnrolmentRefused:
        fault = asked.say(marked("There is no second factor that codes could stand in for."))
        return _account_shown(asked, 422, fault)
    return asked.show("recovery_codes.html", codes=[one.reveal() for one in codes], out=False)


def _grouped(seed: str) -> str:
    return " ".join(seed[start : start + 4] for start in range(0, len(seed), 4))
