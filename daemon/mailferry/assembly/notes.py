"""What a server that works is worth a word for, compared with what the configuration wants of it."""

from __future__ import annotations

from mailferry.config.models import Settings
from mailferry.net.opening import Opening
from mailferry.policy.peer_notes import certificate_note, etrn_notes, pop3_notes, smtp_notes
from mailferry.protocol.pop3_listings import Capabilities
from mailferry.protocol.smtp_features import SmtpFeatures


def maildrop_notes(name: str, settings: Settings, opening: Opening, now: float) -> list[str]:
    """Return notes on a maildrop's server."""
    maildrop = settings.maildrop[name]
    every = None if maildrop.cron else maildrop.every
    return [*pop3_notes(_capabilities(opening), every, maildrop.keep), *_about_certificate(opening, now)]


def _capabilities(opening: Opening) -> Capabilities | None:
    """Return what the server told last; None when it answered no CAPA."""
    last = next(reversed(opening.offers.values()), None)
    if not last:
        return None
    return Capabilities({keyword: tuple(arguments.split()) for keyword, arguments in last.items()})


def smtp_server_notes(
    table: str, settings: Settings, features: SmtpFeatures, opening: Opening, now: float
) -> list[str]:
    """Return notes on the server of `destination.NAME`; of `etrn.NAME` only its certificate is looked at."""
    kind, _, name = table.partition(".")
    notes = smtp_notes(features, _largest_octets(name, settings)) if kind == "destination" else ()
    return [*notes, *_about_certificate(opening, now)]


def etrn_problems(name: str, settings: Settings, features: SmtpFeatures) -> list[str]:
    """Return what keeps the server of `etrn.NAME` from being asked for mail."""
    return list(etrn_notes(features, odmr=settings.etrn[name].mode == "odmr"))


def _largest_octets(destination: str, settings: Settings) -> int | None:
    """Return the largest message that may come to a destination; None when nothing delivers there."""
    drops = (drop for drop in settings.maildrop.values() if drop.enabled and destination in drop.deliver)
    sizes = [drop.max_size for drop in drops]
    receiver = settings.receiver
    if receiver.listen and destination in receiver.deliver:
        sizes.append(receiver.max_size)
    return max(sizes, default=None)


def _about_certificate(opening: Opening, now: float) -> list[str]:
    chain = opening.tls.chain if opening.tls is not None else ()
    ends = chain[0].not_after if chain else None
    note = certificate_note(ends - now if ends is not None else None)
    return [note] if note else []
