"""Parts of the daemon that live as long as it does, beside the schedule."""

from __future__ import annotations

from typing import Protocol

from mailferry.runtime.schedule import Schedule


class Companion(Protocol):
    """Starts before the schedule does, and ends with what is under way."""

    async def start(self) -> None:
        """Begin.

        Raises:
            MailferryError: it cannot; then the daemon does not start.
        """

    def enter(self, schedule: Schedule) -> None:
        """Put what it does by the clock onto the schedule."""

    def stop(self) -> None:
        """Begin nothing more; destinations are drained after this."""

    async def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait for what is under way after `stop`, cut it off then, and tell whether that was needless."""
