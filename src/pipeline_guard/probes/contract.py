"""What a probe promises, as a check that authors of plugins run in their tests.

::

    def test_my_probe_keeps_the_contract():
        assert violations(MyProbe, {"path": "x"}) == []
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from pipeline_guard.config import build
from pipeline_guard.errors import PipelineGuardError
from pipeline_guard.model import Fault, Moment, Reading, Verdict
from privacy_runtime.world import Clock, SystemClock

_METRIC: Final = re.compile(r"[a-z][a-z0-9_.]*")
_SUMMARY_MOST: Final = 300


def violations(
    kind: type, parameters: Mapping[str, Any], *, clock: Clock | None = None, looks: int = 2
) -> list[str]:
    """What a probe does otherwise than it promises; empty where it keeps its word.

    It is made from its parameters as YAML has them, and looked at so many times: give it parameters
    under which a look is harmless.
    """
    found = shape_of(kind, "look")
    try:
        probe = build("it", parameters, {"it": kind}, "contract")
    except PipelineGuardError as error:
        return [*found, f"cannot be made: {error.message}"]
    world = clock or SystemClock()
    for _ in range(looks):
        try:
            reading = probe.look(Moment(world.now(), world.monotonic_s()))
            if inspect.isawaitable(reading):
                reading = asyncio.run(_awaited(reading))
        except Exception as error:  # noqa: BLE001 -- whatever it raises is a breach
            return [*found, f"a look raised {type(error).__name__}"]
        found += wrong_in(reading)
    return found


def wrong_in(reading: Any) -> list[str]:
    """What is wrong with a reading."""
    if not isinstance(reading, Reading):
        return [f"a look returned a {type(reading).__name__}, expected a Reading"]
    said: Any = reading  # a plugin may put anything into its fields
    found = []
    if not isinstance(said.verdict, Verdict):
        found.append("its verdict is no Verdict")
    if not reading.summary or "\n" in reading.summary or len(reading.summary) > _SUMMARY_MOST:
        found.append(f"its summary is not one line of at most {_SUMMARY_MOST} characters")
    if said.fault is not None and not isinstance(said.fault, Fault):
        found.append("its fault is no Fault")
    if reading.verdict is Verdict.OK and reading.fault is not None:
        found.append("all is well, and it names a fault")
    for name, value in said.measurements.items():
        if not _METRIC.fullmatch(name) or not isinstance(value, float) or not math.isfinite(value):
            found.append(f"measurement {name!r} is no finite float under a plain name")
    try:
        json.dumps(dict(reading.evidence), allow_nan=False)
    except (TypeError, ValueError):
        found.append("its evidence is not JSON")
    return found


def shape_of(kind: type, *methods: str) -> list[str]:
    """What is wrong with the class of a probe or a remedy."""
    if not is_dataclass(kind):
        return ["it is no dataclass: its fields are its parameters"]
    found = []
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # every dataclass has it
        found.append("it is not frozen")
    text = inspect.getdoc(kind) or ""
    for each in fields(kind):
        is_own = each.init and not each.name.startswith("_") and not each.metadata
        if is_own and not re.search(rf"\b{re.escape(each.name.rstrip('_'))}\b", text):
            found.append(f"its docstring does not say what {each.name!r} is")
    for method in methods:
        if not callable(getattr(kind, method, None)):
            found.append(f"it has no method {method!r}")
    return found


async def _awaited(reading: Any) -> Any:
    return await reading
