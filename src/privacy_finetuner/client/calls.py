"""What is sent: one value a request, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from privacy_core.errors import InvalidParameter

API: Final = "/api/v1"
_KEY: Final = re.compile(r"[\x21-\x7e]{8,128}")
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request.

    Attributes:
        path: below the address of the service.
        query: `None` values are left out.
        body: sent as JSON.
        file: sent as it is, instead of a body.
        key: idempotency key: the service does a request with it once, however often it arrives.
        anonymous: sent without credentials.
        is_question: changes nothing, although it is a POST: its body is too large, or too private,
            for an address.
    """

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Json | None = None
    file: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    anonymous: bool = False
    is_question: bool = False

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does."""
        return self.method in _IDEMPOTENT or self.key is not None or self.is_question

    @property
    def asked(self) -> dict[str, Any]:
        """The query as it is sent."""
        return {name: value for name, value in self.query.items() if value is not None}


def place(*parts: str) -> str:
    """A path below the API; each part is one segment, whatever characters it has."""
    return "/".join((API, *(quote(part, safe="") for part in parts)))


def key_of(key: str | None) -> str | None:
    """An idempotency key of the caller.

    Raises:
        InvalidParameter: the service would not take it. Nothing was sent.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidParameter(
            "idempotency_key", found=f"{len(key)} characters",
            expected="8 to 128 visible characters of ASCII without spaces",
        )  # fmt: skip
    return key


def given(**values: Any) -> dict[str, Any]:
    """The values that are not `None`, by name."""
    return {name: value for name, value in values.items() if value is not None}
