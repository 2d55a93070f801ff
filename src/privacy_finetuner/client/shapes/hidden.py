"""Secrets in answers: texts that become `Secret` before anything can print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from privacy_runtime.secret import Secret

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


class _Hides:
    """Tells pydantic, which is loaded with the first answer, how a text becomes a secret."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 -- only where it is loaded already

        return core_schema.no_info_after_validator_function(Secret, core_schema.str_schema())


SecretText: TypeAlias = Annotated[Secret, _Hides()]
