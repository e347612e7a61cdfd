"""From `[notice]` to the operator's summary, which a reload may switch on, change, or switch off."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mailferry.assembly.destinations import make_destination
from mailferry.assembly.making import Making
from mailferry.config.models import Settings, SmtpDestinationSettings
from mailferry.destinations.letter import Sender
from mailferry.events import Event
from mailferry.message.notice import NoticeEnvelope
from mailferry.model import DestinationName, StandingKind, StandingRecord
from mailferry.runtime.clock import steady_seconds
from mailferry.services.context import Surroundings
from mailferry.services.notice import STANDING_NAME, NoticePolicy, NoticeService
from mailferry.services.notice_board import NoticeBoard


class Notices:
    """Collects what the operator is to be told, for whoever is to be told now."""

    def __init__(self) -> None:
        self._board: NoticeBoard | None = None
        self._recipient: str | None = None

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._board is not None:
            self._board(event)

    def address(self, settings: Settings, making: Making) -> None:
        """Collect for the configured recipient from now on; what was collected for another one stays with its service."""
        recipient = settings.notice.to
        if recipient != self._recipient:
            self._recipient = recipient
            envelope = NoticeEnvelope(making.hostname, recipient) if recipient else None
            self._board = NoticeBoard(envelope, time.time, steady_seconds) if envelope else None

    def service(
        self,
        settings: Settings,
        making: Making,
        surroundings: Surroundings,
        standings: Mapping[tuple[StandingKind, str], StandingRecord],
    ) -> NoticeService | None:
        """Return what sends the summary; None when nobody gets one."""
        notice = settings.notice
        if self._board is None or notice.to is None or notice.destination is None:
            return None
        table = settings.destination[notice.destination]
        assert isinstance(table, SmtpDestinationSettings)  # the configuration refuses another kind
        # The same server, but its own envelope, and one session that keeps no mail waiting.
        changes = {"recipients": (notice.to,), "sender": Sender.NULL.value, "max_sessions": 1}
        way = make_destination(DestinationName(notice.destination), table.model_copy(update=changes), making)
        policy = NoticePolicy(NoticeEnvelope(making.hostname, notice.to), notice.every)
        standing = standings.get((StandingKind.NOTICE, STANDING_NAME))
        return NoticeService(policy, self._board, way, surroundings, standing)
