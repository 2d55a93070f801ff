"""The writing side: sections, steps, and a file of one page that is overwritten in place.

Overwriting costs a tenth of replacing (a rename makes a journalling file system write the data out)
and works on a full disk. What a reader could find half written carries a checksum.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from pipeline_guard.heartbeat.pulses import VERSION, Ended, sealed
from pipeline_guard.heartbeat.sketch import SpanSketch
from pipeline_guard.processes import ProcessName
from privacy_runtime.world import Clock, SystemClock

SECTIONS: Final = ("setup", "step", "eval", "checkpoint")
"""Those of a training. A program may have others."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_SECTIONS_MOST: Final = 16
_FIRST: Final = 8
"""The first durations of a section are written at once: a limit waits for them."""
_BEFORE, _AFTER = "setup", "step"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(slots=True)
class _Section:
    """One entered section: when it last got on, and what was spent in sections inside it since."""

    name: str
    moved_s: float
    inside_s: float = 0.0
    beats: int = 0


@dataclass(slots=True)
class _Facts:
    """What the file says, beside times."""

    step: int | None = None
    steps: int | None = None
    is_finite: bool = True
    checkpoint: int | None = None
    ended: Ended | None = None
    reason: str = ""


def _own_name() -> str:
    """This process, as JSON."""
    name = ProcessName.of(os.getpid())
    return "null" if name is None else json.dumps(asdict(name))


@dataclass(slots=True)
class Heartbeat:
    """Says in a file that this process runs, in which section it is, and how far it got.

    Outside every section it is in `setup` up to the first beat, and in `step` from then on.

    Guarantee: `read_pulse` finds the old content or the new one, whole, at any moment; the file is
    4 KiB long; a file system that refuses never stops the program (the file grows old, which a
    reader takes for silence). It holds numbers, section names and times: nothing of the data that
    the program works on. It is not forced to the disk: after a power cut there is nothing to watch.

    How long things take is written too, and may depend a little on private records, as durations
    do; the file is readable for its owner only, and `finish` leaves no durations behind.

    Not to be shared between threads.

    Args:
        path: of the file; its folder exists.
        at_most_every_s: beats that come faster are counted but not written, unless something
            changed beside the step.
        clock: the time; only tests replace it.
    """

    path: Path
    at_most_every_s: float = 0.05
    clock: Clock = field(default_factory=SystemClock)
    _process: str = field(default_factory=_own_name)
    _facts: _Facts = field(default_factory=_Facts)
    _sections: list[_Section] = field(default_factory=list)
    _sketches: dict[str, SpanSketch] = field(default_factory=dict)
    _moved_s: float = 0.0
    _written_s: float = float("-inf")
    _spans_due_s: float = float("-inf")
    _spans_text: str = "{}"

    def __post_init__(self) -> None:
        """Take the place of what an earlier process, or an earlier boot, left there."""
        self.path = Path(self.path)
        self._moved_s = self.clock.monotonic_s()
        self._sections.append(_Section(_BEFORE, self._moved_s))
        self._write(flags=os.O_TRUNC)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Be in a section, then in the one around it again. Both moments count as progress.

        Raises:
            ValueError: the name is not short lower-case letters, digits and `_`, or there are more
                than 16 of them.
        """
        self._require(name)
        entered_s = self._now()
        self._sections.append(_Section(name, entered_s))
        self._write()
        try:
            yield
        finally:
            now_s = self._now()
            left = self._sections.pop()
            if not left.beats:
                self._observe(left, now_s)
            self._sections[-1].inside_s += now_s - entered_s
            self._write()

    def beat(self, step: int, steps: int | None = None, *, is_finite: bool = True) -> None:
        """Say that a step is done.

        Args:
            step: its number. The same number again says "alive", and is no progress.
            steps: how many there will be, where that is known.
            is_finite: whether what the step gave out is finite. In private training that is the
                *noised* update or the weights after it, never a gradient or a loss of records.
        """
        facts, here = self._facts, self._sections[-1]
        changed = is_finite != facts.is_finite
        if step != facts.step:
            now_s = self._now()
            self._observe(here, now_s)
            here.moved_s, here.inside_s = now_s, 0.0
            here.beats += 1
            if len(self._sections) == 1:
                here.name = _AFTER
        facts.step, facts.is_finite = step, is_finite
        if steps is not None:
            facts.steps = steps
        if changed or self.clock.monotonic_s() - self._written_s >= self.at_most_every_s:
            self._write()

    def wrote_checkpoint(self, step: int) -> None:
        """Say that the checkpoint of this step is on the disk."""
        self._facts.checkpoint = step
        self._write()

    def finish(self) -> None:
        """Say that the work is done. Durations go from the file."""
        self._end(Ended.FINISHED)

    def stop(self, reason: str = "") -> None:
        """Say that the work was stopped in order, and can go on later."""
        self._end(Ended.STOPPED, reason)

    def fail(self, reason: str) -> None:
        """Say that the work failed; `reason` is the name of an error, not its message."""
        self._end(Ended.FAILED, reason)

    def _end(self, how: Ended, reason: str = "") -> None:
        self._facts.ended, self._facts.reason = how, reason[:64]
        self._now()
        self._sketches.clear()
        self._spans_due_s = float("-inf")
        self._write()

    def _now(self) -> float:
        """The time, which is also that of the newest progress."""
        self._moved_s = self.clock.monotonic_s()
        return self._moved_s

    def _observe(self, section: _Section, now_s: float) -> None:
        """Count what this section took since it last got on, without the sections inside it."""
        sketch = self._sketches.setdefault(section.name, SpanSketch())
        sketch.add(now_s - section.moved_s - section.inside_s)
        if sketch.count <= _FIRST:
            self._spans_due_s = float("-inf")

    def _require(self, name: str) -> None:
        known = {*self._sketches, *(section.name for section in self._sections)}
        if not _NAME.fullmatch(name) or (name not in known and len(known) >= _SECTIONS_MOST):
            raise ValueError(
                f"a section is named {name[:40]!r}, expected at most {_SECTIONS_MOST} names of at "
                "most 32 lower-case letters, digits and '_'; it was not entered"
            )

    def _spans(self) -> str:
        """How long things took, as JSON; put together at most once a second, for it takes long."""
        if self._written_s >= self._spans_due_s:
            self._spans_due_s = self._written_s + 1
            seen = {name: sketch.spans() for name, sketch in self._sketches.items()}
            self._spans_text = json.dumps(
                {
                    name: [s.count, *(round(v, 6) for v in (s.p50_s, s.p99_s, s.max_s))]
                    for name, s in seen.items()
                }
            )
        return self._spans_text

    def _document(self) -> str:
        facts = self._facts
        return (
            f'{{"version": {VERSION}, "process": {self._process}, '
            f'"section": "{self._sections[-1].name}", '
            f'"step": {_number(facts.step)}, "steps": {_number(facts.steps)}, '
            f'"is_finite": {"true" if facts.is_finite else "false"}, '
            f'"checkpoint": {_number(facts.checkpoint)}, '
            f'"ended": {"null" if facts.ended is None else json.dumps(facts.ended)}, '
            f'"reason": {json.dumps(facts.reason)}, '
            f'"progress_s": {self._moved_s:.4f}, "written_s": {self._written_s:.4f}, '
            f'"at": "{self.clock.now().isoformat(timespec="milliseconds")}", '
            f'"spans": {self._spans()}'
        )

    def _write(self, *, flags: int = 0) -> None:
        """Overwrite the file with one call; closing it is what shows it to other machines."""
        self._written_s = self.clock.monotonic_s()
        with suppress(OSError):  # a full disk must not stop what it is about
            descriptor = os.open(self.path, _FLAGS | flags, 0o600)
            try:
                os.pwrite(descriptor, sealed(self._document()), 0)
            finally:
                os.close(descriptor)


def _number(value: int | None) -> str:
    return "null" if value is None else str(int(value))
