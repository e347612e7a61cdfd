"""What `mailferry once` found: gathered while it polls, then shown, and made an exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.screen import table
from mailferry.cli.wording import counted
from mailferry.config import Settings
from mailferry.events import (
    DaemonStopping,
    Event,
    MessageDeferred,
    MessageFetchFailed,
    MessageInDoubt,
    MessageRejected,
    MessageRelayed,
    PollFinished,
    RoutePaused,
    RouteResumed,
)
from mailferry.model import MaildropName, MessageState
from mailferry.policy.poll_result import PollResult, poll_result
from mailferry.ports import Emit
from mailferry.services.poll import PollReport
from mailferry.telemetry.redaction import clean_text

MOST_REASONS = 50
"""Different reasons that are kept; a peer could invent a new one for every message."""

TEMPORARY = frozenset(
    {
        PollResult.CONNECT_FAILED,
        PollResult.TIMEOUT,
        PollResult.BUSY,
        PollResult.LOGIN_DELAYED,
        PollResult.UNAVAILABLE,
        PollResult.CONNECTION_LOST,
        PollResult.STOPPED,
    }
)
"""Ends of a poll that time alone may mend."""

_NUMBERS = ("listed", "relayed", "deferred", "rejected", "skipped", "deleted", "waiting")

Reason = tuple[str, str, str, str]
"""Maildrop, destination (empty for a fetch), what happened, why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One maildrop's line."""

    maildrop: str
    result: PollResult
    error: str
    listed: int
    relayed: int
    deferred: int
    rejected: int
    skipped: int
    deleted: int
    waiting: int
    seconds: float


class OnceReport:
    """Gathers what the polls bring.

    Attributes:
        copies: deliveries that were accepted; a message with two destinations has two.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        self.copies = 0
        self._names = names
        self._routes = {name for drop in names for name in settings.maildrop[drop].deliver}
        self._polls: dict[str, PollReport | None] = {}
        self._seconds: dict[str, float] = {}
        self._paused: dict[str, str] = {}
        self._reasons: Counter[Reason] = Counter()
        self._deferred_left = 0
        self._stopped_by = ""

    def ended(self, name: str, poll: PollReport | None) -> None:
        """Take the end of one maildrop's poll; None when it did not come to one."""
        self._polls[name] = poll

    def take_counts(self, counts: Mapping[tuple[MaildropName, MessageState], int]) -> None:
        """Take from the ledger what is still to be delivered, from earlier polls too."""
        self._deferred_left = sum(
            counts.get((MaildropName(name), MessageState.DEFERRED), 0) for name in self._names
        )

    def listener(self, changed: Callable[[], None]) -> Emit:
        """Return a sink for events; `changed` is called when `copies` grew."""

        def hear(event: Event) -> None:
            self._hear(event)
            if isinstance(event, MessageRelayed):
                changed()

        return hear

    def _hear(self, event: Event) -> None:
        match event:
            case MessageRelayed():
                self.copies += 1
            case PollFinished():
                self._seconds[event.maildrop] = event.duration_seconds
            case MessageDeferred() | MessageRejected() | MessageInDoubt():
                word = event.name.partition(".")[2].replace("_", " ")
                self._note(event.maildrop, event.destination, word, event.reason)
            case MessageFetchFailed():
                self._note(event.maildrop, "", "not fetched", event.reason)
            case RoutePaused():
                self._paused[event.destination] = event.reason
            case RouteResumed():
                self._paused.pop(event.destination, None)
            case DaemonStopping():
                self._stopped_by = event.signal

    def _note(self, maildrop: str, destination: str, word: str, reason: str) -> None:
        key = (maildrop, destination, word, clean_text(reason))
        if key not in self._reasons and len(self._reasons) >= MOST_REASONS:
            key = (maildrop, destination, word, "other reasons: see the log or `mailferry history`")
        self._reasons[key] += 1

    # Results

    def rows(self) -> list[Row]:
        """Return a line per maildrop, in the order of the configuration."""
        return [self._row(name) for name in self._names]

    def _row(self, name: str) -> Row:
        poll = self._polls.get(name)
        if poll is None:
            return Row(
                name, PollResult.STOPPED, "stopped before its poll had ended", 0, 0, 0, 0, 0, 0, 0, 0.0
            )
        return Row(
            maildrop=name,
            result=poll_result(poll.failure),
            error=_failure_words(poll.failure),
            listed=poll.listed,
            relayed=poll.relayed,
            deferred=poll.deferred,
            rejected=poll.rejected,
            skipped=poll.skipped,
            deleted=poll.deleted,
            waiting=poll.waiting,
            seconds=round(self._seconds.get(name, 0.0), 3),
        )

    def paused_routes(self) -> dict[str, str]:
        """Return destinations that take no mail at all now, with the reason."""
        return {name: clean_text(why) for name, why in self._paused.items() if name in self._routes}

    def exit_code(self) -> ExitCode:
        """Return what a script should know first: the gravest of all that happened."""
        rows = self.rows()
        failed = {row.result for row in rows} - {PollResult.OK}
        if PollResult.STORE_FAILED in failed:
            return ExitCode.STORE
        if PollResult.AUTH_REJECTED in failed:
            return ExitCode.NO_PERMISSION
        if failed - TEMPORARY or any(row.rejected for row in rows):
            return ExitCode.FAILED
        left = self._deferred_left or any(row.deferred for row in rows) or self.paused_routes()
        return ExitCode.TEMPORARY if failed or left or self._stopped_by else ExitCode.OK

    def document(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "ok": self.exit_code() is ExitCode.OK,
            "exit_code": int(self.exit_code()),
            "stopped_by": self._stopped_by or None,
            "maildrops": [asdict(row) for row in self.rows()],
            "paused_destinations": [
                {"destination": name, "reason": why} for name, why in self.paused_routes().items()
            ],
            "troubles": [
                {
                    "maildrop": drop,
                    "destination": place or None,
                    "what": word,
                    "reason": why,
                    "messages": number,
                }
                for (drop, place, word, why), number in self._reasons.most_common()
            ],
        }

    def show(self, console: Console) -> None:
        """Print the table, and everything that went wrong beneath it."""
        numbers = (*_NUMBERS, "seconds")
        shown = table(("maildrop", "result", *numbers), numbers=numbers)
        rows = self.rows()
        for row in rows:
            counts = [str(getattr(row, name)) for name in _NUMBERS]
            shown.add_row(row.maildrop, row.result, *counts, f"{row.seconds:.2f}")
        console.print(shown)
        for line in self._lines(rows):
            console.print(line, soft_wrap=True)

    def _lines(self, rows: Sequence[Row]) -> list[str]:
        lines = [f"{row.maildrop}: {row.result}: {row.error}" for row in rows if row.error]
        lines += [f"{name}: takes no mail now: {why}" for name, why in self.paused_routes().items()]
        for (maildrop, destination, word, why), number in self._reasons.most_common():
            place = f"{maildrop} to {destination}" if destination else maildrop
            lines.append(f"{place}: {counted(number, 'message')} {word}: {why}")
        if self._stopped_by:
            lines.append(f"Stopped by {self._stopped_by}: what is left will be relayed next time.")
        return lines


def _failure_words(failure: Exception | None) -> str:
    if failure is None:
        return ""
    if poll_result(failure) is PollResult.INTERNAL_ERROR:
        return f"{type(failure).__name__}: the log has the traceback"
    return clean_text(str(failure) or type(failure).__name__)
