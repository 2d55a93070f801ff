"""Versions: a symbolic link leads back to the one before, or over to a stand-by."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline_guard import checkpoints
from pipeline_guard.checkpoints import OutOfTime
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import locked, needs, path_setting, refusal, until

_NUMBERS: Final = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class RollBack:
    """Let a symbolic link lead to the version before: of a model, or of any deployed artefact.

    The link is replaced at once: a reader finds the one version or the other. A version with
    digests is verified first.

    Args:
        link: leads to the current version. Setting `link`.
        versions: the folder that they are in. Setting `versions`.
        pattern: of their names; the number in a name orders them.
        to: a version by name; empty: the one before the current.
    """

    link: Path | None = None
    versions: Path | None = None
    pattern: str = "*"
    to: str = ""

    def objection(self, case: Case) -> str | None:
        """Refuse without a link and a version before."""
        found = self._both(case)
        return found if isinstance(found, str) else None

    def intent(self, case: Case) -> str:
        """From which to which."""
        found = self._both(case)
        return found if isinstance(found, str) else f"from {found[1].name} back to {found[2].name}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Verify the version, and switch."""
        found = self._both(case)
        if isinstance(found, str):
            raise refusal(found)
        link, current, target = found
        with locked(f"link:{link}"):
            if target.is_dir() and not _is_sound(target, until(within_s)):
                raise refusal(f"{target.name} is damaged itself")
            switch(link, target)
        evidence = {"link": str(link), "before": str(current), "after": str(target)}
        return Applied(summary=f"{link.name} leads to {target.name}", evidence=evidence)

    def _both(self, case: Case) -> tuple[Path, Path, Path] | str:
        link = path_setting(case, self.link, "link")
        versions = path_setting(case, self.versions, "versions")
        if link is None or versions is None:
            return needs("link" if link is None else "versions")
        if not link.is_symlink():
            return f"{link.name} is no symbolic link"
        current = Path(os.path.realpath(link))
        root = Path(os.path.realpath(versions))
        if current.parent != root:
            return f"{link.name} leads out of {versions.name}"
        known = sorted((p for p in root.glob(self.pattern) if not p.is_symlink()), key=_in_order)
        if self.to:
            named = [path for path in known if path.name == self.to]
            return (link, current, named[0]) if named else f"there is no version {self.to!r}"
        earlier = [path for path in known if _in_order(path) < _in_order(current)]
        return (link, current, earlier[-1]) if earlier else "there is no version before it"


@dataclass(frozen=True, kw_only=True)
class FailOver:
    """Let a symbolic link lead to a stand-by: a configuration, a socket, a folder.

    Args:
        link: what the others use. Setting `link`.
        standby: what it shall lead to. Setting `standby`.
    """

    link: Path | None = None
    standby: Path | None = None

    def objection(self, case: Case) -> str | None:
        """Refuse without a stand-by that is there, and where it is in use already."""
        link = path_setting(case, self.link, "link")
        standby = path_setting(case, self.standby, "standby")
        if link is None or standby is None:
            return needs("link" if link is None else "standby")
        if not link.is_symlink():
            return f"{link.name} is no symbolic link"
        if not standby.exists():
            return f"{standby.name} is not there"
        is_used = Path(os.path.realpath(link)) == Path(os.path.realpath(standby))
        return f"{standby.name} is in use already" if is_used else None

    def intent(self, case: Case) -> str:
        """To what."""
        return f"fail over to {path_setting(case, self.standby, 'standby')}"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Switch."""
        wrong = self.objection(case)
        link = path_setting(case, self.link, "link")
        standby = path_setting(case, self.standby, "standby")
        if wrong is not None or link is None or standby is None:
            raise refusal(wrong or needs("link"))
        with locked(f"link:{link}"):
            before = str(link.readlink())
            switch(link, standby)
        evidence = {"link": str(link), "before": before, "after": str(standby)}
        return Applied(summary=f"{link.name} leads to {standby.name}", evidence=evidence)


def switch(link: Path, target: Path) -> None:
    """Let a link lead elsewhere; whoever looks finds the one or the other.

    Raises:
        RecoveryError: the file system refused; the link is as it was.
    """
    beside = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        beside.replace(link)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise refusal(f"the link cannot be switched: {error.strerror}") from error


def _is_sound(path: Path, may_go_on: Callable[[], bool]) -> bool:
    """Whether nothing is wrong with a version, as far as it says how it was written."""
    try:
        if checkpoints.digests_of(path) is None and not any(path.glob("*.safetensors")):
            return True
        return checkpoints.verify(path, may_go_on=may_go_on).is_sound
    except ValueError:
        return False
    except OutOfTime as error:
        raise refusal(f"there was no time to verify {path.name}") from error
    except OSError as error:
        raise refusal(f"{path.name} cannot be read: {error.strerror}") from error


def _in_order(path: Path) -> list[tuple[int, int, str]]:
    """A key that orders names by the numbers in them: v9 before v10."""
    parts = _NUMBERS.split(path.name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]
