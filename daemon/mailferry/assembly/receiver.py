"""From `[receiver]` to the SMTP server that takes mail, also on connections that turned round."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from mailferry.assembly.making import Making
from mailferry.config.models import ReceiverSettings, Settings
from mailferry.errors import StoreError
from mailferry.model import DestinationName
from mailferry.ports import Emit
from mailferry.receiver.link import SessionLimits
from mailferry.receiver.listener import Door, Receiver
from mailferry.receiver.sessions import ReceiverSessions, SharedLimits
from mailferry.receiver.sessions import Surroundings as SessionSurroundings
from mailferry.receiver.tls import ServerTls
from mailferry.runtime.schedule import Schedule, Timetable
from mailferry.services.context import Surroundings
from mailferry.services.reception import MailReception, ReceptionPolicy
from mailferry.services.route import Route, RouteStandings

_log = logging.getLogger("mailferry")

_FORGET_EVERY_SECONDS = 6 * 3600.0
_SAVE_EVERY_SECONDS = 60.0

_MEMORY_PART = 2
"""What comes in may hold this part of the memory budget, one half, at most."""


class Reception:
    """The server side of SMTP in this daemon: implements `runtime.companion.Companion`.

    Attributes:
        sessions: makes sessions; also for a connection whose roles turned round.
        listener: the configured port; None when `receiver.listen` is empty.
    """

    def __init__(
        self,
        settings: Settings,
        surroundings: Surroundings,
        making: Making,
        mail_came: Callable[[str], None],
        routes: Mapping[DestinationName, Route],
    ) -> None:
        receiver, emit = settings.receiver, surroundings.emit
        self._settings = receiver
        self._tls: ServerTls | None = None
        self._ledger = surroundings.ledger
        self._routes = RouteStandings(routes)
        self._mail = MailReception(ReceptionPolicy(making.hostname), surroundings, mail_came)
        self._around = SessionSurroundings(
            self._mail, surroundings.budget, making.spool, emit, making.hostname
        )
        self.sessions = ReceiverSessions(
            self._around,
            SessionLimits(max_size_octets=receiver.max_size),
            SharedLimits(
                receiver.max_sessions,
                receiver.messages_per_minute,
                settings.daemon.memory_budget // _MEMORY_PART,
            ),
            self._tls_context if receiver.tls_certificate is not None else None,
        )
        self.listener = _listener(receiver, self.sessions, emit)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen, if that is configured.

        Raises:
            ReceiverError: the address cannot be bound.
            TlsError: the certificate cannot be used.
        """
        certificate = self._settings.tls_certificate
        if certificate is not None:
            self._tls = ServerTls(certificate, self._settings.tls_key)
        if self.listener is not None:
            await self.listener.start()

    def enter(self, schedule: Schedule) -> None:
        """Have messages given up that their senders have not brought again, and standings of routes kept."""
        for name, seconds, work in (
            ("received mail", _FORGET_EVERY_SECONDS, self._mail.forget_old),
            ("routes of received mail", _SAVE_EVERY_SECONDS, self._save_routes),
        ):
            schedule.add(name, Timetable(every_seconds=seconds), partial(self._begin, work))

    def stop(self) -> None:
        """Take nothing more."""
        if self.listener is not None:
            self.listener.stop()
        else:
            self.sessions.stop()

    async def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait for the messages under way."""
        ended = self.listener or self.sessions
        clean = await ended.wait_ended(timeout_seconds)
        await self._carry_out(self._save_routes)
        return clean

    def _tls_context(self) -> ssl.SSLContext:
        assert self._tls is not None  # made before the first connection can come
        return self._tls.context()

    def _begin(self, work: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._carry_out(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except StoreError as error:  # the next time makes up for it
            _log.warning("rows of received mail could not be brought up to date: %s", error)

    async def _save_routes(self) -> None:
        """Write how destinations fare: polls do it, but there may be none."""
        changed = self._routes.changed()
        if changed:
            await self._ledger.save(changed)
            self._routes.saved(changed)


def _listener(receiver: ReceiverSettings, sessions: ReceiverSessions, emit: Emit) -> Receiver | None:
    where = receiver.address
    if where is None:
        return None
    names = tuple(DestinationName(name) for name in receiver.deliver)
    return Receiver(sessions, Door(*where, receiver.domains, names, receiver.allow_from), emit)
