"""Texts that attackers send: generated ones, and those of a folder of regression vectors."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from urllib.parse import quote

SEEDS = (
    "' OR '1'='1", "1; DROP TABLE jobs--", "' UNION SELECT password_hash FROM identity_users--",
    "1) OR sleep(5)--", "\\'; EXEC xp_cmdshell('id');--", "$$; COPY jobs TO PROGRAM 'id'; --",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)",
    "\"><svg/onload=alert(1)>", "{{7*7}}", "{% include '/etc/passwd' %}", "${7*7}", "#{7*7}",
    "../../../../etc/passwd", "..\\..\\..\\windows\\win.ini", "/etc/passwd", "/proc/self/environ",
    "file:///etc/passwd", "....//....//etc/shadow", "sample:../../keys.json", "job:../../identity",
    "~root/.ssh/id_rsa", "/dev/stdin", "/dev/zero", "//evil.example/share", "o_" + "0" * 32,
    "; id", "| cat /etc/passwd", "$(touch /tmp/pwned)", "`touch /tmp/pwned`", "&& sleep 5",
    "a\r\nSet-Cookie: x=1", "a\nX-Injected: 1", "\x00", "a\x00.jsonl", "%s%s%n%n", "{0.__class__}",
    "__proto__", "${jndi:ldap://127.0.0.1:1/a}", "http://127.0.0.1:22/", "http://169.254.169.254/",
    "gopher://127.0.0.1:6379/_FLUSHALL", "postgresql://postgres@127.0.0.1/test", "\ud800", "\u202e",
    "A" * 1025, "\U0001f512" * 300, "!!python/object/apply:os.system ['id']", "__import__('os')",
)  # fmt: skip
FRAMES: tuple[Callable[[str], str], ...] = (
    lambda text: text,
    lambda text: quote(text, safe="", errors="replace"),
    lambda text: quote(quote(text, safe="", errors="replace"), safe=""),
    lambda text: text.replace("<", "&lt;").replace("'", "&#39;"),
    lambda text: text.upper(),
    lambda text: text + "\x00",
)
BEFORE = ("", "sample:records", "1", "x'", "a/../", "\ufeff", "notes.jsonl;", "%00")


def generated() -> list[str]:
    """Every seed in every encoding behind every beginning, each once."""
    made = (frame(before + seed) for seed, frame, before in product(SEEDS, FRAMES, BEFORE))
    return list(dict.fromkeys(made))


def vectors(folder: Path) -> list[str]:
    """The vectors of the OWASP Core Rule Set's own tests, each once."""
    lines = (folder / "injection" / "crs_vectors.jsonl").read_text().splitlines()
    return list(dict.fromkeys(json.loads(line)["text"] for line in lines))
