"""All sessions of the SMTP server side: what they share, and what they may take together."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailferry.events import ReceiverRefused
from mailferry.message.spool import Spool
from mailferry.model import DestinationName, ReceivedMail
from mailferry.ports import Budget, Emit, Reception
from mailferry.protocol.smtp_replies import SmtpReply
from mailferry.receiver.link import MailService, Refusal, SessionLimits, SmtpLink
from mailferry.receiver.rates import MessageRate, client_of, is_within
from mailferry.receiver.session import SmtpSession

TOLD_PER_MINUTE = 60
"""Refusals of one client that are told; a flood of them must not fill the log."""

# aiosmtpd logs each command with its sender's octets; what is to be told is an event.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """What all clients may take together, and one of them alone.

    Attributes:
        max_sessions: at once; a single client may have half of them.
        messages_per_minute: of one client.
        memory_octets: of mail that is coming in, all sessions together: what strangers send
            slowly must not take the memory that polls need.
    """

    max_sessions: int = 20
    messages_per_minute: int = 600
    memory_octets: int = 128 << 20


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What sessions need from the rest of the daemon.

    Attributes:
        hostname: our own name, in the greeting.
    """

    reception: Reception
    budget: Budget
    spool: Spool
    emit: Emit
    hostname: str


class ReceiverSessions:
    """Makes the server side of SMTP sessions, and knows all that are open.

    Each session takes mail for the domains it is made for and for no other, hands every
    message to the one `Reception`, and answers what that says. All share the memory, the
    spool and the bounds of `SessionLimits`.

    Args:
        tls: returns the context for STARTTLS; None when that is not offered.
    """

    def __init__(
        self,
        around: Surroundings,
        limits: SessionLimits | None = None,
        shared: SharedLimits | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self.hostname = around.hostname
        self.spool = around.spool
        self.limits = limits or SessionLimits()
        self._around = around
        self._shared = shared or SharedLimits()
        self._tls = tls
        self._open: dict[SmtpLink, str] = {}
        """Sessions, and the client that each counts for; empty where it counts for none."""
        self._handed_on: set[asyncio.Task[SmtpReply]] = set()
        self._memory_octets = 0
        self._stopping = False
        loop = asyncio.get_running_loop()
        self._rate = MessageRate(self._shared.messages_per_minute, loop.time)
        self._told = MessageRate(TOLD_PER_MINUTE, loop.time)

    def protocol(
        self,
        *,
        domains: Sequence[str],
        deliver: Sequence[DestinationName],
        origin: str = "receiver",
        networks: Sequence[str] = (),
        guarded: bool = True,
        protected: bool = False,
    ) -> SmtpSession:
        """Return the server side of one session, an `asyncio.Protocol`.

        For a server, hand this to `loop.create_server`. For a connection that exists, as
        after ATRN, when the roles turn round (RFC 2645 s.5.2)::

            session = sessions.protocol(
                domains=("example.org",), deliver=names, origin="NAME", guarded=False, protected=True
            )
            session.attach(transport, early)   # greets with 220 at once
            tally = await session.wait_ended()

        `attach` calls `transport.set_protocol` and `connection_made`, feeds `early` (octets
        that were read and not used) and resumes reading; from then on the transport belongs
        to the session, which closes it. `wait_ended` returns when the link is gone, however
        that came, with the numbers of messages accepted, deferred and rejected. To end a
        session sooner call `session.stop()` (421 at the next safe point) or `session.drop()`.
        A message that was being delivered then is delivered to its end and remembered, so
        that it is answered with 250 when the client brings it again.

        Args:
            domains: in lower case, as A-labels; ".example.org" stands for the subdomains.
            deliver: destinations, all of which must accept before 250 is said.
            origin: who let it in, for logs: `receiver`, or the name of an entry in `[etrn]`.
            networks: that may connect; empty for all.
            guarded: whether the bounds for strangers hold: sessions, messages per minute.
            protected: the link has TLS already: STARTTLS is not offered, and trace
                fields say ESMTPS.
        """
        service = MailService(origin, tuple(domains), tuple(deliver), tuple(networks), guarded, protected)
        return SmtpSession(service, self, self._tls() if self._tls is not None and not protected else None)

    @property
    def open_count(self) -> int:
        """How many sessions there are."""
        return len(self._open)

    # -- the end

    def stop(self) -> None:
        """Refuse new sessions and messages; those whose end has come are still answered."""
        self._stopping = True
        for session in tuple(self._open):
            session.stop()

    async def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until all sessions are over; drop what is left then, and tell whether that was needless."""
        waits = [asyncio.ensure_future(session.wait_ended()) for session in self._open]
        pending = {*waits, *self._handed_on}
        late: set[asyncio.Future[object]] = set()
        if pending:
            _, late = await asyncio.wait(pending, timeout=max(timeout_seconds, 0.0))
        for session in tuple(self._open):
            session.drop()
        for future in late:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return not late

    # -- what sessions ask for

    def admit(self, session: SmtpLink) -> str:
        """Return why a session cannot be, as a reply; empty when it can."""
        refusal = self._why_not(session)
        counts = session.service.guarded and not refusal
        self._open[session] = client_of(session.client_address) if counts else ""
        return refusal

    def _why_not(self, session: SmtpLink) -> str:
        if self._stopping:
            return "421 4.3.2 This service is closing for now"
        if not session.service.guarded:
            return ""
        if not is_within(session.client_address, session.service.networks):
            return "554 5.7.1 No mail is taken from your address"
        clients = Counter(filter(None, self._open.values()))
        half = (self._shared.max_sessions + 1) // 2
        if clients.total() >= self._shared.max_sessions or clients[client_of(session.client_address)] >= half:
            return "421 4.7.0 Too many sessions"
        return ""

    def may_send(self, session: SmtpLink) -> str:
        """Return why a session cannot begin a message now, as a reply; empty when it can."""
        if self._stopping:
            return "421 4.3.2 This service is closing for now"
        if session.service.guarded and not self._rate.allows(client_of(session.client_address)):
            return "450 4.7.1 Too many messages within a minute; come later"
        return ""

    def ended(self, session: SmtpLink) -> None:
        """Forget a session."""
        self._open.pop(session, None)

    async def reserve(self, octets: int) -> int | None:
        """Take memory for a message; None when none could be had in time."""
        share = self._around.budget.share_of(max(octets, 1))
        if self._memory_octets and self._memory_octets + share > self._shared.memory_octets:
            return None
        self._memory_octets += share
        try:
            async with asyncio.timeout(self.limits.memory_wait_seconds):
                await self._around.budget.reserve(share)
        except BaseException as error:
            self._memory_octets -= share
            if isinstance(error, TimeoutError):
                return None
            raise
        return share

    def give_back(self, share: int) -> None:
        """Return memory."""
        self._memory_octets -= share
        self._around.budget.give_back(share)

    def hand_on(self, mail: ReceivedMail, share: int) -> asyncio.Task[SmtpReply]:
        """Have a message delivered, to the end, whoever waits; the memory is given back then."""
        task = asyncio.get_running_loop().create_task(self._around.reception.receive(mail))
        self._handed_on.add(task)

        def done(task: asyncio.Task[SmtpReply]) -> None:
            self._handed_on.discard(task)
            self.give_back(share)

        task.add_done_callback(done)
        return task

    def refused(self, session: SmtpLink, what: Refusal, reply: str) -> None:
        """Tell of a refusal."""
        client = session.client_address
        if self._told.allows(client_of(client)):
            origin, session_id = session.service.origin, session.session_id
            self._around.emit(ReceiverRefused(origin, session_id, client, what, reply))
