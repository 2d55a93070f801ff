"""What the shapes have in common: strict bodies that name the nearest key, and small values."""

from __future__ import annotations

import difflib
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

LONGEST_NAME: Final = 128


class Body(BaseModel):
    """What a client sends: no unknown key, no conversion between types.

    An unknown key is refused by name, with the nearest known one.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _nearest(cls, value: Any, read: ModelWrapValidatorHandler[BaseModel]) -> Any:
        try:
            return read(value)
        except ValidationError as error:
            lines = [_named(line, list(cls.model_fields)) for line in error.errors()]
            raise ValidationError.from_exception_data(cls.__name__, lines) from None


class Answer(BaseModel):
    """What the service sends."""

    model_config = ConfigDict(frozen=True)


class Amount(Answer):
    """An amount of privacy budget."""

    epsilon: Annotated[float, Field(ge=0, examples=[0.7])]
    delta: Annotated[float, Field(ge=0, examples=[1e-5])]


class Done(Answer):
    """Something was done, and there is nothing more to say."""

    status: Annotated[str, Field(examples=["done"])] = "done"


def rfc3339(instant: datetime | None) -> str | None:
    """An instant as the API writes it: UTC, with Z."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _named(line: Any, known: list[str]) -> InitErrorDetails:
    """The same fault; of an unknown key of this very shape, with the nearest known one."""
    place, kind = line["loc"], line["type"]
    if kind != "extra_forbidden" or len(place) != 1:
        context = line.get("ctx", {})
        custom = PydanticCustomError(kind, "{says}", {"says": line["msg"], **context})
        return InitErrorDetails(type=custom, loc=place, input=None)
    near = difflib.get_close_matches(str(place[0]), known, n=1)
    says = f"unknown; did you mean {near[0]!r}?" if near else f"unknown; known are {known}"
    return InitErrorDetails(
        type=PydanticCustomError("unknown_field", "{says}", {"says": says}), loc=place, input=None
    )
