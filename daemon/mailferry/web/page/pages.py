"""The pages that show something. They answer GET and change nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil, isfinite
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from mailferry.errors import MailferryError
from mailferry.message.received import message_number
from mailferry.model import MessageId, MessageState
from mailferry.web.page.guards import PAGE_HEADERS, host_named, is_allowed
from mailferry.web.page.model import (
    ROWS,
    FoundMessages,
    MessageQuery,
    PageSettings,
    PageSource,
    Picture,
    Quarantined,
    Wanted,
)
from mailferry.web.page.rendering import Renderer
from mailferry.web.page.sessions import Session
from mailferry.web.page.story import story_of
from mailferry.web.page.threads import PageBusyError, PageThreads
from mailferry.web.page.viewer import LIVE_FIELD, Viewer

PAGE_SECONDS = 20.0
_RECENT = 10
_STORED = 5
_LONGEST_TEXT = 200
_LAST_PAGE = 100_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Host:
    """What every page says of the daemon."""

    name: str
    version: str


class Pages:
    """Shows.

    Args:
        session_of: finds who has logged in; None where nobody can.
    """

    def __init__(
        self,
        source: PageSource,
        renderer: Renderer,
        threads: PageThreads,
        host: Host,
        settings: PageSettings,
        session_of: Callable[[web.Request], Session | None] | None,
    ) -> None:
        self._source = source
        self._renderer = renderer
        self._threads = threads
        self._host = host
        self._settings = settings
        self._session_of = session_of

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/", self.guarded(self._overview))
        router.add_get("/messages", self.guarded(self._messages))
        router.add_get("/message/{number}", self.guarded(self._message))
        router.add_get("/maildrop/{name}", self.guarded(self._maildrop))
        router.add_get("/quarantine", self.guarded(self._quarantine))
        router.add_get("/quarantine/{name}", self.guarded(self._quarantined))
        router.add_get("/api/status", self.guarded(self._as_json))
        router.add_get("/static/{digest}/{file}", self.guarded(self._asset))

    # -- what all pages share

    def guarded(self, handler: Handler) -> Handler:
        """Return a handler that answers only who names this host, and in time; trouble is told in words."""

        async def answer(request: web.Request) -> web.StreamResponse:
            if not is_allowed(host_named(request), self._settings.hosts):
                text = (
                    "421: this is not asked for under that name; if the name is right, add it to [http] hosts"
                )
                raise web.HTTPMisdirectedRequest(text=text)
            try:
                async with asyncio.timeout(PAGE_SECONDS):
                    return await handler(request)
            except PageBusyError as error:  # there is no room for a page that says so
                raise web.HTTPServiceUnavailable(text=f"503: {error}") from error
            except MailferryError as error:
                return await self.refuse(request, 503, "That cannot be shown now", str(error))
            except TimeoutError:
                return await self.refuse(request, 503, "That takes too long", "Try again, or ask for less.")

        return answer

    def viewer(self, request: web.Request) -> Viewer:
        """Return who looks."""
        session = self._session_of(request) if self._session_of is not None else None
        shown = self._settings.messages_shown
        notice, went_wrong = "", False
        if session is not None and LIVE_FIELD not in request.headers:  # a page that renews itself shows none
            notice, went_wrong = session.take_notice()
        return Viewer(
            hostname=self._host.name,
            version=self._host.version,
            page=request.path,
            here=request.path_qs if request.method in {"GET", "HEAD"} else "/",
            csrf=session.csrf if session is not None else "",
            sees_mail=shown == "always" or (shown == "login" and session is not None),
            may_log_in=self._session_of is not None,
            notice=notice,
            went_wrong=went_wrong,
        )

    async def show(
        self,
        request: web.Request,
        template: str,
        *,
        status: int = 200,
        viewer: Viewer | None = None,
        **values: Any,
    ) -> web.Response:
        """Return a page."""
        values["viewer"] = viewer or self.viewer(request)
        text = await self._threads.run(self._renderer.render, template, values)
        return web.Response(text=text, status=status, content_type="text/html", headers=PAGE_HEADERS)

    async def refuse(self, request: web.Request, status: int, title: str, words: str) -> web.Response:
        """Return a page that says why there is no other."""
        return await self.show(request, "refusal.html", status=status, title=title, words=words)

    # -- pages

    async def _overview(self, request: web.Request) -> web.Response:
        viewer, wanted = self.viewer(request), _wanted(request.query)
        picture = await self._source.picture(wanted)
        recent, problem = await self._some_messages(viewer, MessageQuery(limit=_RECENT))
        stored = await self._some_stored(viewer, picture)
        return await self.show(
            request,
            "overview.html",
            viewer=viewer,
            picture=picture,
            wanted=wanted,
            filter_query=_filter_query(wanted),
            recent=recent.messages,
            recent_problem=problem,
            quarantined=stored.messages[:_STORED],
        )

    async def _some_stored(self, viewer: Viewer, picture: Picture) -> Quarantined:
        if not (viewer.sees_mail and picture.totals.quarantined):
            return Quarantined()
        try:
            return await self._source.quarantine(1)
        except MailferryError:  # the picture tells that it cannot be read
            return Quarantined()

    async def _some_messages(self, viewer: Viewer, query: MessageQuery) -> tuple[FoundMessages, str]:
        """Return messages; or none, and why: the rest of a page is good without them."""
        if not viewer.sees_mail:
            return FoundMessages(()), ""
        try:
            return await self._source.messages(query), ""
        except MailferryError as error:
            return FoundMessages(()), str(error)

    async def _messages(self, request: web.Request) -> web.Response:
        viewer, query = self.viewer(request), _message_query(request.query)
        found, problem = await self._some_messages(viewer, query)
        return await self.show(
            request,
            "messages.html",
            viewer=viewer,
            query=query,
            found=found,
            problem=problem,
            states=list(MessageState),
            older=_older(query, found),
        )

    async def _message(self, request: web.Request) -> web.Response:
        viewer = self.viewer(request)
        if not viewer.sees_mail:
            return await self._hidden(request)
        number = message_number(request.match_info["number"])
        known = await self._source.message(MessageId(number)) if number is not None else None
        if known is None:
            words = "The ledger does not know it, or not any more: see [daemon] history."
            return await self.refuse(request, 404, "No such message", words)
        steps = story_of(known, self._renderer.clock())
        return await self.show(request, "message.html", viewer=viewer, known=known, steps=steps)

    async def _maildrop(self, request: web.Request) -> web.Response:
        name, viewer = request.match_info["name"], self.viewer(request)
        row = await self._source.maildrop(name)
        if row is None:
            return await self.refuse(request, 404, "No such maildrop", "None of that name is configured.")
        recent, problem = await self._some_messages(viewer, MessageQuery(maildrop=name, limit=_RECENT))
        return await self.show(
            request, "maildrop.html", viewer=viewer, row=row, recent=recent.messages, recent_problem=problem
        )

    async def _quarantine(self, request: web.Request) -> web.Response:
        viewer, page = self.viewer(request), _page(request.query)
        stored, problem = None, ""
        if viewer.sees_mail:
            try:
                stored = await self._source.quarantine(page)
            except MailferryError as error:
                problem = str(error)
        pages = ceil(stored.total / ROWS) if stored is not None else 0
        return await self.show(
            request, "quarantine.html", viewer=viewer, stored=stored, problem=problem, page=page, pages=pages
        )

    async def _quarantined(self, request: web.Request) -> web.Response:
        viewer = self.viewer(request)
        if not viewer.sees_mail:
            return await self._hidden(request)
        stored = await self._source.quarantined(request.match_info["name"])
        if stored is None:
            words = "It is not in the quarantine, or not any more."
            return await self.refuse(request, 404, "No such message", words)
        return await self.show(request, "quarantined.html", viewer=viewer, stored=stored)

    async def _hidden(self, request: web.Request) -> web.Response:
        words = "Senders and subjects are shown only to who has logged in, or not at all."
        return await self.refuse(request, 403, "Not shown here", words)

    # -- the rest

    async def _as_json(self, request: web.Request) -> web.Response:
        picture = await self._source.picture(_wanted(request.query))
        body = await self._threads.run(_document, picture)
        return web.Response(body=body, content_type="application/json")

    async def _asset(self, request: web.Request) -> web.Response:
        asset = self._renderer.assets.get(request.path)
        if asset is None:
            raise web.HTTPNotFound
        headers = {"Cache-Control": "public, max-age=31536000, immutable"}
        return web.Response(
            body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers
        )


def _wanted(query: Mapping[str, str]) -> Wanted:
    return Wanted(_text(query, "drop"), query.get("ill") == "1", _page(query))


def _filter_query(wanted: Wanted) -> str:
    chosen = {"drop": wanted.text, "ill": "1" if wanted.ill_only else ""}
    text = urlencode({key: value for key, value in chosen.items() if value})
    return f"&{text}" if text else ""


def _message_query(query: Mapping[str, str]) -> MessageQuery:
    state = query.get("state", "")
    return MessageQuery(
        text=_text(query, "q"),
        maildrop=_text(query, "maildrop"),
        state=MessageState(state) if state in set(MessageState) else None,
        before=_place(query.get("before", "")),
    )


def _older(query: MessageQuery, found: FoundMessages) -> str:
    """Return the address of the page behind this one, empty for none."""
    place = found.searched_to
    if place is None and found.more and found.messages:
        last = found.messages[-1].message
        place = last.updated_at, last.message_id
    if place is None:
        return ""
    chosen = {
        "q": query.text,
        "maildrop": query.maildrop,
        "state": query.state or "",
        "before": f"{place[0]!r}_{place[1]}",
    }
    return "/messages?" + urlencode({key: value for key, value in chosen.items() if value})


def _place(text: str) -> tuple[float, int] | None:
    at, _, number = text.partition("_")
    try:
        place = float(at), int(number)
    except ValueError:
        return None
    return place if isfinite(place[0]) and 0 <= place[1] < 1 << 63 else None


def _text(query: Mapping[str, str], key: str) -> str:
    return query.get(key, "")[:_LONGEST_TEXT].strip()


def _page(query: Mapping[str, str]) -> int:
    text = query.get("page", "1")
    return min(max(int(text), 1), _LAST_PAGE) if text.isascii() and text.isdecimal() and len(text) < 9 else 1


def _document(picture: Picture) -> bytes:
    return json.dumps(_with_times(asdict(picture)), ensure_ascii=True).encode()


def _with_times(value: Any) -> Any:  # Any: whatever JSON holds
    """Write times as every JSON of ours does: ISO 8601 in UTC, null for none."""
    if isinstance(value, Mapping):
        return {
            key: _iso(inner) if key.endswith(("_at", "_since", "not_before")) else _with_times(inner)
            for key, inner in value.items()
        }
    return [_with_times(each) for each in value] if isinstance(value, list | tuple) else value


def _iso(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else None
