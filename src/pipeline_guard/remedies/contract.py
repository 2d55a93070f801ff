"""What a remedy promises before it does anything, as a check for authors of plugins.

::

    def test_my_remedy_keeps_the_contract():
        assert violations(MyRemedy, {"unit": "x"}, case) == []

Whether `apply` does what it says needs a test of its own: this check never calls it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from pipeline_guard.config import build
from pipeline_guard.errors import PipelineGuardError, RecoveryError
from pipeline_guard.model import Case

PROTECTED: Final = re.compile(
    r"(?<!micro_)batch_size|sampling|sample_rate|clip|noise|grad_norm|epsilon|delta"
)
"""Names of what decides the privacy of a training: no parameter of a remedy may be one of them."""
_LINE_MOST: Final = 300


def violations(kind: type, parameters: Mapping[str, Any], case: Case) -> list[str]:
    """What a remedy does otherwise than it promises; empty where it keeps its word."""
    found = shape_of(kind)
    try:
        remedy = build("it", parameters, {"it": kind}, "contract")
    except PipelineGuardError as error:
        return [*found, f"cannot be made: {error.message}"]
    for name, may_be_none in (("objection", True), ("intent", False)):
        try:
            said = getattr(remedy, name)(case)
        except RecoveryError:
            continue  # it says why
        except Exception as error:  # noqa: BLE001 -- whatever else it raises is a breach
            found.append(f"{name} raised {type(error).__name__}")
            continue
        if said is None and may_be_none:
            continue
        if not isinstance(said, str) or not said or "\n" in said or len(said) > _LINE_MOST:
            found.append(f"{name} is not one line of at most {_LINE_MOST} characters")
    return found


def shape_of(kind: type) -> list[str]:
    """What is wrong with the class."""
    if not is_dataclass(kind):
        return ["it is no dataclass: its fields are its parameters"]
    found = []
    if not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # every dataclass has it
        found.append("it is not frozen")
    text = inspect.getdoc(kind) or ""
    for each in fields(kind):
        if each.name.startswith("_") or not each.init:
            continue
        if PROTECTED.search(each.name):
            found.append(f"{each.name!r} decides the privacy of a training: a remedy has no say")
        if not re.search(rf"\b{re.escape(each.name.rstrip('_'))}\b", text):
            found.append(f"its docstring does not say what {each.name!r} is")
    for method in ("objection", "intent", "apply"):
        if not callable(getattr(kind, method, None)):
            found.append(f"it has no method {method!r}")
    return found
