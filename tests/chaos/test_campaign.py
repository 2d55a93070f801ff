"""Faults upon a running site, by a seed: every job ends, epsilon is exact, nothing false is loaded.

`CHAOS_SEED` runs a schedule again, `CHAOS_MINUTES` sets the length of the slow campaign (30), and
`CHAOS_MOUNT=1`, as root, gives the runs a small file system that can really be full.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from driver.campaign import campaign, lines, table
from driver.faults import FAULTS
from driver.invariants import violations
from driver.sealing import sealed_and_restored
from driver.site import Site

SHORT_SEED = 20261122
"""Of the default test: the same schedule every time, whatever the machine does with it."""

pytestmark = pytest.mark.timeout(4 * 3600)


def endure(site: Site, *, seed: int, seconds: float, **more: Any) -> None:
    """One campaign, and everything that must hold after it."""
    print(f"CHAOS_SEED={seed} for {seconds:.0f} s")  # noqa: T201  shown when the test fails
    with site:
        blows = campaign(site, seed, seconds, **more)
        print(lines(blows), table(blows), sep="\n")  # noqa: T201
        print(f"{len(site.jobs)} jobs, {site.steps()} steps, {site.lost_steps()} lost")  # noqa: T201

        assert blows
        assert violations(site) == []
        assert list(sealed_and_restored(site, seed)) == []


def server_of(kind: str) -> str | None:
    """Where databases can be made; SQLite needs none."""
    if kind == "sqlite":
        return None
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        pytest.skip("no PostgreSQL: set TEST_DATABASE_URL")
    return url


def is_mounted() -> bool:
    return os.environ.get("CHAOS_MOUNT") == "1"


@pytest.mark.slow  # minutes: real processes, killed and started again
@pytest.mark.parametrize(
    ("kind", "first"),
    [("sqlite", 0), ("postgresql", 1)],
)
def test_a_minute_of_faults_loses_doubles_and_misprices_nothing(
    kind: str, first: int, tmp_path: Path
) -> None:
    both = ("damaged checkpoint", "database away")
    kinds = [f for n, f in enumerate(FAULTS) if n % 2 == first or f.name in both]
    site = Site(tmp_path, server=server_of(kind), jobs_at_once=2, mounted=is_mounted())
    seed = int(os.environ.get("CHAOS_SEED", SHORT_SEED))
    endure(site, seed=seed, seconds=60.0, kinds=kinds, back_most_s=5.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_half_an_hour_of_faults_loses_doubles_and_misprices_nothing(
    kind: str, tmp_path: Path
) -> None:
    site = Site(tmp_path, server=server_of(kind), mounted=is_mounted())
    seed = int(os.environ.get("CHAOS_SEED", secrets.randbelow(1 << 32)))
    minutes = float(os.environ.get("CHAOS_MINUTES", "30")) / 2
    endure(site, seed=seed, seconds=60 * minutes)
