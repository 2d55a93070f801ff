"""Who did what: the organisation's part of the hash-chained stream `audit`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from privacy_finetuner.api.routes import By, Paged, operation, router_of
from privacy_finetuner.api.shapes import audit_trail as shapes
from privacy_finetuner.service import Service
from privacy_runtime.http.access import Access
from privacy_runtime.http.pages import Page, encoded
from privacy_runtime.identity import Scope


class Trail:
    """The trail over HTTP.

    Args:
        service: whose trail.
    """

    def __init__(self, service: Service) -> None:
        self._trail = service.desks.trail

    @operation("GET", "", Scope.AUDIT_READ)
    def audit_trail(
        self,
        by: By,
        page: Paged,
        type_prefix: Annotated[
            str, Query(max_length=100, description="Of the types that are wanted: `identity.`.")
        ] = "",
    ) -> Page[shapes.TrailEntry]:
        """List what happened in the organisation, newest first.

        Entries of other organisations lie between these in the chain, so numbers have gaps.
        """
        after = page.after(int)
        found = self._trail.page(
            by.tenant,
            before=None if after is None else int(after[0]),
            limit=page.limit,
            prefix=type_prefix,
        )
        cursor = None if found.next_before is None else encoded(found.next_before)
        return Page(
            items=[shapes.TrailEntry.of(each) for each in found.entries], next_cursor=cursor
        )

    @operation("GET", "/verify", Scope.AUDIT_READ)
    def verify_audit_trail(self) -> shapes.TrailVerified:
        """Walk the chain from its beginning, and say whether every entry is what was recorded."""
        return shapes.TrailVerified.of(self._trail.verify())


def router(service: Service, access: Access) -> APIRouter:
    """The routes below `/audit-trail`."""
    return router_of(Trail(service), access, tag="audit trail", prefix="/audit-trail")
