"""Options of a training that a recovery may change: of speed and memory, never of the guarantee.

The list is closed. Batch size, sampling rate, clip norm and noise decide what a run costs in
privacy, so no recovery touches them, and nothing here could.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

from pipeline_guard.config.values import Within
from pipeline_guard.model import Applied, Case
from pipeline_guard.remedies.actions import (
    command_setting,
    locked,
    needs,
    path_setting,
    refusal,
)

OPTIONS: Final[Mapping[str, str]] = MappingProxyType({"micro_batch_tokens": "--micro-batch-tokens"})
"""By the name of the option, how a command line says it."""


@dataclass(frozen=True, kw_only=True)
class HalveMicroBatch:
    """Let the training hold half as much at a time from its next start on.

    A logical batch is worked through in twice as many pieces; which examples are drawn, and what a
    step costs in privacy, stay what they are. The change is one line of a file beside the pid file;
    remove the file to take it back.

    Args:
        command: the program and its arguments, which say where it begins. Setting `command`.
        pid_file: beside it the change is kept. Setting `pid_file`.
        initial: what the program takes where its command says nothing.
        least: it is refused below this.
    """

    command: tuple[str, ...] = ()
    pid_file: Path | None = None
    initial: Annotated[int, Within(1)] = 4_096
    least: Annotated[int, Within(1)] = 128

    def objection(self, case: Case) -> str | None:
        """Refuse below the least, and where the change cannot be kept."""
        pid_file = path_setting(case, self.pid_file, "pid_file")
        if pid_file is None:
            return needs("pid_file")
        try:
            now = self._now(case, pid_file)
        except (OSError, ValueError) as error:
            return f"the changed options cannot be read: {error}"
        if now // 2 < self.least:
            return f"micro_batch_tokens is {now}, and may not go below {self.least}"
        return None

    def intent(self, case: Case) -> str:
        """From which number to which."""
        pid_file = path_setting(case, self.pid_file, "pid_file")
        if pid_file is None:
            return "halve micro_batch_tokens"
        now = self._now(case, pid_file)
        return f"micro_batch_tokens from {now} to {now // 2}; the logical batch stays what it is"

    def apply(self, case: Case, within_s: float) -> Applied:
        """Keep the change."""
        pid_file = path_setting(case, self.pid_file, "pid_file")
        if pid_file is None:
            raise refusal(needs("pid_file"))
        with locked(f"options:{pid_file}"):
            try:
                now = self._now(case, pid_file)
                write_override(pid_file, "micro_batch_tokens", now // 2)
            except (OSError, ValueError) as error:
                raise refusal(f"the change cannot be kept: {error}") from error
        return Applied(
            summary=f"micro_batch_tokens is {now // 2} from the next start on",
            evidence={
                "option": "micro_batch_tokens", "before": now, "after": now // 2,
                "file": str(overrides_file(pid_file)),
            },
        )  # fmt: skip

    def _now(self, case: Case, pid_file: Path) -> int:
        changed = read_overrides(pid_file).get("micro_batch_tokens")
        command = command_setting(case, self.command, "command")
        return changed or value_in(command, "micro_batch_tokens") or self.initial


def overrides_file(pid_file: Path) -> Path:
    """Where the changed options of a program are kept: beside its pid file."""
    return pid_file.with_name(f"{pid_file.name}.options.json")


def read_overrides(pid_file: Path) -> dict[str, int]:
    """The changed options; none where there is no file.

    Raises:
        ValueError: the file holds something else, or an option that is not of the list.
        OSError: it cannot be read.
    """
    path = overrides_file(pid_file)
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path.name} is no object")  # noqa: TRY004 -- of a file's content
    for name, value in found.items():
        if name not in OPTIONS or type(value) is not int or value < 1:
            raise ValueError(f"{path.name} sets {name!r}, expected {', '.join(OPTIONS)}")
    return found


def write_override(pid_file: Path, name: str, value: int) -> None:
    """Change one option for every later start."""
    if name not in OPTIONS:
        raise ValueError(f"{name!r} is no option that a recovery may change")
    found = {**read_overrides(pid_file), name: value}
    path = overrides_file(pid_file)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(found) + "\n")
    beside.replace(path)


def value_in(command: Sequence[str], name: str) -> int | None:
    """What a command line says of an option; `None`: nothing."""
    flag = OPTIONS[name]
    for place, word in enumerate(command):
        text = word.partition("=")[2] if word.startswith(f"{flag}=") else ""
        if word == flag and place + 1 < len(command):
            text = command[place + 1]
        if text.isdecimal():
            return int(text)
    return None


def with_overrides(command: Sequence[str], overrides: Mapping[str, int]) -> tuple[str, ...]:
    """The command line with the changed options in the place of its own."""
    words = list(command)
    for name, value in overrides.items():
        flag = OPTIONS[name]
        kept: list[str] = []
        skip = False
        for word in words:
            if skip or word.startswith(f"{flag}="):
                skip = False
                continue
            if word == flag:
                skip = True
                continue
            kept.append(word)
        words = [*kept, flag, str(value)]
    return tuple(words)
