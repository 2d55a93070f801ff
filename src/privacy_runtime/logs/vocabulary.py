r"""Under which keys a text may be logged, and in which form.

What is one plain word comes out under a key for words: that is what they are for. So there is no
key for what a client typed: no path, no query, no address with a password, no message.

A key that is not here carries numbers, truth values, instants and members of enumerations; a text
under it is withheld. A text that does not have its key's form is withheld as well.

========  ==================================================  =================================
form      holds                                               so it has no room for
========  ==================================================  =================================
id        `job_` and random letters, a UUID, hexadecimals     words
request   what a client may choose in `X-Request-ID`          blanks; redacted besides
word      `succeeded`, `privacy_budget_warning`               blanks, signs; redacted besides
name      `protection/hospital-a/2026-08`, a model, a route   blanks; redacted besides
client    an address of the peer                              anything else
========  ==================================================  =================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Form:
    """What a text under a key looks like.

    Attributes:
        pattern: of the whole text.
        is_scrubbed: whether personal and secret values are looked for in it all the same.
    """

    pattern: re.Pattern[str]
    is_scrubbed: bool


ID: Final = Form(
    re.compile(
        r"[a-z]{1,12}_[0-9a-z]{8,40}"  # ours: a prefix and something random
        r"|[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}"  # UUID
        r"|[0-9a-f]{16}(?:[0-9a-f]{16})?"  # spans and traces
        r"|default|system|cli"
    ),
    is_scrubbed=False,
)
REQUEST: Final = Form(re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}"), is_scrubbed=True)
WORD: Final = Form(re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[_.][A-Za-z0-9]+){0,8}"), is_scrubbed=True)
NAME: Final = Form(re.compile(r"[A-Za-z0-9/._:{}+~-]{1,200}"), is_scrubbed=True)
CLIENT: Final = Form(re.compile(r"[0-9a-fA-F:.]{2,45}(?:%[a-z0-9]{1,16})?"), is_scrubbed=False)
_WORD_MOST: Final = 64

_TABLE: Final[Mapping[Form, str]] = {
    REQUEST: "request_id",
    ID: "job_id tenant subject session key_id worker owner endpoint_id message_id"
    " delivery_id certificate_id alert_id processing_id trace_id span_id",
    WORD: "code state reason kind event_kind method status_class role scope component signal action"
    " outcome engine table queue device host_kind sink threat_type severity unit currency",
    NAME: "route artefact account dataset model version",
    CLIENT: "client",
}
FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {key: form for form, keys in _TABLE.items() for key in keys.split()}
)
CORRELATION: Final = ("request_id", "job_id", "tenant", "subject", "worker", "trace_id", "span_id")
"""What every line of a request, a job or a training step has in common."""


def fits(key: str, text: str) -> bool:
    """Whether a text may stand under a key."""
    form = FORMS.get(key)
    if form is None or (form is WORD and len(text) > _WORD_MOST):
        return False
    return form.pattern.fullmatch(text) is not None
