"""Signatures as Standard Webhooks has them, checked against its own example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from privacy_core.errors import InvalidParameter
from privacy_runtime.notify import SignatureRefused, verify
from privacy_runtime.notify.signatures import new_secret, sign
from privacy_runtime.secret import Secret
from privacy_runtime.testing import SeededEntropy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = new_secret(SeededEntropy(1))
OTHER = new_secret(SeededEntropy(2))
BODY = b'{"type":"training_complete"}'


def headers(at: datetime = NOW, secret: Secret = SECRET) -> dict[str, str]:
    return sign("msg_1", seconds=int(at.timestamp()), body=BODY, secrets=[secret])


def test_the_published_example() -> None:
    """The vector of the reference libraries of Standard Webhooks."""
    found = sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        seconds=1614265330,
        body=b'{"test": 2432232314}',
        secrets=[Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
    )

    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_was_signed_is_accepted_in_any_case_of_headers() -> None:
    loud = {name.upper(): value for name, value in headers().items()}

    assert verify(loud, BODY, SECRET, now=NOW) == {"type": "training_complete"}
    assert verify(headers(), BODY, SECRET.reveal(), now=NOW)
    assert verify(headers(), BODY, [OTHER, SECRET], now=NOW)


@pytest.mark.parametrize("seconds", [-299, 0, 299])
def test_clocks_may_differ_by_five_minutes(seconds: float) -> None:
    assert verify(headers(), BODY, SECRET, now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("change", "body", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, BODY, OTHER),
        ({"webhook-id": "msg_2"}, BODY, SECRET),
        ({"webhook-timestamp": "1767225601"}, BODY, SECRET),
        ({"webhook-timestamp": "soon"}, BODY, SECRET),
        ({"webhook-timestamp": "٣"}, BODY, SECRET),
        ({"webhook-timestamp": "9" * 40}, BODY, SECRET),
        ({"webhook-signature": ""}, BODY, SECRET),
        ({"webhook-signature": "v1,"}, BODY, SECRET),
        ({"webhook-signature": "v1,é"}, BODY, SECRET),
        ({"webhook-signature": "v1a," + "x" * 44}, BODY, SECRET),
        ({"webhook-id": ""}, BODY, SECRET),
    ],
)
def test_anything_else_is_refused(change: dict[str, str], body: bytes, secret: Secret) -> None:
    with pytest.raises(SignatureRefused):
        verify({**headers(), **change}, body, secret, now=NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_an_old_message_and_one_from_the_future_are_refused(seconds: float) -> None:
    with pytest.raises(SignatureRefused, match="signed"):
        verify(headers(), BODY, SECRET, now=NOW + timedelta(seconds=seconds))


def test_a_flood_of_signatures_is_not_read() -> None:
    good = headers()["webhook-signature"]
    many = " ".join(["v1," + "A" * 44] * 16 + [good])

    with pytest.raises(SignatureRefused):
        verify({**headers(), "webhook-signature": many}, BODY, SECRET, now=NOW)


def test_a_signed_body_that_is_not_json_is_refused() -> None:
    signed = sign("msg_1", seconds=int(NOW.timestamp()), body=b"\xff", secrets=[SECRET])

    with pytest.raises(SignatureRefused, match="not JSON"):
        verify(signed, b"\xff", SECRET, now=NOW)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_" + "A" * 200, "é"])
def test_a_secret_that_is_none_is_the_callers_fault(secret: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        verify(headers(), BODY, secret, now=NOW)
    assert len(secret) < 7 or secret not in str(caught.value)
