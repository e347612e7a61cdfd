"""The session port over a fake wire: listings, and a death at every octet of a dialogue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mailferry.errors import (
    ConnectionLostError,
    MaildropUnavailableError,
    MailferryError,
    MessageTooLargeError,
    RemoteProtocolError,
)
from mailferry.model import ListedMessage, Uidl
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.net.pop3_session import Pop3Session
from mailferry.ports import MaildropListing, MaildropTraits
from mailferry.protocol.pop3 import Pop3Limits
from mailferry.protocol.pop3_commands import Pass, User
from support.fake_net import FakeWire

GREETING = b"+OK ready\r\n"
TRAITS = MaildropTraits(
    has_top=True, pipelining=False, login_delay_seconds=None, expire_days=None, protected=True
)
REPLIES = {
    b"STAT": b"+OK 3 60\r\n",
    b"LIST": b"+OK\r\n1 10\r\n2 20\r\n3 30\r\n.\r\n",
    b"UIDL": b"+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n",
    b"RETR 1": b"+OK\r\nSubject: 1\r\n\r\n..dot\r\n.\r\n",
    b"RETR 2": b"-ERR [SYS/TEMP] later\r\n",
    b"TOP 3 0": b"+OK\r\nSubject: 3\r\n\r\n.\r\n",
    b"DELE 2": b"-ERR no such message\r\n",
}


def replies(**more: bytes) -> Callable[[bytes], bytes]:
    known = REPLIES | {verb.encode(): reply for verb, reply in more.items()}
    return lambda line: known.get(line, b"+OK\r\n")


async def logged_in(
    wire: FakeWire,
    *,
    pipelining: bool = True,
    limits: Pop3Limits | None = None,
    offers_uidl: bool = False,
) -> Pop3Session:
    dialogue = Pop3Dialogue(wire.link, limits=limits or Pop3Limits())
    await dialogue.greeting()
    await dialogue.command(User("ann"))
    await dialogue.command(Pass("pw"))
    dialogue.pipelining = pipelining
    return Pop3Session(dialogue, TRAITS, offers_uidl=offers_uidl)


async def list_with(*, offers_uidl: bool = False, **more: bytes) -> MaildropListing:
    wire = FakeWire(replies(**more), greeting=GREETING)
    return await (await logged_in(wire, offers_uidl=offers_uidl)).listing()


def numbered(number: int) -> ListedMessage:
    return ListedMessage(number, 10, Uidl(b"x"))


# --- the listing ---------------------------------------------------------------


async def test_three_listings_become_one() -> None:
    assert await list_with() == MaildropListing(
        (
            ListedMessage(1, 10, Uidl(b"a")),
            ListedMessage(2, 20, Uidl(b"b")),
            ListedMessage(3, 30, Uidl(b"c")),
        ),
        has_uidls=True,
        complete=True,
        octets=60,
    )


async def test_an_empty_maildrop_is_a_complete_listing() -> None:
    listing = await list_with(STAT=b"+OK 0 0\r\n", LIST=b"+OK\r\n.\r\n", UIDL=b"+OK\r\n.\r\n")
    assert listing == MaildropListing((), has_uidls=True, complete=True, octets=0)


async def test_a_server_without_uidl() -> None:
    listing = await list_with(UIDL=b"-ERR unknown command\r\n")
    assert not listing.has_uidls
    assert listing.complete
    assert [message.uidl for message in listing.messages] == [None] * 3


@pytest.mark.parametrize(
    ("more", "numbers"),
    [
        ({"STAT": b"+OK 4 60\r\n"}, [1, 2, 3]),
        ({"STAT": b"+OK 0 0\r\n"}, [1, 2, 3]),
        ({"LIST": b"+OK\r\n1 10\r\n.\r\n"}, [1]),
        ({"UIDL": b"+OK\r\n1 a\r\n3 c\r\n.\r\n"}, [1, 3]),
        ({"UIDL": b"+OK\r\n1 a\r\n2 b\r\n4 d\r\n.\r\n"}, [1, 2]),
        ({"UIDL": b"+OK\r\n.\r\n"}, []),
        ({"UIDL": b"-ERR unknown\r\n", "STAT": b"+OK 2 30\r\n"}, [1, 2, 3]),
    ],
)
async def test_listings_that_contradict_each_other_are_not_complete(
    more: dict[str, Any], numbers: list[int]
) -> None:
    listing = await list_with(**more)
    assert not listing.complete
    assert [message.message_number for message in listing.messages] == numbers


@pytest.mark.parametrize("verb", ["STAT", "LIST"])
async def test_a_refused_listing_is_a_maildrop_in_trouble(verb: str) -> None:
    with pytest.raises(MaildropUnavailableError, match=rf"{verb} refused: -ERR \[SYS/TEMP\] later"):
        await list_with(**dict[str, Any]({verb: b"-ERR [SYS/TEMP] later\r\n"}))


@pytest.mark.parametrize("refusal", [b"-ERR no\r\n", b"-ERR [SYS/TEMP] no\r\n"])
async def test_a_server_that_has_uidl_and_refuses_it_is_not_one_without(refusal: bytes) -> None:
    with pytest.raises(MaildropUnavailableError, match="UIDL refused"):
        await list_with(UIDL=refusal, offers_uidl=True)


@pytest.mark.parametrize("code", ["SYS/TEMP", "SYS/PERM", "IN-USE"])
async def test_a_refusal_that_names_a_trouble_is_no_lack_of_uidl(code: str) -> None:
    with pytest.raises(MaildropUnavailableError, match="UIDL refused"):
        await list_with(UIDL=f"-ERR [{code}] no\r\n".encode())


@pytest.mark.parametrize(
    "more",
    [
        {"STAT": b"+OK many\r\n"},
        {"LIST": b"+OK\r\none ten\r\n.\r\n"},
        {"LIST": b"+OK\r\n1 10\r\n1 10\r\n.\r\n"},
        {"UIDL": b"+OK\r\n1\r\n.\r\n"},
        {"UIDL": b"+OK\r\n1 " + b"x" * 1001 + b"\r\n.\r\n"},
        {"UIDL": b"hello\r\n"},
    ],
)
async def test_a_listing_that_cannot_be_read_ends_the_session(more: dict[str, Any]) -> None:
    wire = FakeWire(replies(**more), greeting=GREETING)
    session = await logged_in(wire)
    with pytest.raises(RemoteProtocolError):
        await session.listing()
    assert isinstance(session.failure, RemoteProtocolError)
    assert wire.closed


# --- requests ------------------------------------------------------------------


async def do_everything(session: Pop3Session) -> tuple[list[tuple[str, object]], Counter[str]]:
    """List, fetch, delete and quit; return what was answered and how often each callback came."""
    answers: list[tuple[str, object]] = []
    calls: Counter[str] = Counter()

    def note(name: str) -> Callable[[object, str], None]:
        def done(result: object, why: str) -> None:
            calls[name] += 1
            answers.append((name, (result, why)))

        return done

    try:
        listing = await session.listing()
        answers.append(("listing", listing.complete))
    except MailferryError as error:
        answers.append(("listing", type(error)))
    session.retrieve(numbered(1), note("retr 1"))
    session.retrieve(numbered(2), note("retr 2"))
    session.top(numbered(3), note("top 3"))
    session.delete(1, note("dele 1"))
    session.delete(2, note("dele 2"))
    answers.append(("quit", await session.quit()))
    session.delete(3, note("late"))
    for _ in range(10):
        await asyncio.sleep(0)
    return answers, calls


EXPECTED = [
    ("listing", True),
    ("retr 1", (b"Subject: 1\r\n\r\n.dot\r\n", "")),
    ("retr 2", (None, "RETR refused: -ERR [SYS/TEMP] later")),
    ("top 3", (b"Subject: 3\r\n\r\n", "")),
    ("dele 1", (True, "")),
    ("dele 2", (False, "no such message")),
    ("quit", True),
    ("late", (False, "the session ended")),
]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("piece", [1, 7, 1 << 30])
async def test_pipelining_and_the_cut_of_the_octets_change_nothing(pipelining: bool, piece: int) -> None:
    wire = FakeWire(replies(), greeting=GREETING, piece=piece)
    session = await logged_in(wire, pipelining=pipelining)
    answers, _ = await do_everything(session)
    assert answers == EXPECTED
    assert wire.closed


@pytest.mark.parametrize("pipelining", [True, False])
async def test_whatever_octet_is_the_last_every_callback_comes_once(pipelining: bool) -> None:
    whole = FakeWire(replies(), greeting=GREETING)
    await do_everything(await logged_in(whole, pipelining=pipelining))
    before_listing = len(GREETING) + 2 * len(b"+OK\r\n")
    names = {"retr 1", "retr 2", "top 3", "dele 1", "dele 2", "late"}
    for limit in range(before_listing, whole.said + 1):
        wire = FakeWire(replies(), greeting=GREETING, limit=limit)
        session = await logged_in(wire, pipelining=pipelining)
        async with asyncio.timeout(5):
            answers, calls = await do_everything(session)
        assert set(calls) == names, limit
        assert set(calls.values()) == {1}, limit
        results = dict(answers)
        for name, expected in EXPECTED:
            died = {"listing": ConnectionLostError, "quit": False}.get(name, (None, ""))
            if name.startswith("dele"):
                died = (False, "the session ended")
            assert results[name] in (expected, died), (limit, name)
        assert results["quit"] is (limit == whole.said)
        assert session.failure is not None


async def test_whole_messages_before_an_oversized_one_are_delivered() -> None:
    long = b"+OK\r\n" + b"x" * 500
    wire = FakeWire(lambda line: long if line == b"RETR 2" else replies()(line), greeting=GREETING)
    session = await logged_in(wire, limits=Pop3Limits(message_octets=100))
    results: list[tuple[bytes | None, str]] = []
    for number in (1, 2, 1):
        session.retrieve(numbered(number), lambda *result: results.append(result))
    for _ in range(10):
        await asyncio.sleep(0)
    assert results == [(b"Subject: 1\r\n\r\n.dot\r\n", ""), (None, ""), (None, "")]
    assert isinstance(session.failure, MessageTooLargeError)


@pytest.mark.parametrize("reply", [b"-ERR some deleted messages not removed\r\n", b"nonsense\r\n"])
async def test_an_unconfirmed_quit_is_false(reply: bytes) -> None:
    wire = FakeWire(replies(QUIT=reply), greeting=GREETING)
    session = await logged_in(wire)
    assert await session.quit() is False
    assert wire.closed


async def test_quit_without_an_answer_is_false() -> None:
    wire = FakeWire(replies(QUIT=b""), greeting=GREETING)
    session = await logged_in(wire)
    quitting = asyncio.create_task(session.quit())
    for _ in range(5):
        await asyncio.sleep(0)
    wire.loop.advance(1000)
    assert await quitting is False


async def test_giving_up_twice_is_giving_up() -> None:
    wire = FakeWire(replies(RETR=b""), greeting=GREETING)
    session = await logged_in(wire)
    results: list[tuple[bytes | None, str]] = []
    session.retrieve(numbered(1), lambda *result: results.append(result))
    session.abort()
    session.abort()
    for _ in range(5):
        await asyncio.sleep(0)
    assert results == [(None, "")]
    assert "given up" in str(session.failure)
    assert await session.quit() is False
