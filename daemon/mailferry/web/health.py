"""What the HTTP side asks about health, and the form of its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web


class HealthProbe(Protocol):
    """Answers for the daemon. Called on the event loop's thread; must not block.

    Both return whether all is well, and details that JSON can hold: names,
    numbers and short words, no text of a peer's and no secret.
    """

    def live(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether the process works; False means that a restart would help."""

    def ready(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether the daemon does its work: configured, ledger open, schedule running."""


def health_response(verdict: tuple[bool, Mapping[str, Any]]) -> web.Response:
    """Answer 200 or 503 with `{"status": "ok" or "failing", ...details}`."""
    well, details = verdict
    body = {"status": "ok" if well else "failing", **details}
    return web.json_response(body, status=200 if well else 503, dumps=json.dumps)
