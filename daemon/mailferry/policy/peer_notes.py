"""What an administrator should know of a server that works: what it lacks, and what will not fit.

None of it keeps mail from being relayed now. Each note is one sentence in plain words.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailferry.protocol.pop3_listings import Capabilities
from mailferry.protocol.smtp_features import SmtpFeatures

CERTIFICATE_DAYS = 21
"""From so many days left on, a certificate's end is worth a word: it should have been renewed by then."""

_DAY_SECONDS = 86_400.0


def pop3_notes(
    capabilities: Capabilities | None, every_seconds: float | None, keep: bool | float
) -> Iterator[str]:
    """Yield notes on a maildrop's server.

    Args:
        capabilities: after the login; None when the server has none to tell.
        every_seconds: between two polls; None when a timetable says when.
        keep: what the configuration says: false, true, or an age in seconds.
    """
    if capabilities is None:
        yield "no CAPA: what the server can is found out by trying"
        return
    if not capabilities.has_uidl:
        yield "no UIDL: messages are recognised by their contents, which are fetched with every poll"
    if not capabilities.has_top:
        yield "no TOP: a header cannot be had without its message"
    if not capabilities.pipelining:
        yield "no PIPELINING: one command at a time"
    yield from _about_delay(capabilities, every_seconds)
    yield from _about_expiry(capabilities, keep)


def _about_delay(capabilities: Capabilities, every_seconds: float | None) -> Iterator[str]:
    delay = capabilities.login_delay_seconds
    if delay is not None and every_seconds is not None and delay > every_seconds:
        yield (
            f"LOGIN-DELAY {delay}: the server wants {delay} s between two logins, "
            f"and every is {every_seconds:g} s: polls come as rarely as it wants"
        )


def _about_expiry(capabilities: Capabilities, keep: bool | float) -> Iterator[str]:
    days = capabilities.expire_days
    if days == 0:
        yield (
            "EXPIRE 0: the server may delete what was fetched at the end of a session; "
            "sessions in which something could not be delivered end without QUIT"
        )
    elif days is not None and keep is not False and (keep is True or keep > days * _DAY_SECONDS):
        yield f"EXPIRE {days}: the server deletes mail after {days} days, and keep asks for more"


def smtp_notes(features: SmtpFeatures, largest_octets: int | None) -> Iterator[str]:
    """Yield notes on a destination's server.

    Args:
        features: as the link is when mail is sent.
        largest_octets: the largest message that a maildrop may bring; None when nothing is relayed there.
    """
    if not features.keywords:
        yield "no EHLO: none of SMTP's extensions"
        return
    if not features.pipelining:
        yield "no PIPELINING: one command at a time"
    if not features.eight_bit_mime:
        yield "no 8BITMIME: 8-bit messages are re-encoded, which breaks their signatures"
    limit = features.size_limit
    if limit is not None and largest_octets is not None and limit < largest_octets:
        yield f"SIZE {limit}: larger messages are refused, and max_size lets {largest_octets} through"


def etrn_notes(features: SmtpFeatures, *, odmr: bool) -> Iterator[str]:
    """Yield what keeps a server from being asked for mail: not a note but a failure."""
    if odmr and "ATRN" not in features.keywords:
        yield "ATRN is not offered: is it the port for ODMR (366), and is the login the right one?"
    elif not odmr and not features.etrn:
        yield "ETRN is not offered"


def certificate_note(seconds_left: float | None) -> str:
    """Return a note on a certificate that ends soon, empty otherwise."""
    if seconds_left is None or seconds_left > CERTIFICATE_DAYS * _DAY_SECONDS:
        return ""
    if seconds_left <= 0:
        return "the certificate has expired"
    return f"the certificate expires in {int(seconds_left // _DAY_SECONDS)} days"
