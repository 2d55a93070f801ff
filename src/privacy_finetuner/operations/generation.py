"""Models at hand: one process for each, few at a time, the least recently asked makes room.

Asking a finished model is post-processing: it costs no budget however often it happens. What it
costs is memory and time, and both have limits:

==========================  ======================================================================
when                        then
==========================  ======================================================================
another model is asked      the process of the least recently asked one ends; one that is at work
and all places are taken    is waited for
a question takes too long   its process is killed; the next question starts another
a process dies (memory)     the question is refused and says so; the next one starts another
too many questions wait     `GenerationBusy`; nothing was asked
nobody asks for a while     the process ends
==========================  ======================================================================
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privacy_finetuner.operations.errors import GenerationBusy, GenerationFailed, GenerationRefused
from privacy_finetuner.operations.generator import READY
from privacy_runtime.world import Clock

COMMAND: Final = (sys.executable, "-m", "privacy_finetuner.operations.generator")
GIBIBYTE: Final = 1024**3
_LINE_MOST: Final = 16 * 1024 * 1024
_PASSED_ON: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationLimits:
    """How much models may take.

    Attributes:
        models: at hand at once.
        waiting: questions that wait at once.
        load_s, answer_s: how long loading and one answer may take, in seconds.
        idle_s: after which a process that nobody asks ends, when somebody asks another.
        memory_bytes: of each process (`RLIMIT_DATA`).
    """

    models: int = 2
    waiting: int = 16
    load_s: float = 120.0
    answer_s: float = 60.0
    idle_s: float = 900.0
    memory_bytes: int = 8 * GIBIBYTE


class Generators:
    """The models at hand. For any number of threads.

    Args:
        clock: measures.
        limits: see there.
        command: starts a process that speaks as `operations.generator` does.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        limits: GenerationLimits | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._clock, self._command = clock, tuple(command)
        self.limits = limits or GenerationLimits()
        self._lock = threading.Lock()
        self._held: OrderedDict[Path, _Model] = OrderedDict()
        self._waiting = 0
        self._is_closed = False

    def ask(
        self, model: Path, prompt: str, *, max_new_tokens: int = 64, temperature: float = 0.0
    ) -> str:
        """Continue a prompt with the model in a folder.

        Raises:
            GenerationBusy: too many questions wait.
            GenerationRefused: it cannot be loaded, does not generate, or refuses the question.
            GenerationFailed: it took too long or needed too much memory.
        """
        question = {
            "prompt": prompt,
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
        }
        with self._lock:
            if self._is_closed or self._waiting >= self.limits.waiting:
                raise GenerationBusy("as many questions wait as may")
            self._waiting += 1
            held, leaving = self._place(model)
        try:
            for each in leaving:
                each.end()
            return held.ask(question)
        finally:
            with self._lock:
                self._waiting -= 1
                held.asking -= 1

    def close(self) -> None:
        """End every process. Nothing is asked any more."""
        with self._lock:
            self._is_closed = True
            held = list(self._held.values())
            self._held.clear()
        for each in held:
            each.stop()
        for each in held:
            each.end()

    def _place(self, model: Path) -> tuple[_Model, list[_Model]]:
        """The process for a model, and those that make room for it. The lock is held."""
        now_s = self._clock.monotonic_s()
        held = self._held.get(model)
        if held is None:
            held = self._held[model] = _Model(model, self._command, self.limits, self._clock)
        self._held.move_to_end(model)
        held.asked_s = now_s
        held.asking += 1
        free = [each for each in self._held.values() if not each.asking]
        too_many = len(self._held) - self.limits.models
        if too_many > len(free):
            held.asking -= 1
            if not held.asking:
                del self._held[model]
            self._waiting -= 1
            raise GenerationBusy("every place for a model is at work")
        idle = [each for each in free if now_s - each.asked_s > self.limits.idle_s]
        leaving = list(dict.fromkeys([*free[: max(0, too_many)], *idle]))
        for each in leaving:
            del self._held[each.folder]
        return held, leaving


class _Model:
    """One model's process, asked by one thread at a time."""

    def __init__(
        self, folder: Path, command: Sequence[str], limits: GenerationLimits, clock: Clock
    ) -> None:
        self.folder, self._limits, self._clock = folder, limits, clock
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()  # who asks
        self._guard = threading.Lock()  # whose number the process is: a reaped one is another's
        self._is_over = False
        self._rest = b""
        self.asked_s = 0.0
        self.asking = 0

    def ask(self, question: Mapping[str, Any]) -> str:
        """One question, one answer."""
        with self._turn:
            if self._is_over:
                raise GenerationBusy("the model made room for another")
            process = self._started()
            line = json.dumps(question).encode() + b"\n"
            try:
                assert process.stdin is not None  # noqa: S101  it was made with pipes
                process.stdin.write(line)
                process.stdin.flush()
            except OSError:
                self._kill()
                raise GenerationFailed("the model's process had ended") from None
            answer = self._read(self._limits.answer_s, "answer")
        if "error" in answer:
            raise GenerationRefused(f"the model refused: {answer['message']}")
        return str(answer["text"])

    def stop(self) -> None:
        """Kill the process, also while it is at work; who waits for its answer hears of its end."""
        with self._guard:
            self._is_over = True
            self._signal()

    def end(self) -> None:
        """Let it go once it is not at work, for good."""
        with self._turn:
            self._is_over = True
            self._kill()

    def _kill(self) -> None:
        """End the process and reap it. Whose turn it is calls this: nobody else reads its pipe."""
        with self._guard:
            process, self._rest = self._process, b""
            if process is None:
                return
            self._signal()
            process.wait()
            self._process = None
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _signal(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        limits = self._limits
        arguments = (str(self.folder), str(os.getpid()), str(limits.memory_bytes))
        self._process = subprocess.Popen(  # noqa: S603 -- our own module, or a test's
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
        first = self._read(limits.load_s, "load")
        if READY not in first:
            self._kill()
            raise GenerationRefused(f"the model cannot be asked: {first.get('message', 'unknown')}")
        return self._process

    def _read(self, limit_s: float, what: str) -> dict[str, Any]:
        """The next line of the process, or its end."""
        process = self._process
        assert process is not None and process.stdout is not None  # noqa: S101, PT018
        descriptor = process.stdout.fileno()
        until_s = self._clock.monotonic_s() + limit_s
        while b"\n" not in self._rest:
            left_s = max(0.0, until_s - self._clock.monotonic_s())
            ready, _, _ = select.select([descriptor], [], [], left_s)
            if not ready:
                self._kill()
                raise GenerationFailed(f"the model did not {what} within {limit_s:g} s")
            piece = os.read(descriptor, 65_536)
            if not piece or len(self._rest) > _LINE_MOST:
                raise self._died(what)
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            document = json.loads(line)
        except ValueError:
            raise self._died(what) from None
        if not isinstance(document, dict):
            raise self._died(what)
        return document

    def _died(self, what: str) -> GenerationFailed:
        self._kill()
        return GenerationFailed(
            f"the model's process ended while it should {what}; it may have needed more than "
            f"{self._limits.memory_bytes // GIBIBYTE} GiB of memory"
        )


def _environment() -> dict[str, str]:
    """What a child may know of our environment: no secret, and no hub."""
    known = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return {**known, **offline, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
