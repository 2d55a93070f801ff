"""A real service behind a real socket, and a wire between it and the client that can be cut."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from privacy_finetuner.api.app import create_app
from privacy_finetuner.client import Client, RetryPolicy, Settings
from privacy_finetuner.environment import EnvironmentConfig
from privacy_finetuner.jobs.claims import Claim, Ending
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.model import EventKind, JobState
from privacy_finetuner.service import Service
from privacy_runtime.http import Rate, RateLimits
from privacy_runtime.identity import (
    Argon2Cost,
    IdentityPolicy,
    Method,
    Principal,
    Role,
    Scope,
    TokenPolicy,
)

PASSWORD = "quince umbrella 47 fjord"  # noqa: S105  opens nothing but this test
POLICY = IdentityPolicy(
    tokens=TokenPolicy(issuer="privacy-finetuner", audience="privacy-finetuner"),
    argon2=Argon2Cost(memory_kib=8, passes=1),
)
UNLIMITED = {
    name: Rate(name, 10_000_000) for name in ("address", "login", "reads", "writes", "starts")
}
QUICK = RetryPolicy(tries=4, pause_s=0.01, pause_max_s=0.05, deadline_s=20)


@dataclass
class House:
    """A service, its server, and who may use it."""

    service: Service
    port: int
    server: uvicorn.Server | None = None
    thread: threading.Thread | None = None
    names: dict[Role, str] = field(default_factory=dict)
    tenant: str = ""
    password: str = PASSWORD

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve, at the same port as before."""
        limits = RateLimits(self.service.clock, rates=UNLIMITED)
        config = uvicorn.Config(
            create_app(self.service, limits=limits),
            host="127.0.0.1",
            port=self.port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        wait_for(lambda: self.server is not None and self.server.started)

    def stop(self) -> None:
        """Stop serving; the service stays open."""
        if self.server is None or self.thread is None:
            return
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.server = self.thread = None

    def user(self, role: Role) -> str:
        """The name of a user of a role, who has a password."""
        if role not in self.names:
            operator = Principal(
                subject="u_operator",
                tenant=self.tenant,
                scopes=frozenset(Scope),
                session="",
                authenticated_at=self.service.clock.now(),
                method=Method.PASSWORD_AND_CODE,
            )
            name = f"{role.value}-one"
            accounts, logins = self.service.identity.accounts, self.service.identity.logins
            _, first = accounts.create_user(operator, name, role)
            logins.change_password(name, first.reveal(), PASSWORD, source="192.0.2.1")
            self.names[role] = name
        return self.names[role]

    def client(self, role: Role = Role.TRAINER, **settings: Any) -> Client:
        """A client that has logged in."""
        return Client.login(
            self.url,
            self.user(role),
            PASSWORD,
            settings=Settings(retries=QUICK, **settings),
        )

    def job(self, client: Client) -> str:
        """A queued job."""
        return client.jobs.start_training(
            "sample:model",
            "sample:records",
            privacy_config={"epsilon": 8.0, "delta": 1e-5},
            training_config={"epochs": 1, "batch_size": 256, "learning_rate": 4e-3},
        ).job_id

    def story(self, job_id: str) -> Story:
        """Work on a job as a worker would."""
        leases = Leases(self.service.jobs.store, lease_s=600)
        claim = leases.claim("w_test")
        assert claim is not None
        assert claim.job.id == job_id
        return Story(self, leases, claim)


@dataclass
class Story:
    """What a worker writes about a job, line by line."""

    house: House
    leases: Leases
    claim: Claim

    def step(self, step: int, steps: int = 10) -> None:
        body = {"step": step, "steps": steps, "epsilon": step / 10, "delta": 1e-5, "eta_s": 1.0}
        self.leases.tell(
            self.claim, [(EventKind.STEP, body)], step=step, steps=steps,
            epsilon=step / 10, delta=1e-5,
        )  # fmt: skip

    def epoch(self, epoch: int, loss: float) -> None:
        body = {"epoch": epoch, "loss": loss, "accuracy": None}
        self.leases.tell(self.claim, [(EventKind.EPOCH, body)], epoch=epoch, metrics={"loss": loss})

    def file(self, name: str, content: bytes) -> None:
        folder = self.house.service.jobs.folder(self.claim.job.id)
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        body = {
            "name": name,
            "size_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "media_type": "application/octet-stream",
            "outside_guarantee": False,
        }
        self.leases.tell(self.claim, [(EventKind.ARTEFACT, body)])

    def end(self, state: JobState = JobState.SUCCEEDED, code: str | None = None) -> None:
        message = None if code is None else "it did not work out"
        self.leases.finish(self.claim, Ending(state=state, code=code, message=message))


class Wire:
    """A proxy of bytes between client and service: it can be cut, and stay cut."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cut_after: list[int] = []  # bytes towards the client; one number a connection
        self.is_down = False
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break what is open now."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                near.close()
                continue
            self.connections += 1
            far = socket.create_connection(("127.0.0.1", self.target))
            limit = self.cut_after.pop(0) if self.cut_after else None
            self._open |= {near, far}
            for source, sink, most in ((near, far, None), (far, near, limit)):
                threading.Thread(target=self._pump, args=(source, sink, most), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        sent = 0
        try:
            while data := source.recv(4096):
                if most is not None and sent + len(data) >= most:
                    sink.sendall(data[: most - sent])
                    break
                sink.sendall(data)
                sent += len(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)


def wait_for(condition: Any, timeout_s: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


@contextlib.contextmanager
def house_in(home: Path) -> Iterator[House]:
    """A house in a folder, serving."""
    config = EnvironmentConfig(environment="testing")
    with Service.open(config, home=home, identity_policy=POLICY) as service:
        with socket.create_server(("127.0.0.1", 0)) as found:
            port = found.getsockname()[1]
        made = House(service, port)
        made.tenant = service.identity.accounts.create_organisation("north")
        made.start()
        try:
            yield made
        finally:
            made.stop()
