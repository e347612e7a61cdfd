"""The dialogue of mail transactions: MAIL, RCPT, DATA or BDAT, and what each reply changes.

`smtp` explains when a transaction may begin; here stands what happens then. As many are
unfinished as the window allows whose content was written, and the next; with DATA that is one.

LMTP (RFC 2033 s.4.2, s.4.3) differs in one thing: after the content comes a reply for each
recipient that RCPT accepted. How many are due must be known by then, and a server that
has accepted nobody may answer content with no reply at all; so content never leaves before
every RCPT is answered, and never to nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_pipeline import Order, Pipeline
from mailferry.protocol.smtp_replies import SmtpLimits, SmtpReply
from mailferry.protocol.smtp_transaction import (
    Transaction,
    TransactionFinished,
    TransactionRun,
    check_content,
    dot_stuff,
    dot_stuffed,
    is_held,
    mail_line,
    rcpt_lines,
    read_pieces,
)

_FINAL_DOT = b".\r\n"


class Dialogue:
    """The transactions of one session.

    Attributes:
        runs: those that are unfinished, in the order in which they began.
        reset_due: whether the server may still hold an envelope that RSET must clear.
        window: how many small contents may be sent by BDAT before the word on the first has come.
    """

    __slots__ = ("_finished", "_limits", "_lmtp", "_pipeline", "reset_due", "runs", "window")

    def __init__(
        self,
        pipeline: Pipeline,
        limits: SmtpLimits,
        finished: Callable[[TransactionFinished], None],
        *,
        lmtp: bool = False,
    ) -> None:
        self.runs: list[TransactionRun] = []
        self.reset_due = False
        self.window = 1
        self._pipeline = pipeline
        self._limits = limits
        self._finished = finished
        self._lmtp = lmtp

    @property
    def may_overlap(self) -> bool:
        """Whether the next may begin although one is unfinished."""
        runs = self.runs
        return self._pipeline.overlapping and 0 < len(runs) <= self.window and runs[-1].content_queued

    def begin(self, transaction: Transaction, features: SmtpFeatures, *, chunking: bool) -> None:
        """Put a transaction's commands into the pipeline.

        Raises:
            LocalProtocolError: it cannot be written; nothing was put.
        """
        mail, rcpts = mail_line(transaction, features), rcpt_lines(transaction, features)
        check_content(transaction.content)
        run = TransactionRun(transaction, by_bdat=chunking, by_recipient=self._lmtp)
        orders = [Order("mail", mail, partial(self._mail_answered, run), run)]
        rcpt_answered = partial(self._rcpt_answered, run)
        orders.extend(Order("rcpt", line, rcpt_answered, run) for line in rcpts)
        # RFC 3030 s.2: after a BDAT that failed only RSET helps, and the one before may be failing just now.
        if self.reset_due or (chunking and self.runs):
            orders.insert(0, self.reset_order(run))
        orders.append(self._bdat_order(run) if chunking else self._data_order(run))
        self.runs.append(run)
        self._pipeline.put(*orders)

    def reset_order(self, run: TransactionRun | None = None) -> Order:
        """Return an RSET; whatever it is answered, the next MAIL tells whether it helped."""
        self.reset_due = False
        return Order("command", b"RSET\r\n", refuse_intermediate, run)

    def shut_down(self, reply: SmtpReply) -> None:
        """After a 421: finish what cannot be accepted any more; what may be waits for its own reply."""
        for run in [run for run in self.runs if run.hopeless or not run.content_queued]:
            run.sender_reply = run.sender_reply or reply
            self._pipeline.abandon(run)
            self._finish(run)

    def lost(self) -> list[TransactionFinished]:
        """Finish everything: no reply will come any more."""
        finished = [run.finish() for run in self.runs]
        self.runs.clear()
        return finished

    # -- orders --------------------------------------------------------------

    def _data_order(self, run: TransactionRun) -> Order:
        return Order("data", b"DATA\r\n", partial(self._data_answered, run), run)

    def _bdat_order(self, run: TransactionRun) -> Order:
        """BDAT with all of the content: small content may go with the group, large waits for its replies."""
        content = run.transaction.content
        octets = sum(map(len, content))
        small = not self._lmtp and is_held(content) and octets <= self._limits.grouped_bdat_octets
        return Order(
            "final",
            b"BDAT %d LAST\r\n" % octets,
            partial(self._end_answered, run),
            run,
            content=content if is_held(content) else None,
            stream=None if is_held(content) else read_pieces(content),
            content_octets=octets,
            ready=partial(self._is_in_window, run) if small else _never,
        )

    def _content_order(self, run: TransactionRun) -> Order:
        """Return what follows a 354: the content, dot-stuffed, and the final dot."""
        pieces = run.transaction.content
        order = Order("final", b"", partial(self._end_answered, run), run)
        if is_held(pieces):
            order.content = [*dot_stuff(pieces), _FINAL_DOT]
            order.content_octets = sum(map(len, order.content))
        else:
            order.stream = chain(dot_stuffed(read_pieces(pieces)), (_FINAL_DOT,))
            order.content_octets = sum(map(len, pieces))  # without the dots that are still to be doubled
        return order

    def _is_in_window(self, run: TransactionRun) -> bool:
        return run in self.runs[: self.window]

    # -- replies -------------------------------------------------------------

    def _mail_answered(self, run: TransactionRun, reply: SmtpReply) -> None:
        refuse_intermediate(reply)
        run.sender_reply = reply
        self._give_up_if_hopeless(run)

    def _rcpt_answered(self, run: TransactionRun, reply: SmtpReply) -> None:
        refuse_intermediate(reply)
        run.recipient_replies.append(reply)
        run.accepted += reply.positive
        self._give_up_if_hopeless(run)

    def _give_up_if_hopeless(self, run: TransactionRun) -> None:
        """Send no more than was sent; finish once that is answered."""
        if run.hopeless:
            self._pipeline.abandon(run)
            if not run.outstanding:
                self._finish(run)

    def _data_answered(self, run: TransactionRun, reply: SmtpReply) -> None:
        if reply.code == 354 and run.hopeless and run.by_recipient:
            # RFC 2033 s.4.2: it MUST be a 503; how many replies a lone dot would get is anybody's guess.
            raise RemoteProtocolError("354 came for DATA without a recipient", str(reply).encode())
        if reply.code == 354 and run.hopeless:
            # RFC 2920 s.3.1: the server waits for data to nobody; a lone dot ends it and is no delivery.
            self._pipeline.put(Order("final", _FINAL_DOT, partial(self._lone_dot_answered, run), run))
        elif reply.code == 354:
            self._pipeline.put(self._content_order(run))
        elif reply.transient or reply.permanent:
            run.data_reply = reply
            self._finish(run)
        else:
            raise RemoteProtocolError("neither 354 nor a refusal came for DATA", str(reply).encode())

    def _lone_dot_answered(self, run: TransactionRun, reply: SmtpReply) -> None:
        refuse_intermediate(reply)
        self._finish(run)

    def _end_answered(self, run: TransactionRun, reply: SmtpReply) -> None:
        """Take the reply to the final dot, or to BDAT LAST; with LMTP one of them."""
        refuse_intermediate(reply)
        if run.content_sent:
            if run.take_final(reply):
                self._finish(run)
            else:
                self._pipeline.expect(Order("final", b"", partial(self._end_answered, run), run))
            return
        if not reply.positive:  # a refusal may come early, and is one all the same
            run.data_reply = reply
            self._finish(run)
        # The rest of the content would be read as commands: the session is over.
        line = str(reply).encode()
        raise RemoteProtocolError("the end of the data was answered before it was sent", line)

    def _finish(self, run: TransactionRun) -> None:
        self.runs.remove(run)
        # RFC 5321 s.4.1.1.4: the end of the data clears the server's buffers, whether it liked the data or not.
        # RFC 3030 s.2: but after a BDAT that failed only RSET helps.
        ended = run.data_reply is not None and run.content_sent and not run.hopeless
        if not ended or (run.by_bdat and not all(reply.positive for reply in run.final_replies)):
            self.reset_due = True
        self._finished(run.finish())


def refuse_intermediate(reply: SmtpReply) -> None:
    """Refuse a 3yz where nothing is left to say.

    Raises:
        RemoteProtocolError: it is one.
    """
    if reply.intermediate:
        raise RemoteProtocolError("a reply that asks for more where no more is due", str(reply).encode())


def _never() -> bool:
    return False
