"""`mailferry history`: what became of messages, by the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mailferry.cli.options import ConfigOption, JsonOption, settings_from
from mailferry.cli.screen import print_json, screen, table
from mailferry.cli.wording import counted, local_time, span
from mailferry.model import DeliveryRecord, DeliveryState, KnownMessage, MessageState

if TYPE_CHECKING:
    from rich.table import Table

    from mailferry.config import Settings
    from mailferry.ledger.queries import HistoryFilter
    from mailferry.ledger.reader import LedgerReader

MOST = 10_000
"""What the ledger answers at most."""

COMPACT_BELOW_COLUMNS = 120
"""On a narrower screen a table would break every cell into many lines."""

_STATES = ", ".join(MessageState)


def history(  # noqa: PLR0917 - typer calls it by keyword
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="Occurs in sender, recipient, subject, UIDL or receipt."),
    ] = None,
    maildrop: Annotated[
        str | None, typer.Option("--maildrop", "-m", metavar="NAME", help="Only of this maildrop.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            "-s",
            metavar="STATE",
            help=f"Only messages that stand there: {_STATES}.",
            autocompletion=lambda: [each.value for each in MessageState],
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Changed since: 90m, 2d, 2026-07-01, 2026-07-01T18:00."),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", "-n", metavar="N", min=1, max=MOST, help="Show so many, newest change first."
        ),
    ] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of messages."""
    from mailferry.ledger.queries import HistoryFilter

    now = time.time()
    wanted = HistoryFilter(
        maildrop=maildrop, text=text, state=_state(state), since=_since(since, now), limit=limit
    )
    messages = _ask(settings_from(config, check_secrets=False), wanted)
    if as_json:
        print_json({"messages": [_as_json(known) for known in messages]})
    else:
        _show(messages, limit, now)


def _ask(settings: Settings, wanted: HistoryFilter) -> list[KnownMessage]:
    from mailferry.ledger.reader import open_reader

    with open_reader(settings.ledger_url) as reader:
        if wanted.maildrop is not None and wanted.maildrop not in settings.maildrop:
            _refuse_unknown(wanted.maildrop, settings, reader)
        return reader.history(wanted)


def _refuse_unknown(maildrop: str, settings: Settings, reader: LedgerReader) -> None:
    """Take a name that is configured no more, while the ledger remembers it, and no other."""
    known = {*settings.maildrop, *(name for name, _state in reader.counts())}
    if maildrop not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise typer.BadParameter(
            f"no such maildrop: {maildrop}; known are: {listed}", param_hint="--maildrop"
        )


def _state(text: str | None) -> MessageState | None:
    try:
        return MessageState(text.lower()) if text is not None else None
    except ValueError:
        raise typer.BadParameter(f"must be one of {_STATES}", param_hint="--state") from None


def _since(text: str | None, now: float) -> float | None:
    """Return seconds since the epoch from a span back, a date or a time; local unless it says otherwise."""
    from mailferry.config.units import parse_duration

    if text is None:
        return None
    try:
        return now - parse_duration(text)
    except ValueError:
        pass  # no span; perhaps a date
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            'must be a span back such as "90m" or "2d", a date or a time such as "2026-07-01T18:00"',
            param_hint="--since",
        ) from None


def _as_json(known: KnownMessage) -> dict[str, object]:
    message = known.message
    return {
        "maildrop": message.maildrop,
        "uidl": _uidl(message.uidl),
        "state": message.state.value,
        "reason": message.reason,
        "sender": message.sender,
        "recipient": message.recipient,
        "subject": message.subject,
        "size_octets": message.size_octets,
        "first_seen_at": _iso(message.first_seen_at),
        "updated_at": _iso(message.updated_at),
        "accepted_at": _iso(message.accepted_at),
        "fetch_attempts": message.fetch_attempts,
        "deliveries": [_delivery_json(delivery) for delivery in known.deliveries],
    }


def _delivery_json(delivery: DeliveryRecord) -> dict[str, object]:
    return {
        "destination": delivery.destination,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "updated_at": _iso(delivery.updated_at),
        "next_attempt_at": _iso(_next_attempt(delivery)),
        "receipt": delivery.receipt,
        "error": delivery.error,
        "accepted_recipients": list(delivery.accepted_recipients),
        "refused_recipients": list(delivery.refused_recipients),
    }


def _uidl(uidl: bytes) -> str:
    """Return a UIDL as text; RFC 1939 s.7 allows ASCII only, other octets become `\\xNN`."""
    return uidl.decode("ascii", "backslashreplace")


def _next_attempt(delivery: DeliveryRecord) -> float | None:
    waits = delivery.state in {DeliveryState.DEFERRED, DeliveryState.IN_DOUBT}
    return delivery.next_attempt_at if waits else None


def _iso(seconds: float | None) -> str | None:
    from mailferry.telemetry.rendering import iso_time

    return iso_time(seconds) if seconds else None


def _show(messages: Sequence[KnownMessage], limit: int, now: float) -> None:
    console = screen()
    if not messages:
        console.print("No message fits.")
    elif console.width < COMPACT_BELOW_COLUMNS:
        for known in messages:
            console.print(*_block(known, now), "", sep="\n", soft_wrap=True)
    else:
        console.print(_table(messages, now))
    if messages:
        console.print(_counted(len(messages), limit))


def _counted(number: int, limit: int) -> str:
    if number < limit:
        return f"{counted(number, 'message')}."
    return (
        f"{number} messages, those that changed last." if number > 1 else "1 message, the last that changed."
    )


def _table(messages: Sequence[KnownMessage], now: float) -> Table:
    from rich.filesize import decimal

    from mailferry.telemetry.redaction import clean_text

    shown = table(("time", "maildrop", "from", "subject", "size", "state", "destinations"), numbers=("size",))
    for known in messages:
        message = known.message
        cells = (message.maildrop, message.sender, message.subject)
        shown.add_row(
            local_time(message.updated_at),
            *(clean_text(cell) for cell in cells),
            decimal(message.size_octets),
            message.state.value,
            "\n".join(_outcomes(known, now)),
        )
    return shown


def _block(known: KnownMessage, now: float) -> Iterator[str]:
    """Yield the lines for one message: what happened when, which message it is, what became of it where."""
    from rich.filesize import decimal

    from mailferry.telemetry.redaction import clean_text

    message = known.message
    yield f"{local_time(message.updated_at)}  {message.state.value}  {clean_text(message.maildrop)}"
    sender, subject = clean_text(message.sender) or "(none)", clean_text(message.subject) or "(none)"
    yield f"  {sender}: {subject} ({decimal(message.size_octets)})"
    for line in _outcomes(known, now):
        yield f"  {line}"


def _outcomes(known: KnownMessage, now: float) -> list[str]:
    """Return the reason, if there is one, and a line for each destination."""
    from mailferry.telemetry.redaction import clean_text

    reason = known.message.reason
    lines = ([reason] if reason else []) + [_delivery_words(each, now) for each in known.deliveries]
    return [clean_text(line) for line in lines]


def _delivery_words(delivery: DeliveryRecord, now: float) -> str:
    words = f"{delivery.destination}: {delivery.state.value}"
    if delivery.attempts > 1:
        words += f" after {delivery.attempts} attempts"
    next_attempt = _next_attempt(delivery)
    if next_attempt is not None and next_attempt > now:
        words += f", tried again in {span(next_attempt - now)}"
    detail = delivery.receipt if delivery.state is DeliveryState.ACCEPTED else delivery.error
    return f"{words}: {detail}" if detail else words
