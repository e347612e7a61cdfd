"""Cron expressions in the configuration; `mailferry.policy.cron` says what they mean."""

from __future__ import annotations

from mailferry.policy.cron import read_cron

_LONGEST = 200


def parse_cron(value: object) -> str:
    """Return an expression in lower case with single blanks.

    Raises:
        ValueError: it is malformed or can never come due.
    """
    text = " ".join(value.lower().split()) if isinstance(value, str) and len(value) <= _LONGEST else ""
    read_cron(text)
    return text
