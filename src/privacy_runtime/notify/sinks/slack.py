"""A Slack incoming webhook: one sentence. The address is the secret; nothing is signed."""

from __future__ import annotations

from typing import Any, Final

import orjson

from privacy_runtime.notify import notices
from privacy_runtime.notify.sinks.http import Posting
from privacy_runtime.notify.sinks.outcome import Outcome, Parcel

_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Slack:
    """Posts to a channel."""

    def __init__(self, posting: Posting) -> None:
        self._posting = posting

    def send(self, parcel: Parcel) -> Outcome:
        """See `Sink`."""
        text = sentence(parcel.event, parcel.content.get("data", {})).translate(_ESCAPES)
        body = orjson.dumps({"text": text})
        headers = {"content-type": "application/json"}
        at = parcel.now.timestamp()
        return self._posting.post(parcel.address.reveal(), body, headers, at)


def sentence(event: str, data: dict[str, Any]) -> str:
    """An event in words; the same for Slack and e-mail."""
    if event == notices.TRAINING_COMPLETE:
        spent = data.get("privacy_spent", {})
        return (
            f"Training job {data.get('job_id')} succeeded after {data.get('steps')} steps; "
            f"it spent epsilon {spent.get('epsilon', 0):.4g} at delta {spent.get('delta', 0):.3g}."
        )
    if event == notices.JOB_FAILED:
        return (
            f"Training job {data.get('job_id')} failed ({data.get('code')}) after "
            f"{data.get('attempts')} attempts. What it had charged stays charged."
        )
    if event == notices.PRIVACY_BUDGET_WARNING:
        return (
            f"Privacy budget {data.get('account')}: {data.get('share_spent', 0):.0%} is spent, "
            f"epsilon {data.get('epsilon_spent', 0):.4g} of {data.get('epsilon_granted', 0):.4g}."
        )
    if event == notices.SECURITY_ALERT:
        return (
            f"Security alert {data.get('alert_id')}: {data.get('threat_type')}, "
            f"severity {data.get('severity')}."
        )
    return "This is a test of your Privacy Finetuner notifications."
