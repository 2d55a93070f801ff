"""Redaction by the service, with its keys: protect, explain, reveal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from privacy_finetuner.client.asynchronous.paging import AsyncGroup
from privacy_finetuner.client.calls import Call, place
from privacy_finetuner.client.decoding import decoded
from privacy_finetuner.client.shapes.text import Explanation, Protected, ProtectedLine, Revealed


class AsyncRedaction(AsyncGroup):
    """Texts without the personal and secret values in them. The service keeps nothing of them.

    `options` of every method are those of the command `protect`: `sensitivity_level` (`low`,
    `medium`, `high`), `strategies`, `sensitivity_threshold`, `preserve_entities`,
    `preserve_structure`, `names`, `locales`, `allow`, `deny`.
    """

    async def protect(
        self,
        text: str | None = None,
        *,
        value: Any = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Protected:
        """Replace what is found in one text, in the strings of one JSON value, or in one chat.

        Args:
            text: the text.
            value: instead: any JSON value.
            messages: instead: the messages of a chat.
            **options: see the class.

        Example::

            result = await client.redaction.protect("Mail anna@example.org")
            print(result.protected_text)
        """
        forms = {"text": text, "value": value, "messages": messages}
        body = {**options, **{name: form for name, form in forms.items() if form is not None}}
        return await self._ask(place("protect"), Protected, body)

    async def protect_batch(
        self, texts: Sequence[str], **options: Any
    ) -> tuple[ProtectedLine, ...]:
        """Replace what is found in many texts, each a document of its own."""
        call = Call(
            method="POST",
            path=place("protect", "batch"),
            body={**options, "texts": list(texts)},
            is_question=True,
        )
        content = await self._session.content(call)
        return tuple(decoded(ProtectedLine, line) for line in content.splitlines() if line)

    async def explain_redactions(self, text: str, **options: Any) -> Explanation:
        """Say what would be redacted and why, by position."""
        return await self._ask(place("protect", "explain"), Explanation, {**options, "text": text})

    async def reveal(
        self, protected_text: str, reason: str, *, only: Sequence[str] = ()
    ) -> Revealed:
        """Open sealed values. Needs an officer's fresh login, and stands in the audit trail.

        Args:
            protected_text: with tokens in it.
            reason: stands in the trail.
            only: types to reveal; empty: all.
        """
        body = {"protected_text": protected_text, "reason": reason, "only": list(only)}
        return await self._post_secret(place("protect", "reveal"), Revealed, body)
