"""What opens something: keys, tokens, passwords, private keys, credentials in addresses."""

# ruff: noqa: E501 -- one alternative of a pattern a line

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer

# issuer | pattern; prefixes as the issuers document them
_TABLE: Final = r"""
aws|(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AROA|ANPA)[A-Z0-9]{16}
github|gh[pousr]_[A-Za-z0-9]{36}[A-Za-z0-9]*
github|github_pat_[A-Za-z0-9_]{22}[A-Za-z0-9_]*
gitlab|gl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*
slack|xox[abeoprs]-[A-Za-z0-9-]{10}[A-Za-z0-9-]*
slack|xapp-[0-9]-[A-Z0-9]{8,14}-[0-9]{10,14}-[a-z0-9]{32}[a-z0-9]*
slack|https://hooks\.slack\.com/services/[A-Za-z0-9/_-]{20}[A-Za-z0-9/_-]*
discord|https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks/[0-9]{15,22}/[A-Za-z0-9_-]{40}[A-Za-z0-9_-]*
discord|[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}
jwt|ey[JI][A-Za-z0-9_-]{8,600}\.[A-Za-z0-9_-]{8}
google|AIza[A-Za-z0-9_-]{35}
google|ya29\.[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*
google|GOCSPX-[A-Za-z0-9_-]{28}
anthropic|sk-ant-[A-Za-z0-9_-]{24}[A-Za-z0-9_-]*
openai|sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20}[A-Za-z0-9_-]*
stripe|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16}[A-Za-z0-9]*
stripe|whsec_[A-Za-z0-9+/=]{24}[A-Za-z0-9+/=]*
twilio|(?:AC|SK)[0-9a-f]{32}
sendgrid|SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16}[A-Za-z0-9_-]*
mailchimp|[0-9a-f]{32}-us[0-9]{1,2}
mailgun|key-[0-9a-zA-Z]{32}
npm|npm_[A-Za-z0-9]{36}
pypi|pypi-[A-Za-z0-9_-]{50}[A-Za-z0-9_-]*
huggingface|hf_[A-Za-z]{30,40}
digitalocean|do[opr]_v1_[a-f0-9]{64}
shopify|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}
square|(?:sq0atp|sq0csp|EAAA)-?[A-Za-z0-9_-]{22}[A-Za-z0-9_-]*
databricks|dapi[a-f0-9]{32}
telegram|[0-9]{8,10}:[A-Za-z0-9_-]{35}
newrelic|NRAK-[A-Z0-9]{27}
vault|hv[sbr]\.[A-Za-z0-9_-]{24}[A-Za-z0-9_-]*
linear|lin_api_[A-Za-z0-9]{40}
notion|(?:secret|ntn)_[A-Za-z0-9]{40,50}
age|AGE-SECRET-KEY-1[0-9A-Z]{58}
doppler|dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9]{40,44}
azure|[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}
postman|PMAK-[a-f0-9]{24}-[a-f0-9]{34}
airtable|pat[A-Za-z0-9]{14}\.[a-f0-9]{64}
facebook|EAACEdEose0cBA[A-Za-z0-9]{20}[A-Za-z0-9]*
groq|gsk_[A-Za-z0-9]{48,56}
"""


def _read(table: str) -> tuple[str, str, tuple[tuple[str, re.Pattern[str]], ...]]:
    """The alternation, the trigger, and (issuer, pattern) pairs to say whose key it is."""
    rows = [line.split("|", 1) for line in table.strip().splitlines()]
    alternation = "|".join(rf"\b{pattern}" for _, pattern in rows)
    trigger = (
        r"\b(?:A(?:KIA|SIA|BIA|CCA|GPA|IDA|ROA|NPA|Iza|GE-SECRET)|gh[pousr]_|github_pat"
        r"|gl(?:pat|dt|rt|cbt|ptt|soat)-|xox[abeoprs]-|xapp-|https://(?:hooks\.slack|[a-z.]{0,7}discord)"
        r"|ey[JI][A-Za-z0-9_-]{8}|ya29\.|GOCSPX|sk-[A-Za-z0-9_-]{20}|[srp]k_(?:live|test)|whsec_"
        r"|(?:AC|SK)[0-9a-f]{8}|SG\.|key-[0-9a-zA-Z]{8}|npm_|pypi-|hf_|do[opr]_v1|shp(?:at|ca|pa|ss)_"
        r"|sq0|EAA|dapi|NRAK|hv[sbr]\.|lin_api|secret_|ntn_|dp\.(?:pt|st|ct|sa)|PMAK|pat[A-Za-z0-9]{14}"
        r"|gsk_)|-us[0-9]|[0-9]{8}:[A-Za-z0-9_-]{8}|Q~|\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{8}"
    )
    return alternation, trigger, tuple((name, re.compile(pattern)) for name, pattern in rows)


_KEYS, _KEY_TRIGGER, _ISSUERS = _read(_TABLE)


_TOKEN: Final = re.compile(r"[A-Za-z0-9_.-]*")
_TOKEN_LIMIT: Final = 20_000  # characters of a token that are looked at


def _decide_key(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    if start and (text[start - 1].isalnum() or text[start - 1] in "_-"):
        return
    body = text[start:end]
    if body[:2] == "ey":  # the pattern holds the begin of a JSON web token only
        rest = _TOKEN.match(text, end, min(len(text), end + _TOKEN_LIMIT))
        end = rest.end() if rest else end
        while text[end - 1] == ".":
            end -= 1
        yield Mark(start, end, "SECRET", "secret.issuer", ("key format: jwt",))
        return
    if text[end : end + 1].isalnum():
        return
    for issuer, pattern in _ISSUERS:
        if pattern.fullmatch(body):
            if issuer in ("discord", "azure", "openai") and not any(c.isdigit() for c in body):
                return  # three dotted words, a dashed slug
            yield Mark(start, end, "SECRET", "secret.issuer", (f"key format: {issuer}",))
            return


_BLOCK: Final = r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
_BLOCK_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")


_BLOCK_BODY: Final = re.compile(r"(?:\\n|[A-Za-z0-9+/=\s:,-])*")
_BLOCK_LIMIT: Final = 20_000  # characters; a key of 16384 bits has 12,000


def _decide_block(page: Page, start: int, end: int) -> Iterator[Mark]:
    """A private key up to its end line; without one, up to the last line that can be base64."""
    text = page.text
    limit = min(len(text), end + _BLOCK_LIMIT)
    following = text.find("-----BEGIN ", end, limit)
    limit = limit if following < 0 else following
    closing = _BLOCK_END.search(text, end, limit) if "-----END" in text[end:limit] else None
    stop = closing.end() if closing is not None else _BLOCK_BODY.match(text, end, limit).end()  # type: ignore[union-attr]
    yield Mark(start, stop, "SECRET", "secret.private_key", ("private key block",))


_CREDENTIALS: Final = r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@'\"<>]{0,128}:[^\s/@'\"<>]{1,256}@"


def _decide_credentials(page: Page, start: int, end: int) -> Iterator[Mark]:
    colon = page.text.index("://", start) + 3
    first = page.text.index(":", colon) + 1
    yield Mark(first, end - 1, "SECRET", "secret.url_password", ("credentials in an address",))


_BEARER: Final = r"(?i)\b(?:bearer|basic|token|digest|apikey|negotiate) [A-Za-z0-9_.~+/-]{12}[A-Za-z0-9_.~+/-]*={0,2}"


def _decide_bearer(page: Page, start: int, end: int) -> Iterator[Mark]:
    first = page.text.index(" ", start) + 1
    value = page.text[first:end]
    if _random(value):
        yield Mark(first, end, "SECRET", "secret.bearer", ("authorization header",))


def _random(value: str) -> bool:
    """Whether a token is not a word: figures beside letters, or both cases inside."""
    figures = any(c.isdigit() for c in value)
    letters = any(c.isalpha() for c in value)
    mixed = value[1:] != value[1:].lower() and value != value.upper()
    return (figures and letters) or (mixed and len(value) >= 16)


# ---- `password: ...` and what is written like it

_NAMES: Final = (
    r"(?:[a-z0-9]{1,20}[_-]){0,4}(?:password|passwd|passwort|passphrase|passcode|pwd|pass|contrase\xf1a|clave|mot de passe|mdp|senha|kennwort"
    r"|secret(?:[_ -]?(?:access)?[_ -]?key)?|client[_ -]?secret|api[_ -]?key|apikey|api[_ -]?secret|api[_ -]?token"
    r"|access[_ -]?key(?:[_ -]?id)?|account[_ -]?key|sharedaccesskey|shared[_ -]?access[_ -]?signature|access[_ -]?token"
    r"|auth[_ -]?token|auth[_ -]?key|refresh[_ -]?token|id[_ -]?token|session[_ -]?(?:token|id|key)|bearer[_ -]?token|token"
    r"|private[_ -]?key|encryption[_ -]?key|signing[_ -]?key|master[_ -]?key|license[_ -]?key|webhook[_ -]?secret|pin(?: code| number)?|pincode|otp"
    r"|one[- ]time code|security code|verification code|cvv2?|cvc2?|credentials?|recovery (?:code|phrase)|seed phrase|key)"
)
_ASSIGNED: Final = (
    rf"(?i)\b{_NAMES}['\"]? {{0,3}}(?:=>|:=|={{1,2}}|:|\bis\b:?|\bes\b|\best\b|\bist\b|\bwas\b|\()"
    r"[ \t]{0,3}['\"`]?[^\s'\"`<>;,()]{3}[^\s'\"`<>;,()]*"
)
_VALUE: Final = re.compile(
    r"(?i)(=>|:=|=|:|\b(?:is|es|est|ist|was)\b:?|\()[ \t]*(['\"`]?)([^\s'\"`<>;,()]+)$"
)
_PLACEHOLDER: Final = re.compile(
    r"(?i)(?:[*x.\xa6_-]+|\$\{?\w*\}?|\{+.*|%\w*%?|\[.*|none|null|nil|true|false|undefined|str|string|int|bytes|optional\S*"
    r"|your\S*|changeme|example|required|reset|redacted\S*|hidden|secret|password|token|not|the|a|an|to|for|os\.\S*|self\.\S*"
    r"|env\S*|process\.\S*|config\S*|settings\S*|get\S*\(?|https?://.*)"
)
_NUMERIC: Final = re.compile(r"(?i)(?:pin|otp|code|cvv|cvc|passcode|cvv2|cvc2)")
_WEAK: Final = re.compile(r"(?i)(?:[a-z0-9]*[_-])*(?:key|token|pass|clave|credentials?)$")


def _decide_assigned(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    match = _VALUE.search(text, start, end)
    if match is None:
        return
    mark, quote, value = match.groups()
    first, last = match.start(3), match.end(3)
    while value and value[-1] in ".!?:]}" and not quote:
        value, last = value[:-1], last - 1
    if len(value) < 3 or _PLACEHOLDER.fullmatch(value):
        return
    name = text[start : match.start()].strip(" '\"")
    said = mark.strip(":").lower() in ("is", "es", "est", "ist", "was", "(")
    if _NUMERIC.search(name) and not _NUMERIC.fullmatch("x") and _is_code_name(name):
        if not value.isdigit() or not 3 <= len(value) <= 8:
            return
    elif (said or _WEAK.fullmatch(name)) and not _strong(value):
        return
    yield Mark(first, last, "SECRET", "secret.assigned", ("name of a credential before it",))


def _is_code_name(name: str) -> bool:
    return bool(
        re.search(r"(?i)(?:^|[ _-])(?:pin|pincode|otp|cvv2?|cvc2?|passcode|code|number)$", name)
    )


def _strong(value: str) -> bool:
    """Whether a value after a weak name looks like a credential and not like a word."""
    figures = sum(c.isdigit() for c in value)
    signs = sum(not c.isalnum() and c not in "._-/" for c in value)
    mixed = value[1:] != value[1:].lower() and value != value.upper()
    return len(value) >= 6 and (
        (figures >= 1 and figures < len(value)) or signs >= 1 or (mixed and len(value) >= 8)
    )


RECOGNIZERS: Final = (
    Recognizer("key", _KEY_TRIGGER, _KEYS, _decide_key),
    Recognizer("private_key", (b"PRIVATE KEY",), _BLOCK, _decide_block),
    Recognizer("credentials", r"://[^\s/:@'\"<>]*:", _CREDENTIALS, _decide_credentials),
    Recognizer(
        "bearer",
        r"(?i)\b(?:bearer|basic|token|digest|apikey|negotiate) [A-Za-z0-9_.~+/-]{12}",
        _BEARER,
        _decide_bearer,
    ),
    Recognizer(
        "assigned",
        r"(?i)(?:pass(?:wor[dt]|wd|phrase|code)?|pwd|contrase\xf1a|clave|mdp|senha|kennwort|secret|key|token"
        r"|signature|pin|pincode|otp|(?:security|verification|time|recovery|pin|access) ?(?:code|number)|(?:session|key)[_ -]?id|cvv2?|cvc2?|credentials?|phrase)['\"]? {0,3}"
        r"(?:=|:|\(|is\b|est?\b|ist\b|was\b)|mot de passe",
        _ASSIGNED,
        _decide_assigned,
    ),
)
