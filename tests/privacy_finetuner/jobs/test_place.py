"""A run goes on where its folder of runs is, and nowhere else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from privacy_finetuner.jobs import JobState
from privacy_finetuner.jobs.folder import PLACE_FILE, place_of
from privacy_finetuner.jobs.leases import Leases
from privacy_finetuner.jobs.worker import Pauses
from privacy_runtime.world import SystemEntropy


def leases(yard: Any, place: str | None) -> Leases:
    return Leases(yard.jobs.store, lease_s=yard.lease_s, place=place)


def test_a_folder_of_runs_has_one_name_for_all_who_ask(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(place_of, tmp_path, entropy=SystemEntropy()) for _ in range(32)]

    assert len({each.result() for each in asked}) == 1
    assert [path.name for path in tmp_path.iterdir()] == [PLACE_FILE]


def test_a_job_that_was_begun_here_is_left_alone_elsewhere(yard: Any) -> None:
    job = yard.submit()
    here, there = leases(yard, "place_here"), leases(yard, "place_there")
    assert here.claim("w_1") is not None
    yard.clock.advance(yard.lease_s + 1)

    assert there.claim("w_2") is None  # it only puts the job back: its worker is lost
    assert yard.job(job).state is JobState.QUEUED
    yard.jobs.cancel(job.id, tenant=yard.tenant, by="u")
    assert (there.claim("w_2"), there.has_leftovers()) == (None, False)

    again = here.claim("w_3")
    assert again is not None
    assert again.ending is not None


def test_a_job_of_which_nothing_is_here_may_go_elsewhere(yard: Any) -> None:
    yard.submit()
    here, there = leases(yard, "place_here"), leases(yard, "place_there")
    claim = here.claim("w_1")
    assert claim is not None
    here.give_back(claim, code="process_not_started", message="no", is_untouched=True)

    assert there.claim("w_2") is not None


def test_a_process_that_could_not_be_started_leaves_nothing_behind(small_yard: Any) -> None:
    small_yard.submit()
    elsewhere = small_yard.opened(runs="elsewhere")
    pauses = Pauses(delays_s=(60.0,))
    small_yard.worker(("/there/is/no/such/program",), pauses=pauses).run(
        threading.Event(), until_idle=True
    )
    small_yard.clock.advance(61.0)

    assert leases(small_yard, elsewhere.place).claim("w_2") is not None
