"""Workers and child processes that train nothing: how they end, and what is left of them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from privacy_finetuner.jobs import JobState, JobStoreUnavailable
from privacy_finetuner.jobs.folder import LOCK_FILE, LOG_FILE, locked
from privacy_finetuner.jobs.model import FINAL, EventKind
from privacy_finetuner.jobs.worker import Pauses
from privacy_runtime import logs

STEPS = """
for n in range(1, 4):
    tell("step", step=n, steps=3, epsilon=n / 3, epsilon_planned=1.0, delta=1e-5, eta_s=None)
tell("epoch", epoch=1, loss=2.5, accuracy=0.5, gradient_norm=1.5, clipping_rate=None)
tell("exact", truncated=4)
tell("artefact", name="report.html", size_bytes=1, sha256="0", media_type="text/html",
     outside_guarantee=False)
end(notes=["a note"])
"""
OBEDIENT = """
def stop(*_):
    end("stopped")
signal.signal(signal.SIGTERM, stop)
tell("step", step=1, steps=9, epsilon=0.1, epsilon_planned=1.0, delta=1e-5)
while True:
    time.sleep(0.05)
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-S", "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
tell("step", step=1, steps=9, epsilon=0.1, epsilon_planned=1.0, delta=1e-5)
open("pids", "w").write(f"{os.getpid()} {grandchild.pid}")
time.sleep(600)
"""


AT_ONCE = Pauses(idle_s=0.05, delays_s=(0.0,), try_again_s=0.05)


def eventually(check: Callable[[], Any], *, within_s: float = 20.0) -> Any:
    """What `check` returns once it is true."""
    pause = threading.Event()
    for _ in range(int(within_s / 0.02)):
        if answer := check():
            return answer
        pause.wait(0.02)
    raise AssertionError("it did not happen")


class Running:
    """A worker in a thread."""

    def __init__(self, worker: Any) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=worker.run, args=(self.stop,))

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def is_gone(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_job_succeeds_with_its_story(live_yards: Any) -> None:
    job = live_yards.submit()
    live_yards.work(STEPS)
    ended = live_yards.job(job)
    assert (ended.state, ended.attempts, ended.error_code) == (JobState.SUCCEEDED, 1, None)
    assert (ended.epoch, ended.metrics) == (
        1, {"loss": 2.5, "accuracy": 0.5, "gradient_norm": 1.5},
    )  # fmt: skip
    kinds = [event.kind for event in live_yards.story(job)]
    assert kinds == [
        EventKind.STATE, EventKind.STATE, EventKind.STEP, EventKind.STEP, EventKind.STEP,
        EventKind.EPOCH, EventKind.EXACT, EventKind.ARTEFACT, EventKind.STATE,
    ]  # fmt: skip
    assert live_yards.story(job)[-1].body == {"state": "succeeded", "notes": ["a note"]}
    assert live_yards.jobs.workers() == []


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ('end("failed", code="dataset_error", message="no text field")', "dataset_error", "text"),
        ("sys.exit(3)", "process_failed", "exit code 3"),
        ('print("hello, I am no event", flush=True); time.sleep(60)', "events_unreadable", "event"),
        ('sys.stdout.write("x" * (1 << 21)); time.sleep(60)', "events_unreadable", "1 MiB"),
        ('sys.stdout.write("half a line"); sys.exit(0)', "events_unreadable", "not whole"),
        ('tell("step", step=1); raise ValueError("a patient")', "process_failed", "exit code 1"),
    ],
)
def test_a_failure_has_a_code_and_a_sentence(
    live_yard: Any, script: str, code: str, says: str
) -> None:
    job = live_yard.submit()
    live_yard.work(script)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code) == (JobState.FAILED, code)
    assert says in (ended.error or "")
    assert live_yard.states(job)[-1] == ("failed", code)


def test_what_a_child_says_to_itself_stays_in_its_log(live_yard: Any) -> None:
    job = live_yard.submit()
    live_yard.work('raise ValueError("patient Ada Lovelace")')
    log = live_yard.jobs.folder(job) / LOG_FILE
    assert "Ada Lovelace" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600
    assert live_yard.jobs.artefacts(job.id, tenant=live_yard.tenant) == []
    everything = (
        repr(live_yard.job(job)) + repr(live_yard.story(job)) + repr(live_yard.journalled())
    )
    assert "Lovelace" not in everything


def test_accidents_are_tried_again_and_then_fail_with_the_last_ones_code(
    live_yard: Any,
) -> None:
    job = live_yard.submit()
    live_yard.work("os.kill(os.getpid(), signal.SIGKILL)", attempts_most=2, pauses=AT_ONCE)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code, ended.attempts) == ("failed", "process_killed", 2)
    assert "memory" in (ended.error or "")
    assert [reason for _, reason in live_yard.states(job)].count("process_killed") == 3


def test_accidents_before_a_newer_checkpoint_count_no_more(live_yard: Any) -> None:
    job = live_yard.submit()
    child = """
saved = task["steps_told"]
tell("step", step=saved, steps=4, saved_step=saved)
tell("step", step=saved + 1, steps=4, saved_step=saved + 1)
if saved == 3: end()
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    live_yard.work(child, attempts_most=2, pauses=AT_ONCE)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code, ended.attempts) == ("succeeded", None, 4)
    assert "saved_step" not in repr(live_yard.story(job))


def test_a_checkpoint_that_was_there_before_is_no_progress(live_yard: Any) -> None:
    job = live_yard.submit()
    child = """
tell("step", step=1, steps=4, saved_step=1)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    live_yard.work(child, attempts_most=2, pauses=AT_ONCE)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code, ended.attempts) == ("failed", "process_killed", 2)


def test_an_accident_is_not_tried_again_at_once(live_yard: Any) -> None:
    job = live_yard.submit()
    live_yard.work('end("failed", code="disk_full", message="full", may_pass=True)')
    waiting = live_yard.job(job)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 1)
    assert live_yard.states(job)[-1] == ("queued", "disk_full")


def test_a_name_that_means_nothing_any_more_fails_the_job(live_yard: Any) -> None:
    job = live_yard.submit(spec=live_yard.spec(dataset="gone"))
    live_yard.work(STEPS)
    ended = live_yard.job(job)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "dataset_error")


def test_a_disk_that_fails_while_a_job_is_ended_is_waited_for(live_yard: Any) -> None:
    job = live_yard.submit()
    in_the_way = live_yard.jobs.folder(job) / LOCK_FILE
    child = live_yard.script("os.mkdir('.job.lock'); end()")
    with Running(live_yard.worker(child, pauses=AT_ONCE)):
        eventually(in_the_way.is_dir)
        threading.Event().wait(0.5)
        assert live_yard.job(job).state is JobState.RUNNING
        in_the_way.rmdir()
        eventually(lambda: live_yard.job(job).state in FINAL)
    assert live_yard.states(job)[-1] == ("succeeded", None)
    assert live_yard.job(job).attempts == 1


def test_cancelling_stops_an_obedient_child(live_yard: Any) -> None:
    job = live_yard.submit()
    with Running(live_yard.worker(live_yard.script(OBEDIENT))):
        eventually(lambda: live_yard.job(job).step == 1)
        live_yard.jobs.cancel(job.id, tenant=live_yard.tenant, by="u")
        eventually(lambda: live_yard.job(job).state in FINAL)
    assert live_yard.job(job).state is JobState.CANCELLED
    assert live_yard.states(job)[-2:] == [("running", "cancel_requested"), ("cancelled", None)]


def test_cancelling_kills_a_stubborn_group_to_the_last_process(live_yard: Any) -> None:
    job = live_yard.submit()
    with Running(live_yard.worker(live_yard.script(STUBBORN))):
        path = live_yard.jobs.folder(job) / "pids"
        eventually(lambda: path.exists() and len(path.read_text().split()) == 2)
        pids = [int(word) for word in path.read_text().split()]
        assert not any(is_gone(pid) for pid in pids)
        live_yard.jobs.cancel(job.id, tenant=live_yard.tenant, by="u")
        eventually(lambda: live_yard.job(job).state in FINAL)
    assert live_yard.job(job).state is JobState.CANCELLED
    eventually(lambda: all(is_gone(pid) for pid in pids))


def test_a_worker_that_stops_gives_its_job_back_at_once(live_yard: Any) -> None:
    job = live_yard.submit()
    with Running(live_yard.worker(live_yard.script(OBEDIENT))) as running:
        eventually(lambda: live_yard.job(job).step == 1)
        running.stop.set()
        running.thread.join()
    waiting = live_yard.job(job)
    assert (waiting.state, waiting.worker) == (JobState.QUEUED, None)
    assert live_yard.states(job)[-1] == ("queued", "worker_stopped")
    live_yard.work(STEPS)
    assert live_yard.job(job).state is JobState.SUCCEEDED


def test_a_worker_that_lost_its_lease_kills_the_child_and_writes_nothing(live_yard: Any) -> None:
    job = live_yard.submit()
    said = io.StringIO()
    with (
        logs.install(stream=said),
        Running(live_yard.worker(live_yard.script(STUBBORN))) as running,
    ):
        path = live_yard.jobs.folder(job) / "pids"
        eventually(lambda: path.exists() and len(path.read_text().split()) == 2)
        pids = [int(word) for word in path.read_text().split()]
        other = live_yard.leases()
        live_yard.jobs.store.change(
            lambda work: work.update(job.id, lease_until_us=work.now_us - 1)
        )
        taken = other.claim("worker_other")
        assert taken.job.id == job.id
        before = live_yard.story(job)
        live_yard.jobs.store.change(lambda work: work.update(job.id, lease_until_us=1 << 60))
        running.stop.set()
        eventually(lambda: all(is_gone(pid) for pid in pids))
        running.thread.join()
    assert live_yard.story(job) == before
    assert "another attempt has the job" in said.getvalue()


def test_a_job_to_be_ended_does_not_wait_for_a_busy_worker(live_yard: Any) -> None:
    waiting = live_yard.submit("waiting")
    leases = live_yard.leases()
    leases.give_back(
        leases.claim("w"), code="disk_full", message="m", delay_s=999, is_accident=True
    )
    live_yard.submit("long")
    with Running(live_yard.worker(live_yard.script(OBEDIENT))):
        eventually(lambda: live_yard.jobs.counts()[JobState.RUNNING] == 1)
        live_yard.jobs.cancel(waiting.id, tenant=live_yard.tenant, by="u")
        eventually(lambda: live_yard.job(waiting).state is JobState.CANCELLED)
        assert live_yard.jobs.counts()[JobState.RUNNING] == 1


def test_a_run_is_never_settled_while_somebody_works_there(live_yard: Any) -> None:
    job = live_yard.submit()
    with locked(live_yard.jobs.folder(job), clock=live_yard.clock):
        live_yard.work(STEPS, pauses=Pauses(busy_s=0.05))
    assert live_yard.states(job)[-1] == ("queued", "folder_busy")


def test_a_worker_waits_for_a_database_that_is_away(live_yard: Any) -> None:
    job = live_yard.submit()
    worker = live_yard.worker(live_yard.script(STEPS), pauses=AT_ONCE)
    claim, answers = worker._leases.claim, iter([JobStoreUnavailable("db", reason="away")])

    def sometimes(*arguments: Any, **more: Any) -> Any:
        if error := next(answers, None):
            raise error
        return claim(*arguments, **more)

    worker._leases.claim = sometimes
    worker.run(threading.Event(), until_idle=True)
    assert live_yard.job(job).state is JobState.SUCCEEDED


def test_a_child_that_ended_is_kept_while_the_database_is_away(live_yard: Any) -> None:
    job = live_yard.submit()
    worker = live_yard.worker(live_yard.script(STEPS), pauses=AT_ONCE)
    finish, answers = worker._leases.finish, iter([JobStoreUnavailable("db", reason="away")] * 2)

    def sometimes(*arguments: Any, **more: Any) -> Any:
        if error := next(answers, None):
            raise error
        return finish(*arguments, **more)

    worker._leases.finish = sometimes
    worker.run(threading.Event(), until_idle=True)
    ended = live_yard.job(job)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 1)


WORKER = """
import sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from privacy_finetuner.jobs.stopping import stop_requests
from privacy_runtime.world import SystemClock
import conftest_of_jobs as conftest
yard = conftest.Yard(Path({folder!r}), None, SystemClock())
yard.lease_s = 2.0
yard.jobs.lease_s = 2.0
with stop_requests(print) as stop:
    yard.worker({command!r}).run(stop)
yard.close()
"""


def worker_process(yard: Any, command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """A worker in a process of its own, with a short lease."""
    here = Path(__file__).parent
    link = yard.folder / "conftest_of_jobs.py"
    if not link.exists():
        link.symlink_to(here / "conftest.py")
    code = WORKER.format(tests=str(yard.folder), folder=str(yard.folder), command=command)
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_killed_workers_child_dies_and_its_job_is_taken_over(live_yard: Any) -> None:
    live_yard.jobs.lease_s = live_yard.lease_s = 2.0
    job = live_yard.submit()
    killed = worker_process(live_yard, live_yard.script(
        "open('pid', 'w').write(str(os.getpid()))\n"
        "sys.stdin.read()\n"  # what the real child does in a thread
        "os.killpg(0, signal.SIGKILL)\n"
    ))  # fmt: skip
    path = live_yard.jobs.folder(job) / "pid"
    eventually(lambda: path.exists() and path.read_text())
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    eventually(lambda: is_gone(int(path.read_text())))
    assert live_yard.job(job).state is JobState.RUNNING
    with Running(live_yard.worker(live_yard.script(STEPS))):
        eventually(lambda: live_yard.job(job).state in FINAL)
    ended = live_yard.job(job)
    assert (ended.state, ended.attempts) == (JobState.SUCCEEDED, 2)
    assert ("queued", "worker_lost") in live_yard.states(job)
