"""A router with a gateway: models of backends take the fast path, the others are the router's."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from tests.federated_dp_llm.api.conftest import House, house_in

from federated_dp_llm.api.forwarding import served
from privacy_runtime.http.server import PatientConfig, ServerOptions
from privacy_runtime.identity import Role

ANSWER = (
    b'{"id":"c-1","object":"chat.completion","created":1,"model":"llama","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"from a backend"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}'
)


async def backend(scope: Any, receive: Any, send: Any) -> None:
    """A server that answers every completion alike."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


@contextmanager
def running(app: Any) -> Iterator[str]:
    place = socket.socket()
    place.bind(("127.0.0.1", 0))
    options = ServerOptions(port=place.getsockname()[1])
    config = PatientConfig(app, options)
    config.lifespan = "off" if app is backend else "on"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([place])))
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{options.port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[House, str]]:
    with running(backend) as url:
        section = {"backends": [{"name": "gpu", "url": url, "models": ["llama"]}]}
        house = house_in(tmp_path / "home", change=lambda c: replace(c, gateway=section))
        with running(served(house.app)) as router:
            yield house, router
        house.service.close()


def test_a_backends_model_is_forwarded_and_the_routers_own_is_not(
    house: tuple[House, str],
) -> None:
    deployment, url = house
    doctor = deployment.member(Role.ANALYST)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=doctor.token, max_retries=0)
    words: Any = [{"role": "user", "content": "what is fever"}]

    forwarded = client.chat.completions.create(model="llama", messages=words, max_tokens=16)
    own = client.chat.completions.create(model="private", messages=words)

    assert forwarded.choices[0].message.content == "from a backend"
    assert own.choices[0].message.content == "echo: what is fever"
    assert [m.id for m in client.models.list().data] == ["private", "public", "llama"]
    account = f"user/{doctor.name}/tokens"
    store = deployment.service.standings.allowances
    assert store.balances([account])[account].cap > 0
    viewer = deployment.member(Role.VIEWER)
    stranger = openai.OpenAI(base_url=f"{url}/v1", api_key=viewer.token, max_retries=0)
    with pytest.raises(openai.PermissionDeniedError):
        stranger.chat.completions.create(model="llama", messages=words)
