"""Addresses of machines and pages: URL, domain, IPv4, IPv6, MAC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from privacy_core.redaction.scanning import Mark, Page, Recognizer
from privacy_core.redaction.validators import ip_address, is_ipv4

_SCHEMES: Final = (
    r"(?:https?|ftps?|sftp|wss?|ssh|git|svn|s3|gs|file|ldaps?|mongodb(?:\+srv)?|redis)"
)
_URL: Final = (
    rf"(?i)\b{_SCHEMES}://[^\s<>\"'`{{}}|\\^]{{3}}[^\s<>\"'`{{}}|\\^]*"
    r"|\bwww[0-9]?\.[a-z0-9\xc0-\xff-]+(?:\.[a-z0-9\xc0-\xff-]+)+"
    r"(?:[/?#:][^\s<>\"'`{}|\\^]*)?"
)
# top-level domains that a bare name needs; those that are also file endings or words are left out
_TLD: Final = (
    "com|org|net|edu|gov|mil|int|info|biz|name|pro|aero|coop|museum|eu|uk|us|de|fr|es|it|nl|be|ch|"
    "at|pl|cz|se|no|dk|fi|pt|gr|ie|hu|ro|bg|hr|sk|ru|ua|tr|il|jp|cn|kr|tw|hk|sg|au|nz|za|br|"
    "mx|ar|cl|co|ca|in|io|ai|dev|app|online|shop|store|site|tech|cloud|blog|wiki|gov\\.[a-z]{2}|"
    "co\\.[a-z]{2}|com\\.[a-z]{2}|org\\.[a-z]{2}|ac\\.[a-z]{2}|edu\\.[a-z]{2}"
)
_DOMAIN: Final = (
    rf"(?i)\b[a-z0-9\xc0-\xff][a-z0-9\xc0-\xff-]+"
    rf"(?:\.[a-z0-9-]+)*\.(?:{_TLD})(?:/[^\s<>\"'`{{}}|\\^]*|\b)"
)
_TWO_LETTER_WORDS: Final = frozenset(
    ("at", "be", "in", "it", "no", "us", "is", "es", "de", "co", "pro", "name", "int", "il", "se")
)


def _trim(text: str, start: int, end: int) -> int:
    """The end without punctuation that belongs to the sentence."""
    while end > start:
        last = text[end - 1]
        if last in ".,;:!?'\"*_~" or (
            last in ")]" and text[start:end].count("(["[last == "]"]) < text[start:end].count(last)
        ):
            end -= 1
        else:
            break
    return end


def _decide_url(page: Page, start: int, end: int) -> Iterator[Mark]:
    end = _trim(page.text, start, end)
    if end - start >= 8:
        yield Mark(start, end, "URL", "url.scheme")


def _decide_domain(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    end = _trim(text, start, end)
    name = text[start:end]
    host = name.split("/", 1)[0]
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and (before in "@/.\\-_" or before.isalnum()):
        return
    if after and (
        after in "@(_\\" or after.isalnum() or (after == "." and text[end + 1 : end + 2].isalnum())
    ):
        return
    labels = host.split(".")
    wordlike = labels[-1].lower() in _TWO_LETTER_WORDS and "/" not in name and len(labels) == 2
    if wordlike and (not host.islower() or len(labels[0]) < 4):
        return  # `later.It was`, a missing blank
    if any(not label for label in labels) or (labels[-1][:1].isupper() and not host.isupper()):
        return
    yield Mark(start, end, "URL", "url.domain")


_IPV4: Final = r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:/[0-9]{1,2}|:[0-9]{1,5})?\b"


def _decide_ipv4(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    address = text[start:end].replace("/", ":").split(":")[0]
    stop = start + len(address)
    if text[stop : stop + 1] == "/":
        stop = end
    before, after = text[start - 1 : start], text[stop : stop + 2]
    if not is_ipv4(address) or (before and (before in ".-_" or before.isalnum())):
        return
    if after and (
        after[0].isalnum() or after[0] in "-_" or (after[0] == "." and after[1:2].isdigit())
    ):
        return
    around = page.around(start, stop)
    if around.distance("version") <= 1 and not around.speaks_for("ip", ("version",)):
        return
    small = all(len(part) == 1 for part in address.split("."))
    if small and not around.speaks_for("ip", ()):
        return
    yield Mark(start, stop, "IP_ADDRESS", "ip.v4", around.evidence("ip"))


_IPV6: Final = (
    r"(?:\b[0-9A-Fa-f]{1,4}:|::)(?:[0-9A-Fa-f]{0,4}:){0,7}[0-9A-Fa-f]{0,4}"
    r"(?:[0-9]{0,3}(?:\.[0-9]{1,3}){3})?(?:%[A-Za-z0-9]{1,15})?(?:/[0-9]{1,3})?"
)


def _decide_ipv6(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    before, after = text[start - 1 : start], text[end : end + 1]
    if (before and (before.isalnum() or before in ":_")) or (
        after and (after.isalnum() or after in ":_")
    ):
        return
    while text[end - 1] == ":" and text[end - 2] != ":":
        end -= 1
    address = text[start:end].split("/")[0].split("%")[0]
    if address.count(":") < 2 or ip_address(address) is None:
        return
    digits = sum(char.isalnum() for char in address)
    if digits < 4 and address != "::1":
        return  # `a::b` is C++
    if digits < 8 and not any(char.isdigit() for char in address):
        return
    yield Mark(start, end, "IP_ADDRESS", "ip.v6")


_MAC: Final = (
    r"\b[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}(?:(?::[0-9A-Fa-f]{2}){2})?\b"
    r"|\b[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5}\b|\b[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\b"
)


def _decide_mac(page: Page, start: int, end: int) -> Iterator[Mark]:
    text = page.text
    before, after = text[start - 1 : start], text[end : end + 1]
    if before in (":", "-", ".") or after in (":", "-"):
        return
    if text[start:end].replace("-", "").replace(".", "").isdigit() and ":" not in text[start:end]:
        return
    yield Mark(start, end, "MAC_ADDRESS", "mac.form")


RECOGNIZERS: Final = (
    Recognizer("url", (b"://", b"www", b"WWW"), _URL, _decide_url),
    Recognizer("domain", rf"(?i)[a-z0-9\xc0-\xff-]\.(?:{_TLD})\b", _DOMAIN, _decide_domain),
    Recognizer(
        "ipv4", (), _IPV4, _decide_ipv4, digits=True, near=r"[0-9]\.[0-9]{1,3}\.[0-9]", close=True
    ),
    Recognizer("ipv6", r"[0-9A-Fa-f]:[0-9A-Fa-f]{0,4}:|::[0-9A-Fa-f]", _IPV6, _decide_ipv6),
    Recognizer(
        "mac",
        r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}:|-[0-9A-Fa-f]{2}-)[0-9A-Fa-f]{2}[:-]"
        r"|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.",
        _MAC,
        _decide_mac,
    ),
)
