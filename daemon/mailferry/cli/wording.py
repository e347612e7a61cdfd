"""Times, spans and counts as a person says them; the status page says them in the same words."""

from __future__ import annotations

from mailferry.wording import ago, counted, local_time, span

__all__ = ["ago", "counted", "local_time", "span"]
