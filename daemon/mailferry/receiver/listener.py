"""The port on which mail comes in."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from dataclasses import dataclass

from mailferry.errors import MailferryError
from mailferry.events import ReceiverStarted, ReceiverStopped
from mailferry.model import DestinationName
from mailferry.ports import Emit
from mailferry.receiver.session import SmtpSession
from mailferry.receiver.sessions import ReceiverSessions

BACKLOG = 128
"""Connections that wait to be taken; those beyond try again by themselves."""

_REMEDIES = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port in receiver.listen",
    errno.EACCES: "not permitted; give the service CAP_NET_BIND_SERVICE, or choose a port above 1023 in receiver.listen",
    errno.EADDRNOTAVAIL: "this machine does not have that address; correct receiver.listen",
}


class ReceiverError(MailferryError):
    """The receiver could not start; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where mail is taken, and for whom.

    Attributes:
        port: 0 for any that is free.
        networks: that may connect; empty for all.
    """

    host: str
    port: int
    domains: tuple[str, ...]
    deliver: tuple[DestinationName, ...]
    networks: Sequence[str] = ()


class Receiver:
    """Listens, and makes a session of each connection; `runtime.companion.Companion`."""

    def __init__(self, sessions: ReceiverSessions, door: Door, emit: Emit) -> None:
        self._sessions = sessions
        self._door = door
        self._emit = emit
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port in use: the bound one when 0 was asked for."""
        if self._server is not None and self._server.sockets:
            return int(self._server.sockets[0].getsockname()[1])
        return self._door.port

    async def start(self) -> None:
        """Bind and take mail.

        Raises:
            ReceiverError: the address cannot be bound.
        """
        door, loop = self._door, asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(self._session, door.host, door.port, backlog=BACKLOG)
        except OSError as error:
            raise ReceiverError(self._explain(error)) from error
        self._emit(ReceiverStarted(door.host, self.port, len(door.domains)))

    def stop(self) -> None:
        """Take no further connection and no further message."""
        if self._server is not None:
            self._server.close()
        self._sessions.stop()

    async def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until every session is over; cut off what is left then, and tell whether that was needless."""
        clean = await self._sessions.wait_ended(timeout_seconds)
        if self._server is not None:
            self._emit(ReceiverStopped(clean))
        return clean

    def _session(self) -> SmtpSession:
        door = self._door
        return self._sessions.protocol(domains=door.domains, deliver=door.deliver, networks=door.networks)

    def _explain(self, error: OSError) -> str:
        # asyncio wraps the reason in words of its own; errno is what the system said.
        remedy = _REMEDIES.get(error.errno or 0, error.strerror or str(error))
        return f"cannot take mail on {self._door.host} port {self._door.port}: {remedy}"
