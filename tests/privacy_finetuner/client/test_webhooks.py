from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from privacy_finetuner.client import SignatureRefused
from privacy_finetuner.client.webhooks import verify
from privacy_runtime.notify import signatures
from privacy_runtime.testing import SeededEntropy

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = signatures.new_secret(SeededEntropy(1))
OTHER = signatures.new_secret(SeededEntropy(2))
BODY = b'{"type":"job_failed","timestamp":"2026-01-01T12:00:00Z","data":{"job_id":"job_1"}}'


def signed(body: bytes = BODY, secret: Any = SECRET) -> dict[str, str]:
    seconds = int(NOW.timestamp())
    return signatures.sign("msg_1", seconds=seconds, body=body, secrets=[secret])


def test_a_signed_message_is_read() -> None:
    message = verify({k.upper(): v for k, v in signed().items()}, BODY, SECRET, now=NOW)

    assert (message.id, message.type, message.timestamp) == ("msg_1", "job_failed", NOW)
    assert message.data == {"job_id": "job_1"}


def test_while_a_secret_is_replaced_both_count() -> None:
    assert verify(signed(secret=OTHER), BODY, [SECRET, OTHER], now=NOW).type == "job_failed"


@pytest.mark.parametrize(
    "change",
    [{"body": BODY + b" "}, {"secret": OTHER}, {"now": NOW + timedelta(minutes=6)},
     {"now": NOW - timedelta(minutes=6)}, {"headers": {}},
     {"headers": {**signed(), "webhook-id": "msg_2"}},
     {"headers": {**signed(), "webhook-signature": "v1,"}}],
)  # fmt: skip
def test_what_was_not_signed_just_now_is_refused(change: dict[str, Any]) -> None:
    given: dict[str, Any] = {"headers": signed(), "body": BODY, "secret": SECRET, "now": NOW}
    given |= change
    with pytest.raises(SignatureRefused) as refused:
        verify(given["headers"], given["body"], given["secret"], now=given["now"])

    assert "whsec" not in str(refused.value)


@pytest.mark.parametrize("body", [b"[]", b"3", b'{"type":"x"}', b'{"type":"x","timestamp":"y"}'])
def test_what_is_signed_and_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(SignatureRefused):
        verify(signed(body), body, SECRET, now=NOW)
