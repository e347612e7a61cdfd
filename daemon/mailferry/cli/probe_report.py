"""What `mailferry probe` prints: the dialogue while it goes on, then what is known, in words or JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.probe_facts import opening_document, opening_facts
from mailferry.cli.probe_words import STAGES, advice_on, exit_code_of, refusal_document
from mailferry.cli.screen import table
from mailferry.cli.wording import counted
from mailferry.net.by_hand import HandAnswer
from mailferry.net.endpoint import Endpoint
from mailferry.net.opening import Opening, Stage
from mailferry.net.pop3_probe import Glance, GlancedMessage
from mailferry.net.trace import Direction
from mailferry.telemetry.redaction import clean_text, clean_value

MOST_LINES = 200
"""Of one reply's body, on a terminal; `--json` has up to a megabyte of it."""

_MOST_TRACED = 10_000
_TRACED_BODIES = frozenset({"CAPA"})
"""Bodies that the dialogue has shown already."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is looked at.

    Attributes:
        kind: "pop3" or "smtp".
        name: as in the configuration.
        username: who logs in; None where nobody does.
    """

    kind: str
    name: str
    endpoint: Endpoint
    username: str | None


class ProbeReport:
    """Gathers what one session by hand brings, and prints it as it comes.

    Args:
        peer: who is looked at.
        console: where to print; None gathers only, for `--json`.
    """

    def __init__(self, peer: Peer, console: Console | None) -> None:
        self.quiet = False
        """Whether the dialogue is not printed just now; it is gathered all the same."""
        self.refusals_count = True
        """Whether a refused command makes the exit code 1; who tries things at a prompt expects refusals."""
        self._peer = peer
        self._console = console
        self._opening = Opening()
        self._dialogue: list[tuple[Direction, str]] = []
        self._dropped = 0
        self._glance: Glance | None = None
        self._answers: list[tuple[str, HandAnswer | None, str]] = []
        self._notes: tuple[str, ...] = ()
        self._error: Exception | None = None
        self._stage = Stage.CONNECT
        self._ended_well: bool | None = None

    def trace(self, direction: Direction, text: str) -> None:
        """Take a line of the dialogue; the trace of the session."""
        if len(self._dialogue) < _MOST_TRACED:
            self._dialogue.append((direction, text))
        else:
            self._dropped += 1
        if not self.quiet:
            self._print(f"{direction + ':':<7}{clean_text(text)}")

    def opened(self, opening: Opening, notes: Sequence[str] = ()) -> None:
        """Take what an opening learned, and print it."""
        self._opening, self._notes = opening, tuple(notes)
        self._show_facts()

    def failed(self, error: Exception, opening: Opening) -> None:
        """Take what ended the session, and print what was known until then."""
        first = self._opening is not opening
        self._opening, self._error, self._stage = opening, error, opening.failed_at(error)
        if first:
            self._show_facts()
        for line in self._failure_lines():
            self._print(line)

    def glanced(self, glance: Glance) -> None:
        """Take a look at the maildrop, and print it."""
        self._glance = glance
        if self._console is not None:
            self._console.print(_glance_table(glance))

    def answered(self, answer: HandAnswer) -> None:
        """Take the answer to a command; its body is printed, the rest was by the dialogue."""
        self._answers.append((answer.line, answer, ""))
        if answer.body is not None and answer.verb not in _TRACED_BODIES:
            for line in _body_lines(self._opening.masked(_text(answer.body)), answer):
                self._print(line)

    def not_sent(self, line: str, why: str) -> None:
        """Take a command that did not come to an answer."""
        self._answers.append((line, None, why))
        self._print(f"{line}: {clean_text(why)}")

    def ended(self, *, well: bool) -> None:
        """Take how the session ended."""
        self._ended_well = well

    def say(self, text: str) -> None:
        """Print a word of our own."""
        self._print(text)

    # Results

    def exit_code(self) -> ExitCode:
        """Return what a script should know first."""
        if self._error is not None:
            return exit_code_of(self._error)
        refused = any(answer is None or not answer.ok for _, answer, _ in self._answers)
        return ExitCode.FAILED if refused and self.refusals_count else ExitCode.OK

    def document(self) -> dict[str, object]:
        """Return what `--json` prints."""
        code = self.exit_code()
        peer, now = self._peer, time.time()
        pinned = peer.endpoint.fingerprint is not None
        return {
            "ok": code is ExitCode.OK,
            "exit_code": int(code),
            "kind": peer.kind,
            "name": peer.name,
            "server": str(peer.endpoint),
            **opening_document(self._opening, pinned=pinned, now=now),
            "notes": list(self._notes),
            "error": self._error_document(),
            "maildrop": _glance_document(self._glance) if self._glance is not None else None,
            "commands": [self._answer_document(*each) for each in self._answers],
            "ended_with_quit": self._ended_well,
            "dialogue": [{"direction": way, "text": text} for way, text in self._dialogue],
            "dialogue_lines_dropped": self._dropped,
        }

    def _error_document(self) -> dict[str, object] | None:
        error = self._error
        if error is None:
            return None
        return {
            "stage": self._stage.value,
            "kind": type(error).__name__,
            "text": str(error),
            "said": refusal_document(error),
            "advice": advice_on(error) or None,
        }

    def _answer_document(self, line: str, answer: HandAnswer | None, why: str) -> dict[str, object]:
        if answer is None:
            return {"line": line, "ok": False, "reply": None, "body": None, "octets": None, "problem": why}
        body = answer.body
        return {
            "line": line,
            "ok": answer.ok,
            "reply": answer.reply,
            "body": None if body is None else self._opening.masked(_text(body)),
            "octets": None if body is None else answer.octets,
            "problem": None,
        }

    # Printing

    def _print(self, line: str) -> None:
        if self._console is not None:
            self._console.print(line, soft_wrap=True)

    def _show_facts(self) -> None:
        if self._console is None:
            return
        peer = self._peer
        facts = Table.grid(padding=(0, 2))
        facts.add_column(no_wrap=True)
        facts.add_column(overflow="fold")
        facts.add_row(peer.kind, f"{peer.name} at {peer.endpoint}")
        pinned = peer.endpoint.fingerprint is not None
        for label, text in opening_facts(self._opening, peer.username, pinned=pinned, now=time.time()):
            facts.add_row(label, text)
        for note in self._notes:
            facts.add_row("note", clean_text(note))
        self._console.print("", facts, "")

    def _failure_lines(self) -> list[str]:
        error = self._error
        lines = [f"failed at {STAGES[self._stage]}: {clean_text(str(error) or type(error).__name__)}"]
        advice = advice_on(error) if error is not None else ""
        return [*lines, advice] if advice else lines


def _text(body: bytes) -> str:
    """Return a body to be read: what is no UTF-8 shows as `\\xNN`."""
    return body.decode("utf-8", "backslashreplace")


def _body_lines(text: str, answer: HandAnswer) -> list[str]:
    lines = text.removesuffix("\r\n").split("\r\n")
    shown = [f"       {clean_text(line.expandtabs(4))}" for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    if more > 0 or answer.octets > len(answer.body or b""):
        shown.append(f"       ... {counted(answer.octets, 'octet')} in all")
    return shown


def _glance_table(glance: Glance) -> Table:
    shown, count = len(glance.messages), glance.count
    of = f"the newest {shown} of " if shown < count else ""
    title = f"{of}{counted(count, 'message')}, {glance.octets:,} octets in all"
    numbers = ("number", "octets")
    made = table((*numbers, "unique-id", "From", "To", "Subject"), numbers=numbers, title=title)
    for message in glance.messages:
        made.add_row(str(message.message_number), f"{message.size_octets:,}", *_message_cells(message))
    return made


def _message_cells(message: GlancedMessage) -> tuple[str, str, str, str]:
    uidl = str(clean_value(message.uidl)) if message.uidl is not None else "none"
    summary = message.summary
    if summary is None:
        return uidl, "", "", f"({clean_text(message.problem)})"
    return uidl, summary.sender, summary.recipient, summary.subject


def _glance_document(glance: Glance) -> dict[str, object]:
    return {
        "messages": glance.count,
        "octets": glance.octets,
        "shown": [_message_document(message) for message in glance.messages],
    }


def _message_document(message: GlancedMessage) -> dict[str, object]:
    summary = message.summary
    return {
        "number": message.message_number,
        "octets": message.size_octets,
        "uidl": message.uidl.decode("utf-8", "backslashreplace") if message.uidl is not None else None,
        "from": summary.sender if summary else None,
        "to": summary.recipient if summary else None,
        "subject": summary.subject if summary else None,
        "problem": message.problem or None,
    }
