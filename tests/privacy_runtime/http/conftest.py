"""A small application on the plumbing, over identity in a SQLite file, with a clock that stands."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Request, WebSocket
from pydantic import BaseModel, Field, field_validator
from starlette.responses import Response

from privacy_core.errors import InvalidParameter
from privacy_runtime.http import (
    Access,
    ErrorTable,
    HttpPolicy,
    Idempotency,
    Json,
    NotFound,
    Page,
    PageQuery,
    RateLimits,
    Row,
    install,
    no_replay,
    page_query,
    visit_of,
)
from privacy_runtime.http.sockets import SocketOptions, stream
from privacy_runtime.http.streams import Event, last_event_id, sse
from privacy_runtime.identity import (
    Argon2Cost,
    Identity,
    IdentityPolicy,
    IdentityStoreUnavailable,
    Principal,
    Role,
    Scope,
    TokenPolicy,
    Tokens,
    bootstrap_admin,
)
from privacy_runtime.identity.codes import code_at, step_of
from privacy_runtime.pseudonyms import RedactionKeys
from privacy_runtime.testing import ManualClock, MemoryJournal
from privacy_runtime.world import SystemEntropy

PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
ADDRESS = "198.51.100.7"
TOKENS = TokenPolicy(issuer="https://pf.example", audience="pf")


class House:
    """One deployment: identity with users, and an application on the plumbing."""

    password, address = PASSWORD, ADDRESS

    def __init__(self, folder: Path, policy: HttpPolicy | None = None, **named: Any) -> None:
        folder.mkdir(exist_ok=True)
        beside: House | None = named.pop("beside", None)
        self.folder, self.entropy = folder, SystemEntropy()
        self.clock = ManualClock() if beside is None else beside.clock
        self.keys = RedactionKeys.generate(self.entropy) if beside is None else beside.keys
        self.policy = policy or HttpPolicy()
        self.identity = Identity.open(
            named.pop("where", folder / "identity.db"),
            MemoryJournal(self.clock),
            policy=IdentityPolicy(tokens=TOKENS, argon2=Argon2Cost(memory_kib=8, passes=1)),
            token_keys=folder / "token-keys",
            sealing_keys=self.keys,
            clock=self.clock,
            entropy=self.entropy,
        )
        self.seeds: dict[str, bytes] = {}
        self.limits = RateLimits(self.clock, rates=named.pop("rates", None))
        self.access = Access(
            self.identity,
            clock=self.clock,
            entropy=self.entropy,
            policy=self.policy,
            limits=self.limits,
            **named,
        )
        self.done: list[str] = []
        self.gate, self.entered = asyncio.Event(), asyncio.Event()
        self.app = FastAPI(docs_url=None, redoc_url=None)
        self.app.include_router(routes(self))
        table = ErrorTable.standard().with_rows({Spilled: Row(409, "the milk is spilled")})
        install(self.app, errors=table, policy=self.policy, limits=self.limits)
        if beside is not None:
            return
        bootstrap_admin(
            self.identity.accounts, password=PASSWORD, development=True, name="root@example"
        )
        self.enrol("root@example")

    def enrol(self, name: str) -> None:
        """Give a user a second factor."""
        principal = self.log_in(name).principal
        enrolment = self.identity.factors.begin(principal)
        self.seeds[name] = base64.b32decode(enrolment.seed.reveal())
        self.identity.factors.confirm(principal, self.code(name))

    def user(self, name: str, role: Role) -> Tokens:
        """A user with a password of their own, logged in."""
        admin = self.log_in("root@example").principal
        _, first = self.identity.accounts.create_user(admin, name, role)
        self.identity.logins.change_password(name, first.reveal(), PASSWORD, source=ADDRESS)
        return self.log_in(name)

    def log_in(self, name: str) -> Tokens:
        """Log in, with a code where there is a second factor."""
        code = None
        if name in self.seeds:
            self.clock.advance(30)
            code = self.code(name)
        return self.identity.logins.log_in(name, PASSWORD, source=ADDRESS, code=code)

    def code(self, name: str) -> str:
        """The code that an authenticator shows now."""
        return code_at(self.seeds[name], step_of(self.clock.now()))

    def client(self, base_url: str = "http://testserver", **named: Any) -> httpx2.AsyncClient:
        """A client of the application, without a network."""
        transport = httpx2.ASGITransport(
            app=self.app, client=(ADDRESS, 4711), raise_app_exceptions=False
        )
        return httpx2.AsyncClient(transport=transport, base_url=base_url, **named)


class Spilled(Exception):
    """An error of an application with a row of its own."""

    code = "spilled"


class Order(BaseModel):
    """A body with a nested list."""

    count: int = Field(ge=1)
    names: list[str] = []
    epsilon: float = 1.0

    @field_validator("epsilon")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value <= 0:
            raise InvalidParameter("epsilon", found=value, expected="more than 0")
        return value


def raising() -> dict[str, Callable[[], Exception]]:
    """What the route `/raise/{what}` raises."""
    return {
        "unexpected": lambda: RuntimeError("the patient is called Quillfeather"),
        "spilled": lambda: Spilled("inside words"),
        "gone": lambda: IdentityStoreUnavailable("identity.db", reason="SQLITE_IOERR"),
        "database": lambda: sa.exc.OperationalError("SELECT 1", {}, Exception("password=hunter2")),
        "full": lambda: OSError(28, "No space left on device", "/srv/private"),
        "missing": NotFound,
    }


def routes(house: House) -> APIRouter:  # noqa: C901  one of everything
    """One route of each kind."""
    access = house.access
    router = APIRouter(route_class=Idempotency(access).route)
    Anybody = Annotated[Principal, Depends(access.principal)]

    @router.get("/me")
    async def me(who: Anybody) -> Json:
        return Json({"subject": who.subject, "method": str(who.method)})

    @router.post("/me")
    async def change_me(who: Anybody) -> Json:
        return Json({"subject": who.subject})

    @router.get("/train")
    async def train(who: Annotated[Principal, Depends(access.allowed(Scope.JOBS_WRITE))]) -> Json:
        return Json({"subject": who.subject})

    @router.get("/grant")
    async def grant(who: Annotated[Principal, Depends(access.fresh(Scope.USERS_WRITE))]) -> Json:
        return Json({"subject": who.subject})

    @router.post("/orders", status_code=201)
    async def order(who: Anybody, body: Order, request: Request) -> Json:
        house.done.append(visit_of(request).operation or "no key")
        if body.count == 13:
            raise Spilled
        if body.count == 14:
            raise RuntimeError("nobody knows what was done")
        if body.count == 15:
            house.entered.set()
            await house.gate.wait()
        return Json({"count": body.count, "turn": len(house.done)}, status_code=201)

    @router.post("/secrets", dependencies=[Depends(no_replay)])
    async def secret(who: Anybody) -> Json:
        return Json({"key": "shown once"})

    @router.post("/form")
    async def form(request: Request, who: Anybody) -> Json:
        return Json({"field": str((await request.form()).get("field"))})

    @router.post("/echo")
    async def echo(request: Request) -> Json:
        return Json({"size": len(await request.body())})

    @router.get("/raise/{what}")
    async def raise_it(what: str) -> Json:
        raise raising()[what]()

    @router.get("/list", response_model=Page[int])
    async def listed(query: Annotated[PageQuery, Depends(page_query)]) -> Page[int]:
        after = query.after(int)
        start = 0 if after is None else int(after[0])
        items, cursor = query.page(
            [n for n in range(1, 8) if n > start][: query.limit + 1], lambda n: (n,)
        )
        return Page(items=items, next_cursor=cursor)

    @router.get("/static/long")
    async def long() -> Response:
        return Response("x" * 5000, media_type="text/plain")

    @router.get("/long")
    async def long_and_private() -> Json:
        return Json({"long": "x" * 5000})

    @router.get("/events")
    async def events(request: Request, who: Anybody) -> Response:
        since = last_event_id(request) or 0

        async def numbers() -> AsyncIterator[Event]:
            try:
                for n in range(since + 1, 4):
                    yield Event(data={"n": n}, id=str(n), name="step")
                if request.query_params.get("more"):
                    await house.gate.wait()
            finally:
                house.done.append("closed")

        return sse(request, numbers(), access, heartbeat_s=0.02, recheck_s=0.05)

    @router.websocket("/ws/{thing}")
    async def socket(websocket: WebSocket, thing: str) -> None:
        async def feed(who: Principal) -> AsyncIterator[dict[str, Any]]:
            if thing != "mine":
                raise NotFound
            yield {"subject": who.subject}
            await house.gate.wait()

        options = SocketOptions(first_s=0.3, recheck_s=0.05)
        await stream(websocket, access, feed, Scope.JOBS_READ, options=options)

    return router


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A deployment without TLS on the loopback."""
    house = House(tmp_path)
    yield house
    house.identity.close()


@pytest.fixture
def tls_house(tmp_path: Path) -> Iterator[House]:
    """A deployment behind TLS, with an origin of its own and a proxy that is trusted."""
    policy = HttpPolicy(
        hosts=("pf.example",), origin="https://pf.example", proxies=("10.0.0.0/8", "127.0.0.1")
    )
    house = House(tmp_path / "tls", policy)
    yield house
    house.identity.close()


@pytest.fixture
def house_class() -> type[House]:
    """For deployments with other numbers."""
    return House


@pytest.fixture
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio alone."""
    return "asyncio"


def bearer(tokens: Tokens) -> dict[str, str]:
    """The header of an access token."""
    return {"Authorization": f"Bearer {tokens.access_token.reveal()}"}


@pytest.fixture
def as_bearer() -> Callable[[Tokens], dict[str, str]]:
    """Make the header of an access token."""
    return bearer
