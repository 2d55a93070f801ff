"""Every block of docs/sdk.md runs, in order, against a real service."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.privacy_finetuner.client.house import House, wait_for

from privacy_finetuner.client import Client
from privacy_finetuner.jobs.model import JobState

PAGE = Path(__file__).parents[3] / "docs" / "sdk.md"
BLOCKS = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)
SCOPES = [
    "jobs:read", "jobs:write", "results:read", "models:export", "budgets:read", "redaction:use",
]  # fmt: skip


@pytest.fixture
def key(trainer: Client) -> str:
    return trainer.api_keys.create_api_key("the page", SCOPES).key.reveal()


def test_the_page_is_true(
    house: House, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "downloads").mkdir()
    monkeypatch.setenv("PRIVACY_FINETUNER_API_KEY", key)
    ended: list[str] = []

    def work() -> None:
        jobs = house.service.jobs
        found: list[Any] = []
        wait_for(lambda: found.extend(jobs.find(house.tenant, states=[JobState.QUEUED])) or found)
        story = house.story(found[0].id)
        story.step(10)
        story.file("report.html", b"<p>report</p>")
        story.end()
        ended.append(found[0].id)

    threading.Thread(target=work, daemon=True).start()
    names: dict[str, Any] = {"URL": house.url, "__name__": "page"}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)  # noqa: S102  our own page
    names["client"].close()
    shown = capsys.readouterr().out

    assert len(BLOCKS) >= 7
    assert ended == [names["job"].job_id]
    assert "state {'state': 'succeeded'}" in shown
    assert (tmp_path / "downloads" / "report.html").exists()
    assert "unknown_dataset body.dataset_path" in shown
    assert "Call [PERSON], card [PAYMENT_CARD]" in shown
    assert "\nFalse " in shown
    assert shown.endswith("401\n")
