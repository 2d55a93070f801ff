"""What every page has in common: who asks, in which language, and how it answers.

A page is a function from `Asked` to a response, registered with the scope it needs:

    pages.get("/jobs", listed, Scope.JOBS_READ)

So nobody can forget the question of who may, the token against forged requests, or the policy of
what a browser may load: they are asked here, once, before the page's own code runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from privacy_finetuner.dashboard.charts import spark_points
from privacy_finetuner.dashboard.languages import NAMES, Language, chosen, marked, offered
from privacy_finetuner.dashboard.navigation import groups_for, is_current
from privacy_finetuner.service import Service
from privacy_runtime.http.browsers import is_path_here
from privacy_runtime.identity import Principal, Scope

STATIC: Final = Path(__file__).parent / "static"
THEMES: Final = ("auto", "light", "dark")
LOCALE_COOKIE: Final = "pf_locale"
THEME_COOKIE: Final = "pf_theme"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""No inline script or style, nothing from elsewhere, no frames."""

SAID: Final[Mapping[str, str]] = {
    "signed-out": marked("You are signed out."),
    "session-over": marked("Your session has ended. Sign in to go on."),
    "password-changed": marked("The password was changed. Sign in with the new one."),
    "factor-enrolled": marked(
        "The second factor is in force and every session has ended. Sign in with the next code "
        "that your authenticator shows."
    ),
    "job-started": marked("The job was accepted. It starts as soon as a worker is free."),
    "job-cancelled": marked(
        "The job is being cancelled. What its steps have cost so far stays spent."
    ),
    "account-opened": marked("The account was opened."),
    "budget-granted": marked("The cap was raised."),
    "request-sent": marked("The request was sent to the privacy officers."),
    "request-decided": marked("The request was decided."),
    "user-made": marked("The user was made."),
    "user-changed": marked("The user was changed. Their sessions have ended."),
    "key-revoked": marked("The key was revoked. It opens nothing any more."),
    "alert-closed": marked("The alert was closed."),
    "session-ended": marked("The session has ended."),
    "request-answered": marked("It is written down, with your name and the time."),
    "activity-recorded": marked("The activity is in the record of processing."),
    "activity-ended": marked("The activity is declared over; it stays in the record."),
    "dataset-received": marked("The data set is here, and jobs can name it."),
    "dataset-removed": marked("The data set was deleted."),
    "sessions-ended": marked("Every other session of yours has ended."),
}
"""What a page says after an act, by the code in its address: no text of the address is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request for a page, with everything that was settled before the page ran."""

    request: Request
    service: Service
    principal: Principal | None
    language: Language
    csrf: str
    request_id: str
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, UploadFile] = field(default_factory=dict)

    @property
    def who(self) -> Principal:
        """The principal of a page that needs one."""
        if self.principal is None:
            raise LookupError("this page was registered without a scope")
        return self.principal

    @property
    def tenant(self) -> str:
        """The organisation of the principal."""
        return self.who.tenant

    @property
    def now(self) -> datetime:
        """The clock's instant."""
        return self.service.clock.now()

    @property
    def path(self) -> Mapping[str, str]:
        """The parts of the address that a page's pattern names."""
        return self.request.path_params

    @property
    def query(self) -> Mapping[str, str]:
        """What follows the question mark."""
        return self.request.query_params

    @property
    def is_partial(self) -> bool:
        """Whether the page's script asks for a part to swap in."""
        return self.request.headers.get("hx-request") == "true"

    def may(self, scope: Scope) -> bool:
        """Whether the principal has a scope, for what is shown; acts ask `require`."""
        return self.principal is not None and scope in self.principal.scopes

    @property
    def offer(self) -> list[str]:
        """The languages that the environment supports."""
        return offered(self.service.config.i18n.supported_locales)

    def say(self, text: str) -> str:
        """Translate."""
        return self.language.gettext(text)

    def show(self, template: str, /, status: int = 200, **context: Any) -> HTMLResponse:
        """Answer with a page."""
        theme = self.request.cookies.get(THEME_COOKIE)
        body = (
            _environment(self.language)
            .get_template(template)
            .render(
                asked=self,
                path=self.request.url.path,
                groups=groups_for(self.principal) if self.principal else [],
                is_current=is_current,
                languages={code: NAMES[code] for code in self.offer},
                theme=theme if theme in THEMES else "auto",
                said=SAID.get(self.query.get("said", "")),
                now=self.now,
                Scope=Scope,
                **context,
            )
        )
        return HTMLResponse(body, status)

    def see(self, path: str, *, said: str = "", **query: str) -> Response:
        """Send the reader to another page of ours."""
        query = {**query, "said": said} if said else query
        target = f"{path}?{urlencode(query)}" if query else path
        if self.is_partial:
            return Response(headers={"HX-Redirect": target})
        return RedirectResponse(target, 303)


def inside(target: str | None) -> str:
    """An address of ours to go on to, or the first page: never one of another host."""
    return target if target and is_path_here(target) else "/"


def language_of(request: Request, service: Service) -> Language:
    """Which language a reader gets; see `languages`."""
    i18n = service.config.i18n
    return chosen(
        choice=request.cookies.get(LOCALE_COOKIE),
        accepted=request.headers.get("accept-language") if i18n.enable_auto_detection else None,
        defaults=(i18n.default_locale, i18n.fallback_locale),
        offer=offered(i18n.supported_locales),
    )


def filled(language: Language, text: str, values: Mapping[str, Any]) -> str:
    """A translated text with its values, each as the language writes it."""
    shown = {
        name: language.day(value)
        if isinstance(value, datetime)
        else language.figure(value)
        if isinstance(value, int | float)
        else value
        for name, value in values.items()
    }
    return text % shown if shown else text


@cache
def asset(name: str) -> str:
    """The address of a static file, with its digest: a new file is a new address."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


_ENVIRONMENTS: Final[dict[str, Environment]] = {}


def _environment(language: Language) -> Environment:
    """The templates in a language. Made once; a template is compiled once."""
    known = _ENVIRONMENTS.get(language.code)
    if known is not None:
        return known
    environment = Environment(
        loader=PackageLoader("privacy_finetuner.dashboard", package_path="templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined]  # of the extension
        language.translations, newstyle=True
    )
    environment.filters.update(
        figure=language.figure,
        percent=language.percent,
        instant=language.instant,
        clock=language.clock,
        day=language.day,
        ago=language.ago,
        duration=language.duration,
        size=language.size,
        said=lambda text, values=MappingProxyType({}): filled(
            language, language.gettext(text), values
        ),
        zip_same=lambda names: [(name, name) for name in names],
    )
    environment.globals.update(asset=asset, spark_points=spark_points, lang=language.code)
    return _ENVIRONMENTS.setdefault(language.code, environment)
