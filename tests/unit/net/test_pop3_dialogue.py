"""The POP3 driver over a fake wire: order, deadlines, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from mailferry.errors import (
    ConnectionLostError,
    LocalProtocolError,
    MailferryError,
    MessageTooLargeError,
    ReadTimeoutError,
    RemoteProtocolError,
    TransportError,
)
from mailferry.net.pop3_dialogue import Answer, Pop3Dialogue
from mailferry.protocol.pop3 import Continuation, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import (
    Auth,
    Capa,
    Command,
    Dele,
    Noop,
    Pass,
    Quit,
    Retr,
    Stat,
    Stls,
    User,
)
from support.fake_net import TIMEOUT_SECONDS, FakeWire

LOGIN = {b"USER ann": b"+OK\r\n", b"PASS pw": b"+OK\r\n"}


def says(**more: bytes) -> Callable[[bytes], bytes]:
    replies = {name.replace("_", " ").encode(): reply for name, reply in more.items()}
    return lambda line: {**LOGIN, **replies}.get(line, b"+OK\r\n")


async def logged_in(wire: FakeWire, *, limits: Pop3Limits | None = None) -> Pop3Dialogue:
    dialogue = Pop3Dialogue(wire.link, limits=limits or Pop3Limits())
    await dialogue.greeting()
    await dialogue.command(User("ann"))
    await dialogue.command(Pass("pw"))
    return dialogue


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# --- deadlines -----------------------------------------------------------------


async def wait_dripping(wire: FakeWire, dialogue: Pop3Dialogue, octets: bytes, step: float) -> float:
    """Let octets drip; return how long the session lived."""
    start = wire.loop.now
    for octet in octets:
        wire.receive(bytes([octet]))
        wire.loop.advance(step)
        if dialogue.failure is not None:
            break
    return wire.loop.now - start


async def test_a_greeting_that_drips_dies_at_the_timeout() -> None:
    wire = FakeWire()
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    waiting = asyncio.create_task(dialogue.greeting())
    await turns()
    lasted = await wait_dripping(wire, dialogue, b"+OK " + b"x" * 2000, TIMEOUT_SECONDS / 20)
    assert lasted == pytest.approx(TIMEOUT_SECONDS, rel=0.1)
    with pytest.raises(ReadTimeoutError, match="the greeting"):
        await waiting


async def test_a_greeting_that_stops_half_way_dies_at_the_timeout() -> None:
    wire = FakeWire()
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    waiting = asyncio.create_task(dialogue.greeting())
    await turns()
    wire.receive(b"+OK half")
    wire.loop.advance(TIMEOUT_SECONDS + 1)
    with pytest.raises(ReadTimeoutError):
        await asyncio.wait_for(waiting, 1)


async def test_a_reply_that_drips_dies_soon_after_the_timeout() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    wire.transport.on_write = lambda _data: None
    waiting = asyncio.create_task(dialogue.command(Retr(1)))
    await turns()
    reply = b"+OK\r\n" + b"x" * 100_000
    lasted = await wait_dripping(wire, dialogue, reply, TIMEOUT_SECONDS / 100)
    assert TIMEOUT_SECONDS <= lasted < TIMEOUT_SECONDS * 1.2
    with pytest.raises(
        ReadTimeoutError, match=r"the reply was not complete for 10 s while waiting for .* RETR"
    ):
        await waiting


async def test_new_commands_do_not_prolong_the_wait_for_an_old_reply() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    dialogue.pipelining = True
    wire.transport.on_write = lambda _data: None
    answers: list[Answer | None] = []
    for number in range(1, 30):
        dialogue.submit(Dele(number), answers.append)
        await turns(2)
        wire.receive(b"+") if number == 1 else None
        wire.loop.advance(TIMEOUT_SECONDS / 10)
    await turns()
    assert isinstance(dialogue.failure, ReadTimeoutError)
    assert answers == [None] * 29


async def test_each_reply_of_many_has_its_own_time() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    dialogue.pipelining = True
    wire.transport.on_write = lambda _data: None
    answers: list[Answer | None] = []
    for number in range(1, 11):
        dialogue.submit(Dele(number), answers.append)
    await turns()
    for _ in range(10):
        wire.loop.advance(TIMEOUT_SECONDS * 0.9)
        wire.receive(b"+OK\r\n")
    assert dialogue.failure is None
    assert all(isinstance(answer, Reply) for answer in answers)
    wire.loop.advance(TIMEOUT_SECONDS * 10)  # nothing is due any more
    assert dialogue.failure is None


# --- order and ends ------------------------------------------------------------


async def test_what_is_submitted_in_one_turn_leaves_in_one_write() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    dialogue.pipelining = True
    before = wire.transport.writes
    answers: list[Answer | None] = []
    for number in range(1, 21):
        dialogue.submit(Dele(number), answers.append)
    await turns()
    assert wire.transport.writes == before + 1
    assert [answer.command for answer in answers if isinstance(answer, Reply)] == [
        Dele(number) for number in range(1, 21)
    ]


async def test_the_pipeline_has_a_bound() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    dialogue.pipelining = True
    wire.transport.on_write = lambda _data: None
    for _ in range(200):
        dialogue.submit(Noop(), lambda _answer: None)
    await turns()
    assert wire.transport.written.count(b"NOOP") == 128
    wire.receive(b"+OK\r\n" * 10)
    assert wire.transport.written.count(b"NOOP") == 138


async def test_without_pipelining_one_command_is_on_its_way() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    wire.transport.on_write = lambda _data: None
    for _ in range(3):
        dialogue.submit(Noop(), lambda _answer: None)
    await turns()
    assert wire.transport.written.count(b"NOOP") == 1


async def test_replies_before_an_oversized_one_still_count() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire, limits=Pop3Limits(message_octets=100))
    dialogue.pipelining = True
    wire.transport.on_write = lambda _data: None
    answers: list[Answer | None] = []
    for number in (1, 2, 3):
        dialogue.submit(Retr(number), answers.append)
    await turns()
    wire.receive(b"+OK\r\nfirst\r\n.\r\n+OK\r\n" + b"x" * 200)
    await turns()
    first, *others = answers
    assert isinstance(first, Reply)
    assert first.body == b"first\r\n"
    assert others == [None, None]
    assert isinstance(dialogue.failure, MessageTooLargeError)
    assert wire.closed


async def test_an_unwritable_command_ends_the_session_before_anything_is_sent() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    await dialogue.greeting()
    with pytest.raises(LocalProtocolError, match="CR, LF or NUL") as caught:
        await dialogue.command(User("ann\r\nDELE 1"))
    assert "DELE" not in str(caught.value)
    assert not wire.transport.written
    assert wire.closed


async def test_who_comes_after_the_end_is_told_so_in_the_next_turn() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    wire.link.connection_lost(None)
    answers: list[Answer | None] = []
    dialogue.submit(Noop(), answers.append)
    assert answers == []
    await turns()
    assert answers == [None]
    with pytest.raises(ConnectionLostError):
        await dialogue.command(Stat())


async def test_the_first_reason_stands() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    first = dialogue.fail(TransportError("first"))
    assert dialogue.fail(TransportError("second")) is first is dialogue.failure


async def test_a_challenge_where_none_is_due_ends_the_session() -> None:
    wire = FakeWire(lambda _line: b"+ \r\n", greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    await dialogue.greeting()
    with pytest.raises(RemoteProtocolError, match="challenge in answer to AUTH"):
        await dialogue.command(Auth("CRAM-MD5"))
    assert wire.closed


async def test_a_challenge_is_an_answer() -> None:
    wire = FakeWire(lambda _line: b"+ aGVsbG8=\r\n", greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    await dialogue.greeting()
    answer = await dialogue.ask(Auth("CRAM-MD5"))
    assert isinstance(answer, Continuation)
    assert answer.challenge == b"hello"


@pytest.mark.parametrize("together", [True, False])
async def test_octets_after_the_ok_of_stls_end_the_session(together: bool) -> None:
    wire = FakeWire(greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    await dialogue.greeting()
    asked = asyncio.create_task(dialogue.command(Stls()))
    await turns()
    for piece in [b"+OK go\r\n+OK injected\r\n"] if together else [b"+OK go\r\n", b"+OK injected\r\n"]:
        wire.receive(piece)
    assert (await asked).ok  # it was there before the offence
    with pytest.raises(RemoteProtocolError, match=r"between the \+OK of STLS and the handshake"):
        await dialogue.start_tls()


async def test_a_cancelled_opening_takes_a_greeting_that_comes_at_that_moment() -> None:
    wire = FakeWire()
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits())
    waiting = asyncio.create_task(dialogue.greeting())
    await turns()
    waiting.cancel()
    wire.receive(b"+OK hello\r\n")  # in the same turn, before the task has run
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def test_a_callback_that_raises_does_not_keep_the_others_waiting() -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    dialogue.pipelining = True
    wire.transport.on_write = lambda _data: None
    answers: list[Answer | None] = []

    def broken(_answer: Answer | None) -> None:
        raise RuntimeError("a bug")

    dialogue.submit(Noop(), broken)
    dialogue.submit(Noop(), answers.append)
    await turns()
    with pytest.raises(RuntimeError):
        wire.receive(b"+OK\r\n+OK\r\n")
    wire.link.connection_lost(RuntimeError("what asyncio does then"))
    await turns()
    assert answers == [None]


@pytest.mark.parametrize("error", [TransportError("gone"), RemoteProtocolError("nonsense")])
async def test_everybody_is_told_once_in_order(error: MailferryError) -> None:
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = await logged_in(wire)
    wire.transport.on_write = lambda _data: None
    told: list[int] = []
    for number in range(5):

        def done(_answer: Answer | None, number: int = number) -> None:
            told.append(number)

        dialogue.submit(Noop(), done)
    await turns()
    dialogue.fail(error)
    dialogue.fail(error)
    wire.link.connection_lost(None)
    await turns()
    assert told == [0, 1, 2, 3, 4]
    with pytest.raises(type(error)):
        await dialogue.command(Quit())


# --- the trace -------------------------------------------------------------------


async def traced(wire: FakeWire, *commands: Command, login: bool = True) -> list[str]:
    lines: list[str] = []
    dialogue = Pop3Dialogue(
        wire.link, limits=Pop3Limits(), trace=lambda direction, text: lines.append(f"{direction}: {text}")
    )
    await dialogue.greeting()
    for command in (*((User("ann"), Pass("pw")) if login else ()), *commands):
        await dialogue.command(command)
    return lines


async def test_the_trace_shows_what_the_server_can_line_by_line() -> None:
    wire = FakeWire(says(CAPA=b"+OK here\r\nTOP\r\nSASL PLAIN \xff\r\n.\r\n"), greeting=b"+OK hello\r\n")
    assert await traced(wire, Capa(), login=False) == [
        "reply: +OK hello", "send: CAPA", "reply: +OK here", "reply: TOP", "reply: SASL PLAIN \\xff",
    ]  # fmt: skip


async def test_what_the_trace_shows_of_a_capability_list_has_a_bound() -> None:
    body = b"X" * 300 + b"\r\n" + b"Y\r\n" * 99
    wire = FakeWire(says(CAPA=b"+OK\r\n" + body + b".\r\n"), greeting=b"+OK hello\r\n")
    lines = (await traced(wire, Capa(), login=False))[3:]
    assert lines[0] == "reply: " + "X" * 200 + "<300 octets>"
    assert lines[1:64] == ["reply: Y"] * 63
    assert lines[64:] == ["reply: <36 more lines>"]


async def test_the_trace_counts_the_octets_of_mail() -> None:
    wire = FakeWire(says(RETR_1=b"+OK\r\nprivate\r\n.\r\n"), greeting=b"+OK hello\r\n")
    assert (await traced(wire, Retr(1)))[-2:] == ["send: RETR 1", "reply: +OK <9 octets>"]


async def test_the_trace_ends_with_the_answer_to_quit() -> None:
    lines: list[str] = []
    wire = FakeWire(says(QUIT=b"+OK bye\r\n"), greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits(), trace=lambda _direction, text: lines.append(text))
    await dialogue.greeting()
    await dialogue.command(Quit())
    dialogue.end()
    dialogue.fail(TransportError("too late to count"))
    assert lines[-2:] == ["QUIT", "+OK bye"]
    assert wire.closed
    with pytest.raises(ConnectionLostError, match="ended with QUIT"):
        await dialogue.command(Noop())


async def test_the_trace_tells_of_an_end_without_quit() -> None:
    lines: list[str] = []
    wire = FakeWire(says(), greeting=b"+OK hello\r\n")
    dialogue = Pop3Dialogue(wire.link, limits=Pop3Limits(), trace=lambda _direction, text: lines.append(text))
    await dialogue.greeting()
    dialogue.fail(TransportError("gone"))
    assert lines[-1] == "session ended: gone"
