"""What `mailferry etrn` says: one line per node in words, one JSON document, one exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from mailferry.cli.exit_codes import ExitCode
from mailferry.cli.screen import table
from mailferry.cli.wording import counted, span
from mailferry.model import StandingRecord
from mailferry.policy.etrn import ACCEPTED, NEEDS_PERSON, EtrnAnswer, EtrnResult
from mailferry.services.etrn_by_hand import HandReport
from mailferry.telemetry.redaction import clean_text

_WORDS = {
    EtrnResult.STARTED: "accepted: the server sends what it has",
    EtrnResult.NOTHING_WAITING: "accepted: nothing is waiting",
    EtrnResult.UNABLE: "not now",
    EtrnResult.REFUSED: "refused",
    EtrnResult.NOT_OFFERED: "ETRN is not offered",
    EtrnResult.NEEDS_TLS: "TLS is wanted first",
    EtrnResult.NEEDS_AUTH: "a login is wanted first",
    EtrnResult.POSTPONED: "not asked: nobody listens for the mail",
    EtrnResult.UNAVAILABLE: "no answer: the server ended the session",
    EtrnResult.CONNECT_FAILED: "no connection",
    EtrnResult.TLS_FAILED: "no TLS",
    EtrnResult.TIMEOUT: "no answer in time",
    EtrnResult.AUTH_REJECTED: "the login was refused",
    EtrnResult.PROTOCOL_ERROR: "an answer that makes no sense",
    EtrnResult.CONNECTION_LOST: "no answer: the link broke",
    EtrnResult.CONFIG_ERROR: "a setting forbids it",
    EtrnResult.INTERNAL_ERROR: "internal error",
}
_ODMR_WORDS = {
    EtrnResult.STARTED: "accepted: the mail came with the answer",
    EtrnResult.NOT_OFFERED: "ATRN is not offered",
    EtrnResult.POSTPONED: "not asked: a destination takes no mail",
}
TOO_SOON = "too_soon"
"""The result of a node that was not asked for because its gap was not over."""


@dataclass(frozen=True, slots=True)
class Row:
    """One node: what came of it, in a word for scripts and in words for people.

    Attributes:
        asked: whether a request was sent for it.
        reply: the server's, empty without one.
        pending: how many messages the server said it would send; None when it told no number.
    """

    node: str
    result: str
    accepted: bool
    asked: bool
    words: str
    reply: str = ""
    pending: int | None = None
    advice: str = ""


class EtrnReport:
    """What became of one request by hand."""

    def __init__(
        self, name: str, nodes: Sequence[str], min_gap_seconds: float, *, odmr: bool = False
    ) -> None:
        self._name = name
        self._odmr = odmr
        self._nodes = tuple(nodes)
        self._min_gap_seconds = min_gap_seconds
        self._made = HandReport()

    def take(self, made: HandReport) -> None:
        """Take what was said."""
        self._made = made

    @property
    def standings(self) -> list[StandingRecord]:
        """What the ledger is to remember."""
        return self._made.standings

    def rows(self) -> list[Row]:
        """Return a row per node, in the order they were named in."""
        return [self._row(node) for node in self._nodes]

    def _row(self, node: str) -> Row:
        made = self._made
        if node in made.too_soon:
            ago = span(self._min_gap_seconds - made.too_soon[node])
            words = f"not asked: asked {ago} ago, and min_gap is {span(self._min_gap_seconds)}"
            return Row(node, TOO_SOON, accepted=False, asked=False, words=words)
        outcome = made.outcomes.get(node)
        if outcome is None:
            result = EtrnResult.POSTPONED if made.postponed else self._failure_word()
            return Row(node, result, accepted=False, asked=False, words=self._words(result))
        answer = outcome.answer
        return Row(
            node,
            answer.result,
            outcome.accepted,
            asked=True,
            words=self._answer_words(answer),
            reply=clean_text(outcome.reply) if outcome.answered else "",
            pending=answer.pending,
            advice=answer.advice,
        )

    def _answer_words(self, answer: EtrnAnswer) -> str:
        if answer.pending:
            return f"accepted: {counted(answer.pending, 'message')} on the way"
        return self._words(answer.result)

    def _words(self, result: EtrnResult) -> str:
        return (self._odmr and _ODMR_WORDS.get(result)) or _WORDS[result]

    def _failure_word(self) -> EtrnResult:
        failure = self._made.failure
        return failure.result if failure is not None else EtrnResult.INTERNAL_ERROR

    def exit_code(self) -> ExitCode:
        """Return what a script should know first: the gravest of all that happened."""
        results = {row.result for row in self.rows()}
        if EtrnResult.AUTH_REJECTED in results:
            return ExitCode.NO_PERMISSION
        if results & NEEDS_PERSON:
            return ExitCode.FAILED
        return ExitCode.OK if results <= ACCEPTED else ExitCode.TEMPORARY

    def document(self) -> dict[str, object]:
        """Return what `--json` prints."""
        code = self.exit_code()
        return {
            "ok": code is ExitCode.OK,
            "exit_code": int(code),
            "etrn": self._name,
            "error": self._error() or None,
            "nodes": [asdict(row) for row in self.rows()],
        }

    def show(self, console: Console) -> None:
        """Print the table, and what to do about it beneath."""
        shown = table(("node", "result", "reply"))
        rows = self.rows()
        for row in rows:
            shown.add_row(row.node, row.words, row.reply)
        console.print(shown)
        for line in self._lines(rows):
            console.print(line, soft_wrap=True)

    def _lines(self, rows: Sequence[Row]) -> Iterator[str]:
        if error := self._error():
            yield f"{self._name}: {error}"
        for row in rows:
            if row.advice:
                yield f"{row.node}: {row.advice}"
        if any(row.result == TOO_SOON for row in rows):
            yield "Ask all the same with --force."
        if any(row.accepted for row in rows) and not self._odmr:
            yield "Accepted is not sent: many servers say so with an empty queue, too."

    def _error(self) -> str:
        made = self._made
        if made.postponed:
            return f"nobody would take the mail: {clean_text(made.postponed)} (--force asks all the same)"
        return clean_text(made.failure.text) if made.failure is not None else ""
