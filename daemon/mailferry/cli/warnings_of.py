"""What is allowed in a configuration and still worth a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mailferry.config import MaildirDestinationSettings, ReceiverSettings, Settings
from mailferry.config.models import MaildropSettings, SmtpDestinationSettings, SmtpLinkSettings
from mailferry.config.network_kinds import is_loopback
from mailferry.errors import TlsError
from mailferry.net.tls import own_certificate


def warnings_of(settings: Settings) -> list[str]:
    """Return the warnings, each as `key: what, and what to do`."""
    return [
        *_about_state(settings),
        *_about_maildrops(settings),
        *_about_destinations(settings),
        *_about_etrn(settings),
        *_about_receiver(settings.receiver),
        *_about_daemon(settings),
    ]


def _about_state(settings: Settings) -> Iterator[str]:
    state_dir = settings.daemon.state_dir
    yield from _about_folder("daemon.state_dir", state_dir)
    if settings.ledger.url is not None:
        folder = Path(settings.ledger.url.removeprefix("sqlite:///")).parent
        if folder != state_dir:
            yield from _about_folder("ledger.url", folder)


def _about_folder(key: str, folder: Path) -> Iterator[str]:
    if not _may_look(folder):
        yield (
            f"{key}: {folder} cannot be looked at: permission denied; "
            f"this user (uid {os.geteuid()}) must be able to enter the folders above it"
        )
    elif not folder.is_dir():
        yield f"{key}: {folder} is not there: create it and give it to the user that runs mailferry"
    elif not os.access(folder, os.W_OK | os.X_OK):
        yield f"{key}: {folder} is not writable for this user (uid {os.geteuid()})"


def _may_look(path: Path) -> bool:
    """Whether it can be told what is at the path, or that nothing is."""
    try:
        path.exists()
    except OSError:
        return False
    return True


def _about_maildrops(settings: Settings) -> Iterator[str]:
    for name, maildrop in settings.maildrop.items():
        if maildrop.enabled and maildrop.tls == "none" and not is_loopback(maildrop.host):
            yield f"maildrop.{name}.tls: password and mail travel unencrypted to {maildrop.host}"
        if maildrop.enabled and maildrop.auth == "rpop":
            yield (
                f"maildrop.{name}.auth: rpop proves nothing: the server believes whoever comes from this "
                "machine's address, and hands out the mail"
            )
        if maildrop.enabled:
            yield from _about_certificate(f"maildrop.{name}", maildrop)
    others = bool(settings.receiver.listen) or any(etrn.enabled for etrn in settings.etrn.values())
    if not others and not any(maildrop.enabled for maildrop in settings.maildrop.values()):
        yield "maildrop: none is enabled, so nothing is polled"


def _about_certificate(key: str, link: MaildropSettings | SmtpLinkSettings) -> Iterator[str]:
    if link.tls_certificate is not None and link.tls == "none":
        yield f'{key}.tls_certificate: not shown, as tls = "none"'
    yield from _about_own(key, link)


def _about_own(key: str, link: MaildropSettings | SmtpLinkSettings | ReceiverSettings) -> Iterator[str]:
    """Look at a certificate of our own and at its key."""
    if link.tls_certificate is None:
        return
    private = link.tls_key or link.tls_certificate
    try:
        own_certificate(link.tls_certificate, link.tls_key)
        if private.stat().st_mode & 0o007:
            yield f"{key}.tls_key: {private} can be read by everybody; make it 0600"
    except (TlsError, OSError) as error:
        yield f"{key}.{error}"


def _about_destinations(settings: Settings) -> Iterator[str]:
    lists = [maildrop.deliver for maildrop in settings.maildrop.values()]
    lists += [settings.receiver.deliver, *(etrn.deliver for etrn in settings.etrn.values())]
    used = {name for names in lists for name in names}
    for name, destination in settings.destination.items():
        if name not in used:
            yield f"destination.{name}: nothing delivers to it"
        if isinstance(destination, SmtpDestinationSettings) and destination.enabled:
            yield from _about_certificate(f"destination.{name}", destination)
        if isinstance(destination, MaildirDestinationSettings):
            folder = _nearest_existing(destination.path)
            if not os.access(folder, os.W_OK | os.X_OK):
                yield f"destination.{name}.path: {folder} is not writable for this user (uid {os.geteuid()})"


def _nearest_existing(path: Path) -> Path:
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _about_etrn(settings: Settings) -> Iterator[str]:
    for name, etrn in settings.etrn.items():
        if etrn.enabled:
            yield from _about_certificate(f"etrn.{name}", etrn)


def _about_receiver(receiver: ReceiverSettings) -> Iterator[str]:
    if receiver.listen:
        yield from _about_own("receiver", receiver)


def _about_daemon(settings: Settings) -> Iterator[str]:
    host = settings.http.host
    if host is not None and not is_loopback(host):
        mail = settings.http.page and settings.http.messages_shown == "always"
        shown = ", and senders and subjects are shown" if mail else ""
        yield f"http.listen: {host} can be reached by others, reading needs no login{shown}"
    if settings.daemon.trace:
        yield "daemon.trace: every line of every dialogue is logged, with addresses"
