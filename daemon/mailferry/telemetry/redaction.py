"""The last processor before a line is rendered: no secret, no control character, no flood.

A log line carries text that a peer chose (subjects, replies, unique-ids), so
three things are done to every value, whatever the format: what sits under a
secret's name is masked, what could command a terminal or forge a line is shown
as an escape, and length has a bound. It comes last so that nothing that an
earlier processor added goes around it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line cleans its words here, too, and must start fast
    from structlog.typing import EventDict, WrappedLogger

MASK = "***"
MAX_STRING_CHARACTERS = 2_000
MAX_ITEMS = 200
MAX_DEPTH = 16
"""Deep enough for a traceback of nested exception groups."""

_SECRET_STEMS = (
    "password", "passwd", "passphrase", "secret", "token", "authorization", "credential", "cookie",
    "api_key", "apikey", "private_key", "privatekey", "bearer",
)  # fmt: skip
_SECRET_WORDS = frozenset({"pass", "pwd", "pw"})

_UNSAFE = re.compile(
    "["
    "\\x00-\\x1f\\x7f-\\x9f"  # C0 and C1: line ends, terminal escapes
    "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"  # bidi marks, overrides, isolates
    "\\u2028\\u2029"  # line ends to JavaScript and some viewers
    "\\ud800-\\udfff"  # lone surrogates: no encoder takes them
    "]"
)
_URL_USER = re.compile(r"://[^/\s@]+@")


def redact(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Mask and clean every value of a log line, in place; a structlog processor."""
    for key, value in event_dict.items():
        if _names_secret(key):
            event_dict[key] = MASK
        elif type(value) is not int:
            event_dict[key] = clean_value(value)
    return event_dict


def clean_value(value: object, depth: int = 0) -> object:
    """Return a value that any renderer may print: only JSON's own types, bounded and clean."""
    if isinstance(value, str):
        return clean_text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN
    if isinstance(value, (bytes, bytearray)):
        return clean_text(bytes(value[: MAX_STRING_CHARACTERS + 1]).decode("ascii", "backslashreplace"))
    kind: type = type(value)
    if _is_secret_type(kind):
        return MASK
    return _clean_compound(value, depth)


def _clean_compound(value: object, depth: int) -> object:
    if depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {
            clean_text(str(key)): MASK if _names_secret(str(key)) else clean_value(item, depth + 1)
            for key, item in islice(value.items(), MAX_ITEMS)
        }
    if isinstance(value, Iterable):
        return [clean_value(item, depth + 1) for item in islice(value, MAX_ITEMS)]
    return clean_text(str(value))


def clean_text(text: str) -> str:
    r"""Show control characters as `\xNN` or `\uNNNN`, mask the user part of URLs, bound the length."""
    if len(text) > MAX_STRING_CHARACTERS:
        return _shortened(clean_text(text[:MAX_STRING_CHARACTERS]))
    if "://" in text:
        text = _URL_USER.sub(f"://{MASK}@", text)
    if text.isprintable():  # the common case costs one C call
        return text
    cleaned = _UNSAFE.sub(_escape, text)
    return cleaned if len(cleaned) <= MAX_STRING_CHARACTERS else _shortened(cleaned)


def _shortened(text: str) -> str:
    return text if text.endswith("...[cut]") else text[: MAX_STRING_CHARACTERS - 8] + "...[cut]"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


@lru_cache(maxsize=1_024)
def _names_secret(key: str) -> bool:
    low = key.lower().replace("-", "_")
    return any(stem in low for stem in _SECRET_STEMS) or not _SECRET_WORDS.isdisjoint(low.split("_"))


@lru_cache(maxsize=256)
def _is_secret_type(kind: type) -> bool:
    """Tell whether objects of this class keep a secret (pydantic's, or one of our own)."""
    if issubclass(kind, BaseException):  # SecretError tells of one and has none
        return False
    return hasattr(kind, "get_secret_value") or any(
        "secret" in base.__name__.lower() for base in kind.__mro__
    )
