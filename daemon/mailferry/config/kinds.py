"""Kinds of settings: how one sort of value is written, checked, described and shown.

Each kind has one parser with one sentence of its own, so that no message is
left to a library: those repeat the input, and the input may be a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from mailferry.config.units import (
    DURATION_PATTERN,
    OCTETS_PATTERN,
    format_duration,
    format_octets,
    parse_duration,
    parse_octets,
)


class Table(BaseModel):
    """A table of the configuration: frozen, and no unknown key gets by."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        # pydantic prints the neighbours of a wrong value otherwise, passwords included.
        hide_input_in_errors=True,
    )


class EnvText(str):
    """A value from the environment: text that may stand for a number, a flag or a list."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in the place of a value that was found wrong before validation."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """One sort of value.

    Attributes:
        label: what the reference calls it.
        parse: makes the value, or raises `ValueError` with a sentence that does
            not repeat the input.
        schema: JSON Schema of what may be written.
        show: writes a value the way TOML does, for the reference.
        is_path: whether a relative value counts from the file that names it.
    """

    label: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]
    show: Callable[[Any], str] = json.dumps
    is_path: bool = False

    def check(self, value: object) -> Any:  # Any: each kind has its own type, which the field declares
        """Parse, unless the value was refused before."""
        if isinstance(value, Refused):
            raise ValueError(value.reason)  # noqa: TRY004 - pydantic collects ValueError only
        return self.parse(value)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)


def kind_of(field: FieldInfo) -> Kind | None:
    """Return the kind of a model's field, also of one that may be unset."""
    candidates: list[object] = list(field.metadata)
    for argument in get_args(field.annotation):
        candidates += getattr(argument, "__metadata__", ())
    return next((candidate for candidate in candidates if isinstance(candidate, Kind)), None)


def key_order(model: type[BaseModel]) -> list[str]:
    """Return a table's keys: the required ones, then its own, then those that it shares with others."""
    fields = model.model_fields
    return sorted(
        fields, key=lambda name: (not fields[name].is_required(), name not in model.__annotations__)
    )


def plain_text(value: object, what: str = "text") -> str:
    """Return printable text without line breaks, or raise with the reason."""
    if not isinstance(value, str):
        raise ValueError(f'must be {what} in quotes, such as "..."')  # noqa: TRY004 - as above
    if not value:
        raise ValueError("must not be empty")
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"must not be longer than {_LONGEST_TEXT} characters")
    if not value.isprintable():
        raise ValueError("must not contain line breaks or other control characters")
    return str(value)


_LONGEST_TEXT = 1000


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, EnvText):
        known = {"true": True, "yes": True, "on": True, "1": True}
        known |= {"false": False, "no": False, "off": False, "0": False}
        if value.strip().lower() in known:
            return known[value.strip().lower()]
    raise ValueError("must be true or false, without quotes")


def _whole_number(value: object) -> int | None:
    if isinstance(value, EnvText) and re.fullmatch(r"-?\d{1,18}", value.strip(), re.ASCII):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(minimum: int, maximum: int) -> Kind:
    """Return the kind of whole numbers within limits."""

    def parse(value: object) -> int:
        number = _whole_number(value)
        if number is None or not minimum <= number <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return number

    schema = {"type": "integer", "minimum": minimum, "maximum": maximum}
    return Kind(f"number, {minimum} to {maximum}", parse, schema)


def rate(minimum: float, maximum: float) -> Kind:
    """Return the kind of numbers with a fraction within limits."""

    def parse(value: object) -> float:
        number: object = value
        if isinstance(value, EnvText) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip(), re.ASCII):
            number = float(value)
        # A NaN fails every comparison, so it is refused too.
        if isinstance(number, int | float) and not isinstance(number, bool) and minimum <= number <= maximum:
            return float(number)
        raise ValueError(f"must be a number from {minimum:g} to {maximum:g}")

    schema = {"type": "number", "minimum": minimum, "maximum": maximum}
    return Kind(f"number, {minimum:g} to {maximum:g}", parse, schema)


def seconds(minimum: float, maximum: float) -> Kind:
    """Return the kind of durations within limits, in seconds."""
    limits = f"from {format_duration(minimum)} to {format_duration(maximum)}"

    def parse(value: object) -> float:
        number = parse_duration(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"must be {limits}")
        return number

    schema = {
        "anyOf": [
            {"type": "string", "pattern": DURATION_PATTERN},
            {"type": "number", "minimum": minimum, "maximum": maximum},
        ]
    }
    return Kind(
        f"duration, {limits.removeprefix('from ')}", parse, schema, lambda v: f'"{format_duration(v)}"'
    )


def octets(minimum: int, maximum: int) -> Kind:
    """Return the kind of sizes within limits, in octets."""
    limits = f"from {format_octets(minimum)} to {format_octets(maximum)}"

    def parse(value: object) -> int:
        number = parse_octets(value)
        if not minimum <= number <= maximum:
            raise ValueError(f"must be {limits}")
        return number

    schema = {
        "anyOf": [
            {"type": "string", "pattern": OCTETS_PATTERN},
            {"type": "integer", "minimum": minimum, "maximum": maximum},
        ]
    }
    return Kind(f"size, {limits.removeprefix('from ')}", parse, schema, lambda v: f'"{format_octets(v)}"')


def choice(literal: Any) -> Kind:  # Any: a Literal alias is no type
    """Return the kind that takes one of the words of a `Literal`."""
    words: tuple[str, ...] = get_args(literal)
    allowed = ", ".join(f'"{word}"' for word in words)

    def parse(value: object) -> str:
        if isinstance(value, str) and value in words:
            return words[words.index(value)]
        raise ValueError(f"must be one of {allowed}")

    return Kind(" or ".join(f'`"{word}"`' for word in words), parse, {"enum": list(words)})


def list_of(item: Callable[[object], str], label: str, schema: Mapping[str, Any]) -> Kind:
    """Return the kind of lists without repeats; the environment may use commas or JSON."""

    def parse(value: object) -> tuple[str, ...]:
        entries = _entries(value)
        parsed = tuple(_numbered(item, entry, number) for number, entry in enumerate(entries, 1))
        if len(set(parsed)) != len(parsed):
            raise ValueError("must not name anything twice")
        return parsed

    whole = {"type": "array", "items": dict(schema), "uniqueItems": True}
    return Kind(label, parse, whole, lambda value: json.dumps(list(value)))


def _entries(value: object) -> Sequence[object]:
    if isinstance(value, EnvText):
        return _entries_of_text(value.strip())
    if isinstance(value, list | tuple):
        return value
    raise ValueError('must be a list in square brackets, such as ["..."]')


def _entries_of_text(text: str) -> Sequence[object]:
    if not text.startswith("["):
        return [part.strip() for part in text.split(",")] if text else []
    try:
        return list(json.loads(text))
    except (ValueError, RecursionError):
        # `from None`: the decoder's error carries the whole text.
        raise ValueError('must be a JSON list, such as ["a", "b"], or words between commas') from None


def _numbered(item: Callable[[object], str], entry: object, number: int) -> str:
    try:
        return item(entry)
    except ValueError as error:
        raise ValueError(f"entry {number} {error}") from None


def _path(value: object) -> Path:
    return Path(plain_text(value, "a path"))


Flag = Annotated[bool, Kind("true or false", _flag, {"type": "boolean"})]
Text = Annotated[str, Kind("text", plain_text, {"type": "string", "minLength": 1})]
FilePath = Annotated[
    Path, Kind("path", _path, {"type": "string", "minLength": 1}, lambda v: json.dumps(str(v)), is_path=True)
]
