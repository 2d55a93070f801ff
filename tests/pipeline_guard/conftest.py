"""What tests of the guard share: no child outlives its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline_guard import processes


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    yield
    for child in list(processes._children.values()):
        child.kill()
        child.wait()
    processes._children.clear()
