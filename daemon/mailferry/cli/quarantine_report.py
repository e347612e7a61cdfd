"""What lies in the quarantine and what came of retrying it: as tables, as text, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.filesize import decimal

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.screen import table
from mailferry.cli.wording import ago, counted, local_time
from mailferry.message.headers import split_header
from mailferry.model import DeliveryRecord, DeliveryState
from mailferry.quarantine.reader import StoredMessage
from mailferry.quarantine.redelivery import Answer, Answered, Retried
from mailferry.telemetry.redaction import clean_text
from mailferry.telemetry.rendering import iso_time

if TYPE_CHECKING:
    from rich.console import Console

COMPACT_BELOW_COLUMNS = 140
"""On a narrower screen a table would break every cell into many lines."""

_TEMPORARY = frozenset({Answer.DEFERRED, Answer.IN_DOUBT, Answer.NOT_REACHED})
_WORDS = {
    Answer.ACCEPTED: "accepted",
    Answer.REFUSED: "refused again",
    Answer.DEFERRED: "not now",
    Answer.IN_DOUBT: "in doubt (it may have it; another retry may double it)",
    Answer.NOT_REACHED: "not reached",
    Answer.UNKNOWN: "not tried",
}

# -- list -----------------------------------------------------------------------


def show_list(console: Console, messages: Sequence[StoredMessage], now: float) -> None:
    """Print a line or a short block for each message."""
    if not messages:
        console.print("The quarantine is empty.")
        return
    if console.width < COMPACT_BELOW_COLUMNS:
        for stored in messages:
            console.print(*_block(stored, now), "", sep="\n", soft_wrap=True)
    else:
        shown = table(("name", "since", "maildrop", "size", "from", "subject", "why"), numbers=("size",))
        for stored in messages:
            maildrop, sender, subject = _about(stored)
            shown.add_row(
                stored.name,
                ago(stored.since, now),
                maildrop,
                decimal(stored.size_octets),
                sender,
                subject,
                "\n".join(_why(stored)),
            )
        console.print(shown)
    console.print(f"{counted(len(messages), 'message')}.")


def listed(stored: StoredMessage) -> dict[str, object]:
    """Return what `list --json` prints of a message."""
    entry = stored.entry
    return {
        "name": stored.name,
        "quarantined_at": iso_time(stored.since) if stored.since else None,
        "maildrop": entry.message.maildrop if entry else None,
        "size_octets": stored.size_octets,
        "sender": entry.message.sender if entry else None,
        "recipient": entry.message.recipient if entry else None,
        "subject": entry.message.subject if entry else None,
        "why": _reasons(stored),
        "problem": stored.problem or None,
    }


def _about(stored: StoredMessage) -> tuple[str, str, str]:
    """Return maildrop, From and Subject as they may be printed."""
    if stored.entry is None:
        return "?", "?", "?"
    message = stored.entry.message
    return clean_text(message.maildrop), clean_text(message.sender), clean_text(message.subject)


def _block(stored: StoredMessage, now: float) -> Iterator[str]:
    maildrop, sender, subject = _about(stored)
    yield f"{stored.name}  {ago(stored.since, now)}  {maildrop}"
    yield f"  {sender or '(none)'}: {subject or '(none)'} ({decimal(stored.size_octets)})"
    for line in _why(stored):
        yield f"  {line}"


def _why(stored: StoredMessage) -> list[str]:
    return [clean_text(line) for line in ([stored.problem] if stored.problem else _reasons(stored))]


def _reasons(stored: StoredMessage) -> list[str]:
    """Return what each destination that has not accepted said."""
    if stored.entry is None:
        return []
    open_ones = [d for d in stored.entry.deliveries if d.state is not DeliveryState.ACCEPTED]
    if not open_ones:
        return ["delivered everywhere meanwhile: `retry` will remove it"]
    return [f"{each.destination}: {each.error or each.state.value}" for each in open_ones]


# -- show -----------------------------------------------------------------------


def header_lines(beginning: bytes) -> list[str]:
    """Return a message's header, line by line, what is no UTF-8 as escapes."""
    header, _ = split_header(beginning)
    return header.decode("utf-8", "backslashreplace").replace("\r\n", "\n").rstrip("\n").split("\n")


def show_entry(console: Console, stored: StoredMessage, header: Sequence[str] | None) -> None:
    """Print all that is known of a message, and its header if it is given."""
    for line in _facts(stored):
        console.print(clean_text(line), soft_wrap=True)
    for line in header or ():
        console.print(f"  {clean_text(line)}", soft_wrap=True)


def _facts(stored: StoredMessage) -> Iterator[str]:
    yield f"Name:        {stored.name}"
    if stored.problem:
        yield f"Problem:     {stored.problem}"
    if stored.path is not None:
        yield f"File:        {stored.path}"
    yield f"Size:        {decimal(stored.size_octets)} ({stored.size_octets} octets)"
    entry = stored.entry
    if entry is None:
        return
    message = entry.message
    yield f"Since:       {local_time(entry.quarantined_at)}"
    yield f"Maildrop:    {message.maildrop} at {entry.fetched_from} ({entry.fetched_with})"
    yield f"UIDL:        {_uidl(message.uidl)}"
    yield f"Seen first:  {local_time(message.first_seen_at)}, fetched {local_time(entry.fetched_at)}"
    yield f"From:        {message.sender or '(none)'}"
    yield f"To:          {message.recipient or '(none)'}"
    yield f"Subject:     {message.subject or '(none)'}"
    yield f"Return path: <{entry.envelope_sender}>"
    if entry.envelope_recipients:
        yield f"Recipients:  {', '.join(entry.envelope_recipients)}"
    for delivery in entry.deliveries:
        yield from _delivery_facts(delivery)


def _delivery_facts(delivery: DeliveryRecord) -> Iterator[str]:
    said = delivery.receipt if delivery.state is DeliveryState.ACCEPTED else delivery.error
    tried = counted(delivery.attempts, "attempt")
    yield f"{delivery.destination}: {delivery.state.value} after {tried}, {local_time(delivery.updated_at)}"
    if said:
        yield f"  {said}"
    if delivery.refused_recipients:
        yield f"  refused for: {', '.join(delivery.refused_recipients)}"
    if delivery.accepted_recipients:
        yield f"  accepted for: {', '.join(delivery.accepted_recipients)}"


def described(stored: StoredMessage, header: Sequence[str] | None) -> dict[str, object]:
    """Return what `show --json` prints."""
    entry = stored.entry
    document = {**listed(stored), "file": str(stored.path) if stored.path else None}
    if entry is not None:
        document |= {
            "uidl": _uidl(entry.message.uidl),
            "envelope_sender": entry.envelope_sender,
            "envelope_recipients": list(entry.envelope_recipients),
            "first_seen_at": iso_time(entry.message.first_seen_at),
            "fetched_at": iso_time(entry.fetched_at),
            "fetched_from": entry.fetched_from,
            "fetched_with": entry.fetched_with,
            "deliveries": [_delivery_json(each) for each in entry.deliveries],
        }
    return document if header is None else {**document, "header": list(header)}


def _delivery_json(delivery: DeliveryRecord) -> dict[str, object]:
    return {
        "destination": delivery.destination,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "updated_at": iso_time(delivery.updated_at),
        "receipt": delivery.receipt,
        "error": delivery.error,
        "accepted_recipients": list(delivery.accepted_recipients),
        "refused_recipients": list(delivery.refused_recipients),
    }


def _uidl(uidl: bytes) -> str:
    return uidl.decode("ascii", "backslashreplace")


# -- retry ------------------------------------------------------------------------


class RetryReport:
    """Tells what comes of each message as it comes, and sums up."""

    def __init__(self, console: Console, *, silent: bool) -> None:
        self.accepted: list[DeliveryRecord] = []
        """Rows that the ledger has not been told of yet."""
        self.ledger_problem = ""
        """Why the ledger could not be told."""
        self._console = console
        self._silent = silent
        self._retried: list[Retried] = []

    def add(self, stored: StoredMessage, retried: Retried) -> None:
        """Take what came of a message."""
        self._retried.append(retried)
        self.accepted += retried.accepted
        if not self._silent:
            for line in _story(stored, retried):
                self._console.print(clean_text(line), soft_wrap=True)

    def exit_code(self) -> ExitCode:
        """Return what a script should know first."""
        answers = {each.answer for retried in self._retried for each in retried.answers}
        if any(retried.problem for retried in self._retried) or answers & {Answer.REFUSED, Answer.UNKNOWN}:
            return ExitCode.FAILED
        if self.ledger_problem:
            return ExitCode.STORE
        return ExitCode.TEMPORARY if answers & _TEMPORARY else ExitCode.OK

    def document(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "ok": self.exit_code() is ExitCode.OK,
            "exit_code": int(self.exit_code()),
            "ledger_problem": self.ledger_problem or None,
            "messages": [_retried_json(each) for each in self._retried],
        }

    def show_end(self) -> None:
        """Print the sum, and what could not be told to the ledger."""
        gone = sum(retried.removed for retried in self._retried)
        left = len(self._retried) - gone
        said = f"{counted(gone, 'message')} {'has' if gone == 1 else 'have'} reached every destination"
        stay = f"; {left} {'stays' if left == 1 else 'stay'} in the quarantine" if left else ""
        self._console.print(f"{said}{stay}." if self._retried else "The quarantine is empty.")
        if self.ledger_problem:
            self._console.print(
                clean_text(
                    f"The ledger could not be told, `history` shows the refusal: {self.ledger_problem}"
                ),
                soft_wrap=True,
            )


def _story(stored: StoredMessage, retried: Retried) -> Iterator[str]:
    _maildrop, sender, subject = _about(stored)
    yield f"{retried.name}  {sender or '(none)'}: {subject or '(none)'}"
    if retried.problem:
        yield f"  not delivered: {retried.problem}"
    for each in retried.answers:
        yield f"  {_answer_words(each)}"
    if retried.removed and not retried.answers:
        yield "  had been delivered before; it has left the quarantine now"


def _answer_words(answered: Answered) -> str:
    return f"{answered.destination}: {_WORDS[answered.answer]}: {answered.words}"


def _retried_json(retried: Retried) -> dict[str, object]:
    return {
        "name": retried.name,
        "removed": retried.removed,
        "problem": retried.problem or None,
        "answers": [
            {"destination": each.destination, "answer": each.answer.value, "words": each.words}
            for each in retried.answers
        ],
    }
