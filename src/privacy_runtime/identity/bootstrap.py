"""The first start: an administrator with a password for one use."""

from __future__ import annotations

from privacy_runtime.identity.accounts import Accounts
from privacy_runtime.identity.user_rows import User
from privacy_runtime.secret import Secret


def bootstrap_admin(
    accounts: Accounts,
    *,
    organisation: str = "default",
    name: str = "admin",
    password: str | None = None,
    development: bool = False,
) -> tuple[User, Secret | None]:
    """Make the first organisation and its administrator, once in the life of a database.

    Returns the user and the one-time password, which the caller prints once. It opens nothing but
    the change of itself, for three days. The administrator then enrols a second factor before
    anything else.

    Args:
        accounts: where to.
        organisation: what it is called.
        name: the administrator's user name.
        password: one that the operator configured instead; then nothing is returned. Outside
            development it must be usable, and must be changed at the first login as well.
        development: the one way to a weak password that need not be changed.

    Raises:
        AccountConflict: there are users already; nothing was changed.
        PasswordRefused: the configured password is a default, common or short.
    """
    return accounts.create_first_admin(
        organisation=organisation, name=name, password=password, development=development
    )
