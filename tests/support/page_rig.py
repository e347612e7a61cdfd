"""The status page of a made-up town, served on loopback to a client that a test steers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from mailferry.errors import SecretError
from mailferry.events import Event
from mailferry.telemetry.redaction import clean_text
from mailferry.web.page.guards import allowed_hosts
from mailferry.web.page.model import PageSettings
from mailferry.web.page.page import PageParts, StatusPage
from mailferry.web.page.pages import Host
from mailferry.web.page.rendering import Renderer
from mailferry.web.page.threads import PageThreads
from mailferry.web.server import WebServer
from support.page_town import NOW, Town, TownHall

TOKEN = "a token that nobody guesses"  # invented
RENDERER = Renderer(clean_text, lambda: NOW)
"""One for all tests: it keeps nothing but compiled templates."""
Client = TestClient[web.Request, web.Application]


class _Well:
    def live(self) -> tuple[bool, dict[str, object]]:
        return True, {}

    ready = live


@dataclass
class PageRig:
    """What a test needs: the client, what is behind the page, and what was told."""

    client: Client
    town: Town
    hall: TownHall
    events: list[Event]
    time: list[float]
    """Of the clock that sessions go by; one number."""
    token: list[str] = field(default_factory=list)
    """What lies in the token's place; empty for nothing."""

    @property
    def origin(self) -> str:
        """As a browser names it."""
        return f"http://127.0.0.1:{self.client.port}"

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Ask for a page."""
        async with self.client.get(path, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.text()

    async def post(
        self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Send a form as a browser does; `headers` may say otherwise."""
        sent = {"Origin": self.origin, "Sec-Fetch-Site": "same-origin"} if headers is None else headers
        return await self.client.post(path, data=form, headers=sent, allow_redirects=False)

    async def log_in(self, token: str = TOKEN) -> ClientResponse:
        """Log in."""
        return await self.post("/login", {"token": token})

    async def csrf(self) -> str:
        """Return what forms of the session hold."""
        _, text = await self.get("/")
        found = re.search(r'name="csrf" value="([^"]+)"', text)
        assert found, "nobody is logged in"
        return found[1]

    async def act(self, action: str, target: str, **more: str) -> str:
        """Do something; return what the next page says of it."""
        form = {"csrf": await self.csrf(), "action": action, "target": target, "back": "/login", **more}
        answer = await self.post("/act", form)
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
        _, text = await self.get("/login")
        found = re.search(r'id="notice">.*?<bdi>(.*?)</bdi>', text, re.DOTALL)
        return found[1] if found else ""


@asynccontextmanager
async def page_rig(
    *, acts: bool = True, shown: str = "always", hosts: tuple[str, ...] = ()
) -> AsyncIterator[PageRig]:
    """Serve the page."""
    town, hall, threads = Town(), TownHall(), PageThreads()
    events: list[Event] = []
    time, token = [1000.0], [TOKEN]

    def read_token() -> str:
        if not token:
            raise SecretError("file /secrets/token does not exist")
        return token[0]

    parts = PageParts(
        source=town,
        operations=hall,
        threads=threads,
        host=Host("relay.example.org", "0.1.0"),
        settings=PageSettings(
            shown, allowed_hosts("127.0.0.1", is_loopback=True, configured=hosts), frozenset(hosts)
        ),
        emit=events.append,
        renderer=RENDERER,
        read_token=read_token if acts else None,
        now=lambda: time[0],
    )
    page = StatusPage(parts)
    server = WebServer(host="127.0.0.1", port=0, registry=CollectorRegistry(), health=_Well(), page=page)
    async with TestClient(TestServer(server.application())) as client:
        yield PageRig(client, town, hall, events, time, token)
    threads.close()
