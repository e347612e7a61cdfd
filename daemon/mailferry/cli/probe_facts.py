"""What an opening learned, as lines for people and as a document for scripts.

What a peer said is shown with its control characters as escapes; in JSON it stands as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from mailferry.cli.wording import counted
from mailferry.net.certificates import CertificateFacts, TlsFacts
from mailferry.net.opening import Moment, Offers, Opening
from mailferry.telemetry.redaction import clean_text

_NUMBER = re.compile(r"[0-9]{1,18}")
_DAY_SECONDS = 86_400.0
_MOST_NAMES = 12
_MOMENTS = {Moment.FIRST: "at first", Moment.UNDER_TLS: "under TLS", Moment.LOGGED_IN: "logged in"}

Fact = tuple[str, str]
"""A label and its text; without a label it goes on with the one before."""


def opening_facts(opening: Opening, username: str | None, *, pinned: bool, now: float) -> Iterator[Fact]:
    """Yield what is known of a session, also of one that failed on its way."""
    if opening.peer:
        yield "address", f"{opening.peer}, from {opening.local}" if opening.local else opening.peer
    if opening.tls is not None:
        yield from _tls_facts(opening.tls, "pinned by tls_fingerprint" if pinned else "verified", now)
    elif opening.refused_tls is not None:
        yield from _tls_facts(opening.refused_tls, "NOT accepted", now)
    elif opening.peer:
        yield "TLS", "none"
    if opening.greeting:
        yield "greeting", clean_text(opening.greeting)
    yield from _offer_facts(opening.offers)
    yield from _limit_facts(next(reversed(opening.offers.values()), {}))
    if opening.method:
        yield "login", f"{opening.method} as {clean_text(username or '')}"


def _tls_facts(tls: TlsFacts, vouched: str, now: float) -> Iterator[Fact]:
    yield "TLS", f"{tls.version}, {tls.cipher} ({tls.bits} bits), {vouched}"
    for place, certificate in enumerate(tls.chain):
        yield "certificate" if place == 0 else "issued by", _certificate_words(certificate, now)
        if place == 0:
            yield "", f"for {_names(certificate)}" if certificate.names else "for no host name"
            yield "", f"SHA-256 {certificate.sha256}"
    if tls.chain and tls.chain[-1].issuer != tls.chain[-1].subject:
        yield "issued by", f"{clean_text(tls.chain[-1].issuer) or 'unknown'} (not sent along)"


def _certificate_words(certificate: CertificateFacts, now: float) -> str:
    return f"{clean_text(certificate.subject) or 'without a name'}, {_until(certificate, now)}"


def _names(certificate: CertificateFacts) -> str:
    more = len(certificate.names) - _MOST_NAMES
    shown = ", ".join(map(clean_text, certificate.names[:_MOST_NAMES]))
    return f"{shown} and {more} more" if more > 0 else shown


def _until(certificate: CertificateFacts, now: float) -> str:
    if certificate.not_after is None:
        return "expiry unknown"
    day = datetime.fromtimestamp(certificate.not_after, UTC).date().isoformat()
    days = days_left(certificate, now)
    assert days is not None
    return f"until {day} ({counted(days, 'day')} left)" if days >= 0 else f"expired on {day}"


def days_left(certificate: CertificateFacts, now: float) -> int | None:
    """Return how many whole days a certificate is still good for; negative when it has expired."""
    if certificate.not_after is None:
        return None
    return int((certificate.not_after - now) // _DAY_SECONDS)


def _offer_facts(offers: Mapping[Moment, Offers]) -> Iterator[Fact]:
    before: Offers | None = None
    for moment, now in offers.items():
        label = "offers" if before is None else ""
        if before is None:
            yield label, f"{_MOMENTS[moment]}: {_all(now)}"
        else:
            yield label, f"{_MOMENTS[moment]}: {_difference(before, now)}"
        before = now


def _limit_facts(offers: Offers) -> Iterator[Fact]:
    """Say in words what a server allows: of what it told last, where numbers are what the RFCs say."""
    delay, expire, size = (offers.get(name, "").split(" ")[0] for name in ("LOGIN-DELAY", "EXPIRE", "SIZE"))
    if _NUMBER.fullmatch(delay):
        yield "login delay", f"{delay} s between two logins, the daemon's among them"
    if expire.upper() == "NEVER":
        yield "expiry", "the server never deletes mail by itself"
    elif _NUMBER.fullmatch(expire):
        days = int(expire)
        kept = f"the server may delete mail after {counted(days, 'day')}"
        yield "expiry", kept if days else "the server may delete what was fetched when the session ends"
    if _NUMBER.fullmatch(size) and int(size):
        yield "size", f"messages of up to {int(size):,} octets are taken"


def _all(offers: Offers) -> str:
    return clean_text("; ".join(_words(offers, keyword) for keyword in offers)) or "nothing"


def _difference(before: Offers, now: Offers) -> str:
    new = [f"+ {_words(now, keyword)}" for keyword in now if before.get(keyword) != now[keyword]]
    gone = [f"- {keyword}" for keyword in before if keyword not in now]
    return clean_text("; ".join([*new, *gone])) or "the same"


def _words(offers: Offers, keyword: str) -> str:
    return f"{keyword} {offers[keyword]}".rstrip()


def opening_document(opening: Opening, *, pinned: bool, now: float) -> dict[str, object]:
    """Return an opening for `--json`."""
    return {
        "stage": opening.stage.value,
        "address": opening.peer or None,
        "own_address": opening.local or None,
        "greeting": opening.greeting or None,
        "offers": {moment.value: dict(offers) for moment, offers in opening.offers.items()},
        "tls": _tls_document(opening, pinned=pinned, now=now),
        "login_method": opening.method or None,
    }


def _tls_document(opening: Opening, *, pinned: bool, now: float) -> dict[str, object] | None:
    tls = opening.tls or opening.refused_tls
    if tls is None:
        return None
    return {
        "accepted": opening.tls is not None,
        "version": tls.version,
        "cipher": tls.cipher,
        "bits": tls.bits,
        "pinned": pinned,
        "chain": [_certificate_document(each, now) for each in tls.chain],
    }


def _certificate_document(certificate: CertificateFacts, now: float) -> dict[str, object]:
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": list(certificate.names),
        "not_before": _iso(certificate.not_before),
        "not_after": _iso(certificate.not_after),
        "days_left": days_left(certificate, now),
        "sha256": certificate.sha256,
    }


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
