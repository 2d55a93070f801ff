"""API keys: for programs, with some of their owner's scopes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import accounts as shapes
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page
from privacy_runtime.identity import ApiKey, Scope

KeyId = Annotated[str, Path(min_length=1, max_length=64, examples=["mfrggzdfmztwq2lk"])]


class Keys:
    """API keys over HTTP.

    Args:
        service: whose keys.
        access: forgets what it kept of a key that is revoked.
    """

    def __init__(self, service: Service, access: Access) -> None:
        self._keys, self._access = service.identity.api_keys, access

    @operation("GET", "", Scope.KEYS_OWN)
    def list_api_keys(self, by: By, page: Paged) -> Page[shapes.KeyAnswer]:
        """List one's own keys; an administrator sees those of the organisation."""
        after = page.after(str, str)
        listed = sorted(self._keys.keys(by), key=_place)
        keys = [key for key in listed if not after or _place(key) > after]
        found, cursor = page.page(keys[: page.limit + 1], key=_place)
        return Page(items=[shapes.KeyAnswer.of(key) for key in found], next_cursor=cursor)

    @operation("POST", "", Scope.KEYS_OWN, status=201, is_secret=True)
    def create_api_key(self, body: shapes.KeyRequest, by: By) -> shapes.KeyIssued:
        """Issue a key. Its text is shown here and nowhere else.

        A key carries some of one's own scopes, and none that asks for a person: users, grants of
        budget, what is outside the guarantee.
        """
        issued = self._keys.issue(
            by, label=body.label, scopes=body.scopes, valid_days=body.valid_days
        )
        return shapes.KeyIssued.issued(issued.key, issued.text.reveal())

    @operation("DELETE", "/{key_id}", Scope.KEYS_OWN, status=204)
    def revoke_api_key(self, key_id: KeyId, by: By) -> None:
        """Refuse a key from now on: one's own, or any of the organisation as an administrator."""
        self._keys.revoke(by, key_id)
        self._access.forget(key_id)


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/api-keys`."""
    return router_of(Keys(service, access), access, tag="api keys", prefix="/api-keys")


def _place(key: ApiKey) -> tuple[str, str]:
    """Where a key stands in the list: oldest first."""
    return (key.created_at.isoformat(), key.id)
