"""What may be removed, what is set aside, and what a link leads to."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_guard.errors import RecoveryError
from pipeline_guard.heartbeat import Heartbeat
from pipeline_guard.remedies.cleaning import Clean
from pipeline_guard.remedies.restoring import QuarantineCheckpoint, RestoreLastVerified
from pipeline_guard.remedies.versions import FailOver, RollBack

from .conftest import case  # noqa: TID252  of this folder

OLD_S = 1_000_000_000


def old(path: Path, content: str = "x" * 5_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (OLD_S, OLD_S))
    return path


def checkpoint(run: Path, step: int) -> Path:
    folder = run / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.bin").write_text(f"weights {step}")
    digest = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
    (folder / "state.json").write_text(json.dumps({"digests": {"model.bin": digest}}))
    os.utime(folder, (OLD_S, OLD_S))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_the_list_lets_go_goes_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "ckpt"
    old(root / "a" / "x.tmp")
    old(root / "a" / "x.keep")
    (root / "a" / "young.tmp").write_text("y")
    remedy = Clean(root=root, patterns=("**/*.tmp",))
    assert remedy.objection(case()) is None
    assert "remove 1 entries" in remedy.intent(case())

    applied = remedy.apply(case(), 10)

    assert names(root / "a") == ["x.keep", "young.tmp"]
    assert applied.evidence["removed"] == ["a/x.tmp"]
    assert applied.evidence["freed_bytes"] > 0


def test_the_newest_checkpoints_stay_whatever_the_list_says(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100, 20):
        checkpoint(tmp_path / "runs" / "a", step)
    remedy = Clean(
        root=tmp_path / "runs",
        patterns=("**/*", "a/checkpoint-100"),
        checkpoints="checkpoint-*",
        keep_last=2,
    )

    remedy.apply(case(), 10)

    assert names(tmp_path / "runs" / "a") == ["checkpoint-100", "checkpoint-20"]
    assert names(tmp_path / "runs" / "a" / "checkpoint-100") == ["model.bin", "state.json"]


@settings(max_examples=30, deadline=None)
@given(
    steps=st.sets(st.integers(0, 10_000), min_size=1, max_size=8),
    keep_last=st.integers(1, 5),
    pattern=st.sampled_from(["**/*", "*", "*/*", "a/checkpoint-*", "a/*/model.bin"]),
)
def test_no_list_can_touch_the_newest(
    tmp_path_factory: Any, steps: set[int], keep_last: int, pattern: str
) -> None:
    root = tmp_path_factory.mktemp("root") / "runs"
    for step in steps:
        checkpoint(root / "a", step)
    remedy = Clean(root=root, patterns=(pattern,), keep_last=keep_last, older_than_s=1)
    if remedy.objection(case()) is None:
        remedy.apply(case(), 10)

    for step in sorted(steps)[-keep_last:]:
        assert names(root / "a" / f"checkpoint-{step}") == ["model.bin", "state.json"]


def test_no_link_is_followed_out_and_none_is_removed(tmp_path: Path) -> None:
    outside = old(tmp_path / "outside" / "precious.tmp")
    root = tmp_path / "ckpt"
    old(root / "mine.tmp")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "link.tmp").symlink_to(outside)

    Clean(root=root, patterns=("**/*.tmp", "link/*", "link")).apply(case(), 10)

    assert outside.exists()
    assert names(root) == ["link", "link.tmp"]


@pytest.mark.parametrize("root", ["/", "/tmp", "/etc", str(Path.home())])  # noqa: S108
def test_a_folder_that_is_too_much_is_refused(root: str) -> None:
    assert "too much" in (Clean(root=Path(root), patterns=("*",)).objection(case()) or "")


@pytest.mark.parametrize("pattern", ["../*", "/etc/*", "a/../../*"])
def test_a_pattern_that_leads_out_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "a").mkdir()

    assert "out of" in (Clean(root=tmp_path / "a", patterns=(pattern,)).objection(case()) or "")


def test_no_list_and_nothing_to_remove_are_objections(tmp_path: Path) -> None:
    assert Clean(root=tmp_path).objection(case()) is not None
    assert Clean(root=tmp_path, patterns=("*",)).objection(case()) == "nothing may go"
    assert "'root'" in (Clean(patterns=("*",)).objection(case()) or "")


def damaged(folder: Path) -> Path:
    (folder / "model.bin").write_text("weights ?")
    return folder


def test_what_a_check_calls_damaged_is_verified_and_set_aside(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    damaged(checkpoint(tmp_path, 10))
    fault = case({"run": str(tmp_path)}, evidence={"damaged": {"checkpoint-10": ["x"]}})
    remedy = QuarantineCheckpoint()
    assert remedy.intent(fault) == "set aside checkpoint-10"

    applied = remedy.apply(fault, 10)

    assert names(tmp_path) == ["checkpoint-10.damaged", "checkpoint-5"]
    assert applied.evidence["renamed"] == {"checkpoint-10": "checkpoint-10.damaged"}


def test_what_is_sound_is_not_set_aside(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    fault = case({"run": str(tmp_path)}, evidence={"damaged": {"checkpoint-5": ["x"]}})

    with pytest.raises(RecoveryError, match="sound now"):
        QuarantineCheckpoint().apply(fault, 10)
    assert names(tmp_path) == ["checkpoint-5"]


def test_the_newest_that_is_left_is_verified(tmp_path: Path) -> None:
    for step in (5, 10):
        checkpoint(tmp_path, step)
    for step in (15, 100):
        damaged(checkpoint(tmp_path, step))
    (tmp_path / "checkpoint-100.damaged").mkdir()

    applied = RestoreLastVerified(run=tmp_path).apply(case(), 10)

    assert applied.evidence["verified"] == "checkpoint-10"
    assert names(tmp_path) == [
        "checkpoint-10", "checkpoint-100.damaged", "checkpoint-100.damaged-2",
        "checkpoint-15.damaged", "checkpoint-5",
    ]  # fmt: skip


def test_where_none_is_verified_nothing_is_changed(tmp_path: Path) -> None:
    damaged(checkpoint(tmp_path, 5))

    with pytest.raises(RecoveryError, match="nothing was changed"):
        RestoreLastVerified(run=tmp_path).apply(case(), 10)
    assert names(tmp_path) == ["checkpoint-5"]


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, 5)
    Heartbeat(tmp_path / "heartbeat.json")

    assert "terminate it first" in (RestoreLastVerified(run=tmp_path).objection(case()) or "")


@pytest.mark.parametrize("versions", [["v1", "v2", "v10"], ["2026-01-09", "2026-01-10"]])
def test_a_link_leads_back_to_the_version_before(tmp_path: Path, versions: list[str]) -> None:
    for name in versions:
        (tmp_path / "models" / name).mkdir(parents=True)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "models" / versions[-1])
    remedy = RollBack(link=link, versions=tmp_path / "models")
    assert remedy.intent(case()) == f"from {versions[-1]} back to {versions[-2]}"

    applied = remedy.apply(case(), 10)

    assert link.resolve().name == versions[-2]
    assert applied.evidence["before"].endswith(versions[-1])


def test_a_version_that_is_damaged_itself_is_not_gone_back_to(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    damaged(checkpoint(tmp_path / "models", 1))
    checkpoint(tmp_path / "models", 2)
    (tmp_path / "current").symlink_to(tmp_path / "models" / "checkpoint-2")

    with pytest.raises(RecoveryError, match="damaged itself"):
        RollBack(link=tmp_path / "current", versions=tmp_path / "models").apply(case(), 10)
    assert (tmp_path / "current").resolve().name == "checkpoint-2"


@pytest.mark.parametrize("to", ["v0", "../elsewhere"])
def test_there_is_no_way_back_from_the_first_or_to_elsewhere(tmp_path: Path, to: str) -> None:
    (tmp_path / "models" / "v1").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "models" / "v1")

    def objection(to: str) -> str:
        remedy = RollBack(link=tmp_path / "current", versions=tmp_path / "models", to=to)
        return remedy.objection(case()) or ""

    assert objection("") == "there is no version before it"
    assert "no version" in objection(to)
    (tmp_path / "plain").mkdir()
    no_link = RollBack(link=tmp_path / "plain", versions=tmp_path / "models")
    assert "no symbolic link" in (no_link.objection(case()) or "")


def test_a_stand_by_takes_over(tmp_path: Path) -> None:
    for name in ("main", "standby"):
        (tmp_path / name).mkdir()
    (tmp_path / "live").symlink_to(tmp_path / "main")
    remedy = FailOver(link=tmp_path / "live", standby=tmp_path / "standby")

    applied = remedy.apply(case(), 10)

    assert (tmp_path / "live").resolve().name == "standby"
    assert applied.evidence["before"].endswith("main")
    assert "in use already" in (remedy.objection(case()) or "")
