"""How a record, a prompt and an answer stand behind one another, for every slot alike.

    [start] head  record: ...  |  question: ...  answer:  tail  |  the answer's tokens
            the slot's own     |  shared by all slots and by the public context

What is shared is encoded by itself, so the tokens of two slots differ in the record alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import msgspec

from privacy_core.errors import InvalidParameter
from privacy_runtime.files import reason_of

_LIMIT = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptForm:
    """The form of prompts. Nodes of one federation have the same: it is part of `weights`.

    Args:
        record: holds `{record}` once; left out of empty slots and of the public context.
        frame: holds `{prompt}` once.
        head, tail: around all of it, where the tokenizer's special tokens count as such. In the
            rest they are plain text: a prompt cannot forge a turn of a chat.
        option: what stands before an option in a vote.

    Raises:
        InvalidParameter: a place is missing.
    """

    record: str = "record: {record}\n"
    frame: str = "question: {prompt}\nanswer:"
    head: str = ""
    tail: str = ""
    option: str = " "

    def __post_init__(self) -> None:
        for name, place in (("record", "{record}"), ("frame", "{prompt}")):
            text = getattr(self, name)
            if text.count(place) != 1 or len(text) > _LIMIT:
                raise InvalidParameter(name, found=text[:100], expected=f"{place} once in it")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a form from a JSON file with some of the fields; the others are as above.

        Raises:
            InvalidParameter: it is missing, or holds something else.
        """
        try:
            named = msgspec.json.decode(path.read_bytes(), type=dict[str, str], strict=True)
        except OSError as error:
            raise InvalidParameter(
                "form", found=f"{path}: {reason_of(error)}", expected="a JSON file"
            ) from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise InvalidParameter(
                "form", found=f"{path}: something else", expected="a JSON object of texts"
            ) from None
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(named) - known):
            raise InvalidParameter("form", found=unknown, expected=f"some of {sorted(known)}")
        return cls(**named)

    def with_record(self, record: str) -> str:
        """What stands before the shared part of a slot."""
        return self.record.replace("{record}", record)

    def after_record(self) -> str:
        """The end of `with_record`: kept where a record is cut."""
        return self.record.partition("{record}")[2]

    def with_prompt(self, prompt: str) -> str:
        """The shared part."""
        return self.frame.replace("{prompt}", prompt)
