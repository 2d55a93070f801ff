"""For receivers: whether a message came from the service, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from privacy_finetuner.client.errors import SignatureRefused
from privacy_finetuner.client.shapes.webhooks import Message
from privacy_runtime.secret import Secret


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: Secret | str | Sequence[Secret | str],
    *,
    now: datetime | None = None,
    tolerance_s: float = 300.0,
) -> Message:
    """A received message, if its signature holds (Standard Webhooks, HMAC-SHA256).

    Guarantee: what is returned was signed with the secret, no more than `tolerance_s` ago. It may
    come twice: remember its `id`.

    Args:
        headers: of the request; names in any case.
        body: as received, before any decoding.
        secret: of the endpoint; several while one is being replaced.
        now: default: this machine's clock.
        tolerance_s: how far the two clocks may be apart.

    Raises:
        SignatureRefused: nobody who holds the secret sent this, or not just now. Discard it.

    Example::

        message = verify(request.headers, await request.body(), os.environ["WEBHOOK_SECRET"])
        if message.type == "training_complete":
            print(message.data["job_id"])
    """
    from privacy_runtime import notify  # noqa: PLC0415 -- with what it stands on

    try:
        document = notify.verify(headers, body, secret, now=now, tolerance_s=tolerance_s)
    except notify.SignatureRefused as error:
        raise SignatureRefused(str(error)) from None
    named = {name.lower(): value for name, value in headers.items()}
    try:
        return Message(
            id=named["webhook-id"],
            type=str(document["type"]),
            timestamp=datetime.fromisoformat(document["timestamp"]),
            data=dict(document["data"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SignatureRefused("it is signed, and no message of this service") from None
