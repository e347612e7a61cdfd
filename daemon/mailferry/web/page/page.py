"""The status page as a whole: put together from what shows and what acts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from mailferry.ports import Emit
from mailferry.web.page.actions import Actions, Entrance
from mailferry.web.page.model import PageOperations, PageSettings, PageSource
from mailferry.web.page.pages import Host, Pages
from mailferry.web.page.rendering import Renderer
from mailferry.web.page.sessions import Attempts, Door, Sessions
from mailferry.web.page.threads import PageThreads
from mailferry.web.page.viewer import session_of


@dataclass(frozen=True, slots=True)
class PageParts:
    """What the page is made of.

    Attributes:
        operations: what can be done; None together with `read_token` for a page that only shows.
        read_token: reads the token from its place; blocks.
        now: seconds of a clock that is never set.
    """

    source: PageSource
    operations: PageOperations
    threads: PageThreads
    host: Host
    settings: PageSettings
    emit: Emit
    renderer: Renderer
    read_token: Callable[[], str] | None = None
    now: Callable[[], float] = time.monotonic


class StatusPage:
    """Adds the routes of the page to a server's."""

    def __init__(self, parts: PageParts) -> None:
        sessions = Sessions(parts.now)
        acts = parts.read_token is not None
        self._pages = Pages(
            parts.source,
            parts.renderer,
            parts.threads,
            parts.host,
            parts.settings,
            (lambda request: session_of(request, sessions)) if acts else None,
        )
        self._actions: Actions | None = None
        if parts.read_token is not None:
            entrance = Entrance(sessions, Attempts(parts.now), Door(parts.read_token))
            self._actions = Actions(
                self._pages, parts.source, parts.operations, entrance, parts.settings, parts.emit
            )

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add them."""
        self._pages.add_routes(router)
        if self._actions is not None:
            self._actions.add_routes(router)
