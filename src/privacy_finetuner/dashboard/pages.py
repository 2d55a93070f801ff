"""How a page is registered, and what happens around it.

In this order: who asks (the session's cookie), for whom the page is (`require`), the form and its
token, then the page in a worker thread, then its answer, with the policy of what a browser may
load. Whatever is raised becomes a page with the request's id; nothing of the inside is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from privacy_finetuner.dashboard.languages import marked
from privacy_finetuner.dashboard.site import POLICY, Asked, inside, language_of
from privacy_finetuner.service import Service
from privacy_runtime.http import (
    Access,
    CrossSiteRefused,
    ErrorTable,
    Fault,
    Unauthenticated,
    visit_of,
)
from privacy_runtime.identity import (
    ApiKeyRefused,
    NotAllowed,
    Principal,
    RefreshRefused,
    Scope,
    TokenRefused,
    WrongTenant,
    require,
)

Page: TypeAlias = Callable[[Asked], Response]
"""A page: it may wait for databases; it runs in a worker thread."""
Act: TypeAlias = Callable[[Asked], Awaitable[Response]]
"""A page that runs on the event loop: one that goes on, or that opens or ends a session."""
Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_OVER: Final = (Unauthenticated, RefreshRefused, TokenRefused, ApiKeyRefused)
"""What a session that is over, or none, looks like."""
_TITLES: Final[Mapping[int, str]] = {
    403: marked("Not allowed"),
    404: marked("There is no such page"),
    409: marked("That cannot be done as things stand"),
    422: marked("Something in the request is not right"),
    429: marked("Too many attempts"),
    500: marked("Something went wrong here"),
    503: marked("Not available at the moment"),
}
_MESSAGES: Final[Mapping[int, str]] = {
    403: marked("Your role does not allow this. An administrator can give you another one."),
    404: marked(
        "There is nothing at this address, or it belongs to another organisation: both look alike "
        "from here."
    ),
    500: marked("Nothing more can be said here. It is in the log."),
    503: marked("Something that this page needs is away. Nothing was lost; try again."),
}
_STALE: Final = (
    marked("Sign in again for this"),
    marked(
        "This act is hard to undo. It needs a sign-in with your second factor that is less than "
        "five minutes old. Nothing was changed: sign out, sign in, and send it again."
    ),
)


class Pages:
    """The pages of an application, as routes.

    Args:
        service: what they show.
        access: sessions in cookies, and tokens against forged requests; the process's one.
        errors: what may be said of an exception.
    """

    def __init__(self, service: Service, access: Access, errors: ErrorTable) -> None:
        self.service, self.access, self._errors = service, access, errors
        self.routes: list[Route] = []
        self.scopes: dict[tuple[str, str], Scope | None] = {}

    def get(self, path: str, page: Page, scope: Scope | None) -> None:
        """Register a page that changes nothing."""
        self._add("GET", path, self._threaded(page), scope)

    def post(self, path: str, page: Page, scope: Scope | None) -> None:
        """Register an act: a form with the session's token, answered by a page or a redirect."""
        self._add("POST", path, self._threaded(page), scope)

    def act(self, method: str, path: str, act: Act, scope: Scope | None) -> None:
        """Register a page that runs on the event loop."""
        self._add(method, path, act, scope)

    def _threaded(self, page: Page) -> Act:
        async def run(asked: Asked) -> Response:
            return await self.access.run(page, asked)

        return run

    def _add(self, method: str, path: str, act: Act, scope: Scope | None) -> None:
        async def endpoint(request: Request) -> Response:
            try:
                return await act(await self._asked(request, scope))
            finally:
                await request.close()  # the files of a form

        self.scopes[method, path] = scope
        name = f"page {method} {path}"
        self.routes.append(Route(path, self._guarded(endpoint), methods=[method], name=name))

    async def _asked(self, request: Request, scope: Scope | None) -> Asked:
        """Everything that is settled before a page runs.

        Raises:
            Unauthenticated: the page needs somebody.
            NotAllowed: they may not open it.
            CrossSiteRefused: the form does not carry the session's token.
        """
        if scope is None:
            await self.access.same_site(request)
            principal = await self._visitor(request)
        else:
            principal = await self.access.authenticate(request)
            require(principal, scope, tenant=principal.tenant)
        form: Mapping[str, str] = {}
        files: Mapping[str, UploadFile] = {}
        if request.method == "POST":
            sent = await request.form(max_files=1)
            form = {k: v for k, v in sent.items() if not isinstance(v, UploadFile)}
            files = {k: v for k, v in sent.items() if isinstance(v, UploadFile)}
        return self._about(request, principal, form, files)

    async def _visitor(self, request: Request) -> Principal | None:
        """Who asks; `None` where nobody is signed in, or the session is over."""
        try:
            return await self.access.optional(request)
        except (*_OVER, CrossSiteRefused):
            return None

    def _about(
        self,
        request: Request,
        principal: Principal | None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, UploadFile] | None = None,
    ) -> Asked:
        try:
            token = self.access.csrf_token(request)
        except Unauthenticated:  # two credentials: the page of the refusal has no form
            token = ""
        return Asked(
            request=request,
            service=self.service,
            principal=principal,
            language=language_of(request, self.service),
            csrf=token,
            request_id=visit_of(request).request_id,
            form=form or {},
            files=files or {},
        )

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        async def answered(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except _OVER:
                response = self._to_sign_in(request)
            except Exception as error:  # noqa: BLE001  the table decides what may be said; it logs
                response = await self._fault(request, error)
            response.headers.setdefault("content-security-policy", POLICY)
            response.headers.setdefault("cache-control", "no-store")
            return response

        return answered

    def _to_sign_in(self, request: Request) -> Response:
        asked = self._about(request, None)
        said = "session-over" if asked.csrf else ""
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if request.method != "GET" or asked.is_partial or target == "/":
            return asked.see("/sign-in", said=said)
        return asked.see("/sign-in", said=said, next=inside(target))

    async def _fault(self, request: Request, error: Exception) -> Response:
        """An exception as a page; who asked may be what is broken."""
        principal = visit_of(request).principal
        if principal is not None and _must_enrol(principal, error):
            return self._about(request, principal).see("/account/second-factor")
        problem = self._errors.answer(error)
        asked = self._about(request, principal)
        title = _TITLES.get(problem.status, _TITLES[422 if problem.status < 500 else 500])
        message = _MESSAGES.get(problem.status)
        if problem.code == "stale_login":
            title, message = _STALE
        response = await run_in_threadpool(
            asked.show,
            "fault.html",
            problem.status,
            code=problem.status,
            title=asked.say(title),
            message=problem.message if message is None else asked.say(message),
            details=[each for each in problem.details if isinstance(each, Fault)],
        )
        if problem.retry_after_s is not None:
            response.headers["retry-after"] = str(problem.retry_after_s)
        return response

    def not_found(self) -> Endpoint:
        """The endpoint of addresses that nothing is at."""

        async def endpoint(request: Request) -> Response:
            await self._visitor(request)
            raise HTTPException(404)

        return self._guarded(endpoint)


def _must_enrol(principal: Principal, error: Exception) -> bool:
    """Whether a refusal means: a second factor first."""
    is_refusal = isinstance(error, NotAllowed) and not isinstance(error, WrongTenant)
    return is_refusal and principal.scopes == {Scope.ACCOUNT_SELF}
