"""What a server says it can do, read from its reply to EHLO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mailferry.protocol.smtp_replies import SmtpReply

# RFC 5321 s.4.1.1.1: ehlo-keyword. "AUTH=LOGIN", an error of old servers, does not match and is ignored.
_KEYWORD = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:[ \t]+(.*))?\Z", re.DOTALL)
_SIZE = re.compile(r"[0-9]{1,20}\Z")  # RFC 1870 s.3


@dataclass(frozen=True, slots=True)
class SmtpFeatures:
    """The extensions that are offered; all empty before EHLO and after HELO.

    Attributes:
        keywords: every keyword in capitals, with its parameters as one text.
        size_limit: octets; None when none is declared (RFC 1870 s.3: also for `SIZE 0`).
        auth_mechanisms: in capitals.
    """

    keywords: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    size_limit: int | None = None
    eight_bit_mime: bool = False
    smtputf8: bool = False
    pipelining: bool = False
    chunking: bool = False
    starttls: bool = False
    enhanced_status_codes: bool = False
    auth_mechanisms: frozenset[str] = frozenset()
    etrn: bool = False
    atrn: bool = False


def parse_features(reply: SmtpReply) -> SmtpFeatures:
    """Read the keyword lines of a positive reply to EHLO; the first line is a greeting."""
    keywords: dict[str, str] = {}
    for line in reply.lines[1:]:
        found = _KEYWORD.match(line)
        if found is None:
            continue
        keyword, parameters = found[1].upper(), (found[2] or "").strip()
        if keyword == "AUTH" and keyword in keywords:  # some servers list their mechanisms on several lines
            parameters = f"{keywords[keyword]} {parameters}"
        keywords[keyword] = parameters
    return SmtpFeatures(
        keywords=MappingProxyType(keywords),
        size_limit=_size_limit(keywords.get("SIZE", "")),
        eight_bit_mime="8BITMIME" in keywords,
        smtputf8="SMTPUTF8" in keywords,
        pipelining="PIPELINING" in keywords,
        chunking="CHUNKING" in keywords,
        starttls="STARTTLS" in keywords,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in keywords,
        auth_mechanisms=frozenset(keywords.get("AUTH", "").upper().split()),
        etrn="ETRN" in keywords,
        atrn="ATRN" in keywords,
    )


def _size_limit(parameter: str) -> int | None:
    return (int(parameter) or None) if _SIZE.match(parameter) else None
