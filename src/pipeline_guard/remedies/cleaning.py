"""Cleaning: remove what a retention list lets go, below one folder and nowhere else."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pipeline_guard import checkpoints
from pipeline_guard.config.values import POSITIVE, Within
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import LAST_S, locked, needs, path_setting, refusal

_PARTS_LEAST: Final = 3  # "/", a folder, and one in it
_SHOWN: Final = 100


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Remove files by a retention list, below one folder.

    ==========================  ================================================================
    is never removed            because
    ==========================  ================================================================
    the newest `keep_last`      a run goes on from them
    checkpoints of each folder
    what is not in `patterns`   the list says what may go
    what is younger             somebody may still write it
    a symbolic link, and what   it leads elsewhere
    lies behind one
    another file system         it would not free this one
    ==========================  ================================================================

    What was removed cannot be brought back; the evidence lists it.

    Args:
        root: the folder. Setting `root`.
        patterns: what may go, below it: `*/tmp/*`, `**/*.log`; a folder goes as a whole.
        older_than_s: only what was not changed for so long.
        checkpoints: of runs below it, as a pattern of their names; empty: none are removed.
        keep_last: of the checkpoints in one folder.
        most: so many are removed at a time.
    """

    root: Path | None = None
    patterns: tuple[str, ...] = ()
    older_than_s: Annotated[float, POSITIVE] = 86_400.0
    checkpoints: str = ""
    keep_last: Annotated[int, Within(1)] = 3
    most: Annotated[int, Within(1)] = 10_000

    def objection(self, case: Case) -> str | None:
        """Refuse a folder that is too much, and a list that leaves it."""
        root = path_setting(case, self.root, "root")
        if root is None:
            return needs("root")
        if not self.patterns and not self.checkpoints:
            return "there is no retention list: 'patterns' or 'checkpoints'"
        if any(p.startswith("/") or ".." in Path(p).parts for p in self.patterns):
            return "a pattern leads out of the folder"
        real = Path(os.path.realpath(root))
        if len(real.parts) < _PARTS_LEAST or real == Path.home():
            return f"{root} is too much to clean: name a folder below it"
        if not real.is_dir():
            return f"{root} is not there"
        return None if self._candidates(real) else "nothing may go"

    def intent(self, case: Case) -> str:
        """How much, and where."""
        root = path_setting(case, self.root, "root")
        is_there = root is not None and root.is_dir()
        found = self._candidates(Path(os.path.realpath(root))) if root and is_there else []
        size = sum(_size(path) for path in found)
        return f"remove {len(found)} entries, {size / 1e6:.1f} MB, below {root}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Remove them, oldest first, until time is up."""
        wrong = self.objection(case)
        root = path_setting(case, self.root, "root")
        if wrong is not None or root is None:
            raise refusal(wrong or needs("root"))
        real = Path(os.path.realpath(root))
        until_s = time.monotonic() + within_s - LAST_S
        removed: list[str] = []
        freed, left = 0, 0
        with locked(f"clean:{real}"):
            for path in self._candidates(real):
                if time.monotonic() > until_s:
                    break
                size = _size(path)
                if _removed(path):
                    removed.append(str(path.relative_to(real)))
                    freed += size
                else:
                    left += 1
        evidence: dict[str, Any] = {
            "root": str(real), "removed": removed[:_SHOWN], "count": len(removed),
            "freed_bytes": freed, "could_not": left,
        }  # fmt: skip
        if not removed:
            raise refusal(f"none of {left} entries could be removed", could_not=left)
        words = f"{len(removed)} entries removed, {freed / 1e6:.1f} MB"
        return Applied(summary=words, evidence=evidence)

    def _candidates(self, root: Path) -> list[Path]:
        """What may go, oldest first. Depends on the machine's clock as files' times do."""
        device = root.stat().st_dev
        newest_s = _file_clock_s(root) - self.older_than_s
        kept = self._kept(root)
        found: dict[Path, float] = {}
        for pattern in (*self.patterns, *([f"**/{self.checkpoints}"] if self.checkpoints else [])):
            is_checkpoint = pattern == f"**/{self.checkpoints}"
            for path in root.glob(pattern):
                if not _is_inside(path, root) or _is_or_holds(path, kept):
                    continue
                stats = path.lstat()
                is_young = not is_checkpoint and stats.st_mtime > newest_s
                if stats.st_dev == device and not is_young:
                    found[path] = stats.st_mtime
        whole = [p for p in found if not any(parent in found for parent in p.parents)]
        return sorted(whole, key=lambda p: found[p])[: self.most]

    def _kept(self, root: Path) -> frozenset[Path]:
        """The newest checkpoints of every folder that has some, whatever the list says."""
        pattern = self.checkpoints or "checkpoint-*"
        folders = {path.parent for path in root.glob(f"**/{pattern}")}
        kept = (checkpoints.found_in(each, pattern)[-self.keep_last :] for each in folders)
        return frozenset(path for group in kept for path in group)


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a path is below a folder itself, through no link."""
    return not path.is_symlink() and os.path.realpath(path) == str(path) and root in path.parents


def _is_or_holds(path: Path, kept: frozenset[Path]) -> bool:
    return any(path == each or path in each.parents or each in path.parents for each in kept)


def _file_clock_s(root: Path) -> float:
    """Now, by the clock that stamps the files there: a network file system has its own."""
    probe = root / f".guard-{os.getpid()}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:  # it is full, or read only: the folder's own time is a safe "now"
        return root.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        if not path.is_dir():
            return path.lstat().st_blocks * 512
        return sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))
    except OSError:
        return 0


def _removed(path: Path) -> bool:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return False
    return True
