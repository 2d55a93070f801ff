from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from privacy_finetuner.client import AsyncClient, Client
from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.blocking.paging import Group

ROOT = Path(__file__).parents[3]


def test_the_blocking_client_is_what_is_made_from_the_asynchronous_one() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "blocking_client.py"), "--check"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    one, two = Client("https://a", api_key="k"), AsyncClient("https://a", api_key="k")
    groups = {name for name, group in vars(one).items() if isinstance(group, Group)}

    assert groups == {name for name, group in vars(two).items() if isinstance(group, AsyncGroup)}
    assert len(groups) >= 13
    for name in groups:
        assert public(type(getattr(one, name))) == public(type(getattr(two, name))), name
    assert public(Client) == public(AsyncClient)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_every_public_method_says_what_it_does(kind: Any) -> None:
    client = kind("https://a", api_key="k")
    groups = [group for group in vars(client).values() if isinstance(group, Group | AsyncGroup)]
    silent = [
        f"{type(owner).__name__}.{name}"
        for owner in (client, *groups)
        for name, method in inspect.getmembers(owner, inspect.ismethod)
        if not name.startswith("_") and not method.__doc__
    ]

    assert not silent


def test_the_client_loads_no_torch_and_no_web_framework() -> None:
    heavy = ("torch", "transformers", "fastapi", "sqlalchemy", "pydantic", "mcp", "uvicorn")
    code = (
        "import sys; import privacy_finetuner.client; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.strip() == "[]"
