"""What is special about browsers: cookies, and requests that other sites make them send."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from privacy_runtime.http.browser_sessions import is_csrf_token
from privacy_runtime.http.policy import HttpPolicy
from privacy_runtime.http.refusals import CrossSiteRefused
from privacy_runtime.http.visits import Visit, visit_of

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CSRF_HEADER: Final = "x-csrf-token"
CSRF_FIELD: Final = "csrf_token"
SESSION: Final = "session"
_FORM: Final = "application/x-www-form-urlencoded"
_FILES: Final = "multipart/form-data"


def is_tls(visit: Visit, policy: HttpPolicy) -> bool:
    """Whether browsers reach us over TLS."""
    if policy.origin is not None:
        return policy.origin.startswith("https://")
    return visit.is_tls


def cookie_name(visit: Visit, policy: HttpPolicy, name: str = SESSION) -> str:
    """The name under which a cookie is ours: `__Host-` over TLS, which no other host can set."""
    return f"__Host-{name}" if is_tls(visit, policy) else name


def set_cookie(
    response: Response,
    visit: Visit,
    policy: HttpPolicy,
    value: str,
    *,
    name: str = SESSION,
    max_age_s: int | None = None,
) -> None:
    """Hand out a cookie: HttpOnly, SameSite=Lax, for this host, `Secure` over TLS.

    Lax and not Strict: a link in a mail opens the page for who is logged in. Unsafe requests are
    guarded by the token and the origin besides.
    """
    response.set_cookie(
        cookie_name(visit, policy, name),
        value,
        max_age=max_age_s,
        path="/",
        secure=is_tls(visit, policy),
        httponly=True,
        samesite="lax",
    )


def clear_cookie(
    response: Response, visit: Visit, policy: HttpPolicy, *, name: str = SESSION
) -> None:
    """Take a cookie away."""
    response.delete_cookie(
        cookie_name(visit, policy, name),
        path="/",
        secure=is_tls(visit, policy),
        httponly=True,
        samesite="lax",
    )


def require_same_site(connection: HTTPConnection, policy: HttpPolicy) -> None:
    """Check that no other site sent an unsafe request, or opened a WebSocket.

    `Sec-Fetch-Site` and `Origin` are written by the browser and cannot be forged by a page. A
    client that sends neither is no browser of this decade; the session's token still guards it.

    Raises:
        CrossSiteRefused: one of them names another origin. Nothing was done.
    """
    headers = connection.headers
    sites = headers.getlist("sec-fetch-site")
    if any(site.lower() not in ("same-origin", "none") for site in sites):
        raise CrossSiteRefused("another site sent this request; nothing was done")
    origins = headers.getlist("origin")
    if any(origin.lower() != own_origin(connection, policy) for origin in origins):
        raise CrossSiteRefused("another origin sent this request; nothing was done")


def own_origin(connection: HTTPConnection, policy: HttpPolicy) -> str:
    """Where browsers find us. The front door has checked the host."""
    if policy.origin is not None:
        return policy.origin.lower()
    scheme = "https" if visit_of(connection).is_tls else "http"
    return f"{scheme}://{connection.headers.get('host', '')}".lower()


async def require_own_page(connection: HTTPConnection, cookie: str, policy: HttpPolicy) -> None:
    """Check that an unsafe request with a session's cookie comes from a page of that session.

    Raises:
        CrossSiteRefused: from elsewhere, or without the session's token. Nothing was done.
    """
    if connection.scope["type"] == "websocket":
        if not connection.headers.getlist("origin"):
            raise CrossSiteRefused("a WebSocket with a cookie needs an Origin")
        require_same_site(connection, policy)
        return
    if connection.scope["method"] in SAFE:
        return
    require_same_site(connection, policy)
    token = connection.headers.get(CSRF_HEADER) or await _form_token(connection)
    if not is_csrf_token(cookie, token):
        raise CrossSiteRefused("the request lacks the token of its session; nothing was done")


def is_activity(connection: HTTPConnection) -> bool:
    """Whether a person did this: a page was opened, a form sent, a button pressed.

    A page that asks again by itself (a GET that is no navigation) does not count.
    """
    if connection.scope["type"] != "http":
        return False
    if connection.scope["method"] not in SAFE:
        return True
    return connection.headers.get("sec-fetch-mode", "") == "navigate"


def is_path_here(target: str) -> bool:
    """Whether a redirection target is a path of this service and nothing else."""
    if not target.startswith("/") or target.startswith(("//", "/\\")) or "\\" in target:
        return False
    parts = urlsplit(target)
    return not parts.scheme and not parts.netloc and target.isprintable()


def has_files(connection: HTTPConnection) -> bool:
    """Whether the request is a form with files in it."""
    return connection.scope["type"] == "http" and _kind(connection) == _FILES


def _kind(connection: HTTPConnection) -> str:
    return connection.headers.get("content-type", "").split(";", 1)[0].strip().lower()


async def _form_token(connection: HTTPConnection) -> str:
    """The token of a form; FastAPI finds the form that was read here."""
    if _kind(connection) not in (_FORM, _FILES) or not isinstance(connection, Request):
        return ""
    value = (await connection.form(max_files=1)).get(CSRF_FIELD, "")
    return value if isinstance(value, str) else ""
