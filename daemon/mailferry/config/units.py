"""Durations and octet counts as an administrator writes them.

A unit belongs to every number that a person reads: `90s`, `5m`, `50M`. Plain
numbers mean seconds and octets. No error text repeats what was written, since
it may stand in the wrong place and be a secret.
"""

from __future__ import annotations

import math
import re

_SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_OCTETS_PER_UNIT = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_DURATION_PART = r"(\d{1,12}(?:\.\d{1,6})?)\s?(ms|s|m|h|d|w)"
_DURATION = re.compile(rf"{_DURATION_PART}(?:\s?{_DURATION_PART})*", re.ASCII)
_PART = re.compile(_DURATION_PART, re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_OCTETS = re.compile(r"(\d{1,18})\s?([KMG]?)", re.ASCII)

DURATION_PATTERN = r"^\d+(\.\d+)?\s?(ms|s|m|h|d|w)(\s?\d+(\.\d+)?\s?(ms|s|m|h|d|w))*$"
OCTETS_PATTERN = r"^\d+\s?[KMG]?$"


def parse_duration(value: object) -> float:
    """Return seconds from `"90s"`, `"1h30m"` or a plain number of seconds.

    Raises:
        ValueError: it is neither; the text says what is allowed.
    """
    if isinstance(value, str):
        return _duration_of_text(value.strip())
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    raise ValueError(_DURATION_HELP)


_DURATION_HELP = (
    'must be a duration such as "90s", "5m", "2h" or "14d" (units ms, s, m, h, d, w), or a number of seconds'
)


def _duration_of_text(text: str) -> float:
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _DURATION.fullmatch(text):
        raise ValueError(_DURATION_HELP)
    return math.fsum(float(number) * _SECONDS_PER_UNIT[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """Write a duration with the largest unit that divides it: 300.0 is `5m`."""
    milliseconds = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS_PER_UNIT[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def parse_octets(value: object) -> int:
    """Return octets from `"50M"` (K, M, G are powers of 1024) or a plain number.

    Raises:
        ValueError: it is neither; the text says what is allowed.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _OCTETS.fullmatch(value.strip())):
        return int(match[1]) * _OCTETS_PER_UNIT[match[2]]
    raise ValueError(
        'must be a size such as "50M", "10K" or "1G" (powers of 1024), or a whole number of octets'
    )


def format_octets(octets: int) -> str:
    """Write a size with the largest unit that divides it: 52428800 is `50M`."""
    for unit in ("G", "M", "K"):
        if octets and octets % _OCTETS_PER_UNIT[unit] == 0:
            return f"{octets // _OCTETS_PER_UNIT[unit]}{unit}"
    return str(octets)
