from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from privacy_finetuner.client import (
    Client,
    DownloadDamaged,
    RetryPolicy,
    Settings,
    UnexpectedAnswer,
    Unreachable,
)
from privacy_runtime.testing import SeededEntropy

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Files(httpx2.BaseTransport):
    """Serves one file as it is told: each answer is (bytes that come, whether ranges count)."""

    def __init__(self, *answers: tuple[int, bool], **announced: Any) -> None:
        self.answers = list(answers)
        self.asked: list[str | None] = []
        self.announced = {
            "name": "model.safetensors", "size_bytes": len(CONTENT), "sha256": DIGEST,
            "media_type": "x/y", "outside_guarantee": False, **announced,
        }  # fmt: skip
        self.content = CONTENT

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/artefacts"):
            return httpx2.Response(200, json={"items": [self.announced]})
        asked = request.headers.get("range")
        self.asked.append(asked)
        length, counts = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and counts else 0
        status = 206 if asked and counts else 200

        def body() -> Any:
            yield self.content[begin : begin + length]
            if begin + length < len(self.content):
                raise httpx2.ReadError("lost")

        return httpx2.Response(status, content=body())


def fetch(files: Files, target: Path) -> Path:
    settings = Settings(
        transport=files, sleep=lambda _: None, entropy=SeededEntropy(1),
        retries=RetryPolicy(tries=3),
    )  # fmt: skip
    client = Client("https://a.example", api_key="pf_a", settings=settings)
    return client.jobs.download_artefact("job_1", files.announced["name"], target)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lost_connection_is_gone_on_from_where_it_was(tmp_path: Path) -> None:
    files = Files((4000, True), (0, True), (4000, True), (9999, True))

    assert fetch(files, tmp_path).read_bytes() == CONTENT
    assert files.asked == [None, "bytes=4000-", "bytes=4000-", "bytes=8000-"]


def test_another_process_goes_on_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        fetch(Files((3000, True), (0, True)), tmp_path)
    kept = left(tmp_path)
    files = Files((99999, True))

    assert fetch(files, tmp_path).read_bytes() == CONTENT
    assert kept == [f".model.safetensors.{DIGEST[:16]}.part"]
    assert files.asked == ["bytes=3000-"]
    assert left(tmp_path) == ["model.safetensors"]


def test_a_service_without_ranges_is_asked_for_the_whole(tmp_path: Path) -> None:
    files = Files((3000, False), (99999, False))

    assert fetch(files, tmp_path).read_bytes() == CONTENT


def test_another_content_is_not_put_in_place(tmp_path: Path) -> None:
    files = Files((99999, True))
    files.content = b"x" + CONTENT[1:]
    (tmp_path / "model.safetensors").write_bytes(b"old")
    with pytest.raises(DownloadDamaged, match="sha256"):
        fetch(files, tmp_path)

    assert left(tmp_path) == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"


def test_more_than_was_announced_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DownloadDamaged, match="more than"):
        fetch(Files((99999, True), size_bytes=100), tmp_path)

    assert left(tmp_path) == []


def test_less_than_was_announced_is_not_waited_for_without_end(tmp_path: Path) -> None:
    files = Files((99999, True), size_bytes=len(CONTENT) + 1)
    files.content = CONTENT
    with pytest.raises((Unreachable, DownloadDamaged)):
        fetch(files, tmp_path)

    assert "model.safetensors" not in left(tmp_path)


@pytest.mark.parametrize(
    "announced",
    [{"name": ".."}, {"name": "a/.."}, {"name": "x/"}, {"name": "a\0b"}, {"sha256": "/../../x"},
     {"sha256": ""}, {"sha256": "g" * 64}],
)  # fmt: skip
def test_a_name_or_digest_that_leads_elsewhere_is_not_followed(
    tmp_path: Path, announced: dict[str, str]
) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    with pytest.raises(UnexpectedAnswer, match="nothing was fetched"):
        fetch(Files((99999, True), **announced), folder)

    assert left(tmp_path) == ["in"]
    assert left(folder) == []


def test_a_name_with_folders_keeps_its_last_part(tmp_path: Path) -> None:
    assert fetch(Files((99999, True), name="a/b.bin"), tmp_path) == tmp_path / "b.bin"
