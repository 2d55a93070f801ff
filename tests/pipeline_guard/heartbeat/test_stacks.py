"""Stacks of a process that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from pipeline_guard.heartbeat import STACKS_FILE
from pipeline_guard.processes import ProcessName

CODE = """
import sys, threading
from pathlib import Path
from pipeline_guard.heartbeat import dump_stacks_on_signal
dump_stacks_on_signal(Path(sys.argv[1]))
secret = "4711-of-the-patient"
lock = threading.Lock()
lock.acquire()
def waits_for_ever():
    print("go", flush=True)
    lock.acquire()
waits_for_ever()
"""


def test_a_process_that_hangs_says_where_and_shows_no_value(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    name = ProcessName.of(child.pid)
    assert name is not None
    assert name.catches(signal.SIGUSR1)

    name.send(signal.SIGUSR1)
    text = ""
    for _ in range(100):
        name.ended_within(0.05)
        text = (tmp_path / STACKS_FILE).read_text()
        if "waits_for_ever" in text:
            break

    assert name.is_alive()
    child.kill()
    child.wait()
    child.stdout.close()
    assert "waits_for_ever" in text
    assert "4711" not in text
    assert (tmp_path / STACKS_FILE).stat().st_mode & 0o777 == 0o600
