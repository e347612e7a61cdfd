"""One SMTP session as the server (RFC 5321 s.4): what is said and taken in it.

Everything that decides something is ours, not aiosmtpd's: addresses, parameters,
content, and what replies tell. There is no AUTH, VRFY tells nothing, and EXPN and HELP
are as good as not there.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from aiosmtpd.smtp import TLSSetupException

from mailferry.errors import MessageTooLargeError, RemoteProtocolError
from mailferry.model import Content, ReceivedMail
from mailferry.protocol.smtp_paths import (
    POSTMASTER,
    MailCommand,
    RefusedArgumentError,
    parse_mail,
    parse_rcpt,
    serves,
)
from mailferry.receiver.content import TakenContent, has_clean_lines
from mailferry.receiver.link import Refusal, SmtpLink
from mailferry.receiver.reader import TooManyCommandsError

_log = logging.getLogger(__name__)
_bugs = logging.getLogger("mailferry.bugs")

_TOO_LARGE = "552 5.3.4 The message is larger than SIZE allows"

_NAME_CHARACTERS = 255
"""RFC 5321 s.4.5.3.1.2; what is beyond, of the name that a client gives itself, is nobody's."""


@dataclass(slots=True)
class _Transaction:
    mail: MailCommand
    recipients: list[str] = field(default_factory=list)


class SmtpSession(SmtpLink):
    """Carries out a client's commands."""

    _transaction: _Transaction | None = None
    _refused_for_good = 0

    async def handle_exception(self, error: Exception) -> str:
        """Answer what broke a command: the client's fault, or ours."""
        assert self._commands is not None  # a command was read
        self._commands.ending = True
        self.tally.farewell = reply = self._last_word(error)
        return reply

    def _last_word(self, error: Exception) -> str:
        if isinstance(error, RemoteProtocolError):
            self._house.refused(self, Refusal.SYNTAX, "500")
            return "500 5.5.2 This is not SMTP; good-bye"
        if isinstance(error, TooManyCommandsError):
            self._house.refused(self, Refusal.SYNTAX, "421")
            return "421 4.7.0 Too many commands for so little mail"
        if not isinstance(error, TLSSetupException):
            _bugs.error("a session of the receiver", exc_info=error)
        return "421 4.3.0 Something went wrong here"

    async def _refuse(self, what: Refusal, reply: str) -> None:
        """Answer with a refusal; those who collect too many for good are sent away."""
        self.tally.refusals += 1
        self._refused_for_good += reply.startswith("5")
        self._house.refused(self, what, reply)
        if self._refused_for_good >= self._house.limits.max_refusals and not reply.startswith("421"):
            reply = "421 4.7.0 Too many refusals"
        if reply.startswith("421"):
            self._farewell(reply)
        else:
            await self.push(reply)

    def _set_rset_state(self) -> None:
        """Forget the transaction (RFC 5321 s.4.1.1.5, and at EHLO and STARTTLS)."""
        super()._set_rset_state()  # type: ignore[no-untyped-call]  # aiosmtpd has no annotation there
        self._transaction = None

    async def smtp_EHLO(self, hostname: str | None) -> None:  # noqa: N802  aiosmtpd's name, as all of these
        """RFC 5321 s.4.1.1.1; keywords of RFC 1870, 2920, 3207, 6152, 6531."""
        if not hostname:
            await self._refuse(Refusal.SYNTAX, "501 5.5.4 Syntax: EHLO hostname")
            return
        self._set_rset_state()
        self.conversation().extended_smtp = True
        self.conversation().host_name = hostname
        keywords = ["PIPELINING", f"SIZE {self._house.limits.max_size_octets}", "8BITMIME", "SMTPUTF8"]
        if self.tls_context is not None and not self.protected:
            keywords.append("STARTTLS")
        lines = [self.hostname, *keywords]
        await self.push("\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"]))

    async def smtp_STARTTLS(self, arg: str | None) -> None:  # noqa: N802
        """RFC 3207; nothing may be sent behind it before the handshake."""
        assert self._commands is not None
        if arg:
            await self._refuse(Refusal.SYNTAX, "501 5.5.4 STARTTLS takes no parameter")
        elif self.tls_context is None or self.protected:
            await self._refuse(Refusal.SYNTAX, "503 5.5.1 TLS is not offered, or in force")
        elif len(self._commands.received):
            await self._refuse(Refusal.SYNTAX, "421 4.7.0 Something was sent behind STARTTLS")
        else:
            await super().smtp_STARTTLS("")

    async def smtp_AUTH(self, _arg: str | None) -> None:  # noqa: N802
        """Nobody logs in here."""
        await self._refuse(Refusal.SYNTAX, "502 5.5.1 AUTH is not offered")

    async def smtp_VRFY(self, _arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.3.5.3: the same answer whatever is asked."""
        await self.push("252 2.5.0 Send the message, then it will be seen")

    async def smtp_EXPN(self, _arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.7.3."""
        await self._refuse(Refusal.SYNTAX, "502 5.5.1 EXPN is not offered")

    async def smtp_HELP(self, _arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.4.1.1.8."""
        await self.push("214 2.0.0 See RFC 5321")

    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.4.1.1.10."""
        if arg:
            await self._refuse(Refusal.SYNTAX, "501 5.5.4 QUIT takes no parameter")
        else:
            self._farewell("221 2.0.0 Good-bye")

    # -- the transaction

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.4.1.1.2."""
        try:
            self._transaction = _Transaction(self._mail(arg or ""))
        except RefusedArgumentError as refusal:
            await self._refuse(Refusal.SENDER, refusal.reply)
        else:
            await self.push("250 2.1.0 OK")

    def _mail(self, argument: str) -> MailCommand:
        if not self.conversation().host_name or self._transaction is not None:
            raise RefusedArgumentError("503 5.5.1 Not now: EHLO first, then one MAIL")
        mail = parse_mail(argument, extended=self.conversation().extended_smtp)
        if mail.size_octets is not None and mail.size_octets > self._house.limits.max_size_octets:
            raise RefusedArgumentError(_TOO_LARGE)
        if self._now() - self._began > self._house.limits.session_seconds:
            raise RefusedArgumentError("421 4.3.2 This session has been long enough; come again")
        if self.tally.messages >= self._house.limits.max_messages:
            raise RefusedArgumentError("421 4.3.2 This session has brought enough; come again")
        if busy := self._house.may_send(self):
            raise RefusedArgumentError(busy)
        return mail

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.4.1.1.3; nobody outside of the configured domains."""
        try:
            self._take_recipient(arg or "")
        except RefusedArgumentError as refusal:
            await self._refuse(Refusal.RECIPIENT, refusal.reply)
        else:
            await self.push("250 2.1.5 OK")

    def _take_recipient(self, argument: str) -> None:
        if self._transaction is None:
            raise RefusedArgumentError("503 5.5.1 MAIL first")
        recipient = parse_rcpt(argument, smtputf8=self._transaction.mail.smtputf8)
        if recipient == POSTMASTER:  # RFC 5321 s.4.5.1: without a domain it is ours
            recipient = f"{POSTMASTER}@{self.service.domains[0].lstrip('.')}"
        if not serves(self.service.domains, recipient):
            raise RefusedArgumentError("550 5.7.1 Mail for this domain is not taken here")
        if recipient in self._transaction.recipients:
            return
        if len(self._transaction.recipients) >= self._house.limits.max_recipients:
            raise RefusedArgumentError("452 4.5.3 Too many recipients")  # RFC 5321 s.4.5.3.1.10
        self._transaction.recipients.append(recipient)

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """RFC 5321 s.4.1.1.4: take the content, have it delivered, answer then."""
        transaction = self._transaction
        if arg:
            await self._refuse(Refusal.SYNTAX, "501 5.5.4 DATA takes no parameter")
        elif transaction is None or not transaction.recipients:
            await self._refuse(Refusal.SYNTAX, "503 5.5.1 No recipient was taken")
        else:
            reply = await self._take_message(transaction)
            self._set_rset_state()
            self._reset_timeout()
            await self._answer(reply)

    async def _take_message(self, transaction: _Transaction) -> str:
        limits = self._house.limits
        declared = transaction.mail.size_octets
        self._reset_timeout(limits.memory_wait_seconds + limits.idle_seconds)
        share = await self._house.reserve(limits.max_size_octets if declared is None else declared)
        if share is None:
            return "452 4.3.1 No memory for a message now"
        try:
            await self.push("354 Go on; end with a line that is a single dot")
            content = await self._take_content(share)
        except BaseException:
            self._house.give_back(share)
            raise
        if isinstance(content, str):
            self._house.give_back(share)
            self._house.refused(self, Refusal.CONTENT, content)
            return content
        return await self._deliver(transaction, content, share)

    async def _take_content(self, share: int) -> Content | str:
        """Return the content, or the refusal that its end is answered with.

        No more of it is in memory than was reserved, whatever SIZE had declared.
        """
        assert self._commands is not None
        limits, commands = self._house.limits, self._commands
        taken = TakenContent(self._house.spool, limits.max_size_octets, share)
        body = taken.body_from(commands.received)
        began = self._now()
        try:
            while not body.advance():
                self._reset_timeout(limits.idle_seconds)
                await commands.more()
                allowed = limits.idle_seconds + taken.octets / limits.least_octets_per_second
                if self._now() - began > allowed:
                    return "421 4.4.2 The message came too slowly"
        except MessageTooLargeError:
            return f"421 {_TOO_LARGE[4:]}"
        return _verdict(taken)

    async def _deliver(self, transaction: _Transaction, content: Content, share: int) -> str:
        limits = self._house.limits
        mail = ReceivedMail(
            envelope_sender=transaction.mail.sender,
            envelope_recipients=tuple(transaction.recipients),
            content=content,
            received_from=f"{_readable(self.conversation().host_name)} ([{self.client_address}])",
            received_with=self._protocol_name(transaction.mail),
            destinations=self.service.destinations,
            session_id=self.session_id,
        )
        self._delivering = True
        self._reset_timeout(limits.reply_seconds + limits.idle_seconds)
        task = self._house.hand_on(mail, share)
        try:
            done, _ = await asyncio.wait({task}, timeout=limits.reply_seconds)
        finally:
            self._delivering = False
        return (
            str(task.result()) if done else "451 4.4.1 It takes longer than you would wait; try again later"
        )

    def _protocol_name(self, mail: MailCommand) -> str:
        """RFC 3848, RFC 6531 s.4.3."""
        if not self.conversation().extended_smtp:
            return "SMTP"
        name = "UTF8SMTP" if mail.smtputf8 else "ESMTP"
        return f"{name}S" if self.protected else name

    async def _answer(self, reply: str) -> None:
        """Answer a message, and count it."""
        assert self._commands is not None
        if reply.startswith("250"):
            self.tally.accepted += 1
            self._commands.allowance = self._house.limits.max_commands
        elif reply.startswith("5"):
            self.tally.rejected += 1
        else:
            self.tally.deferred += 1
        if reply.startswith("421"):
            self._farewell(reply)
            return
        await self.push(reply)
        if self._stopping:
            self._farewell("421 4.3.2 This service is closing for now")


def _readable(name: str | None) -> str:
    return "".join(each if "!" <= each <= "~" else "?" for each in (name or "")[:_NAME_CHARACTERS])


def _verdict(taken: TakenContent) -> Content | str:
    if taken.too_large:
        return _TOO_LARGE
    content = taken.content()
    if content is None:
        _log.warning("a message that came in %s", taken.failure)
        return "452 4.3.1 The message could not be kept"
    if not has_clean_lines(content):
        return "554 5.5.2 The message has a bare CR or LF in it (RFC 5321 s.2.3.8)"
    return content
