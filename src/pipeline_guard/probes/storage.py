"""Storage: room on a disk and until when, the age of what should be fresh, checkpoints."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pipeline_guard import checkpoints
from pipeline_guard.checkpoints import Verification
from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Fault, Moment, Pace, Reading
from pipeline_guard.probes.inputs import (
    Patience,
    StillWaiting,
    asked,
    critical,
    ok,
    refused,
    stale,
    unknown,
    warning,
    why,
)
from pipeline_guard.probes.trends import Trend, duration

Share = Annotated[float, Within(0, 1)]
Span = Annotated[float, POSITIVE]


@dataclass(slots=True)
class _DiskState:
    trend: Trend
    device: int = 0
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True)
class DiskProbe:
    """A file system: bytes and inodes that are left, and when a line through the past is full.

    A forecast takes at least `learn_s` of looks; a file system that shrinks (something was deleted)
    is not forecast to fill. It is the space that this user may fill: without the root's reserve.

    Args:
        path: a folder on it.
        warn_s, crit_s: full within this time.
        warn_free, crit_free: shares of bytes, or of inodes, that are left.
        window_s: the forecast looks back so far.
        learn_s: no forecast from less than this.
        answer_s: the file system must answer within this time.
    """

    pace: ClassVar[Pace] = Pace(10.0)

    path: Path
    warn_s: Span = 3_600.0
    crit_s: Span = 900.0
    warn_free: Share = 0.10
    crit_free: Share = 0.03
    window_s: Span = 1_800.0
    learn_s: Span = 60.0
    answer_s: Span = 2.0
    _state: _DiskState = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse limits that are the wrong way round."""
        if self.crit_s > self.warn_s:
            raise refused("crit_s", self.crit_s, f"at most warn_s, {self.warn_s:g}")
        if self.crit_free > self.warn_free:
            raise refused("crit_free", self.crit_free, f"at most warn_free, {self.warn_free:g}")
        object.__setattr__(self, "_state", _DiskState(Trend(self.window_s)))

    def look(self, moment: Moment) -> Reading:
        """Ask the file system, and draw the line."""
        state, evidence = self._state, {"path": str(self.path)}
        found = asked(
            state.patience,
            lambda: (os.statvfs(self.path), self.path.stat().st_dev),
            name=str(self.path),
            within_s=self.answer_s,
            moment=moment,
            evidence=evidence,
        )
        if isinstance(found, Reading):
            return found
        stats, device = found
        if device != state.device:  # another one was mounted: its past is not this one's
            state.trend, state.device = Trend(self.window_s), device
        size = (stats.f_blocks - stats.f_bfree + stats.f_bavail) * stats.f_frsize
        free = stats.f_bavail * stats.f_frsize
        state.trend.add(moment.monotonic_s, float(size - free))
        shares = {"bytes": free / size if size else 0.0}
        if stats.f_files:
            shares["inodes"] = stats.f_favail / stats.f_files
        full_s = math.nan
        if state.trend.span_s >= self.learn_s:
            full_s = state.trend.seconds_to(float(size))
        return self._judged(shares, full_s, free, evidence)

    def _judged(
        self, shares: dict[str, float], full_s: float, free: int, evidence: dict[str, Any]
    ) -> Reading:
        figures = {f"free_{name}_share": share for name, share in shares.items()}
        figures["free_bytes"] = float(free)
        if math.isfinite(full_s):
            figures["full_in_seconds"] = full_s
        left = ", ".join(f"{share:.1%} of {name}" for name, share in shares.items())
        words = f"{left} left"
        if not math.isnan(full_s):
            words += f", full in {duration(full_s)}" if full_s < math.inf else ", not filling"
        least = min(shares.values())
        more: dict[str, Any] = {"measurements": figures, "evidence": evidence}
        if least <= self.crit_free or full_s <= self.crit_s:
            return critical(words, Fault.DISK_FULL, **more)
        if least <= self.warn_free or full_s <= self.warn_s:
            return warning(words, Fault.DISK_FULL, **more)
        return ok(words, **more)


@dataclass(frozen=True, kw_only=True)
class FreshnessProbe:
    """A file, or the newest of a folder: it is not older than it may be, and not empty.

    =================================  =========================================================
    the file                           is
    =================================  =========================================================
    missing                            critical: stale
    empty                              critical: stale, whatever its time
    from the future by over a minute   unknown: one of two clocks is wrong
    a folder                           as old as the newest file in it that fits `pattern`
    =================================  =========================================================

    Args:
        path: the file or folder.
        pattern: in a folder, these files.
        warn_s, crit_s: the greatest age.
        watermark: a key of the file, which is then a JSON object: the POSIX seconds, or the instant
            with a time zone, of its newest row. Without: the time of its last change.
        answer_s: the file system must answer within this time.
    """

    pace: ClassVar[Pace] = Pace(10.0)

    path: Path
    crit_s: Span
    warn_s: Span | None = None
    pattern: str = "*"
    watermark: str = ""
    answer_s: Span = 2.0
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Compare its time with now."""
        evidence: dict[str, Any] = {"path": str(self.path)}
        found = asked(
            self._patience,
            self._newest,
            name=self.path.name,
            within_s=self.answer_s,
            moment=moment,
            missing=stale,
            evidence=evidence,
        )
        return found if isinstance(found, Reading) else self._judged(*found, moment, evidence)

    def _judged(
        self, name: str, size: int, at_s: float, moment: Moment, evidence: dict[str, Any]
    ) -> Reading:
        evidence["file"] = name
        if size == 0:
            return stale(f"{name} is empty", evidence=evidence)
        age_s = moment.at.timestamp() - at_s
        more: dict[str, Any] = {"measurements": {"age_seconds": age_s}, "evidence": evidence}
        if age_s < -60:
            return unknown(f"{name} is from {-age_s:.0f} s in the future", evidence=evidence)
        words = f"{name} is {duration(max(0.0, age_s))} old"
        if age_s > self.crit_s:
            return stale(f"{words}, over {duration(self.crit_s)}", **more)
        if self.warn_s is not None and age_s > self.warn_s:
            return warning(f"{words}, over {duration(self.warn_s)}", Fault.STALE_DATA, **more)
        return ok(words, **more)

    def _newest(self) -> tuple[str, int, float]:
        """Name, size and time of the file to judge."""
        path = self.path
        if path.is_dir():
            files = [p for p in path.glob(self.pattern) if p.is_file()]
            if not files:
                raise FileNotFoundError
            path = max(files, key=lambda p: p.stat().st_mtime)
        stats = path.stat()
        if self.watermark and stats.st_size:
            return path.name, stats.st_size, _watermark(path, self.watermark)
        return path.name, stats.st_size, stats.st_mtime


@dataclass(slots=True)
class _Known:
    """What was found in a checkpoint, and when."""

    stamp: Any
    at_s: float
    found: Verification


@dataclass(frozen=True, kw_only=True)
class CheckpointProbe:
    """The newest checkpoints of a run: every byte is what was written.

    Reading a large one takes longer than a look may. So it is read beside the looks, which say what
    is known so far; one that did not change is not read again before `again_s`.

    Args:
        run: the run's folder.
        pattern: of its checkpoints; a name ends with the step.
        newest: so many are verified.
        expected: there must be at least one. Without, none is well.
        again_s: bits rot: they are read again after this time.
        answer_s: a look waits so long for a reading that is under way.
        read_s: a reading that takes longer is unknown.
    """

    pace: ClassVar[Pace] = Pace(10.0)

    run: Path
    pattern: str = "checkpoint-*"
    newest: Annotated[int, Within(1, 100)] = 2
    expected: bool = False
    again_s: Span = 86_400.0
    answer_s: Span = 2.0
    read_s: Span = 600.0
    _known: dict[str, _Known] = field(default_factory=dict, init=False, repr=False, compare=False)
    _patience: Patience = field(default_factory=Patience, init=False, repr=False, compare=False)

    def look(self, moment: Moment) -> Reading:
        """Say what is known, after reading what is new."""
        evidence: dict[str, Any] = {"run": str(self.run)}
        reading_for_s = 0.0
        try:
            self._patience.call(
                lambda: self._read_new(moment), within_s=self.answer_s, now_s=moment.monotonic_s
            )
        except StillWaiting as error:
            reading_for_s = error.for_s
        except NotADirectoryError:
            return unknown(f"{self.run.name} is not a folder that is there", evidence=evidence)
        except OSError as error:
            return unknown(f"{self.run} cannot be read: {why(error)}", evidence=evidence)
        return self._judged(reading_for_s, evidence)

    def _read_new(self, moment: Moment) -> None:
        if not self.run.is_dir():
            raise NotADirectoryError
        found = checkpoints.found_in(self.run, self.pattern)[-self.newest :]
        for name in set(self._known) - {path.name for path in found}:
            self._known.pop(name, None)
        for path in reversed(found):
            try:
                stamp = checkpoints.stamp_of(path)
                known = self._known.get(path.name)
                is_fresh = known is not None and moment.monotonic_s - known.at_s < self.again_s
                if known is None or known.stamp != stamp or not is_fresh:
                    verified = checkpoints.verify(path)
                    self._known[path.name] = _Known(stamp, moment.monotonic_s, verified)
            except FileNotFoundError:
                self._known.pop(path.name, None)  # the run has just removed it

    def _judged(self, reading_for_s: float, evidence: dict[str, Any]) -> Reading:
        known = {name: known.found for name, known in list(self._known.items())}
        sound = [name for name, found in known.items() if found.is_sound]
        damaged = sorted(name for name, found in known.items() if not found.is_sound)
        newest = max(sound, key=lambda name: checkpoints.step_of(Path(name)), default=None)
        evidence |= {"sound": newest, "damaged": {name: known[name].faults[:5] for name in damaged}}
        figures = {"checkpoints_damaged": float(len(damaged))}
        if newest is not None:
            figures["newest_sound_step"] = float(checkpoints.step_of(Path(newest)))
        more: dict[str, Any] = {"measurements": figures, "evidence": evidence}
        if damaged:
            words = f"{', '.join(damaged)}: {known[damaged[0]].faults[0]}"
            return critical(words, Fault.CORRUPT_CHECKPOINT, **more)
        if reading_for_s > self.read_s:
            return unknown(f"a reading has taken {reading_for_s:.0f} s", evidence=evidence)
        if newest is None and reading_for_s > 0:
            return unknown("the first checkpoint is still being read", evidence=evidence)
        if newest is None:
            if self.expected:
                return critical("there is no checkpoint", Fault.CORRUPT_CHECKPOINT, **more)
            return ok("there is no checkpoint yet", **more)
        how = "verified" if known[newest].is_verified else "of the right form, without digests"
        return ok(f"{newest} is {how}", **more)


def _watermark(path: Path, key: str) -> float:
    """The POSIX seconds that a JSON file says for its newest row."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError("it is not JSON") from error
    value = document.get(key) if isinstance(document, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"its {key!r} is no instant") from error
        if at.tzinfo is not None:
            return at.timestamp()
    raise ValueError(f"its {key!r} is neither POSIX seconds nor an instant with a time zone")
