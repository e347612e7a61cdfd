"""Logins and listings in one group: what leaves in one write, and servers that cannot take it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mailferry.errors import AuthenticationRejectedError, ReadTimeoutError
from mailferry.net.credentials import Credentials, LoginMethod
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.link import Link
from mailferry.net.pop3_connector import Pop3Connector, Pop3Settings
from mailferry.net.pop3_group import ServerBook, ServerNotes
from mailferry.sandbox.maildrop import SandboxFeatures, SandboxMaildrop
from mailferry.sandbox.pop3_session import Pop3Session as ServedSession
from support.clients import running
from support.faults import Close, Fault, Stall
from support.scripted_pop3 import ScriptedPop3Server, _ScriptedSession

PASSWORD = "correct-horse-4711"
SECONDS = 0.5
MAIL = [b"Subject: %d\r\n\r\nbody of %d\r\n" % (number, number) for number in range(1, 4)]
BEHIND = ["CAPA", "STAT", "LIST", "UIDL"]


class ForgetfulServer(ScriptedPop3Server):
    """Announces PIPELINING, and throws away what came along with a login that it grants."""

    def make_session(self) -> ServedSession:
        return _ForgetfulSession(self)


class _ForgetfulSession(_ScriptedSession):
    def perform(self, verb: bytes, argument: bytes) -> None:
        if verb == b"PASS":
            self.input.clear()
        super().perform(verb, argument)


def make_server(
    *faults: Fault, kind: type[ScriptedPop3Server] = ScriptedPop3Server, **features: Any
) -> ScriptedPop3Server:
    boxes = {"ann": SandboxMaildrop(PASSWORD, MAIL)}
    return kind(boxes, *faults, features=SandboxFeatures(**features))


def connector_for(
    server: ScriptedPop3Server, notes: ServerNotes | None, *, password: str = PASSWORD, **more: Any
) -> Pop3Connector:
    endpoint = Endpoint(
        "127.0.0.1", server.port, TlsMode.NONE, connect_timeout_seconds=5.0, timeout_seconds=SECONDS
    )
    settings = Pop3Settings(endpoint, Credentials("ann", lambda: password), allow_cleartext=True)
    return Pop3Connector(replace(settings, **more), notes=notes)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The verbs of each write of ours: each is a round trip, or hides in one."""
    seen: list[list[str]] = []
    write = Link.write

    def noted(link: Link, buffers: Sequence[bytes]) -> None:
        seen.append([line.split()[0].decode() for line in b"".join(buffers).splitlines()])
        write(link, buffers)

    monkeypatch.setattr(Link, "write", noted)
    return seen


async def poll(connector: Pop3Connector) -> int:
    """Log in, list and leave; return how many messages there are."""
    session = await connector.open()
    listing = await session.listing()
    assert listing.complete
    assert await session.quit()
    return len(listing.messages)


@pytest.mark.parametrize(
    ("method", "first", "next_one"),
    [
        (
            LoginMethod.USER,
            [["CAPA"], ["USER", "PASS", *BEHIND], ["QUIT"]],
            [["USER", "PASS", *BEHIND], ["QUIT"]],
        ),
        (LoginMethod.APOP, [["CAPA"], ["APOP", *BEHIND], ["QUIT"]], [["APOP", *BEHIND], ["QUIT"]]),
        # The server may answer AUTH with a question.
        (LoginMethod.PLAIN, [["CAPA"], ["AUTH"], BEHIND, ["QUIT"]], [["AUTH"], BEHIND, ["QUIT"]]),
    ],
)
async def test_a_server_that_pipelines_gets_groups(
    method: LoginMethod, first: list[list[str]], next_one: list[list[str]], writes: list[list[str]]
) -> None:
    server, notes = make_server(), ServerNotes()
    async with running(server):
        assert await poll(connector_for(server, notes, method=method)) == 3
        assert writes == first
        writes.clear()
        assert await poll(connector_for(server, notes, method=method)) == 3  # another maildrop there
    assert writes == next_one


@pytest.mark.parametrize(("offered", "wanted"), [(False, True), (True, False)])
async def test_one_command_at_a_time_where_pipelining_is_not_offered_or_not_wanted(
    offered: bool, wanted: bool, writes: list[list[str]]
) -> None:
    server, notes = make_server(pipelining=offered), ServerNotes()
    async with running(server):
        for _ in range(2):
            connector = connector_for(server, notes, method=LoginMethod.USER, pipelining=wanted)
            assert await poll(connector) == 3
    one_by_one = [["CAPA"], ["USER"], ["PASS"], *([verb] for verb in BEHIND), ["QUIT"]]
    assert writes == [*one_by_one, *one_by_one]
    assert server.counts["discarded"] == 0


async def test_who_looks_by_hand_sends_nothing_that_was_not_asked_for(writes: list[list[str]]) -> None:
    server = make_server()
    async with running(server):
        session = await connector_for(server, None, method=LoginMethod.USER).open()
        assert await session.quit()
    assert writes == [["CAPA"], ["USER"], ["PASS"], ["CAPA"], ["QUIT"]]


async def test_a_server_that_loses_what_came_with_the_login_is_asked_again_step_by_step(
    writes: list[list[str]],
) -> None:
    server, notes = make_server(kind=ForgetfulServer), ServerNotes()
    async with running(server):
        connector = connector_for(server, notes, method=LoginMethod.USER)
        assert await poll(connector) == 3
        assert server.counts["sessions"] == 2
        writes.clear()
        assert await poll(connector) == 3  # and it is remembered
    assert server.counts["sessions"] == 3
    assert writes == [["CAPA"], ["USER"], ["PASS"], ["CAPA"], ["STAT", "LIST", "UIDL"], ["QUIT"]]


async def test_the_distrust_ends() -> None:
    notes, now = ServerNotes(), 100.0
    notes.distrust(now)
    assert not notes.trusted(now + 3599)
    assert notes.trusted(now + 3600)


async def test_a_refused_password_is_told_as_such_and_the_next_session_asks_anew(
    writes: list[list[str]],
) -> None:
    server, notes = make_server(), ServerNotes()
    async with running(server):
        await poll(connector_for(server, notes, method=LoginMethod.USER))
        writes.clear()
        with pytest.raises(AuthenticationRejectedError, match="Check username and password"):
            await connector_for(server, notes, method=LoginMethod.USER, password="wrong").open()
        assert server.counts["refused"] == 1
        assert await poll(connector_for(server, notes, method=LoginMethod.USER)) == 3
    together = ["USER", "PASS", *BEHIND]
    assert writes == [together, ["CAPA"], together, ["QUIT"]]


async def test_a_server_that_pipelines_no_more_after_the_login_is_not_remembered(
    writes: list[list[str]],
) -> None:
    capa = Fault(b"CAPA", reply=b"+OK\r\nUIDL\r\nUSER\r\n.\r\n", nth=2)
    server, notes = make_server(capa), ServerNotes()
    async with running(server):
        session = await connector_for(server, notes, method=LoginMethod.USER).open()
        assert not session.traits.pipelining
        assert len((await session.listing()).messages) == 3
        assert await session.quit()
    assert notes.announced(asyncio.get_running_loop().time()) is None


async def test_a_server_that_stalls_at_the_password_is_not_asked_twice() -> None:
    server, notes = make_server(Fault(b"PASS", Stall(after_octets=2))), ServerNotes()
    async with running(server):
        with pytest.raises(ReadTimeoutError):
            await connector_for(server, notes, method=LoginMethod.USER).open()
        assert server.counts["sessions"] == 1
        assert not notes.trusted(asyncio.get_running_loop().time())


async def test_a_link_that_breaks_behind_the_login_is_opened_anew() -> None:
    server, notes = make_server(Fault(b"CAPA", Close(), nth=2)), ServerNotes()
    async with running(server):
        assert await poll(connector_for(server, notes, method=LoginMethod.USER)) == 3
        assert server.counts["sessions"] == 2


def test_notes_are_of_one_way_to_a_server() -> None:
    book = ServerBook()
    plain = Endpoint("pop.example.org", 110, TlsMode.NONE)
    assert book.notes_on(plain) is book.notes_on(replace(plain, host="POP.example.org"))
    assert book.notes_on(plain) is not book.notes_on(replace(plain, tls=TlsMode.STARTTLS))
