"""Numbers with a source: frozen dataclasses whose every field says how its value stands to what is printed.

A value is the paper's, a peer's, a choice where the paper leaves it open, or departs from what the paper states.

What every run has is such a dataclass (`dsgc.config.Config`), and so is each method (`dsgc.methods`).
"""

import dataclasses
import sys
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from dsgc.errors import UserError

Source = Literal["paper", "published", "choice", "departs"]
LARGEST = 1e15  # of a number that is not whole


def paper(default: Any, text: str, coco: Any = None) -> Any:
    """A field whose default the paper states; `coco` is the value that it states for COCO, where that is another."""
    stated = (default,) if coco is None else (default, coco)
    return dataclasses.field(default=default, metadata={"source": "paper", "text": text, "stated": stated})


def departs(default: Any, text: str, *, stated: Any, where: str) -> Any:
    """A field whose default is not what the paper states, `stated`, at the place `where`; `book/choices.md` says why, and what it does."""
    metadata = {"source": "departs", "text": f"{text}; {where} as printed: {stated}", "stated": (stated,), "where": where}
    return dataclasses.field(default=default, metadata=metadata)


def published(default: Any, text: str, origin: str, coco: Any = None) -> Any:
    """A field whose default is a peer's own; `origin` says where it is published, `coco` is the peer's value for COCO."""
    stated = (default,) if coco is None else (default, coco)
    return dataclasses.field(default=default, metadata={"source": "published", "text": f"{text} ({origin})", "stated": stated})


def choice(default: Any, text: str) -> Any:
    """A field that is left open; `book/choices.md` gives the reason for its default."""
    return dataclasses.field(default=default, metadata={"source": "choice", "text": text})


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass that refuses values of another type, and those out of the ranges that its class names."""

    POSITIVE: ClassVar[tuple[str, ...]] = ()  # fields greater than 0, every item of a tuple
    NOT_NEGATIVE: ClassVar[tuple[str, ...]] = ()
    SHARES: ClassVar[tuple[str, ...]] = ()  # fields in [0, 1]
    ORDERED: ClassVar[tuple[tuple[str, str], ...]] = ()  # pairs of fields with 0 <= first <= second <= 1
    AREAS: ClassVar[tuple[str, ...]] = ()  # the smallest and the largest area of a crop, as shares of its picture

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field, getattr(self, field.name), field.type)
        for low, high in self.ORDERED:
            if not 0 <= getattr(self, low) <= getattr(self, high) <= 1:
                raise UserError(
                    f"{low} {getattr(self, low)} and {high} {getattr(self, high)}: must satisfy 0 <= {low} <= {high} <= 1"
                )
        for name in self.AREAS:
            smallest, largest = getattr(self, name)
            if not 0 < smallest <= largest <= 1:
                raise UserError(f"{name} {(smallest, largest)}: two shares of the image's area, 0 < smallest <= largest <= 1")
        for name in self.POSITIVE:
            value = getattr(self, name)
            if not min(value if isinstance(value, tuple) else (value,)) > 0:
                raise UserError(f"{name} {value}: must be greater than 0")
        for name in self.NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} {getattr(self, name)}: must not be negative")
        for name in self.SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)}: must be in [0, 1]")

    @classmethod
    def names(cls) -> list[str]:
        """The names of the fields."""
        return [field.name for field in dataclasses.fields(cls)]

    def source_of(self, name: str) -> Source:
        """How the value that a field has now stands to what is printed; a peer's that was changed is a choice."""
        field = next(field for field in dataclasses.fields(self) if field.name == name)
        source = field.metadata["source"]
        if source == "choice":
            return "choice"
        as_stated = getattr(self, name) in field.metadata["stated"]
        if source == "published":
            return "published" if as_stated else "choice"
        return "paper" if as_stated else "departs"

    def replaced(self, **values: Any) -> Self:
        """With other values of some fields."""
        return dataclasses.replace(self, **values)


def _check_type(field: dataclasses.Field, value: Any, hint: Any) -> None:
    """Refuse a value of another type than the field's; an int serves as a float."""
    name = field.name
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise UserError(f"{name} {value!r}: must be one of {', '.join(typing.get_args(hint))}")
    elif typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, tuple) or (inner[-1] is not Ellipsis and len(value) != len(inner)) or not value:
            raise UserError(f"{name} {value!r}: must be a tuple like {field.default}")
        for item in value:
            _check_type(field, item, inner[0])
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise UserError(f"{name} {value!r:.40}: must be a finite number")
        if abs(value) > LARGEST:
            raise UserError(f"{name} {value!r}: must be at most {LARGEST:.0e}, or products of it leave the range of float32")
    elif not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"{name} {value!r}: must be of type {hint.__name__}")
    elif hint is int and abs(value) >= 2**63:
        raise UserError(f"{name} {value!r:.40}: must be less than 2**63")
