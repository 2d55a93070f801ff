"""Play a scene with a real guard, and measure: when it knew, when it was well, what it cost."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline_guard.errors import ConfigurationError, PipelineGuardError
from pipeline_guard.guard import SelfHealingPipelineGuard
from pipeline_guard.guard.events import Event, Happening
from pipeline_guard.guard.watch import Watch
from pipeline_guard.model import Fault
from pipeline_guard.rehearsal.injections import Impossible
from pipeline_guard.rehearsal.stage import Repertoire, Scene
from privacy_runtime.world import Clock

LIMIT_S: Final = 300.0
"""For each part of a trial: until the fault may come, and until all is whole again."""
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How one fault went.

    Attributes:
        fault: which.
        detected_s: from the fault until the guard had confirmed it; `None`: it never did.
        recovered_s: from then until its checks said that it is over.
        healed: whether the checks said so, what was hurt finished its work, and, for a training,
            the ledger says exactly the price of an undisturbed run.
        lost_steps: of a training: those since the newest checkpoint that was whole. They stay
            charged.
        epsilon_difference: charged, less the price of an undisturbed run; `None` where nothing
            private ran, or where it cannot be said.
        note: why it is not healed, or could not be rehearsed here.
    """

    fault: str
    detected_s: float | None
    recovered_s: float | None
    healed: bool
    lost_steps: int | None = None
    epsilon_difference: float | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def rehearse(
    names: Iterable[str],
    scenes: Repertoire,
    *,
    clock: Clock,
    tell: Callable[[str], None] = lambda _: None,
    limit_s: float = LIMIT_S,
) -> list[Trial]:
    """Play scenes one after the other, each in a folder that is thrown away.

    Args:
        names: of those that are played.
        scenes: that there are.
        clock: measures.
        tell: hears what is played now.
        limit_s: for each part of a trial.

    Raises:
        ConfigurationError: there is no such scene; nothing was played.
    """
    wanted = list(names)
    unknown = [name for name in wanted if name not in scenes]
    if unknown:
        raise ConfigurationError(
            f"there is no fault {unknown[0]!r} to rehearse; known: {', '.join(scenes)}",
            {"parameter": "fault", "value": unknown[0], "constraint": f"one of {list(scenes)}"},
        )
    trials = []
    for name in wanted:
        tell(name)
        with tempfile.TemporaryDirectory(prefix="rehearsal-", ignore_cleanup_errors=True) as place:
            trials.append(_trial(name, scenes[name], Path(place), clock, limit_s))
    return trials


def _trial(
    name: str, make: Callable[[Path], Scene], folder: Path, clock: Clock, limit_s: float
) -> Trial:
    try:
        scene = make(folder)
    except Impossible as error:
        return _impossible(name, error)
    try:
        return asyncio.run(_played(scene, folder, clock, limit_s))
    except PipelineGuardError as error:
        return _impossible(name, error)
    finally:
        scene.end()


@dataclass(slots=True)
class _Heard:
    """What the guard said, and when."""

    clock: Clock
    faults: frozenset[Fault]
    is_listening: bool = False
    injected_s: float | None = None
    detected_s: float | None = None
    over_s: float | None = None
    standing: int = 0
    words: list[str] = field(default_factory=list)

    def __call__(self, events: Sequence[Event], watch: Watch) -> None:
        """An observer of the guard."""
        now_s = self.clock.monotonic_s()
        self.standing = len(watch.incidents)
        for event in events:
            if not self.is_listening:
                continue
            self.words.append(event.text)
            if event.kind is Happening.OPENED and self.detected_s is None:
                if event.data.get("fault") in {fault.value for fault in self.faults}:
                    self.detected_s = now_s
            elif event.kind in (Happening.HEALED, Happening.RESOLVED) and not self.standing:
                self.over_s = now_s


async def _played(scene: Scene, folder: Path, clock: Clock, limit_s: float) -> Trial:
    path = folder / "guard.yaml"
    # JSON is YAML 1.2, which the guard reads: 1e-6 in a command stays a text.
    path.write_text(json.dumps({**scene.config, "store": {"path": str(folder / "guard.db")}}))
    guard = SelfHealingPipelineGuard(path)
    heard = _Heard(clock, scene.faults)
    guard.add_observer(heard)
    await asyncio.to_thread(scene.start)
    await _until(scene.is_ready, clock, limit_s, "the fault could come")
    await guard.start_monitoring()
    try:
        heard.is_listening, began_s = True, clock.monotonic_s()
        came_s = await asyncio.to_thread(scene.inject)
        heard.injected_s = began_s if came_s is None else came_s
        lost = await _healed(scene, heard, clock, limit_s)
        note = ""
    except PipelineGuardError as error:
        lost, note = None, f"{error.message}; {'; '.join(heard.words[-3:])}"
    finally:
        guard.stop_monitoring()
        await guard.wait_stopped()
    difference = scene.subject.epsilon_difference() if scene.subject and not note else None
    if not note and scene.subject is not None and difference != 0.0:
        note = "the ledger does not say the price of an undisturbed run"
    detected_s, over_s = heard.detected_s, heard.over_s
    return Trial(
        fault=scene.name,
        detected_s=_between(heard.injected_s, detected_s),
        recovered_s=_between(detected_s, over_s),
        healed=not note,
        lost_steps=lost,
        epsilon_difference=difference,
        note=note,
    )


async def _healed(scene: Scene, heard: _Heard, clock: Clock, limit_s: float) -> int | None:
    """Wait until the guard calls it over and the work is done; returns the steps that were lost."""
    hurt, again = scene.pulse(), None

    def is_over() -> bool:
        nonlocal again
        pulse = scene.pulse()
        if again is None and pulse and hurt and pulse.process != hurt.process:
            again = pulse
        is_known = heard.detected_s is not None and heard.over_s is not None
        return is_known and not heard.standing and scene.is_over()

    await _until(is_over, clock, limit_s, "it was healed")
    if hurt is None:
        return None
    if again is None:
        return 0
    kept = min((e.checkpoint for e in (hurt, again) if e.checkpoint is not None), default=0)
    return max(0, (hurt.step or 0) - kept)


async def _until(condition: Callable[[], bool], clock: Clock, limit_s: float, what: str) -> None:
    end_s = clock.monotonic_s() + limit_s
    while not await asyncio.to_thread(condition):
        if clock.monotonic_s() > end_s:
            raise PipelineGuardError(f"{limit_s:.0f} s went by before {what}")
        await asyncio.sleep(_POLL_S)


def _between(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else round(max(0.0, end_s - start_s), 3)


def _impossible(name: str, error: PipelineGuardError) -> Trial:
    return Trial(fault=name, detected_s=None, recovered_s=None, healed=False, note=error.message)
