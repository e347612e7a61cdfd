"""What somebody does on the page: log in, log out, and a few orders to the daemon.

Only POST changes something, and only when the form was sent by a page of this origin, by who has
logged in, and holds the token of the session. The daemon is told through the same operations
as by its control socket.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from mailferry.errors import ControlError, MailferryError, SecretError
from mailferry.events import ControlUsed, PageLoggedIn, PageLoginRefused
from mailferry.message.received import message_number
from mailferry.model import MessageId
from mailferry.ports import Emit
from mailferry.web.page.guards import comes_from_here, is_secure, read_form
from mailferry.web.page.model import PageOperations, PageSettings, PageSource
from mailferry.web.page.pages import Handler, Pages
from mailferry.web.page.sessions import LEAST_CHARACTERS, Attempts, Door, Session, Sessions, WeakTokenError
from mailferry.web.page.viewer import COOKIE, SECURE_COOKIE, client_of, session_number, session_of
from mailferry.wording import counted, span

LONGEST_PAUSE_SECONDS: Final = 366 * 86_400
_SHOWN_CHARACTERS: Final = 200
_PLACE: Final = re.compile(r"/(?![/\\])[!-\[\]-~]{0,1000}", re.ASCII)
"""A path of this origin, and nothing that a browser could take for another host."""

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Entrance:
    """How somebody gets in."""

    sessions: Sessions
    attempts: Attempts
    door: Door


class Actions:
    """Takes forms."""

    def __init__(
        self,
        pages: Pages,
        source: PageSource,
        operations: PageOperations,
        entrance: Entrance,
        settings: PageSettings,
        emit: Emit,
    ) -> None:
        self._pages = pages
        self._source = source
        self._operations = operations
        self._sessions = entrance.sessions
        self._attempts = entrance.attempts
        self._door = entrance.door
        self._settings = settings
        self._emit = emit
        self._known: Mapping[str, Callable[[str, Form], Awaitable[str]]] = {
            "poll": self._poll,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "retry-all": self._retry_all,
            "release": self._release,
        }

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/login", self._pages.guarded(self._login_page))
        router.add_post("/login", self._pages.guarded(self._from_here(self._log_in)))
        router.add_post("/logout", self._pages.guarded(self._from_here(self._log_out)))
        router.add_post("/act", self._pages.guarded(self._from_here(self._act)))

    def _from_here(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            if not comes_from_here(request, self._settings.proxies):
                raise web.HTTPForbidden(text="403: the form was not sent by a page of this address")
            return await handler(request)

        return answer

    # -- logging in

    async def _login_page(self, request: web.Request) -> web.Response:
        return await self._pages.show(request, "login.html", refusal="")

    async def _log_in(self, request: web.Request) -> web.Response:
        given = (await read_form(request)).get("token", "")
        client = client_of(request)
        wait = self._attempts.wait_seconds(client)
        if wait > 0:
            answer = await self._refuse_login(request, 429, f"Too many attempts. Wait {span(wait + 1)}.")
            answer.headers["Retry-After"] = str(int(wait) + 1)
            return answer
        try:
            digest = await self._door.digest_if_right(given)
        except WeakTokenError:
            words = f"The configured token has fewer than {LEAST_CHARACTERS} characters, so it opens nothing."
            return await self._refuse_login(request, 403, words)
        except SecretError as error:
            self._emit(PageLoginRefused(client, str(error)))
            return await self._refuse_login(
                request, 403, "The configured token cannot be read; the log says why."
            )
        if digest is None:
            self._emit(PageLoginRefused(client, "another token was given"))
            return await self._refuse_login(request, 403, "That is not the token.")
        self._emit(PageLoggedIn(client))
        answer, secure = _see("/"), is_secure(request)
        answer.set_cookie(
            SECURE_COOKIE if secure else COOKIE,
            self._sessions.begin(digest),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=secure,
        )
        return answer

    async def _refuse_login(self, request: web.Request, status: int, words: str) -> web.Response:
        return await self._pages.show(request, "login.html", status=status, refusal=words)

    async def _log_out(self, request: web.Request) -> web.Response:
        session = session_of(request, self._sessions)
        form = await read_form(request)
        if session is not None and session.owns(form.get("csrf", "")):
            self._sessions.end(session_number(request))
        answer = _see("/")
        for name in (COOKIE, SECURE_COOKIE):
            answer.del_cookie(name, path="/", httponly=True, samesite="Strict", secure=name == SECURE_COOKIE)
        return answer

    # -- orders

    async def _act(self, request: web.Request) -> web.Response:
        session = session_of(request, self._sessions)
        form = await read_form(request)
        if session is None or not session.owns(form.get("csrf", "")):
            words = "The session is over, or the form is from an older one. Log in and try again."
            return await self._pages.refuse(request, 403, "Not logged in", words)
        action, target = form.get("action", ""), form.get("target", "")
        work = self._known.get(action)
        if work is None or not target or len(target) > _SHOWN_CHARACTERS:
            raise web.HTTPBadRequest(text="400: there is no such action")
        self._emit(ControlUsed(action, target, f"status page, {client_of(request)}"))
        await self._do(session, work(target, form))
        back = form.get("back", "")
        return _see(back if _PLACE.fullmatch(back) else "/")

    async def _do(self, session: Session, work: Awaitable[str]) -> None:
        try:
            session.notice, session.went_wrong = await work, False
        except MailferryError as error:
            session.notice, session.went_wrong = f"That could not be done: {error}", True
        finally:
            self._source.forget()

    async def _poll(self, target: str, _form: Form) -> str:
        answer = await self._operations.poll([target], wait_seconds=0.0)
        states = {each["state"] for each in answer["polls"]}
        if "paused" in states:
            raise ControlError(f"{_name(target)} is paused by hand: resume it first")
        if "stopping" in states:
            raise ControlError("the daemon is stopping")
        return f"{_name(target)} is being polled."

    async def _pause(self, target: str, form: Form) -> str:
        text = form.get("seconds", "3600")
        seconds = int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else -1
        if not 0 <= seconds <= LONGEST_PAUSE_SECONDS:
            raise ControlError("a pause lasts a year at most")
        await self._operations.pause([target], seconds=float(seconds) or None)
        return f"{_name(target)} is paused {f'for {span(seconds)}' if seconds else 'until it is resumed'}."

    async def _resume(self, target: str, _form: Form) -> str:
        await self._operations.resume([target])
        return f"{_name(target)} goes on."

    async def _retry(self, target: str, _form: Form) -> str:
        number = message_number(target)
        known = await self._source.message(MessageId(number)) if number is not None else None
        if known is None:
            raise ControlError("the ledger does not know that message")
        uidl = known.message.uidl.decode("ascii", "backslashreplace")
        answer = await self._operations.retry(f"maildrop.{known.message.maildrop}", uidl=uidl)
        return _retried(answer)

    async def _retry_all(self, target: str, _form: Form) -> str:
        return _retried(await self._operations.retry(target, uidl=None))

    async def _release(self, target: str, _form: Form) -> str:
        return await self._operations.release(target)


def _see(place: str) -> web.Response:
    """Send the browser on, by GET: a form that was sent once is not sent again (RFC 9110 s.15.4.4)."""
    return web.Response(status=303, headers={"Location": place})


def _retried(answer: Mapping[str, int]) -> str:
    number = answer["messages"] + answer["postponed"]
    if not number:
        return "No message waits there or was refused."
    return f"{counted(number, 'message')} will be tried again{' now' if answer['polling'] else ''}."


def _name(target: str) -> str:
    return target.partition(".")[2] or target
