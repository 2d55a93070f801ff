"""What strikes a site. A fault's cause is over when its function returns; nothing else is mended.

Faults of processes come from the kernel (SIGKILL, SIGSTOP, a limit on the size of files, a full
file system where one can be mounted); faults of the network from a proxy; `disk_error` fails
`os.fsync` in the children.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from driver.chance import Chance
from driver.proxy import Mode
from driver.site import LEASE_S, Site, children_of, pause
from privacy_finetuner.training.run_record import FILE_NAME
from privacy_runtime.append_log import read_log

if TYPE_CHECKING:
    from collections.abc import Iterator

AWAY_S: Final = 10.0
"""How long a database is away."""
_HOUR_S: Final = 3600.0
_STOPPED_S: Final = LEASE_S + 2.0


class NotNow(Exception):
    """There is nothing here that this fault could strike."""


Strike: TypeAlias = Callable[[Site, Chance], str]
"""Does it; returns what exactly, for the report."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault."""

    name: str
    strike: Strike
    fits: Callable[[Site], bool] = lambda site: True


def kill_worker(site: Site, chance: Chance) -> str:
    """SIGKILL to one worker."""
    chance.one_of(site.keep()).kill()
    return ""


def kill_child(site: Site, chance: Chance) -> str:
    """SIGKILL to one process that trains."""
    _send(_a_child(site, chance), signal.SIGKILL)
    return ""


def stop_worker(site: Site, chance: Chance) -> str:
    """SIGSTOP to one worker for longer than its lease, while its child goes on."""
    worker = chance.one_of(site.keep()).pid
    with _stopped(worker):
        pause(_STOPPED_S)
    return ""


def stop_child(site: Site, chance: Chance) -> str:
    """SIGSTOP to one process that trains."""
    with _stopped(_a_child(site, chance)):
        pause(_STOPPED_S)
    return ""


def stop_both(site: Site, chance: Chance) -> str:
    """SIGSTOP to a worker and its child, as a machine that sleeps."""
    worker = chance.one_of(site.keep()).pid
    with ExitStack() as stack:
        for each in [worker, *children_of(worker)]:
            stack.enter_context(_stopped(each))
        pause(_STOPPED_S)
    return ""


def disk_error(site: Site, chance: Chance) -> str:
    """Forcing to the disk fails in every child (EIO, ENOSPC) for some seconds."""
    number = chance.one_of([errno.EIO, errno.ENOSPC])
    fresh = site.places.disk.with_suffix(".new")
    fresh.write_text(str(number))
    fresh.replace(site.places.disk)
    pause(chance.between(1.0, 5.0))
    site.places.disk.unlink()
    return errno.errorcode[number]


def short_files(site: Site, chance: Chance) -> str:
    """No file of a worker or its child may grow beyond some kilobytes (RLIMIT_FSIZE)."""
    victim = chance.one_of([*site.children(), chance.one_of(site.keep()).pid])
    most = 1 << (12 + chance.below(10))
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(victim, resource.RLIMIT_FSIZE)
        resource.prlimit(victim, resource.RLIMIT_FSIZE, (most, hard))
        pause(chance.between(1.0, 5.0))
        resource.prlimit(victim, resource.RLIMIT_FSIZE, (hard, hard))
    return f"{most >> 10} KiB"


def full_disk(site: Site, chance: Chance) -> str:
    """The file system of the runs is full to its last byte for some seconds."""
    ballast = Path(site.places.runs) / ".ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    pause(chance.between(1.0, 5.0))
    ballast.unlink()
    return ""


def damage_checkpoint(site: Site, chance: Chance) -> str:
    """Everything dies, and the newest checkpoint of a run is no longer what was written."""
    if not site.wait(lambda: _with_checkpoints(site), within_s=90.0):
        raise NotNow
    site.kill_everything()
    found = _with_checkpoints(site)
    if not found:
        raise NotNow
    job, path = chance.one_of(found)
    file = chance.one_of(sorted(each for each in path.iterdir() if each.stat().st_size))
    how = chance.one_of(["a bit", "the end", "gone", "another's"])
    content = file.read_bytes()
    if how == "a bit":
        at = chance.below(len(content))
        file.write_bytes(content[:at] + bytes([content[at] ^ 1 << chance.below(8)])
                         + content[at + 1 :])  # fmt: skip
    elif how == "the end":
        file.write_bytes(content[: chance.below(len(content))])
    elif how == "gone":
        file.unlink()
    elif not _replace_by_older(path):
        file.unlink()
        how = "gone"
    site.damaged.append((job, path.name, len(read_log(path.parent / FILE_NAME))))
    return f"{path.name}: {how} of {file.name}" if how != "another's" else f"{path.name}: {how}"


def database_away(site: Site, chance: Chance) -> str:
    """No database for 10 s: refused, without an answer, or (SQLite) locked by another."""
    if site.proxy is None:
        with closing(_locked(site.places.jobs)) as one, closing(_locked(site.ledger)) as other:
            pause(AWAY_S)
            for each in (one, other):
                each.execute("ROLLBACK")
        return "locked"
    mode = chance.one_of([Mode.GONE, Mode.HELD])
    site.proxy.set(mode)
    pause(AWAY_S)
    if chance.below(2):
        site.proxy.set(Mode.GONE)
    site.proxy.set(Mode.OPEN)
    return mode.value


def clock_jump(site: Site, chance: Chance) -> str:
    """Every clock is set wrong for some seconds, and set right again.

    What was written under a clock that ran ahead lies in the future, and the ledger reserves
    nothing until somebody with authority says that the present is right.
    """
    offset_s = chance.one_of([-_HOUR_S, _HOUR_S, -40 * 24 * _HOUR_S, 2 * LEASE_S, 26 * _HOUR_S])
    site.clock.jump(offset_s)
    pause(chance.between(1.0, 8.0))
    site.clock.jump(0.0)
    if offset_s > 0:
        pause(chance.between(0.5, 4.0))  # an officer takes a while; jobs wait
        site.reset_ledger_time()
    return f"{offset_s:+.0f} s"


FAULTS: Final = (
    Fault("worker killed", kill_worker),
    Fault("child killed", kill_child),
    Fault("worker stopped", stop_worker),
    Fault("child stopped", stop_child),
    Fault("both stopped", stop_both),
    Fault("disk error", disk_error),
    Fault("short files", short_files),
    Fault("full disk", full_disk, lambda site: site.mounted),
    Fault("damaged checkpoint", damage_checkpoint),
    Fault("database away", database_away),
    Fault("clock jump", clock_jump),
)


def _a_child(site: Site, chance: Chance) -> int:
    if not site.wait(site.children, within_s=20.0):
        raise NotNow
    found = site.children()
    if not found:
        raise NotNow
    return chance.one_of(found)


def _with_checkpoints(site: Site) -> list[tuple[str, Path]]:
    """Unfinished runs that have a checkpoint: the job, and its newest."""
    found = []
    for job in site.live():
        state = site.record(job)
        if state is None or state.checkpoint is None or state.is_finished:
            continue
        path = site.folder(job) / state.checkpoint
        if path.is_dir():
            found.append((job.id, path))
    return found


def _replace_by_older(path: Path) -> bool:
    """Put an older checkpoint, whole in itself, in the place of this one."""
    older = sorted(
        (each for each in path.parent.glob("checkpoint-*") if each.name.split("-")[1].isdecimal()),
        key=lambda each: int(each.name.split("-")[1]),
    )[:-1]
    if not older:
        return False
    shutil.rmtree(path)
    shutil.copytree(older[-1], path)
    return True


def _locked(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


@contextmanager
def _stopped(process: int) -> Iterator[None]:
    _send(process, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(process, signal.SIGCONT)


def _send(process: int, number: Any) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)
