"""The arguments of MAIL and RCPT, as a server reads them (RFC 5321 s.4.1.1.2, s.4.1.1.3, s.4.1.2).

Strict where a lax reading could send mail to somebody else: the domain that decides
whether mail is taken is the one behind the last `@` of an address that has a single
one outside of quotes, and a local part that some servers would read as a further route
(`user%elsewhere@here`, `elsewhere!user@here`) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

POSTMASTER = "postmaster"

# RFC 5321 s.4.1.1.2, s.4.1.1.3: a path in brackets, maybe with a source route, which is read and ignored.
_MAIL = re.compile(r"FROM: ?<(?:@[^<>:\s]*:)?([^<>]*)>((?: [^ ]*)*)", re.IGNORECASE)
_RCPT = re.compile(r"TO: ?<(?:@[^<>:\s]*:)?([^<>]*)>((?: [^ ]*)*)", re.IGNORECASE)

# atext (RFC 5322 s.3.2.3) and UTF-8 (RFC 6531 s.3.3); dots as they come, since doubled ones are in daily use.
_DOT_STRING = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\[ -~])*"')
_LABEL = r"[A-Za-z0-9_\x80-\U0010ffff](?:[A-Za-z0-9_\x80-\U0010ffff-]*[A-Za-z0-9_\x80-\U0010ffff])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LITERAL = re.compile(r"\[[0-9A-Za-z.:-]+\]")

_ROUTING = frozenset("@%!|\\")
"""What a next hop may read as one more route, or as a program, in a local part."""

_LOCAL_OCTETS = 64
_PATH_OCTETS = 254
"""RFC 5321 s.4.5.3.1.1 and s.4.5.3.1.3, without the brackets."""

_SIZE_DIGITS = 20  # RFC 1870 s.3


class RefusedArgumentError(ValueError):
    """The argument is not taken; `reply` is what to answer."""

    def __init__(self, reply: str) -> None:
        self.reply = reply
        super().__init__(reply)


@dataclass(frozen=True, slots=True)
class MailCommand:
    """What MAIL said.

    Attributes:
        sender: the reverse-path without brackets; empty for the null one.
        size_octets: as SIZE declared it; None without.
        smtputf8: whether the client asked for it (RFC 6531 s.3.4).
    """

    sender: str
    size_octets: int | None = None
    smtputf8: bool = False


def parse_mail(argument: str, *, extended: bool) -> MailCommand:
    """Read what follows MAIL.

    Args:
        argument: undecodable octets as surrogates.
        extended: whether EHLO was said; else there can be no parameters.

    Raises:
        RefusedArgumentError: it is no reverse-path, or has parameters that were not offered.
    """
    match = _MAIL.fullmatch(argument)
    if match is None:
        raise RefusedArgumentError("501 5.5.4 Syntax: MAIL FROM:<address>")
    size, smtputf8 = _mail_parameters(match[2].split(), extended=extended)
    sender = match[1]
    if sender and not _is_address(sender):
        raise RefusedArgumentError("553 5.1.7 This reverse-path is no mail address")
    _check_utf8(sender, smtputf8=smtputf8)
    return MailCommand(sender, size, smtputf8)


def parse_rcpt(argument: str, *, smtputf8: bool) -> str:
    """Read what follows RCPT; return the address without brackets, `postmaster` without a domain too.

    Raises:
        RefusedArgumentError: it is no forward-path, has parameters, or holds a route of its own.
    """
    match = _RCPT.fullmatch(argument)
    if match is None:
        raise RefusedArgumentError("501 5.5.4 Syntax: RCPT TO:<address>")
    if match[2].split():
        raise RefusedArgumentError("555 5.5.4 RCPT takes no parameters here")
    recipient = match[1]
    if recipient.lower() == POSTMASTER:  # RFC 5321 s.4.5.1
        return POSTMASTER
    if not _is_address(recipient):
        raise RefusedArgumentError("553 5.1.3 This is no mail address")
    _check_utf8(recipient, smtputf8=smtputf8)
    _check_route(recipient)
    return recipient


def domain_of(address: str) -> str | None:
    """Return an address's domain in lower case, as A-labels; None when it has none that could be served."""
    _, at, domain = address.rpartition("@")
    if not at or not _DOMAIN.fullmatch(domain):
        return None
    if domain.isascii():
        return domain.lower()
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None


def serves(patterns: Collection[str], address: str) -> bool:
    """Tell whether mail for an address is taken.

    Args:
        patterns: domains in lower case; one that begins with a dot stands for the subdomains.
        address: as `parse_rcpt` returned it.
    """
    domain = domain_of(address)
    if domain is None:
        return False
    return any(domain.endswith(p) if p.startswith(".") else domain == p for p in patterns)


def _mail_parameters(words: list[str], *, extended: bool) -> tuple[int | None, bool]:
    """Read SIZE (RFC 1870), BODY (RFC 6152) and SMTPUTF8 (RFC 6531)."""
    if words and not extended:
        raise RefusedArgumentError("555 5.5.4 MAIL takes parameters after EHLO only")
    size: int | None = None
    seen: set[str] = set()
    for word in words:
        name, _, value = word.upper().partition("=")
        if name in seen:
            raise RefusedArgumentError("501 5.5.4 A parameter stands twice")
        seen.add(name)
        if name == "SIZE" and value.isdecimal() and value.isascii() and len(value) <= _SIZE_DIGITS:
            size = int(value)
        elif word.upper() not in ("BODY=7BIT", "BODY=8BITMIME", "SMTPUTF8"):
            raise RefusedArgumentError("555 5.5.4 A parameter was not understood")
    return size, "SMTPUTF8" in seen


def _is_address(text: str) -> bool:
    local, at, domain = text.rpartition("@")
    if not at or not text.isprintable() or len(text.encode("utf-8", "replace")) > _PATH_OCTETS:
        return False
    well_formed = _DOT_STRING.fullmatch(local) or _QUOTED.fullmatch(local)
    return bool(well_formed and (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)))


def _check_utf8(address: str, *, smtputf8: bool) -> None:
    if not smtputf8 and not address.isascii():
        raise RefusedArgumentError("553 5.6.7 An address that is not ASCII needs SMTPUTF8 in MAIL")


def _check_route(recipient: str) -> None:
    local = recipient.rpartition("@")[0].strip('"')
    if len(local.encode()) > _LOCAL_OCTETS:
        raise RefusedArgumentError("553 5.1.3 A local part of more than 64 octets")
    if not _ROUTING.isdisjoint(local) or local.startswith(("/", "-")):
        raise RefusedArgumentError("550 5.7.1 A recipient with a route or a command in it is not taken")
