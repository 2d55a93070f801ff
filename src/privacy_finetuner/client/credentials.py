"""Where a person's tokens are kept between two commands: one file, for its owner only.

The file is JSON with a profile a service. It is replaced as a whole or not at all, has mode 0600 in
a folder of mode 0700, and is refused when somebody else may read it. A lock file beside it makes
sure that two processes never use the same refresh token: the service takes a token that comes twice
for a stolen one, and ends the session.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from privacy_finetuner.client.errors import CredentialsUnsafe, NotLoggedIn
from privacy_finetuner.client.shapes.people import Tokens
from privacy_runtime.files import write_atomic
from privacy_runtime.secret import Secret
from privacy_runtime.world import Clock

API_KEY_VARIABLE: Final = "PRIVACY_FINETUNER_API_KEY"
FILE_VARIABLE: Final = "PRIVACY_FINETUNER_CREDENTIALS"
DEFAULT_PROFILE: Final = "default"
_VERSION: Final = 1
_EARLY: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The tokens of a session.

    Attributes:
        expires_at: when the access token stops to count, by this machine's clock.
    """

    access_token: Secret = field(repr=False)
    refresh_token: Secret = field(repr=False)
    expires_at: datetime

    @classmethod
    def of(cls, tokens: Tokens, clock: Clock) -> Grant:
        """What a login or a refresh handed out just now."""
        return cls(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=clock.now() + timedelta(seconds=tokens.expires_in),
        )

    def is_fresh(self, clock: Clock) -> bool:
        """Whether the access token counts for half a minute more at least."""
        return clock.now() + _EARLY < self.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A service and who one is there.

    Attributes:
        allow_http: whether its owner said that the way to `http://` of another machine is private.
    """

    url: str
    username: str
    grant: Grant
    allow_http: bool = False


class GrantHome(Protocol):
    """Where the tokens of one session are kept."""

    def load(self) -> Grant:
        """The newest tokens.

        Raises:
            NotLoggedIn: there are none any more.
        """
        ...

    def save(self, grant: Grant) -> None:
        """Keep these instead."""
        ...

    def forget(self) -> None:
        """Keep none."""
        ...

    def taken(self) -> bool:
        """Take the right to renew, without waiting. Whether it was free."""
        ...

    def give_back(self) -> None:
        """Give the right to renew back."""
        ...


class MemoryGrant:
    """Tokens that are forgotten with the process; one client holds them."""

    def __init__(self, grant: Grant) -> None:
        self._grant: Grant | None = grant

    def load(self) -> Grant:
        """The newest tokens."""
        if self._grant is None:
            raise NotLoggedIn("logged out; nothing was sent")
        return self._grant

    def save(self, grant: Grant) -> None:
        """Keep these instead."""
        self._grant = grant

    def forget(self) -> None:
        """Keep none."""
        self._grant = None

    def taken(self) -> bool:
        """Nobody else has these tokens."""
        return True

    def give_back(self) -> None:
        """Nothing to give back."""


def default_file(environment: Mapping[str, str]) -> Path:
    """Where credentials are kept: the variable, or the user's folder for configuration."""
    if named := environment.get(FILE_VARIABLE):
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(base) / "privacy-finetuner" / "credentials.json"


class CredentialsFile:
    """The profiles of one person on this machine.

    Guarantee: at every instant the file holds the state before or after a change, and nobody but
    its owner could ever read it.

    Args:
        path: the file; its folder is made when something is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def profiles(self) -> Mapping[str, Profile]:
        """All profiles by name; none where there is no file.

        Raises:
            CredentialsUnsafe: others may read the file, or it is damaged.
        """
        return {name: _profile(item) for name, item in self._document()["profiles"].items()}

    @property
    def default(self) -> str:
        """The name of the profile that counts when none is named."""
        return str(self._document()["default"])

    def load(self, name: str | None = None) -> tuple[str, Profile]:
        """A profile and its name.

        Raises:
            NotLoggedIn: there is none of that name.
        """
        found = self.profiles()
        name = name or self.default
        if name not in found:
            known = f"; there are {', '.join(sorted(found))}" if found else ""
            raise NotLoggedIn(
                f"not logged in as profile {name!r}{known}; use: privacy-finetuner login --url URL"
            )
        return name, found[name]

    def save(self, name: str, profile: Profile) -> None:
        """Keep a profile; the first one becomes the default."""
        with self._changing() as document:
            if not document["profiles"]:
                document["default"] = name
            document["profiles"][name] = _written(profile)

    def choose(self, name: str) -> None:
        """Make a profile the default."""
        with self._changing() as document:
            document["default"] = name

    def remove(self, name: str) -> None:
        """Forget a profile. One that is not there is forgotten already."""
        with self._changing() as document:
            document["profiles"].pop(name, None)
            if document["default"] == name:
                document["default"] = next(iter(sorted(document["profiles"])), DEFAULT_PROFILE)

    def _document(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"version": _VERSION, "default": DEFAULT_PROFILE, "profiles": {}}
        try:
            with self.path.open("rb") as file:
                _require_private(self.path, os.fstat(file.fileno()))
                text = file.read()
        except FileNotFoundError:
            return empty
        if not text:
            return empty
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not _is_whole(document):
            raise CredentialsUnsafe(
                f"{self.path} is damaged or of another version; remove it and log in again"
            )
        return dict(document)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._beside("file")):
            document = self._document()
            yield document
            with suppress(FileExistsError):  # the mode, before there is anything to read
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            write_atomic(self.path, json.dumps(document, indent=1).encode())

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{what}.lock")

    def grant_home(self, name: str) -> ProfileGrant:
        """The tokens of one profile, for a client."""
        return ProfileGrant(self, name)


class ProfileGrant:
    """The tokens of one profile of a file, which several processes may use at once."""

    def __init__(self, file: CredentialsFile, name: str) -> None:
        self._file = file
        self._name = name
        self._descriptor: int | None = None

    def load(self) -> Grant:
        """The newest tokens, whichever process renewed them."""
        return self._file.load(self._name)[1].grant

    def save(self, grant: Grant) -> None:
        """Keep these instead."""
        profile = self._file.load(self._name)[1]
        self._file.save(self._name, replace(profile, grant=grant))

    def forget(self) -> None:
        """Forget the profile."""
        self._file.remove(self._name)

    def taken(self) -> bool:
        """Take the right to renew from all processes, without waiting."""
        lock = self._file.path.with_name(f".{self._file.path.name}.renewal.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def give_back(self) -> None:
        """Give the right to renew back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 or found.st_uid != os.getuid():
        raise CredentialsUnsafe(
            f"{path} has mode {mode:04o} and owner {found.st_uid}, expected 0600 and {os.getuid()}:"
            " others may have read it; log out everywhere, remove it, and log in again"
        )


def _is_whole(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and document.get("version") == _VERSION
        and isinstance(document.get("default"), str)
        and isinstance(document.get("profiles"), dict)
    )


def _profile(item: Mapping[str, Any]) -> Profile:
    try:
        return Profile(
            url=item["url"],
            username=item["username"],
            grant=Grant(
                access_token=Secret(item["access_token"]),
                refresh_token=Secret(item["refresh_token"]),
                expires_at=datetime.fromisoformat(item["expires_at"]),
            ),
            allow_http=item.get("allow_http") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CredentialsUnsafe("a profile is damaged; log in again") from error


def _written(profile: Profile) -> dict[str, Any]:
    return {
        "url": profile.url,
        "username": profile.username,
        "access_token": profile.grant.access_token.reveal(),
        "refresh_token": profile.grant.refresh_token.reveal(),
        "expires_at": profile.grant.expires_at.isoformat(),
        "allow_http": profile.allow_http,
    }
