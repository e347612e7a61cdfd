"""The reason beside a message: one JSON file, for people to read and for us to read back.

Times are ISO 8601 in UTC, digests hexadecimal, a unique-id is its octets as
characters (RFC 1939 s.7 allows ASCII only; others become U+0080 to U+00FF).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from mailferry.errors import QuarantineError
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    MessageRecord,
    MessageState,
    QuarantineEntry,
)

VERSION: Final = 1
LIMIT_OCTETS: Final = 16 * 1024 * 1024
"""A larger file is none of ours: thousands of recipients fit well below."""

_TIMES = frozenset({
    "first_seen_at", "updated_at", "next_fetch_at", "accepted_at", "next_attempt_at", "fetched_at", "quarantined_at",
})  # fmt: skip
# json.dumps escapes the other control characters by itself.
_STEERS_TERMINALS = re.compile(
    "[\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


def to_json(entry: QuarantineEntry) -> bytes:
    """Return the reason's file."""
    document = {"version": VERSION, **_plain(asdict(entry))}
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    return _STEERS_TERMINALS.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode() + b"\n"


def from_json(octets: bytes) -> QuarantineEntry:
    """Return what a reason's file says.

    Raises:
        QuarantineError: it is damaged, or a newer mailferry wrote it.
    """
    try:
        document = json.loads(octets)
        version = document["version"]
        if version == VERSION:
            return _entry(document)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise QuarantineError(f"damaged: {_words(error)}") from error
    raise QuarantineError(f"written by another mailferry: its version is {version!r}, not {VERSION}")


def _words(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


# -- writing ------------------------------------------------------------------


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:  # Any: asdict's values
    return {name: _plain_value(name, value) for name, value in values.items()}


def _plain_value(name: str, value: Any) -> Any:
    if name in _TIMES:
        return _iso(value)
    if name == "uidl":
        return value.decode("latin-1")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return _plain(value)
    if isinstance(value, tuple):
        return [_plain(each) if isinstance(each, Mapping) else each for each in value]
    return value


def _iso(seconds: float | None) -> str | None:
    """Return a time; None for none, which 0 means, too."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


# -- reading ------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text should stand where {value!r:.40} is")
    return value


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"a number should stand where {value!r:.40} is")
    return value


def _maybe_time(value: object) -> float | None:
    return None if value is None else datetime.fromisoformat(_text(value)).timestamp()


def _time(value: object) -> float:
    return _maybe_time(value) or 0.0


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list should stand where {value!r:.40} is")
    return tuple(_text(each) for each in value)


def _octets(value: object) -> bytes:
    return bytes.fromhex(_text(value))


def _uidl(value: object) -> bytes:
    return _text(value).encode("latin-1")


_Fields = Mapping[str, Callable[[Any], Any]]  # Any: each field has a type of its own

_MESSAGE: _Fields = {
    "message_id": _number,
    "maildrop": _text,
    "uidl": _uidl,
    "state": MessageState,
    "size_octets": _number,
    "first_seen_at": _time,
    "updated_at": _time,
    "header_digest": _octets,
    "content_digest": _octets,
    "sender": _text,
    "recipient": _text,
    "subject": _text,
    "reason": _text,
    "fetch_attempts": _number,
    "next_fetch_at": _time,
    "accepted_at": _maybe_time,
}
_DELIVERY: _Fields = {
    "message_id": _number,
    "destination": _text,
    "state": DeliveryState,
    "attempts": _number,
    "next_attempt_at": _time,
    "updated_at": _time,
    "receipt": _text,
    "error": _text,
    "accepted_recipients": _texts,
    "refused_recipients": _texts,
}


def _entry(document: object) -> QuarantineEntry:
    later = {name: read for name, read in _LATER.items() if isinstance(document, dict) and name in document}
    return QuarantineEntry(**_read(_ENTRY, document), **_read(later, document))


def _deliveries(value: object) -> tuple[DeliveryRecord, ...]:
    if not isinstance(value, list):
        raise TypeError("the deliveries should be a list")
    return tuple(DeliveryRecord(**_read(_DELIVERY, each)) for each in value)


def _read(fields: _Fields, value: object) -> dict[str, Any]:
    """Return every field; others that a later mailferry may add are passed over."""
    if not isinstance(value, dict):
        raise TypeError(f"a table should stand where {value!r:.40} is")
    return {name: read(value[name]) for name, read in fields.items()}


_ENTRY: _Fields = {
    "name": _text,
    "message": lambda value: MessageRecord(**_read(_MESSAGE, value)),
    "deliveries": _deliveries,
    "envelope_sender": _text,
    "fetched_at": _time,
    "fetched_from": _text,
    "fetched_with": _text,
    "quarantined_at": _time,
}
_LATER: _Fields = {"envelope_recipients": _texts}
"""Fields that files of earlier versions lack."""
