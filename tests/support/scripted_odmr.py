"""An ODMR provider with a script (RFC 2645): a server until ATRN, then a client that sends what it holds.

It keeps the mail it has like a real one: a message leaves its queue when the customer says
250, comes back to its sender at 5yz, and stays otherwise. What the customer does against
RFC 2645 or 5321 after the turn is in `violations`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mailferry.sandbox.line_link import LineLink
from mailferry.sandbox.link_server import LinkServer
from support.scripted_auth import ScriptedAuth

CREDENTIALS = {"customer": "correct horse"}
_NAME = b"odmr.example.net"
_IDLE_SECONDS = 30.0


class Odd(Enum):
    """How a provider may misbehave after it has said 250 to ATRN."""

    DROPS = auto()
    """Closes at once."""
    NEVER_SPEAKS = auto()
    SPEAKS_WITH_THE_250 = auto()
    """Sends EHLO in the same segment as the 250, before our greeting."""
    LOSES_LAST_250 = auto()
    """Its link breaks before it has read the answer to the last message."""
    LEAVES_WITHOUT_QUIT = auto()
    TALKS_FOR_EVER = auto()
    """Sends NOOP again and again and no mail."""
    SPEAKS_NO_SMTP = auto()


@dataclass(frozen=True, slots=True)
class QueuedMail:
    """One message that a provider holds."""

    recipients: tuple[str, ...]
    content: bytes
    sender: str = "friend@example.net"


class LostLinkError(Exception):
    """The customer's link is gone."""


class ScriptedProvider(LinkServer):
    """A provider for `domains`, whose mail it sends after ATRN.

    Attributes:
        queue: what it holds, in order; all of it is sent, whatever domains were asked for.
        says: by ATRN's argument, what it answers instead; the last one again and again.
        odd: misbehaviours of the next sessions that turn, in order; None for none.
        bounced: what the customer refused with 5yz.
        atrn: the argument of every ATRN.
        heard: every line that the customer said after a turn, in order.
        violations: what the customer did wrong then.
        turned_under_tls: for each turn, whether TLS was in force.
    """

    def __init__(
        self,
        *mail: QueuedMail,
        domains: Sequence[str] = ("example.org",),
        tls: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        atrn_after_login_only: bool = False,
        says: Mapping[str, Sequence[bytes]] | None = None,
    ) -> None:
        super().__init__(tls=tls, implicit_tls=implicit_tls)
        self.domains = frozenset(domains)
        self.queue: list[QueuedMail] = list(mail)
        self.says = {argument: deque(replies) for argument, replies in (says or {}).items()}
        self.odd: deque[Odd | None] = deque()
        self.atrn_after_login_only = atrn_after_login_only
        self.bounced: list[QueuedMail] = []
        self.atrn: list[str] = []
        self.heard: list[bytes] = []
        self.violations: list[str] = []
        self.turned_under_tls: list[bool] = []
        self.deliveries: set[asyncio.Task[None]] = set()

    def make_session(self) -> LineLink:
        """Build a session."""
        return _ProviderSession(self)

    def answer_atrn(self, argument: str) -> bytes:
        """Say what RFC 2645 s.5.2.1 tells to, or the script."""
        scripted = self.says.get(argument)
        if scripted:
            return scripted.popleft() if len(scripted) > 1 else scripted[0]
        if not set(argument.split(",")) <= self.domains:
            return b"450 4.7.1 ATRN request refused"
        if not self.queue:
            return b"453 4.2.0 You have no mail"
        return b"250 2.0.0 OK now reversing the connection"


class _ProviderSession(LineLink):
    def __init__(self, provider: ScriptedProvider) -> None:
        super().__init__(provider, idle_timeout_seconds=_IDLE_SECONDS)
        self._provider = provider
        self._auth = ScriptedAuth(CREDENTIALS)
        self._turned = False
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    # --- as the server ------------------------------------------------------------

    def begin(self) -> None:
        self.send(b"220 " + _NAME + b" on-demand mail relay server ready\r\n")

    def end(self) -> None:
        self._lines.put_nowait(None)

    def too_many_sessions(self) -> None:
        self.send(b"421 too many\r\n")

    def line_too_long(self) -> None:
        self.send(b"500 too long\r\n")

    def line_received(self, line: bytes) -> None:
        if self._turned:
            self._provider.heard.append(line)
            self._lines.put_nowait(line)
        elif self._auth.under_way:
            self.send(self._auth.go_on(line))
        else:
            verb, _, argument = line.decode("ascii", "replace").partition(" ")
            self._provider.counts[verb.upper()] += 1
            self._perform(verb.upper(), argument.strip())

    def _perform(self, verb: str, argument: str) -> None:
        if verb == "EHLO":
            self._ehlo()
        elif verb == "STARTTLS" and self._provider.can_start_tls and not self.protected:
            self.send(b"220 go ahead\r\n")
            self.start_tls()
        elif verb == "AUTH":
            mechanism, _, initial = argument.partition(" ")
            self.send(self._auth.begin(mechanism.upper(), initial.encode()))
        elif verb == "ATRN":
            self._atrn(argument)
        elif verb == "QUIT":
            self.send(b"221 bye\r\n")
            self.close()
        else:  # RFC 2645 s.5.4
            self.send(b"502 5.5.1 not here\r\n")

    def _ehlo(self) -> None:
        offers = [_NAME]
        if self._provider.can_start_tls and not self.protected:
            offers.append(b"STARTTLS")
        offers.append(b"AUTH CRAM-MD5 PLAIN")
        if self._auth.logged_in or not self._provider.atrn_after_login_only:
            offers.append(b"ATRN")
        marks = [b"250-"] * (len(offers) - 1) + [b"250 "]
        self.send(b"".join(mark + offer + b"\r\n" for mark, offer in zip(marks, offers, strict=True)))

    def _atrn(self, argument: str) -> None:
        self._provider.atrn.append(argument)
        if not self._auth.logged_in:
            self.send(b"530 5.7.0 Authentication required\r\n")
            return
        reply = self._provider.answer_atrn(argument)
        if not reply.startswith(b"250"):
            self.send(reply + b"\r\n")
            return
        self._turned = True
        self._provider.turned_under_tls.append(self.protected)
        odd = self._provider.odd.popleft() if self._provider.odd else None
        early = b"EHLO " + _NAME + b"\r\n" if odd is Odd.SPEAKS_WITH_THE_250 else b""
        self.send(reply + b"\r\n" + early)
        task = asyncio.get_running_loop().create_task(self._deliver(odd))
        self._provider.deliveries.add(task)
        task.add_done_callback(self._provider.deliveries.discard)

    # --- as the client --------------------------------------------------------------

    async def _deliver(self, odd: Odd | None) -> None:
        if odd is Odd.DROPS:
            self.abort()
        try:
            await self._converse(odd)
        except LostLinkError:
            return

    async def _converse(self, odd: Odd | None) -> None:
        greeting = await self._reply()
        if not greeting.startswith(b"220"):
            self._provider.violations.append(f"greeted with {greeting!r}")
        if odd is Odd.NEVER_SPEAKS:
            await self._reply()
        if odd is Odd.SPEAKS_NO_SMTP:
            self.send(b"\x16\x03\x01" * 700 + b"\n")
            await self._reply()
        if odd is Odd.SPEAKS_WITH_THE_250:
            await self._reply()
        else:
            await self._say(b"EHLO " + _NAME)
        while odd is Odd.TALKS_FOR_EVER:
            await self._say(b"NOOP")
        waiting = list(self._provider.queue)
        for number, mail in enumerate(waiting, 1):
            last = number == len(waiting)
            if not await self._send_mail(mail, loses_answer=last and odd is Odd.LOSES_LAST_250):
                return
        if odd is not Odd.LEAVES_WITHOUT_QUIT:
            await self._say(b"QUIT")
        self.close()

    async def _send_mail(self, mail: QueuedMail, *, loses_answer: bool) -> bool:
        """Send one message; return whether the session goes on."""
        said = await self._say(b"MAIL FROM:<" + mail.sender.encode() + b">")
        taken = 0
        if said.startswith(b"250"):
            for recipient in mail.recipients:
                said = await self._say(b"RCPT TO:<" + recipient.encode() + b">")
                taken += said.startswith(b"250")
        if taken:
            said = await self._say(b"DATA")
            assert said.startswith(b"354"), said
            stuffed = (b"\r\n" + mail.content).replace(b"\r\n.", b"\r\n..")[2:]
            self.send(stuffed + b".\r\n")
            said = await self._reply()
        if loses_answer:
            self.abort()
            return False
        self._settle(mail, said)
        if not taken:
            await self._say(b"RSET")
        return not said.startswith(b"421")

    def _settle(self, mail: QueuedMail, said: bytes) -> None:
        if said[:1] in (b"2", b"5"):
            self._provider.queue.remove(mail)
        if said[:1] == b"5":
            self._provider.bounced.append(mail)

    async def _say(self, line: bytes) -> bytes:
        self.send(line + b"\r\n")
        return await self._reply()

    async def _reply(self) -> bytes:
        """Return the last line of the customer's next reply."""
        while True:
            line = await self._lines.get()
            if line is None:
                raise LostLinkError
            if line[3:4] != b"-":
                return line


def mail(number: int, *recipients: str) -> QueuedMail:
    """Return a message that its body tells from the others."""
    content = b"From: friend@example.net\r\nMessage-ID: <%d@example.net>\r\n\r\n.dots\r\nbody %d\r\n" % (
        number,
        number,
    )
    return QueuedMail(recipients or ("bob@example.org",), content)
