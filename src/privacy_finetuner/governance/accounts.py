"""Which ledger accounts are an organisation's: the organisation is part of the first component.

=====================  ====================================  ===================================
people write           the ledger holds                      what it is
=====================  ====================================  ===================================
`notes/2026`           `protection/TENANT:notes/2026`        the people in a block of data
`notes/2026/SUBJECT`   `protection/TENANT:notes/2026/...`    one of them; see below
`quota`                `quota/TENANT`                        all use by the organisation
`quota/research/ada`   `quota/TENANT/research/ada`           a department, a user, a project
=====================  ====================================  ===================================

So two organisations never share an account, whatever they call their data, and an account that
does not begin with an organisation's id is nobody's here (it stays the command line's).

Which subjects have accounts, and how full they are, depends on the data: an account of a single
subject is outside the guarantee, and shown only to whoever may see such figures.
"""

from __future__ import annotations

from typing import Final

from privacy_core.errors import InvalidParameter
from privacy_runtime.budget_store import Scope, ScopeKind, parse_scope

QUOTA: Final = "quota"
_SUBJECT_DEPTH: Final = 3


def scope_of(tenant: str, text: str) -> Scope:
    """The ledger's scope of an account as a member of `tenant` writes it.

    Raises:
        InvalidParameter: it is not the name of an account.
    """
    if text == QUOTA or text.startswith(f"{QUOTA}/"):
        return parse_scope(f"{QUOTA}/{tenant}{text[len(QUOTA) :]}")
    if ":" in tenant or "/" in tenant or not tenant:
        raise InvalidParameter("tenant", found=tenant, expected="an id without ':' and '/'")
    bare = text.removeprefix(f"{ScopeKind.PROTECTION.value}/")
    return parse_scope(f"{ScopeKind.PROTECTION.value}/{tenant}:{bare}")


def ledger_account(tenant: str, text: str) -> str:
    """An account of records as a trainer takes it: `TENANT:COHORT/SLICE`.

    Raises:
        InvalidParameter: it is not the name of a block of data.
    """
    scope = scope_of(tenant, text)
    if scope.kind is not ScopeKind.PROTECTION:
        raise InvalidParameter("account", found=text, expected="COHORT/SLICE")
    return "/".join(scope.path)


def ledger_quota(tenant: str, text: str) -> str:
    """A quota as a trainer takes it: `TENANT/DEPARTMENT/...`; the word `quota/` may be left out.

    Raises:
        InvalidParameter: it is not the name of a quota.
    """
    bare = text.removeprefix(f"{QUOTA}/")
    return "/".join(scope_of(tenant, QUOTA if bare == QUOTA else f"{QUOTA}/{bare}").path)


def tenant_of(scope: Scope) -> str | None:
    """The organisation that an account's name begins with; `None` if it names none."""
    first = scope.path[0]
    if scope.kind is ScopeKind.QUOTA:
        return first
    owner, colon, _ = first.partition(":")
    return owner if colon else None


def is_of(scope: Scope, tenant: str) -> bool:
    """Whether an account is this organisation's."""
    return tenant_of(scope) == tenant


def name_of(scope: Scope, tenant: str) -> str:
    """An account of `tenant` as its people write it.

    Raises:
        InvalidParameter: it is another organisation's.
    """
    if not is_of(scope, tenant):
        raise InvalidParameter("account", found=str(scope), expected="one of the organisation's")
    if scope.kind is ScopeKind.QUOTA:
        return "/".join((QUOTA, *scope.path[1:]))
    return "/".join(scope.path).partition(":")[2]


def is_of_one_subject(scope: Scope) -> bool:
    """Whether an account is a single data subject's, which is outside the guarantee."""
    return scope.kind is ScopeKind.PROTECTION and len(scope.path) == _SUBJECT_DEPTH
