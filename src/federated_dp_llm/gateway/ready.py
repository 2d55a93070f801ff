"""Who is told that an answer is there: a future, or a function that is called at once.

A future wakes a coroutine in the next round of the loop; a function spares that round, the future
and the task. It must be quick, and what it raises would end somebody else's connection: `passage`
lets nothing out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from federated_dp_llm.gateway.faults import BackendFault


class Ready(Protocol):
    """Who is told that an answer is there: a future, or a function in the guise of one."""

    def done(self) -> bool:
        """Whether it was told."""
        ...

    def set_result(self, result: None, /) -> None:
        """It is there."""
        ...

    def set_exception(self, fault: BackendFault, /) -> None:
        """There will be none."""
        ...


class Then:
    """A function that is called once, where a future would be resolved: with the fault or None."""

    __slots__ = ("_call", "_is_done")

    def __init__(self, call: Callable[[BackendFault | None], None]) -> None:
        self._call, self._is_done = call, False

    def done(self) -> bool:
        """Whether it was called."""
        return self._is_done

    def set_result(self, result: None, /) -> None:
        """Call it."""
        self._is_done = True
        self._call(result)

    def set_exception(self, fault: BackendFault, /) -> None:
        """Call it with a fault."""
        self._is_done = True
        self._call(fault)
