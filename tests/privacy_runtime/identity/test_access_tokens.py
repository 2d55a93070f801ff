"""Access tokens: what is issued verifies, and nothing else does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_core.errors import InvalidParameter
from privacy_runtime.identity import (
    ROLE_SCOPES,
    AccessTokens,
    Claims,
    Method,
    Principal,
    Role,
    TokenKeys,
    TokenPolicy,
    TokenRefused,
)
from privacy_runtime.identity import errors as refusals
from privacy_runtime.signing import KeyExpired
from privacy_runtime.testing import DEFAULT_START, ManualClock, SeededEntropy

POLICY = TokenPolicy(issuer="https://pf.example", audience="privacy-finetuner")
PRINCIPAL = Principal(
    subject="u_1",
    tenant="o_1",
    scopes=ROLE_SCOPES[Role.TRAINER],
    method=Method.PASSWORD_AND_CODE,
    authenticated_at=DEFAULT_START,
    session="s_1",
)


class Mint:
    """A service that issues, and a forger who knows everything but the private key."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.keys = TokenKeys.open(folder, SeededEntropy(1), now=self.clock.now())
        self.tokens = AccessTokens(self.keys, POLICY, clock=self.clock, entropy=SeededEntropy(2))
        self.token, self.claims = self.tokens.issue(PRINCIPAL)
        self.stranger = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)

    def header(self, **changes: Any) -> dict[str, Any]:
        header = {"alg": "EdDSA", "kid": self.keys.newest.public.key_id, "typ": "at+jwt"}
        return {name: value for name, value in (header | changes).items() if value is not ...}

    def body(self, **changes: Any) -> dict[str, Any]:
        body = json.loads(_decoded(self.token.split(".")[1]))
        return {name: value for name, value in (body | changes).items() if value is not ...}

    def signed(self, header: Any, body: Any) -> str:
        """Signed by the true key: what only a broken issuer or another use of the key makes."""
        text = f"{_encoded(json.dumps(header))}.{_encoded(json.dumps(body))}"
        return f"{text}.{_encoded(self.keys.newest.signing.sign(text.encode()))}"


def _encoded(data: str | bytes) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Mint:
    return Mint(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture
def mint(tmp_path: Path) -> Mint:
    return Mint(tmp_path / "keys")


def test_a_token_says_what_was_put_in(mint: Mint) -> None:
    claims = mint.tokens.verify(mint.token)

    assert claims == mint.claims
    assert (claims.subject, claims.tenant, claims.session) == ("u_1", "o_1", "s_1")
    assert claims.scopes == ROLE_SCOPES[Role.TRAINER]
    assert claims.expires_at - claims.issued_at == timedelta(minutes=15)


def test_another_library_verifies_our_token(mint: Mint) -> None:
    pem = mint.keys.newest.verifying
    now = mint.clock.now()

    body = jwt.decode(
        mint.token,
        pem,
        algorithms=["EdDSA"],
        audience=POLICY.audience,
        issuer=POLICY.issuer,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert body["exp"] == int(now.timestamp()) + 900


def test_two_tokens_have_two_ids(mint: Mint) -> None:
    assert mint.tokens.issue(PRINCIPAL)[1].token_id != mint.claims.token_id


def test_a_token_ends_with_its_session(mint: Mint) -> None:
    _, claims = mint.tokens.issue(PRINCIPAL, ends=mint.clock.now() + timedelta(seconds=60))

    assert claims.expires_at - claims.issued_at == timedelta(seconds=60)


def test_the_budget_in_a_token_is_written_and_never_read(mint: Mint) -> None:
    token, _ = mint.tokens.issue(PRINCIPAL, privacy_budget={"epsilon": 99.0})

    assert json.loads(_decoded(token.split(".")[1]))["privacy_budget"] == {"epsilon": 99.0}
    mint.tokens.verify(token)
    assert not [field for field in fields(Claims) if "budget" in field.name]


def _forgeries() -> dict[str, tuple[type[TokenRefused], Callable[[Mint], str]]]:
    def hs256(mint: Mint) -> str:
        secret = mint.keys.newest.verifying.public_bytes_raw()
        import hashlib
        import hmac

        text = f"{_encoded(json.dumps(mint.header(alg='HS256')))}.{mint.token.split('.')[1]}"
        return f"{text}.{_encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    def by_stranger(mint: Mint) -> str:
        body = mint.body(scope="budgets:grant")
        return jwt.encode(body, mint.stranger, algorithm="EdDSA", headers=mint.header(alg=...))

    def unsigned(mint: Mint, alg: str) -> str:
        body = mint.token.split(".")[1]
        return f"{_encoded(json.dumps(mint.header(alg=alg)))}.{body}."

    def wrong_body(**changes: Any) -> Callable[[Mint], str]:
        return lambda mint: mint.signed(mint.header(), mint.body(**changes))

    def wrong_header(**changes: Any) -> Callable[[Mint], str]:
        return lambda mint: mint.signed(mint.header(**changes), mint.body())

    jwk = {"kty": "OKP", "crv": "Ed25519", "x": _encoded(b"\x09" * 32)}
    now = int(DEFAULT_START.timestamp())
    e = refusals
    return {
        "alg none, no signature": (e.TokenMalformed, lambda m: unsigned(m, "none")),
        "alg none, a signature": (e.WrongAlgorithm, wrong_header(alg="none")),
        "alg NONE": (e.WrongAlgorithm, wrong_header(alg="nOnE")),
        "alg absent": (e.WrongAlgorithm, wrong_header(alg=...)),
        "alg null": (e.WrongAlgorithm, wrong_header(alg=None)),
        "HS256 with the public key": (e.WrongAlgorithm, hs256),
        "RS256 by name": (e.WrongAlgorithm, wrong_header(alg="RS256")),
        "signed by a stranger": (e.SignatureRefused, by_stranger),
        "kid unknown": (e.UnknownTokenKey, wrong_header(kid="0" * 32)),
        "kid a path": (e.UnknownTokenKey, wrong_header(kid="../../dev/null")),
        "kid absent": (e.UnexpectedHeader, wrong_header(kid=...)),
        "kid a list": (e.UnknownTokenKey, wrong_header(kid=["x"])),
        "crit": (e.CriticalHeader, wrong_header(crit=["b64"], b64=False)),
        "crit empty": (e.CriticalHeader, wrong_header(crit=[])),
        "typ absent": (e.WrongType, wrong_header(typ=...)),
        "typ JWT": (e.WrongType, wrong_header(typ="JWT")),
        "typ in capitals": (e.WrongType, wrong_header(typ="AT+JWT")),
        "a key of its own": (e.UnexpectedHeader, wrong_header(jwk=jwk)),
        "a key elsewhere": (e.UnexpectedHeader, wrong_header(jku="https://evil.example")),
        "compressed": (e.UnexpectedHeader, wrong_header(zip="DEF")),
        "issuer": (e.WrongIssuer, wrong_body(iss="https://evil.example")),
        "issuer absent": (e.WrongIssuer, wrong_body(iss=...)),
        "audience": (e.WrongAudience, wrong_body(aud="another-service")),
        "audience a list with ours": (e.WrongAudience, wrong_body(aud=[POLICY.audience, "x"])),
        "audience absent": (e.WrongAudience, wrong_body(aud=...)),
        "no end": (e.ClaimsRefused, wrong_body(exp=...)),
        "no subject": (e.ClaimsRefused, wrong_body(sub=...)),
        "an empty subject": (e.ClaimsRefused, wrong_body(sub="")),
        "no id": (e.ClaimsRefused, wrong_body(jti=...)),
        "an unknown scope": (e.ClaimsRefused, wrong_body(scope="jobs:read jobs:*")),
        "a list of scopes": (e.ClaimsRefused, wrong_body(scope=["jobs:read"])),
        "an unknown method": (e.ClaimsRefused, wrong_body(amr="guessed")),
        "one claim more": (e.ClaimsRefused, wrong_body(role="admin")),
        "an end in text": (e.ClaimsRefused, wrong_body(exp="9999999999")),
        "an end in parts": (e.ClaimsRefused, wrong_body(exp=now + 0.5)),
        "an end that is true": (e.ClaimsRefused, wrong_body(exp=True)),
        "an end beyond time": (e.ClaimsRefused, wrong_body(exp=10**15)),
        "an end in infinity": (e.TokenMalformed, wrong_body(exp=float("inf"))),
        "lasts too long": (e.ClaimsRefused, wrong_body(exp=now + 901)),
        "two beginnings": (e.ClaimsRefused, wrong_body(nbf=now - 1)),
        "expired": (e.TokenExpired, wrong_body(iat=now - 901, nbf=now - 901, exp=now - 30)),
        "not yet": (e.TokenNotYetValid, wrong_body(iat=now + 31, nbf=now + 31, exp=now + 60)),
        "a body that is no object": (e.TokenMalformed, lambda m: m.signed(m.header(), ["x"])),
        "a header that is no object": (e.TokenMalformed, lambda m: m.signed("x", m.body())),
        "empty": (e.TokenMalformed, lambda m: ""),
        "dots": (e.TokenMalformed, lambda m: ".."),
        "four parts": (e.TokenMalformed, lambda m: m.token + ".x"),
        "padding": (e.TokenMalformed, lambda m: m.token + "=="),
        "a line after it": (e.TokenMalformed, lambda m: m.token + "\n"),
        "a blank before it": (e.TokenMalformed, lambda m: " " + m.token),
        "another alphabet": (e.TokenMalformed, lambda m: m.token.replace(".", "。")),
        "too long": (e.TokenMalformed, lambda m: m.token + "x" * 5000),
    }


@pytest.mark.parametrize("name", _forgeries())
def test_a_forgery_is_refused_with_its_own_error_and_one_public_message(
    shared: Mint, name: str
) -> None:
    kind, forge = _forgeries()[name]
    with pytest.raises(TokenRefused) as refused:
        shared.tokens.verify(forge(shared))

    assert type(refused.value) is kind
    assert refused.value.public == "the access token is not valid"
    assert shared.token.split(".")[1] not in str(refused.value)


def test_a_key_twice_in_a_header_is_refused(shared: Mint) -> None:
    header = json.dumps(shared.header()).replace('"typ"', '"alg": "none", "typ"')
    token = ".".join([_encoded(header), *shared.token.split(".")[1:]])

    with pytest.raises(refusals.TokenMalformed):
        shared.tokens.verify(token)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_character_of_a_token_can_be_changed(shared: Mint, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, 2))
    parts = shared.token.split(".")
    where = data.draw(st.integers(0, len(parts[part]) - 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=. \x00"
    sign = data.draw(st.sampled_from(alphabet).filter(lambda s: s != parts[part][where]))
    parts[part] = parts[part][:where] + sign + parts[part][where + 1 :]

    with pytest.raises(TokenRefused):
        shared.tokens.verify(".".join(parts))


def test_the_last_character_has_no_second_spelling(shared: Mint) -> None:
    # A signature of 64 bytes leaves four bits of the last character unused.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = []
    for sign in alphabet:
        try:
            shared.tokens.verify(shared.token[:-1] + sign)
            taken.append(sign)
        except TokenRefused:
            pass

    assert taken == [shared.token[-1]]


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(["sub", "tenant", "scope", "jti", "sid", "amr", "iat", "nbf", "exp", "x"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text())
        ),
        min_size=1,
    )
)
def test_other_claims_under_the_old_signature_are_refused(
    shared: Mint, changes: dict[str, Any]
) -> None:
    header, _, signature = shared.token.split(".")
    body = _encoded(json.dumps(shared.body(**changes)))

    if body != shared.token.split(".")[1]:
        with pytest.raises(TokenRefused):
            shared.tokens.verify(f"{header}.{body}.{signature}")


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=300))
def test_no_text_makes_it_fail_otherwise(shared: Mint, text: str) -> None:
    with pytest.raises(TokenRefused):
        shared.tokens.verify(text)


@pytest.mark.parametrize(("after_s", "holds"), [(0, True), (929, True), (930, False)])
def test_a_token_holds_for_fifteen_minutes_and_the_skew(
    mint: Mint, after_s: float, holds: bool
) -> None:
    mint.clock.advance(after_s)

    if holds:
        mint.tokens.verify(mint.token)
    else:
        with pytest.raises(refusals.TokenExpired):
            mint.tokens.verify(mint.token)


@pytest.mark.parametrize(("behind_s", "holds"), [(30, True), (31, False)])
def test_a_clock_that_is_behind_takes_tokens_within_the_skew(
    mint: Mint, behind_s: int, holds: bool
) -> None:
    mint.clock.set_time_of_day(mint.clock.now() - timedelta(seconds=behind_s))

    if holds:
        mint.tokens.verify(mint.token)
    else:
        with pytest.raises(refusals.TokenNotYetValid):
            mint.tokens.verify(mint.token)


def test_an_old_key_verifies_until_it_is_retired(mint: Mint) -> None:
    old = mint.keys.newest.public.key_id
    new = mint.keys.rotate(SeededEntropy(3), now=mint.clock.now())

    assert mint.keys.key_ids == (old, new)
    assert jwt.get_unverified_header(mint.tokens.issue(PRINCIPAL)[0])["kid"] == new
    mint.tokens.verify(mint.token)
    mint.keys.retire(old)
    with pytest.raises(refusals.UnknownTokenKey):
        mint.tokens.verify(mint.token)


def test_another_process_sees_a_rotation_and_a_retirement(mint: Mint) -> None:
    other = TokenKeys.open(mint.keys.folder, SeededEntropy(4), now=mint.clock.now())
    old, new = other.newest.public.key_id, mint.keys.rotate(SeededEntropy(3), now=mint.clock.now())

    assert other.newest.public.key_id == new
    mint.keys.retire(old)
    assert other.key_ids == (new,)


def test_the_signing_key_is_not_retired(mint: Mint) -> None:
    with pytest.raises(InvalidParameter):
        mint.keys.retire(mint.keys.newest.public.key_id)
    mint.tokens.verify(mint.token)


def test_a_key_half_made_by_a_crash_is_not_used(mint: Mint) -> None:
    (mint.keys.folder / "token-key-000002.pem").write_bytes(b"")

    mint.tokens.verify(mint.token)
    assert len(mint.keys.key_ids) == 1


def test_a_key_that_is_too_old_issues_nothing(mint: Mint) -> None:
    mint.clock.advance(181 * 86_400)

    with pytest.raises(KeyExpired):
        mint.tokens.issue(PRINCIPAL)


def test_a_key_file_that_others_may_read_is_refused(mint: Mint) -> None:
    (mint.keys.folder / "token-key-000001.pem").chmod(0o644)

    with pytest.raises(InvalidParameter):
        TokenKeys.open(mint.keys.folder, SeededEntropy(4), now=mint.clock.now())


@pytest.mark.parametrize("numbers", [{"lifetime_s": 3601}, {"skew_s": 900}, {"issuer": ""}])
def test_a_policy_without_an_end_or_an_issuer_is_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        TokenPolicy(**{"issuer": "x", "audience": "y"} | numbers)
