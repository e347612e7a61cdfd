"""The status page of a real daemon: in a real Chromium, and over a Unix socket with mail in quarantine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import aiohttp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.faults import Fault
from support.mailset import fingerprint, make_messages, tag_of
from support.processes import free_port, require
from support.scripted_smtp import FINAL, ScriptedSmtpServer

TOKEN = "a token that nobody guesses"  # invented
HOSTILE = "</title></bdi><img src=x onerror=alert(1)><script>alert(2)</script>\u202egnp"
PHONE = {"width": 360, "height": 780}
NARROWEST = {"width": 320, "height": 640}
"""As WCAG 2.2 has it in 1.4.10: nothing to scroll sideways."""


def with_token(config: Path) -> None:
    """Let a sandbox's configuration have a token, a maildrop that fails, and a port of its own."""
    secret = config.parent / "token"
    secret.touch(mode=0o600)
    secret.write_text(TOKEN + "\n")
    text = config.read_text()
    text = re.sub(
        r"^listen = .*$",
        f'listen = "127.0.0.1:{free_port()}"\ntoken = {{ file = "{secret}" }}',
        text,
        flags=re.MULTILINE,
    )
    broken = (
        f'host = "127.0.0.1"\nport = {free_port()}\ntls = "none"\nallow_cleartext = true\nusername = "b"\n'
    )
    password = f'password = {{ file = "{config.parent / "sandbox-password"}" }}\ndeliver = ["sink"]\n'
    config.write_text(f"{text}\n[maildrop.broken]\n{broken}{password}")


@pytest.fixture
def daemon(sandbox: Any) -> Iterator[DaemonProcess]:
    """The sandbox's daemon, when it has relayed everything and one maildrop has failed."""
    with_token(sandbox.config)
    with DaemonProcess(sandbox.config) as daemon:
        daemon.wait_for(
            lambda: len({e["maildrop"] for e in daemon.named("poll.finished")}) == 4,
            "a poll of each maildrop",
        )
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = require("chromium")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


class Window:
    """A browser's window that notes whatever goes wrong in it."""

    def __init__(self, browser: Browser, base: str, **settings: Any) -> None:
        self.context: BrowserContext = browser.new_context(base_url=base, **settings)
        self.context.set_default_timeout(10_000)
        self.page: Page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append("a dialog"), dialog.dismiss()))
        self.page.on("requestfailed", lambda request: self.trouble.append(f"failed: {request.url}"))

    def ground(self) -> list[int]:
        """Return the colour behind everything."""
        colour: str = self.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return [int(part) for part in re.findall(r"\d+", colour)[:3]]

    def sideways(self) -> int:
        """Return how far the page is wider than the window."""
        excess: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return excess

    def close(self) -> None:
        """Close it; nothing may have gone wrong."""
        self.context.close()
        assert self.trouble == []


def make_hostile(state: Path) -> None:
    """Let the ledger have a message as a stranger would write it."""
    with contextlib.closing(sqlite3.connect(state / "ledger.sqlite3", timeout=10)) as ledger, ledger:
        newest = "(SELECT message_id FROM message ORDER BY updated_at DESC LIMIT 1)"
        changed = ledger.execute(
            f"UPDATE message SET subject = ?, sender = ? WHERE message_id = {newest}", (HOSTILE, HOSTILE)
        )
        assert changed.rowcount == 1


def test_in_a_browser(sandbox: Any, daemon: DaemonProcess, browser: Browser, program: Any) -> None:
    """One browser and one daemon for everything: starting them takes most of the time."""
    port = int(re.search(r"listen = \"127.0.0.1:(\d+)\"", sandbox.config.read_text())[1])  # type: ignore[index]
    base = f"http://127.0.0.1:{port}"
    make_hostile(sandbox.folder / "state")
    reads_on_a_phone_in_the_dark(browser, base)
    reads_without_scripts(browser, base)
    window = Window(browser, base, color_scheme="light")
    searches_and_reads_a_story(window)
    logs_in_and_polls(window, daemon)
    renews_itself(window, program, sandbox.config)
    window.close()


def reads_on_a_phone_in_the_dark(browser: Browser, base: str) -> None:
    window = Window(browser, base, color_scheme="dark", viewport=PHONE, has_touch=True, is_mobile=True)
    page = window.page
    for path in ("/", "/messages", "/maildrop/sandbox", "/quarantine", "/login"):
        page.set_viewport_size(PHONE)
        page.goto(path)
        assert window.sideways() <= 0, path
        page.set_viewport_size(NARROWEST)
        assert window.sideways() <= 0, path
    assert max(window.ground()) < 60
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("1 of 4 maildrops needs a look"))
    first = page.get_by_role("table", name="Maildrops, those with trouble first").get_by_role("row").nth(1)
    expect(first).to_contain_text("No connection")
    expect(first).to_contain_text("broken")
    window.close()


def reads_without_scripts(browser: Browser, base: str) -> None:
    window = Window(browser, base, color_scheme="light", java_script_enabled=False)
    window.page.goto("/")
    expect(window.page.get_by_role("link", name="sandbox-week")).to_be_visible()
    expect(window.page.locator("#maildrops svg.spark")).to_have_count(4)
    window.close()


def searches_and_reads_a_story(window: Window) -> None:
    page = window.page
    page.goto("/")
    assert min(window.ground()) > 200
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    hostile = page.locator("#recent").get_by_role("link", name=HOSTILE[:20])
    expect(hostile.first).to_be_visible()
    page.get_by_role("searchbox").fill("welcome")
    page.get_by_role("button", name="Search").click()
    found = page.locator("#found tbody tr")
    expect(found.first).to_contain_text("Welcome to the sandbox")
    found.first.get_by_role("link").click()
    steps = page.locator(".story h3")
    expect(steps.first).to_have_text("Listed by its server")
    for said in ("Fetched", "Accepted by sink", "Accepted by archive"):
        expect(page.locator(".story")).to_contain_text(said)
    expect(page.locator(".story .said").first).to_be_visible()


def logs_in_and_polls(window: Window, daemon: DaemonProcess) -> None:
    page = window.page
    page.goto("/")
    expect(page.get_by_role("button", name="Poll now")).to_have_count(0)
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    before = len([e for e in daemon.named("poll.finished") if e["maildrop"] == "broken"])
    page.get_by_role("button", name="Poll now broken").click()
    expect(page.get_by_role("status").first).to_have_text(re.compile("broken is being polled"))
    daemon.wait_for(
        lambda: len([e for e in daemon.named("poll.finished") if e["maildrop"] == "broken"]) > before,
        "the poll",
    )
    (used,) = daemon.named("control.used")
    assert (used["operation"], used["targets"], used["asked_by"]) == (
        "poll",
        "maildrop.broken",
        "status page, 127.0.0.1",
    )
    (cookie,) = window.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def renews_itself(window: Window, program: Any, config: Path) -> None:
    """Without a reload; the page's own clock is moved, so that nobody waits."""
    page = window.page
    page.clock.install(time=time.time())
    page.goto("/")
    page.evaluate("document.body.dataset.kept = 'yes'")
    row = page.locator("#maildrops tr", has_text="sandbox-week")
    expect(row).not_to_contain_text("paused by hand")
    assert program("pause", "maildrop.sandbox-week", "-c", config).code == 0
    for _ in range(40):  # a picture serves for a while, on a busy machine for longer
        page.clock.fast_forward(5_100)
        page.wait_for_timeout(250)
        if "paused by hand" in row.inner_text():
            break
    expect(row).to_contain_text("paused by hand")
    assert page.evaluate("document.body.dataset.kept") == "yes"
    row.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status").first).to_have_text(re.compile("sandbox-week goes on"))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short name: that of a test's own may be too long for a socket."""
    with TemporaryDirectory(prefix="mf-") as name:
        yield Path(name)


async def test_over_a_socket_a_message_is_released_from_quarantine(
    tmp_path: Path, short_folder: Path, program: Any
) -> None:
    mail = make_messages(3, seed=5, sizes=(400, 900))
    box = SandboxMaildrop(PASSWORD, mail)
    refusal = Fault(FINAL, reply=b"554 5.7.1 not that one\r\n", argument=tag_of(mail[1]).encode())
    pop3, smtp = SandboxPop3Server({"ann": box}), ScriptedSmtpServer(refusal)
    await pop3.start()
    await smtp.start()
    folder, listening = ConfigFolder(tmp_path / "mailferry"), short_folder / "http.sock"
    token = folder.folder / "token"
    shutil.copy(folder.secret, token)
    token.write_text(TOKEN)
    tables = {
        "maildrop.ann": folder.maildrop(pop3.port, "ann", rejected="quarantine", every="1s"),
        "destination.hop": folder.smtp(smtp.port),
    }
    config = folder.write(tables, log_format="json")
    secret = f'listen = "unix:{listening}"\ntoken = {{ file = "{token}" }}'
    config.write_text(config.read_text().replace('listen = ""', secret))
    try:
        with DaemonProcess(config) as daemon:
            await asyncio.to_thread(daemon.wait_for, lambda: box.messages == [], "empty maildrop")
            assert (await asyncio.to_thread(program, "healthcheck", "--ready", "-c", config)).out == "ok\n"
            assert listening.stat().st_mode & 0o777 == 0o660
            (told,) = daemon.named("message.quarantined")
            async with Proxy(listening) as proxy:
                assert "not that one" in await proxy.get(f"/quarantine/{told['entry']}")
                assert await proxy.post("/login", token=TOKEN) == "/"
                assert "not that one" in await proxy.act("release", told["entry"])
                smtp.faults.clear()  # the server has changed its mind
                assert "Released: hop: accepted" in await proxy.act("release", told["entry"])
                assert "The quarantine is empty" in await proxy.get("/quarantine")
                story = await proxy.get("/message/" + told["message_id"])
                assert "Accepted by hop" in story
            assert await asyncio.to_thread(daemon.stop) == 0
        assert not listening.exists()
        assert sorted(fingerprint(m.content) for m in smtp.accepted) == sorted(map(fingerprint, mail))
    finally:
        await pop3.stop()
        await smtp.stop()


class Proxy:
    """Speaks to the socket as a proxy with TLS does for a browser."""

    def __init__(self, path: Path) -> None:
        # The host is a name, so that the jar keeps the cookie.
        jar = aiohttp.CookieJar()
        self._session = aiohttp.ClientSession(
            "https://status.example.org", connector=_TlsLess(str(path)), cookie_jar=jar
        )

    async def get(self, path: str) -> str:
        async with self._session.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    async def post(self, path: str, **form: str) -> str:
        headers = {"Origin": "https://status.example.org"}
        async with self._session.post(path, data=form, headers=headers, allow_redirects=False) as answer:
            assert answer.status == 303, await answer.text()
            return answer.headers["Location"]

    async def act(self, action: str, target: str) -> str:
        """Do something and return the page after it."""
        csrf = (await self.get("/")).split('name="csrf" value="')[1].split('"')[0]
        return await self.get(await self.post("/act", csrf=csrf, action=action, target=target, back="/"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()


class _TlsLess(aiohttp.UnixConnector):
    """A Unix socket behind an https:// address: the TLS is the proxy's own matter."""

    async def _create_connection(self, *_: Any) -> Any:
        async with asyncio.timeout(10):
            _, protocol = await self._loop.create_unix_connection(self._factory, self._path)
        return protocol
