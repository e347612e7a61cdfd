"""A session driven command by command, and one message sent in it: one class for each way of failing."""

from __future__ import annotations

import asyncio

import pytest

from mailferry import errors
from mailferry.errors import RefusedReply, SmtpRefusedError
from mailferry.net.smtp_refusals import recipient_refusals
from mailferry.net.smtp_session import SmtpSession
from mailferry.protocol.smtp import SmtpConnection, Transaction
from mailferry.protocol.smtp_by_hand import command_by_hand
from mailferry.protocol.smtp_commands import Ehlo, Noop
from support.fake_net import FakeWire

GREETING = b"220 hop.example.org\r\n"
OFFER = b"250-hop.example.org\r\n250-PIPELINING\r\n250 HELP\r\n"
CONTENT = b"Subject: x\r\n\r\nhello\r\n"


class Hop:
    """Answers lines by what they begin with; everything else is fine with it."""

    def __init__(self, **replies: bytes) -> None:
        self.replies = replies
        self.in_data = False

    def __call__(self, line: bytes) -> bytes:
        text = line.decode()
        if self.in_data:
            self.in_data = text != "."
            return b"" if self.in_data else self.replies.get("FINAL", b"250 2.0.0 taken\r\n")
        for start, reply in self.replies.items():
            if text.startswith(start):
                return reply
        if text.startswith("EHLO"):
            return OFFER
        self.in_data = text == "DATA"
        return b"354 go\r\n" if self.in_data else b"250 ok\r\n"


async def session(**replies: bytes) -> tuple[SmtpSession, FakeWire]:
    wire = FakeWire(Hop(**replies), greeting=GREETING)
    made = SmtpSession(wire.link, SmtpConnection())
    await made.greeting()
    await made.ask(Ehlo("relay.example.org"))
    return made, wire


def letter(*recipients: str) -> Transaction:
    return Transaction("one", "ann@example.org", recipients or ("bob@example.org",), (CONTENT,), len(CONTENT))


# --- one command -------------------------------------------------------------------


async def test_every_verb_brings_its_whole_reply() -> None:
    smtp, wire = await session(
        VRFY=b"252 2.1.5 I will try\r\n",
        EXPN=b"250-2.1.5 Ann <ann@example.org>\r\n250 2.1.5 Bob <bob@example.org>\r\n",
        HELP=b"214-2.0.0 MAIL\r\n214 2.0.0 RCPT\r\n",
        XFOO=b"299 whatever\r\n",
    )
    replies = [
        await smtp.perform(command_by_hand(line))
        for line in (
            "VRFY bob",
            "EXPN staff",
            "HELP",
            "NOOP",
            "RSET",
            "XFOO 1 2",
            "MAIL FROM:<>",
            "RCPT TO:<b@x>",
        )
    ]
    assert [reply.code for reply in replies] == [252, 250, 214, 250, 250, 299, 250, 250]
    assert replies[1].enhanced_status == "2.1.5"
    assert replies[1].lines == ("Ann <ann@example.org>", "Bob <bob@example.org>")
    assert wire.lines[1:] == [
        b"VRFY bob", b"EXPN staff", b"HELP", b"NOOP", b"RSET", b"XFOO 1 2", b"MAIL FROM:<>", b"RCPT TO:<b@x>",
    ]  # fmt: skip
    # What was begun by hand does not end up in the next message's envelope.
    await smtp.deliver(letter())
    assert wire.lines[9:11] == [b"RSET", b"MAIL FROM:<ann@example.org>"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("VRFY bob", errors.SmtpCommandRefusedError),
        ("EXPN staff", errors.SmtpCommandRefusedError),
        ("HELP", errors.SmtpCommandRefusedError),
        ("NOOP", errors.SmtpCommandRefusedError),
        ("RSET", errors.SmtpCommandRefusedError),
        ("XFOO", errors.SmtpCommandRefusedError),
        ("ETRN example.org", errors.SmtpCommandRefusedError),
        ("EHLO other.example", errors.HeloRefusedError),
        ("HELO other.example", errors.HeloRefusedError),
        ("MAIL FROM:<ann@example.org>", errors.SenderRefusedError),
        ("RCPT TO:<bob@example.org>", errors.RecipientRefusedError),
    ],
)
async def test_each_refusal_carries_the_whole_reply_and_the_session_lives(
    line: str, kind: type[SmtpRefusedError]
) -> None:
    smtp, _ = await session(**{line: b"550-5.7.1 no\r\n550 5.7.1 never\r\n"})
    verb = line.split(maxsplit=1)[0]
    with pytest.raises(SmtpRefusedError) as caught:
        await smtp.perform(command_by_hand(line))
    assert type(caught.value) is kind
    assert caught.value.refused == RefusedReply(verb, 550, "5.7.1", "no / never")
    assert str(caught.value) == f"{verb} refused: 550 5.7.1 no / never"
    assert smtp.failure is None


async def test_a_421_ends_the_session_asked_or_not() -> None:
    smtp, wire = await session(NOOP=b"421 4.3.2 going down\r\n")
    with pytest.raises(errors.HopClosedError) as caught:
        await smtp.perform(Noop())
    assert caught.value.refused == RefusedReply("NOOP", 421, "4.3.2", "going down")
    with pytest.raises(errors.HopClosedError, match="has ended the session: 421 4"):
        await smtp.perform(Noop())
    other, wire = await session()
    wire.receive(b"421 4.4.2 too long idle\r\n")
    with pytest.raises(errors.HopClosedError, match="too long idle"):
        await other.perform(Noop())


async def test_a_link_that_breaks_is_told_as_that() -> None:
    smtp, wire = await session(NOOP=b"")
    wire.transport.on_write = lambda _data: wire.link.connection_lost(None)
    with pytest.raises(errors.ConnectionLostError):
        await smtp.perform(Noop())


async def test_a_reply_that_asks_for_more_ends_the_session() -> None:
    smtp, _ = await session(XFOO=b"354 go on\r\n")
    with pytest.raises(errors.RemoteProtocolError):
        await smtp.perform(command_by_hand("XFOO"))


# --- one message -------------------------------------------------------------------


async def test_a_message_that_is_taken_for_some_tells_of_the_others() -> None:
    smtp, _ = await session(
        **{"RCPT TO:<eve": b"550 5.1.1 no eve\r\n", "RCPT TO:<mal": b"450 4.2.1 not now\r\n"}
    )
    finished = await smtp.deliver(letter("eve@example.org", "bob@example.org", "mal@example.org"))
    assert finished.accepted_recipients == ("bob@example.org",)
    eve, mal = recipient_refusals(finished)
    assert (eve.recipient, eve.refused) == ("eve@example.org", RefusedReply("RCPT", 550, "5.1.1", "no eve"))
    assert (mal.recipient, mal.refused) == ("mal@example.org", RefusedReply("RCPT", 450, "4.2.1", "not now"))


async def test_every_recipient_is_refused_in_its_own_words() -> None:
    smtp, _ = await session(
        **{"RCPT TO:<eve": b"550 5.1.1 no eve\r\n", "RCPT TO:<mal": b"450 4.2.1 not now\r\n"}
    )
    with pytest.raises(errors.RecipientsRefusedError) as caught:
        await smtp.deliver(letter("eve@example.org", "mal@example.org"))
    assert [each.refused.code for each in caught.value.refusals if each.refused] == [550, 450]
    assert "no eve" in str(caught.value)
    assert "not now" in str(caught.value)


async def test_with_lmtp_each_recipient_is_refused_by_the_reply_that_is_its_own() -> None:
    hop = Hop(
        LHLO=OFFER,
        FINAL=b"452 4.2.2 full\r\n554 5.7.1 filter\r\n",
        **{"RCPT TO:<eve": b"550 5.1.1 no eve\r\n"},
    )
    wire = FakeWire(hop, greeting=GREETING)
    smtp = SmtpSession(wire.link, SmtpConnection(lmtp=True))
    await smtp.greeting()
    await smtp.perform(command_by_hand("LHLO relay.example.org"))
    with pytest.raises(errors.RecipientsRefusedError) as caught:
        await smtp.deliver(letter("bob@example.org", "eve@example.org", "cyd@example.org"))
    assert [(each.recipient, each.refused) for each in caught.value.refusals] == [
        ("bob@example.org", RefusedReply("DATA", 452, "4.2.2", "full")),
        ("eve@example.org", RefusedReply("RCPT", 550, "5.1.1", "no eve")),
        ("cyd@example.org", RefusedReply("DATA", 554, "5.7.1", "filter")),
    ]


async def test_a_message_whose_session_dies_is_told_so() -> None:
    smtp, wire = await session(FINAL=b"")
    sending = asyncio.create_task(smtp.deliver(letter()))
    for _ in range(20):
        await asyncio.sleep(0)
    wire.link.connection_lost(None)
    with pytest.raises(errors.ConnectionLostError):
        await sending


@pytest.mark.parametrize(
    ("replies", "kind", "refused"),
    [
        ({"MAIL": b"550 5.1.8 not you\r\n"}, errors.SenderRefusedError, RefusedReply("MAIL", 550, "5.1.8", "not you")),
        ({"RCPT": b"550 5.1.1 no\r\n"}, errors.RecipientsRefusedError, RefusedReply("RCPT", 550, "5.1.1", "no")),
        ({"DATA": b"451 4.3.0 no disk\r\n"}, errors.DataRefusedError, RefusedReply("DATA", 451, "4.3.0", "no disk")),
        ({"FINAL": b"554 5.6.0 what?\r\n"}, errors.DataRefusedError, RefusedReply("DATA", 554, "5.6.0", "what?")),
        ({"FINAL": b"421 4.3.2 bye\r\n"}, errors.HopClosedError, RefusedReply("DATA", 421, "4.3.2", "bye")),
        ({"MAIL": b"421 4.3.2 bye\r\n"}, errors.HopClosedError, RefusedReply("MAIL", 421, "4.3.2", "bye")),
    ],
)  # fmt: skip
async def test_a_message_that_nobody_takes(
    replies: dict[str, bytes], kind: type[SmtpRefusedError], refused: RefusedReply
) -> None:
    smtp, _ = await session(**replies)
    with pytest.raises(SmtpRefusedError) as caught:
        await smtp.deliver(letter())
    assert type(caught.value) is kind
    assert caught.value.refused == refused
