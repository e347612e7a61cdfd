"""A session driven command by command: what each answers, and one class for each refusal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from mailferry import errors
from mailferry.errors import (
    CommandRefusedError,
    ConnectionLostError,
    MaildropError,
    MaildropUnavailableError,
    QuitRefusedError,
    RefusedCommand,
    RemoteProtocolError,
)
from mailferry.model import ListedMessage, Uidl
from mailferry.net.pop3_dialogue import Pop3Dialogue
from mailferry.net.pop3_session import Pop3Session
from mailferry.ports import MaildropTraits
from mailferry.protocol.pop3 import Pop3Limits
from mailferry.protocol.pop3_commands import (
    Capa,
    Command,
    Dele,
    Lang,
    List_,
    Noop,
    Pass,
    Retr,
    Rset,
    Stat,
    Top,
    UidlCommand,
    User,
    Verb,
)
from support.fake_net import FakeWire

REPLIES = {
    b"STAT": b"+OK 2 320\r\n",
    b"LIST 2": b"+OK 2 200\r\n",
    b"UIDL 2": b"+OK 2 whqtswO00WBw418f9t5JxYwZ\r\n",
    b"TOP 2 1": b"+OK\r\nSubject: x\r\n\r\nfirst\r\n.\r\n",
    b"RETR 2": b"+OK\r\nSubject: x\r\n\r\nall\r\n.\r\n",
    b"LANG": b"+OK\r\nen English\r\nde Deutsch\r\n.\r\n",
    b"LANG de": b"+OK de Sprache\r\n",
    b"CAPA": b"+OK\r\nTOP\r\n.\r\n",
}


async def session(*, expire_days: int | None = None, **more: bytes) -> tuple[Pop3Session, FakeWire]:
    replies = REPLIES | {name.replace("_", " ").encode(): reply for name, reply in more.items()}
    wire = FakeWire(lambda line: replies.get(line, b"+OK\r\n"), greeting=b"+OK\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    await dialogue.greeting()
    await dialogue.command(User("ann"))
    await dialogue.command(Pass("pw"))
    traits = MaildropTraits(
        has_top=True, pipelining=False, login_delay_seconds=None, expire_days=expire_days, protected=True
    )
    return Pop3Session(dialogue, traits), wire


async def test_every_command_answers_in_its_own_form() -> None:
    pop3, wire = await session()
    assert await pop3.stat() == (2, 320)
    assert await pop3.list_one(2) == 200
    assert await pop3.uidl_one(2) == Uidl(b"whqtswO00WBw418f9t5JxYwZ")
    assert await pop3.top_lines(2, 1) == b"Subject: x\r\n\r\nfirst\r\n"
    assert await pop3.lang() == [("en", "English"), ("de", "Deutsch")]
    assert await pop3.set_lang("de") == "de Sprache"
    await pop3.noop()
    await pop3.rset()
    assert (await pop3.perform(Retr(2))).body == b"Subject: x\r\n\r\nall\r\n"
    assert (await pop3.perform(Verb("XSERVER"))).ok
    assert await pop3.quit()
    assert wire.lines[-1] == b"QUIT"


REFUSALS: list[tuple[Command, type[CommandRefusedError]]] = [
    (Stat(), errors.StatRefusedError),
    (List_(), errors.ListRefusedError),
    (List_(1), errors.ListRefusedError),
    (UidlCommand(1), errors.UidlRefusedError),
    (Top(1, 0), errors.TopRefusedError),
    (Retr(1), errors.RetrRefusedError),
    (Dele(1), errors.DeleRefusedError),
    (Rset(), errors.RsetRefusedError),
    (Noop(), errors.NoopRefusedError),
    (Capa(), errors.CapaRefusedError),
    (Lang("de"), errors.LangRefusedError),
    (Verb("XSERVER"), errors.CommandRefusedError),
]


@pytest.mark.parametrize(("command", "kind"), REFUSALS, ids=lambda value: getattr(value, "trace", ""))
async def test_every_refusal_has_a_class_and_carries_what_was_said(
    command: Command, kind: type[CommandRefusedError]
) -> None:
    said = {command.trace.replace(" ", "_"): b"-ERR [SYS/TEMP] come  back later\r\n"}
    pop3, _ = await session(**said)
    with pytest.raises(MaildropError) as caught:
        await pop3.perform(command)
    assert type(caught.value) is kind
    assert caught.value.refused == RefusedCommand(command.verb, "SYS/TEMP", "come  back later")
    assert f"{command.verb} refused: -ERR [SYS/TEMP] come  back later" in str(caught.value)
    assert pop3.failure is None  # a refusal ends nothing


async def test_a_refused_quit_is_told_apart_too() -> None:
    pop3, _ = await session(QUIT=b"-ERR some deleted messages not removed\r\n")
    assert not await pop3.quit()
    assert isinstance(pop3.failure, QuitRefusedError)
    assert pop3.failure.refused == RefusedCommand("QUIT", None, "some deleted messages not removed")


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda pop3: pop3.stat(), {"STAT": b"+OK many\r\n"}),
        (lambda pop3: pop3.list_one(2), {"LIST_2": b"+OK two\r\n"}),
        (lambda pop3: pop3.list_one(2), {"LIST_2": b"+OK 3 200\r\n"}),
        (lambda pop3: pop3.uidl_one(2), {"UIDL_2": b"+OK 2\r\n"}),
        (lambda pop3: pop3.uidl_one(2), {"UIDL_2": b"+OK 1 abc\r\n"}),
    ],
)
async def test_an_answer_to_another_question_ends_the_session(
    ask: Callable[[Pop3Session], Awaitable[object]], said: dict[str, bytes]
) -> None:
    pop3, wire = await session(**said)
    with pytest.raises(RemoteProtocolError):
        await ask(pop3)
    assert wire.closed
    with pytest.raises(RemoteProtocolError):
        await pop3.noop()


async def test_a_lost_link_is_no_refusal() -> None:
    pop3, wire = await session()
    wire.link.connection_lost(None)
    with pytest.raises(ConnectionLostError):
        await pop3.noop()


# --- [UTF8] (RFC 6856 s.5) --------------------------------------------------------------


async def test_a_message_that_needs_utf8_is_told_to_the_connector() -> None:
    needed: list[str] = []
    pop3, _ = await session(
        RETR_2=b"-ERR [UTF8] this message\r\n", TOP_2_0=b"-ERR [UTF8]\r\n", RETR_3=b"-ERR [SYS/TEMP]\r\n"
    )
    pop3.on_utf8_needed = lambda: needed.append("utf8")
    told: list[str] = []
    pop3.retrieve(ListedMessage(3, 10, None), lambda _content, why: told.append(why))
    await pop3.noop()
    assert (needed, told) == ([], ["RETR refused: -ERR [SYS/TEMP]"])
    pop3.retrieve(ListedMessage(2, 10, None), lambda _content, why: told.append(why))
    pop3.top(ListedMessage(2, 10, None), lambda _content, why: told.append(why))
    await pop3.noop()
    assert (needed, told[1:]) == (
        ["utf8", "utf8"],
        ["RETR refused: -ERR [UTF8] this message", "TOP refused: -ERR [UTF8]"],
    )


# --- EXPIRE 0 (RFC 2449 s.6.7) ----------------------------------------------------------


async def fetched(pop3: Pop3Session, number: int) -> None:
    pop3.retrieve(ListedMessage(number, 10, None), lambda _content, _why: None)
    await pop3.noop()


async def marked(pop3: Pop3Session, number: int) -> None:
    pop3.delete(number, lambda _ok, _why: None)
    await pop3.noop()


async def test_where_retr_deletes_no_quit_is_sent_while_something_fetched_has_to_stay() -> None:
    pop3, wire = await session(expire_days=0, RETR_1=REPLIES[b"RETR 2"])
    await fetched(pop3, 1)
    await fetched(pop3, 2)
    await marked(pop3, 2)
    assert not await pop3.quit()
    assert b"QUIT" not in wire.lines
    assert wire.closed
    assert isinstance(pop3.failure, MaildropUnavailableError)


@pytest.mark.parametrize("expire_days", [0, 1, None])
async def test_quit_is_sent_where_nothing_is_lost_by_it(expire_days: int | None) -> None:
    pop3, wire = await session(expire_days=expire_days)
    await fetched(pop3, 2)
    if expire_days == 0:
        await marked(pop3, 2)
    assert await pop3.quit()
    assert wire.lines[-1] == b"QUIT"


async def test_a_message_that_was_refused_or_only_looked_at_keeps_no_quit() -> None:
    pop3, _ = await session(expire_days=0, RETR_2=b"-ERR no\r\n", TOP_2_0=REPLIES[b"TOP 2 1"])
    await fetched(pop3, 2)
    pop3.top(ListedMessage(2, 10, None), lambda _content, _why: None)
    await pop3.noop()
    assert await pop3.quit()


async def test_rset_takes_the_marks_back() -> None:
    pop3, wire = await session(expire_days=0)
    await pop3.perform(Retr(2))
    await pop3.perform(Dele(2))
    await pop3.rset()
    assert not await pop3.quit()
    assert b"QUIT" not in wire.lines
