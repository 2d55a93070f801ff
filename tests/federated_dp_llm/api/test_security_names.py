"""The documented names of security: what each does, and what it refuses."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import jwt
import pytest

from federated_dp_llm.security import (
    InputValidator,
    SecureConfig,
    SecurityError,
    SecurityManager,
)
from privacy_runtime.identity import WeakSecret
from privacy_runtime.settings.faults import SecretUnavailable
from privacy_runtime.testing import ManualClock

KEY = "correct-horse-battery-staple-and-some-more-49"  # opens nothing


def test_a_token_has_the_documented_claims_and_ends_after_eight_hours() -> None:
    clock = ManualClock()
    manager = SecurityManager(
        KEY, clock=clock, permissions_of=lambda _: ["query"], budget_of=lambda _: 3.0
    )

    token = manager.generate_token("doctor_smith", "emergency")

    claims = manager.validate_token(token)
    assert claims is not None
    assert set(claims) == {
        "user_id", "department", "issued_at", "expires_at", "permissions", "privacy_budget",
    }  # fmt: skip
    clock.advance(timedelta(hours=8).total_seconds())
    assert manager.validate_token(token) is None


def test_a_token_of_another_key_algorithm_or_form_is_none() -> None:
    manager = SecurityManager(KEY)
    claims = {"user_id": "x", "expires_at": "2999-01-01T00:00:00+00:00"}

    assert manager.validate_token(jwt.encode(claims, "another " + KEY, "HS256")) is None
    assert manager.validate_token(jwt.encode(claims, None, "none")) is None
    assert manager.validate_token(jwt.encode({"user_id": "x"}, KEY, "HS256")) is None
    assert manager.validate_token("...") is None


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(WeakSecret):
        SecurityManager("secret")


def test_a_prompt_is_never_rewritten_and_an_attack_is_a_sign() -> None:
    clinical = "BP < 120/80, K+ > 5.1 & creatinine rising; O'Brien's ward"

    assert InputValidator.sanitize_input(clinical) == clinical
    assert InputValidator.signs("<script>alert(1)</script>")
    with pytest.raises(SecurityError, match="cross_site_scripting"):
        InputValidator.sanitize_input("<script>alert(1)</script>")


def test_a_secret_comes_from_the_mounted_file_or_from_vault_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "JWT_SECRET").write_text("abc\n")
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JWT_SECRET": "never this"}

    assert SecureConfig(variables=pod, folder=tmp_path).load_secret("JWT_SECRET") == "abc"
    with pytest.raises(SecretUnavailable):
        SecureConfig(variables=pod, folder=tmp_path).load_secret("DB_PASSWORD")
    with pytest.raises(SecretUnavailable, match="VAULT_ADDR"):
        SecureConfig(variables={"JWT_SECRET": "x"}).load_secret("JWT_SECRET")
