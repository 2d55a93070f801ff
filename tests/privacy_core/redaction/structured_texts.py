"""Texts with known values, for tests: our own templates, values by our own rules, one seed.

Nothing here is read from a data set. `documents(n, seed)` gives (text, [(start, end, label)]).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from privacy_core.redaction.validators import luhn

Rng = np.random.Generator  # noqa: TID251 -- tests generate from a fixed seed
Document = tuple[str, list[tuple[int, int, str]]]


def _digits(rng: Rng, n: int) -> str:
    return "".join(map(str, rng.integers(0, 10, size=n)))


def _pick(rng: Rng, *options: str) -> str:
    return options[rng.integers(len(options))]


def _card(rng: Rng) -> str:
    prefix = _pick(rng, "4", "51", "55", "2221", "37", "6011")
    body = prefix + _digits(rng, (15 if prefix == "37" else 16) - len(prefix) - 1)
    number = next(body + d for d in "0123456789" if luhn(body + d))
    if len(number) == 15:
        return _pick(rng, number, f"{number[:4]} {number[4:10]} {number[10:]}")
    join = _pick(rng, "", " ", "-")
    return join.join(number[k : k + 4] for k in range(0, 16, 4))


def _iban(rng: Rng) -> str:
    country, length = [("DE", 22), ("ES", 24), ("FR", 27), ("NO", 15), ("BE", 16)][rng.integers(5)]
    body = _digits(rng, length - 4)
    check = 98 - int(body + "".join(str(int(c, 36)) for c in country) + "00") % 97
    number = f"{country}{check:02d}{body}"
    return _pick(rng, number, " ".join(number[k : k + 4] for k in range(0, length, 4)))


def _ssn(rng: Rng) -> str:
    return f"{rng.integers(100, 660)}-{rng.integers(10, 99)}-{rng.integers(1000, 9999)}"


def _phone(rng: Rng) -> str:
    return _pick(
        rng,
        f"+44 20 7946 0{_digits(rng, 3)}",
        f"(212) 555-0{_digits(rng, 3)}",
        f"+34 6{_digits(rng, 2)} {_digits(rng, 3)} {_digits(rng, 3)}",
        f"+33 1 42 {_digits(rng, 2)} {_digits(rng, 2)} {_digits(rng, 2)}",
        f"030 {_digits(rng, 4)} {_digits(rng, 4)}",
        f"+1-415-555-0{_digits(rng, 3)} ext. {_digits(rng, 3)}",
    )


def _date(rng: Rng) -> str:
    day, month, year = rng.integers(1, 28), rng.integers(1, 12), rng.integers(1940, 2025)
    english = ("", "January", "February", "March", "April", "May", "June", "July", "August")
    return _pick(
        rng,
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}/{month:02d}/{year}",
        f"{day}.{month}.{year}",
        f"{day} {english[min(month, 8)]} {year}",
        f"{english[min(month, 8)][:3]} {day}, {year}",
        f"{day} de octubre de {year}",
        f"{day} f\u00e9vrier {year}",
        f"{day}. M\u00e4rz {year}",
    )


def _email(rng: Rng) -> str:
    name = _pick(rng, "ana", "j.smith", "o'neill".replace("'", "."), "m\u00fcller+x", "li_wei")
    return f"{name}{_digits(rng, 2)}@{_pick(rng, 'example.org', 'mail.example.co.uk', 'uni.de')}"


def _ip(rng: Rng) -> str:
    return _pick(
        rng,
        ".".join(str(part) for part in rng.integers(11, 250, size=4)),
        ":".join(f"{part:x}" for part in rng.integers(4096, 65535, size=8)),
        f"2001:db8::{rng.integers(4096, 65535):x}",
    )


def _secret(rng: Rng) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    tail = "".join(letters[k] for k in rng.integers(0, 62, size=36))
    return _pick(rng, f"ghp_{tail}", f"AKIA{tail[:16].upper()}", f"sk_live_{tail[:24]}")


def _dni(rng: Rng) -> str:
    number = int(rng.integers(10_000_000, 99_999_999))
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


VALUES: dict[str, Callable[[Rng], str]] = {
    "PAYMENT_CARD": _card,
    "IBAN": _iban,
    "US_SSN": _ssn,
    "PHONE": _phone,
    "DATE": _date,
    "EMAIL": _email,
    "IP_ADDRESS": _ip,
    "SECRET": _secret,
    "NATIONAL_ID": _dni,
    "URL": lambda rng: f"https://portal{_digits(rng, 2)}.example.com/u/{_digits(rng, 4)}?q=1",
}
TEMPLATES = (
    "The customer wrote from {EMAIL} and asked us to ring {PHONE} after lunch.",
    "Refund to the card {PAYMENT_CARD}; the old one expired.",
    "Transfer the deposit to {IBAN} before {DATE}, please.",
    "Her SSN is {US_SSN} and she signed on {DATE}.",
    "M\u00f3vil: {PHONE}, correo {EMAIL}, DNI {NATIONAL_ID}.",
    "Host {IP_ADDRESS} answered; see {URL} for the log.",
    "export TOKEN={SECRET}  # rotate it",
    "\U0001f4de fax {PHONE}\n\U0001f4e7 {EMAIL}",
    '{{"mail": "{EMAIL}", "ip": "{IP_ADDRESS}", "since": "{DATE}"}}',
    "Rendez-vous le {DATE}, t\u00e9l. {PHONE}.",
    "Order {noise} shipped; nothing else to say about build {noise}.",
    "Section {noise}.{noise} of the manual has 1024 x 768 pictures and version 3.{noise}.1.",
)


def documents(count: int, seed: int) -> list[Document]:
    """Texts with the spans of the values in them."""
    rng = np.random.default_rng(seed)  # noqa: TID251 -- a fixed seed
    return [_document(TEMPLATES[rng.integers(len(TEMPLATES))], rng) for _ in range(count)]


def _document(template: str, rng: Rng) -> Document:
    text, spans = "", []
    rest = template.replace("{{", "\0").replace("}}", "\1")
    while "{" in rest:
        plain, _, rest = rest.partition("{")
        name, _, rest = rest.partition("}")
        value = _digits(rng, 2) if name == "noise" else VALUES[name](rng)
        text += plain
        if name != "noise":
            spans.append((len(text), len(text) + len(value), name))
        text += value
    return (text + rest).replace("\0", "{").replace("\1", "}"), spans
