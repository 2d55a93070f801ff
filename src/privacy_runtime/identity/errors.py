"""What identity refuses, as a tree. `public` is all that a stranger may read.

IdentityError
+-- LoginRefused         unknown user, wrong password or code, disabled account: one message
+-- LoginDelayed         too many failures from here or on this name; carries how long to wait
+-- CodeRequired         the password is right, a second factor is enrolled and was not given
+-- PasswordChangeRequired   the password is for one use: it must be changed first
+-- PasswordRefused      a new password is too short, too long, too common, or the old one
+-- NotAllowed           the principal lacks a scope
|   +-- WrongTenant      the object belongs to another organisation
|   +-- StaleLogin       the act asks for a login more recent than this one
+-- TokenRefused         an access token does not count; one public message for all of these
|   +-- TokenMalformed, WrongAlgorithm, WrongType, CriticalHeader, UnexpectedHeader, UnknownTokenKey
|   +-- SignatureRefused, ClaimsRefused, WrongIssuer, WrongAudience
|   +-- TokenExpired, TokenNotYetValid, TokenRevoked
+-- RefreshRefused       a refresh token does not count
|   +-- RefreshRaced     it was spent moments ago; the session goes on with its successor
|   +-- RefreshReused    it was spent before: the whole family is revoked
|   +-- SessionOver      logged out, idle too long, or too old
+-- ApiKeyRefused        not a key, unknown, wrong, expired or revoked
+-- EnrolmentRefused     no second factor is being enrolled, or the code does not fit
+-- ExternalLoginRefused verified claims of another issuer do not make a principal here
+-- UnknownAccount       there is no such user or organisation
+-- AccountConflict      the name is taken, or the change would leave nobody in charge
+-- WeakSecret           a default or guessable secret outside development
+-- SealBroken           a sealed secret does not open with these keys
+-- IdentityStoreUnavailable   the database is gone or refuses
+-- AuditUnavailable     the journal does not take the event; nothing was handed out

No message, `repr` or attribute holds a password, code, token, key or user name.
"""

from __future__ import annotations

from typing import ClassVar

from privacy_core.errors import PrivacyError


class IdentityError(PrivacyError):
    """Identity refused. `public` may be shown to a stranger; `str(error)` is for the log."""

    code: ClassVar[str] = "identity_error"
    public: ClassVar[str] = "the request was refused"


class LoginRefused(IdentityError):
    """These credentials open nothing. Which part is wrong is not said."""

    code: ClassVar[str] = "login_refused"
    public: ClassVar[str] = "user name, password or code is wrong"

    def __init__(self) -> None:
        super().__init__(self.public)


class LoginDelayed(IdentityError):
    """Too many failures. Known and unknown names are treated alike; nothing was checked."""

    code: ClassVar[str] = "login_delayed"
    public: ClassVar[str] = "too many attempts; wait and try again"

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__(retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"too many attempts; try again in {self.retry_after_s} s. Nothing was checked"


class CodeRequired(IdentityError):
    """The password is right and is not enough: the account has a second factor."""

    code: ClassVar[str] = "code_required"
    public: ClassVar[str] = "a code of the second factor is needed"


class PasswordChangeRequired(IdentityError):
    """The password was handed out for one use. Nothing was opened."""

    code: ClassVar[str] = "password_change_required"
    public: ClassVar[str] = "the password must be changed before anything else"


class PasswordRefused(IdentityError, ValueError):
    """The new password cannot be used; the old one stands. The message says why, never what."""

    code: ClassVar[str] = "password_refused"
    public: ClassVar[str] = "the new password cannot be used"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the password {self.reason}; it was not set"


class NotAllowed(IdentityError):
    """The principal lacks the scope. Nothing was done."""

    code: ClassVar[str] = "not_allowed"
    public: ClassVar[str] = "not allowed"

    def __init__(self, subject: str, *, scope: str) -> None:
        super().__init__(subject, scope)
        self.subject = subject
        self.scope = scope

    def __str__(self) -> str:
        return f"{self.subject} does not have the scope {self.scope!r}; nothing was done"


class WrongTenant(NotAllowed):
    """The object belongs to another organisation. To the caller it does not exist."""

    code: ClassVar[str] = "wrong_tenant"
    public: ClassVar[str] = "not found"

    def __str__(self) -> str:
        return f"{self.subject} asked for {self.scope!r} in another organisation; nothing was done"


class StaleLogin(NotAllowed):
    """The act asks for a fresh login, with a second factor where the account has one."""

    code: ClassVar[str] = "stale_login"
    public: ClassVar[str] = "log in again to do this"

    def __str__(self) -> str:
        return f"{self.subject} must log in again for {self.scope!r}; nothing was done"


class TokenRefused(IdentityError):
    """An access token does not count. To the bearer, all of these are one."""

    code: ClassVar[str] = "token_refused"
    public: ClassVar[str] = "the access token is not valid"


class TokenMalformed(TokenRefused):
    """It is not a token in the one spelling that is written here."""

    code: ClassVar[str] = "token_malformed"


class WrongAlgorithm(TokenRefused):
    """Its header names another algorithm than that of our keys."""

    code: ClassVar[str] = "token_wrong_algorithm"


class WrongType(TokenRefused):
    """Its header does not say that it is an access token."""

    code: ClassVar[str] = "token_wrong_type"


class CriticalHeader(TokenRefused):
    """It asks for an extension; none is known here (RFC 7515, section 4.1.11)."""

    code: ClassVar[str] = "token_critical_header"


class UnexpectedHeader(TokenRefused):
    """Its header carries a field that ours never have, such as a key of its own."""

    code: ClassVar[str] = "token_unexpected_header"


class UnknownTokenKey(TokenRefused):
    """No key has the id that it names: never here, or retired."""

    code: ClassVar[str] = "token_unknown_key"


class SignatureRefused(TokenRefused):
    """The holder of the key did not sign it."""

    code: ClassVar[str] = "token_signature"


class ClaimsRefused(TokenRefused):
    """A claim is missing, extra, or of another form than ours."""

    code: ClassVar[str] = "token_claims"


class WrongIssuer(TokenRefused):
    """Somebody else issued it."""

    code: ClassVar[str] = "token_wrong_issuer"


class WrongAudience(TokenRefused):
    """It is meant for somebody else."""

    code: ClassVar[str] = "token_wrong_audience"


class TokenExpired(TokenRefused):
    """Its time is over."""

    code: ClassVar[str] = "token_expired"


class TokenNotYetValid(TokenRefused):
    """Its time has not begun."""

    code: ClassVar[str] = "token_not_yet_valid"


class TokenRevoked(TokenRefused):
    """It, its session, or its owner was revoked."""

    code: ClassVar[str] = "token_revoked"


class RefreshRefused(IdentityError):
    """A refresh token does not count. Nothing was handed out."""

    code: ClassVar[str] = "refresh_refused"
    public: ClassVar[str] = "log in again"


class RefreshRaced(RefreshRefused):
    """It was spent moments ago, by another request of the same client as it seems."""

    code: ClassVar[str] = "refresh_raced"
    public: ClassVar[str] = "the session was renewed by another request; use that one's tokens"


class RefreshReused(RefreshRefused):
    """It was spent before: somebody has a copy. Every token of the family is revoked."""

    code: ClassVar[str] = "refresh_reused"


class SessionOver(RefreshRefused):
    """The session has ended: logged out, idle too long, too old, or revoked."""

    code: ClassVar[str] = "session_over"


class ApiKeyRefused(IdentityError):
    """The text is no key that counts. Which part is wrong is not said to the bearer."""

    code: ClassVar[str] = "api_key_refused"
    public: ClassVar[str] = "the API key is not valid"


class EnrolmentRefused(IdentityError):
    """The second factor was not enrolled, or not changed."""

    code: ClassVar[str] = "enrolment_refused"
    public: ClassVar[str] = "the code does not fit"


class ExternalLoginRefused(IdentityError):
    """Verified claims of another issuer do not make a principal here."""

    code: ClassVar[str] = "external_login_refused"
    public: ClassVar[str] = "this login is not known here"


class UnknownAccount(IdentityError, KeyError):
    """There is no such user, key or organisation. Nothing was changed."""

    code: ClassVar[str] = "unknown_account"
    public: ClassVar[str] = "not found"

    def __str__(self) -> str:
        return str(self.args[0])


class AccountConflict(IdentityError):
    """The name is taken, or nobody would be left in charge. Nothing was changed."""

    code: ClassVar[str] = "account_conflict"
    public: ClassVar[str] = "that cannot be done"


class WeakSecret(IdentityError, ValueError):
    """A secret is a well-known default or can be guessed. It is not repeated here."""

    code: ClassVar[str] = "weak_secret"


class SealBroken(IdentityError):
    """A sealed secret does not open: changed, moved to another account, or its key is gone."""

    code: ClassVar[str] = "seal_broken"


class IdentityStoreUnavailable(IdentityError):
    """The database could not do it."""

    code: ClassVar[str] = "identity_store_unavailable"
    public: ClassVar[str] = "try again later"

    def __init__(self, store: str, *, reason: str, state: str = "nothing was changed") -> None:
        super().__init__(store, reason, state)
        self.store = store
        self.reason = reason
        self.state = state

    def __str__(self) -> str:
        return f"{self.store}: {self.reason}; {self.state}"


class AuditUnavailable(IdentityError):
    """The journal does not take what happened, so nothing is handed out."""

    code: ClassVar[str] = "audit_unavailable"
    public: ClassVar[str] = "try again later"

    def __init__(self, *, state: str) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"the journal does not take security events; {self.state}"
