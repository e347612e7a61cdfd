"""What a session says, takes and refuses (RFC 5321 s.4)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mailferry.model import StoredContent
from mailferry.protocol.smtp_replies import make_reply
from mailferry.receiver.sessions import SharedLimits
from support.smtp_client_side import ENVELOPE, MESSAGE, Client, Post
from support.virtual_time import settle, timeless


@pytest.fixture
def post(tmp_path: Path) -> Post:
    """Made lazily: the sessions need the running loop."""
    return LazyPost(tmp_path)


class LazyPost(Post):
    """A post whose parts are made when the first client comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, shared: SharedLimits | None = None, **limits: object) -> LazyPost:
        Post.__init__(self, self.folder, shared, **limits)
        return self

    async def client(self, address: str = "192.0.2.7", **service: object) -> Client:
        if not hasattr(self, "sessions"):
            self.set()
        return await super().client(address, **service)


@timeless
async def test_a_message_is_taken_with_its_envelope(post: LazyPost) -> None:
    client = await post.client()
    assert client.heard() == ["220 mx.example.org ESMTP"]
    await client.greet()
    assert await client.codes(*ENVELOPE) == ["250", "250", "354"]
    assert await client.say("Subject: hi", "", "..a dot", ".") == ["250 2.0.0 OK: taken"]
    (mail,) = post.mails
    assert (mail.envelope_sender, mail.envelope_recipients) == ("a@example.net", ("u@example.org",))
    assert mail.content == b"Subject: hi\r\n\r\n.a dot\r\n"
    assert mail.received_from == "client.example.net ([192.0.2.7])"
    assert (mail.received_with, mail.destinations) == ("ESMTP", ("office",))
    assert await client.codes("QUIT") == ["221"]
    assert client.closed
    assert (post.budget.in_use_octets, post.sessions.open_count) == (0, 0)
    assert client.session.tally.accepted == 1


@timeless
async def test_what_ehlo_offers(post: LazyPost) -> None:
    client = await post.set(max_size_octets=12345).client()
    client.heard()
    client.session.data_received(b"EHLO x\r\n")
    await settle()
    offered = client.transport.written.decode().split("\r\n")[1:-1]
    assert [line[4:] for line in offered] == ["PIPELINING", "SIZE 12345", "8BITMIME", "SMTPUTF8"]


@timeless
async def test_a_whole_session_in_one_piece_and_octet_by_octet(post: LazyPost) -> None:
    lines = ("EHLO c", *ENVELOPE, *MESSAGE, *ENVELOPE, *MESSAGE, "QUIT")
    octets = b"".join(line.encode() + b"\r\n" for line in lines)
    expected = ["220", "250", "250", "250", "354", "250", "250", "250", "354", "250", "221"]
    whole = await post.client()
    assert [reply[:3] for reply in await whole.send(octets)] == expected
    dripping = await post.client()
    for number in range(len(octets)):
        if not dripping.closed:
            dripping.session.data_received(octets[number : number + 1])
        await settle(3)
    await settle()
    assert [reply[:3] for reply in dripping.heard()] == expected
    assert len({mail.content for mail in post.mails}) == 1
    assert len(post.mails) == 4


@timeless
@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("<u@example.org>", "250"),
        ("<u@EXAMPLE.ORG>", "250"),
        ("<u@sub.branch.example.org>", "250"),
        ("<Postmaster>", "250"),
        ('<"john smith"@example.org>', "250"),
        ("<@relay.example.net:u@example.org>", "250"),
        ("<u@branch.example.org>", "550"),
        ("<u@example.net>", "550"),
        ("<u@example.org.example.net>", "550"),
        ("<u@notexample.org>", "550"),
        ("<u@example.org.>", "553"),
        ("<u@[192.0.2.1]>", "550"),
        ("<@example.org:u@example.net>", "550"),
        ("<u%example.net@example.org>", "550"),
        ("<example.net!u@example.org>", "550"),
        ('<"u@example.net"@example.org>', "550"),
        ('<"a\\@b"@example.org>', "550"),
        ("<|program@example.org>", "550"),
        ("</file@example.org>", "550"),
        ("<-option@example.org>", "550"),
        ("<u@example.net@example.org>", "553"),
        ("<u@example.org@example.net>", "553"),
        ("<u@example.org> <u@example.net>", "555"),
        ("<u@example.org> NOTIFY=NEVER", "555"),
        ("<u@example.org", "501"),
        ("u@example.org", "501"),
        ("<>", "553"),
        ("<u@example.org\x00@example.net>", "553"),
        ("<ü@example.org>", "553"),
        (f"<{'x' * 65}@example.org>", "553"),
        (f"<u@{'x' * 250}.example.org>", "553"),
    ],
)
async def test_mail_is_taken_for_our_domains_only(post: LazyPost, recipient: str, code: str) -> None:
    client = await (await post.client()).greet()
    assert await client.codes("MAIL FROM:<>", f"RCPT TO:{recipient}") == ["250", code]
    assert len(post.refusals) == (code != "250")


@timeless
@pytest.mark.parametrize(
    ("sender", "code"),
    [
        ("<>", "250"),
        ("<a@example.net> SIZE=100 BODY=8BITMIME", "250"),
        ("<ü@example.net> SMTPUTF8", "250"),
        ("<a@example.net> SIZE=100000000000", "552"),
        ("<a@example.net> SIZE=x", "555"),
        ("<a@example.net> SIZE=1 SIZE=2", "501"),
        ("<a@example.net> BODY=BINARYMIME", "555"),
        ("<a@example.net> AUTH=<>", "555"),
        ("<ü@example.net>", "553"),
        ("<a>", "553"),
        ("a@example.net", "501"),
        ("", "501"),
    ],
)
async def test_senders_and_parameters(post: LazyPost, sender: str, code: str) -> None:
    client = await (await post.client()).greet()
    assert await client.codes(f"MAIL FROM:{sender}") == [code]


@timeless
@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (["MAIL FROM:<>"], ["503"]),
        (["EHLO c", "RCPT TO:<u@example.org>"], ["250", "503"]),
        (["EHLO c", "DATA"], ["250", "503"]),
        (["EHLO c", "MAIL FROM:<>", "DATA"], ["250", "250", "503"]),
        (["EHLO c", "MAIL FROM:<>", "MAIL FROM:<>"], ["250", "250", "503"]),
        (["EHLO c", "MAIL FROM:<>", "RSET", "RCPT TO:<u@example.org>"], ["250", "250", "250", "503"]),
        (["EHLO c", "MAIL FROM:<>", "EHLO c", "RCPT TO:<u@example.org>"], ["250", "250", "250", "503"]),
        (["HELO c", "MAIL FROM:<> SIZE=1"], ["250", "555"]),
        (["EHLO c", "AUTH PLAIN AGEAYg=="], ["250", "502"]),
        (["EHLO c", "STARTTLS"], ["250", "503"]),
        (["EHLO c", "EXPN staff"], ["250", "502"]),
        (["EHLO c", "VRFY u@example.org", "VRFY nobody@example.org"], ["250", "252", "252"]),
        (["EHLO c", "ETRN example.org"], ["250", "500"]),
        (["EHLO c", "BDAT 5 LAST"], ["250", "500"]),
        (["EHLO c", "HELP"], ["250", "214"]),
        (["EHLO"], ["501"]),
        (["EHLO c", "DATA now"], ["250", "501"]),
        (["QUIT now", "NOOP", "QUIT"], ["501", "250", "221"]),
    ],
)
async def test_commands_out_of_place(post: LazyPost, lines: list[str], codes: list[str]) -> None:
    client = await post.client()
    client.heard()
    assert await client.codes(*lines) == codes


@timeless
async def test_vrfy_says_the_same_of_everybody(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    assert len(set(await client.say("VRFY u@example.org", "VRFY no@where.example", "VRFY"))) == 1


# -- content -----------------------------------------------------------------------


@timeless
@pytest.mark.parametrize(
    "smuggled",
    [
        b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\n.\r\r\n", b"\x00\n.\n",
    ],
)  # fmt: skip
async def test_no_odd_line_end_ends_a_message_or_passes(post: LazyPost, smuggled: bytes) -> None:
    client = await (await post.client()).greet()
    await client.say(*ENVELOPE)
    hidden = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<v@example.org>\r\nDATA\r\nSubject: evil\r\n\r\n"
    replies = await client.send(b"Subject: x\r\n\r\nbody" + smuggled + hidden + b"\r\n.\r\n")
    assert [reply[:9] for reply in replies] == ["554 5.5.2"]
    assert post.mails == []
    assert post.refusals[-1] == ("content", "554")
    assert post.budget.in_use_octets == 0
    assert await client.codes(*ENVELOPE) == ["250", "250", "354"], "the session is in step"


@timeless
@pytest.mark.parametrize("octets", [b"NOOP\n", b"MAIL FROM:<>\nRCPT TO:<u@example.org>\r\n", b"x" * 3000])
async def test_a_command_that_does_not_end_with_crlf_ends_the_session(post: LazyPost, octets: bytes) -> None:
    client = await (await post.client()).greet()
    assert [reply[:3] for reply in await client.send(octets)] == ["500"]
    assert client.closed


@timeless
async def test_a_web_page_cannot_make_a_browser_send_mail(post: LazyPost) -> None:
    client = await post.client()
    client.heard()
    lines = ("POST / HTTP/1.1", "Host: mx", "X: y", "A: b", "", "EHLO c", *ENVELOPE, *MESSAGE)
    await client.say(*lines)
    assert client.closed
    assert post.mails == []


@timeless
async def test_a_message_above_the_limit_is_read_to_its_end_and_refused(post: LazyPost) -> None:
    client = await (await post.set(max_size_octets=100_000).client()).greet()
    await client.say(*ENVELOPE)
    assert await client.send(b"x" * 998 + b"\r\n") == []
    assert [r[:9] for r in await client.send((b"x" * 998 + b"\r\n") * 150 + b".\r\n")] == ["552 5.3.4"]
    assert not client.closed
    assert (post.mails, post.budget.in_use_octets) == ([], 0)


@timeless
async def test_a_message_without_end_is_cut_off(post: LazyPost) -> None:
    client = await (await post.set(max_size_octets=100_000).client()).greet()
    await client.say(*ENVELOPE)
    replies = await client.send(b"x" * 2_000_000)
    assert [reply[:3] for reply in replies] == ["421"]
    assert client.closed
    assert post.budget.in_use_octets == 0


@timeless
async def test_a_large_message_lies_in_a_file(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.say(*ENVELOPE)
    line = b"x" * 998 + b"\r\n"
    for _ in range(20):
        await client.send(line * 10)
    assert [reply[:3] for reply in await client.send(b".\r\n")] == ["250"]
    content = post.mails[0].content
    assert not isinstance(content, bytes)
    stored: StoredContent = content
    assert (len(stored), stored.is_crlf, stored.head(1000)) == (200_000, True, line)


@timeless
async def test_a_lone_cr_in_a_large_message_is_seen_too(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.say(*ENVELOPE)
    await client.send((b"x" * 998 + b"\r\n") * 100 + b"a\rb\r\n")
    assert [reply[:3] for reply in await client.send(b".\r\n")] == ["554"]


@timeless
async def test_eight_bits_and_nul_pass_as_they_are(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.say(*ENVELOPE)
    await client.send(b"Subject: \xff\x00\xe4\r\n\r\n\x80\r\n.\r\n")
    assert post.mails[0].content == b"Subject: \xff\x00\xe4\r\n\r\n\x80\r\n"


# -- bounds -------------------------------------------------------------------------


@timeless
async def test_recipients_of_one_message_are_bounded(post: LazyPost) -> None:
    client = await (await post.set(max_recipients=2).client()).greet()
    rcpts = [f"RCPT TO:<u{number}@example.org>" for number in (1, 2, 1, 3)]
    assert await client.codes("MAIL FROM:<>", *rcpts) == ["250", "250", "250", "250", "452"]
    assert await client.codes("DATA", *MESSAGE) == ["354", "250"]
    assert post.mails[0].envelope_recipients == ("u1@example.org", "u2@example.org")


@timeless
async def test_recipients_beyond_the_bound_do_not_cost_the_others_the_message(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    codes = await client.codes("MAIL FROM:<>", *[f"RCPT TO:<u{n}@example.org>" for n in range(300)])
    assert codes == ["250"] * 101 + ["452"] * 200
    assert await client.codes("DATA", *MESSAGE) == ["354", "250"]
    assert len(post.mails[0].envelope_recipients) == 100


@timeless
async def test_refusals_of_one_session_are_bounded(post: LazyPost) -> None:
    client = await (await post.set(max_refusals=5).client()).greet()
    codes = await client.codes("MAIL FROM:<>", *["RCPT TO:<u@example.net>"] * 9)
    assert codes == ["250", "550", "550", "550", "550", "421"]
    assert client.closed


@timeless
async def test_commands_without_mail_are_bounded(post: LazyPost) -> None:
    client = await (await post.set(max_commands=10).client()).greet()
    assert (await client.codes(*["NOOP"] * 50))[-2:] == ["250", "421"]
    other = await (await post.client()).greet()
    for _ in range(10):
        assert (await other.codes(*ENVELOPE, *MESSAGE))[-1] == "250", "mail earns new ones"


@timeless
async def test_sessions_are_bounded_in_all_and_for_one_client(post: LazyPost) -> None:
    post.set(SharedLimits(max_sessions=4))
    for _ in range(2):
        assert (await post.client()).heard()[0][:3] == "220"
    third = await post.client()
    assert (third.heard()[0][:3], third.closed) == ("421", True)
    others = [(await post.client(f"198.51.100.{number}")).heard()[0][:3] for number in range(3)]
    assert others == ["220", "220", "421"]
    turned = await post.client("192.0.2.7", guarded=False, origin="provider")
    assert turned.heard()[0][:3] == "220"
    await settle()
    assert post.sessions.open_count == 5


@timeless
async def test_messages_of_one_client_are_bounded_per_minute(post: LazyPost) -> None:
    post.set(SharedLimits(messages_per_minute=2))
    client = await (await post.client()).greet()
    for _ in range(2):
        assert (await client.codes(*ENVELOPE, *MESSAGE))[-1] == "250"
    assert await client.codes("MAIL FROM:<>") == ["450"]
    neighbour = await (await post.client("192.0.2.8")).greet()
    assert await neighbour.codes("MAIL FROM:<>") == ["250"]
    await asyncio.sleep(61)
    assert await client.codes("MAIL FROM:<>") == ["250"]


@timeless
@pytest.mark.parametrize(
    ("address", "let_in"),
    [("192.0.2.7", True), ("192.0.3.7", False), ("::ffff:192.0.2.9", True), ("", False)],
)
async def test_only_networks_that_are_named_may_connect(post: LazyPost, address: str, let_in: bool) -> None:
    client = await post.client(address, networks=("192.0.2.0/24", "2001:db8::/32"))
    assert client.heard()[0][:3] == ("220" if let_in else "554")
    assert client.closed is not let_in


@timeless
async def test_a_silent_client_is_sent_away(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await asyncio.sleep(299)
    assert not client.closed
    await asyncio.sleep(2)
    assert (client.heard()[0][:9], client.closed) == ("421 4.4.2", True)


@timeless
async def test_unknown_words_do_not_keep_a_session(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await asyncio.sleep(200)
    await client.say("XYZZY")
    await asyncio.sleep(101)
    assert client.closed


@timeless
async def test_a_client_that_does_not_take_the_last_word_is_dropped(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    client.session.pause_writing()  # as the transport does when the client reads nothing
    client.session.data_received(b"GET / HTTP/1.1\r\n")
    await settle()
    assert not client.closed
    await asyncio.sleep(301)
    assert client.closed


@timeless
async def test_what_a_client_calls_itself_is_made_readable(post: LazyPost) -> None:
    client = await post.client()
    await client.say(b"EHLO \xff\x1b[2J x ([198.51.100.1])", *ENVELOPE, *MESSAGE)
    assert post.mails[0].received_from == "??[2J?x?([198.51.100.1]) ([192.0.2.7])"


@timeless
async def test_a_session_does_not_last_for_ever(post: LazyPost) -> None:
    client = await (await post.set(max_commands=10_000).client()).greet()
    for _ in range(40):
        await asyncio.sleep(100)
        await client.codes("NOOP")
    assert client.closed


@timeless
async def test_content_that_drips_ends_the_session(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.say(*ENVELOPE)
    for _ in range(40):
        await asyncio.sleep(10)
        client.heard()
        await client.send(b"x\r\n")
        if client.closed:
            break
    assert client.closed
    assert post.budget.in_use_octets == 0


@timeless
async def test_memory_is_taken_before_the_content_and_given_back(post: LazyPost) -> None:
    post.set(SharedLimits(memory_octets=100_000), memory_wait_seconds=5.0)
    first, second = [await (await post.client()).greet() for _ in range(2)]
    assert (await first.codes("MAIL FROM:<> SIZE=60000", *ENVELOPE[1:]))[-1] == "354"
    assert post.budget.in_use_octets == 60_000
    assert (await second.codes("MAIL FROM:<> SIZE=60000", *ENVELOPE[1:]))[-1] == "452"
    assert (await first.codes(*MESSAGE))[-1] == "250"
    assert (await second.codes("MAIL FROM:<> SIZE=60000", *ENVELOPE[1:]))[-1] == "354"
    second.session.drop()
    await settle()
    assert post.budget.in_use_octets == 0


@timeless
async def test_a_size_that_is_not_true_takes_no_memory_that_was_not_reserved(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.say("MAIL FROM:<> SIZE=10", *ENVELOPE[1:])
    assert await client.codes(*MESSAGE) == ["250"]
    assert not isinstance(post.mails[0].content, bytes), "the octets beyond ten lie in a file"


@timeless
async def test_without_memory_the_sender_is_asked_to_come_later(post: LazyPost) -> None:
    client = await (await post.set(memory_wait_seconds=5.0).client()).greet()
    await post.budget.reserve(1 << 24)
    assert await client.codes(*ENVELOPE) == ["250", "250"]
    await asyncio.sleep(6)
    assert client.heard()[0][:9] == "452 4.3.1"
    post.budget.give_back(1 << 24)
    assert await client.codes(*ENVELOPE) == ["250", "250", "354"]


# -- answers, and the end -------------------------------------------------------------


@timeless
async def test_the_answer_is_that_of_the_reception(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    post.reception.replies = [make_reply(451, ("4.4.1 later",)), make_reply(554, ("5.0.0 no",))]
    assert (await client.say(*ENVELOPE, *MESSAGE))[-1] == "451 4.4.1 later"
    assert (await client.say(*ENVELOPE, *MESSAGE))[-1] == "554 5.0.0 no"
    tally = client.session.tally
    assert (tally.accepted, tally.deferred, tally.rejected) == (0, 1, 1)


@timeless
async def test_a_client_does_not_wait_longer_than_it_would(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    post.reception.gate = asyncio.Event()
    assert (await client.codes(*ENVELOPE, *MESSAGE))[-1] == "354"
    await asyncio.sleep(479)
    assert client.heard() == []
    await asyncio.sleep(2)
    assert client.heard()[0][:9] == "451 4.4.1"
    assert post.budget.in_use_octets > 0, "it is still being delivered"
    post.reception.gate.set()
    await settle()
    assert post.budget.in_use_octets == 0


@timeless
async def test_a_delivery_goes_on_when_the_client_has_left(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    post.reception.gate = asyncio.Event()
    await client.say(*ENVELOPE, *MESSAGE)
    client.session.drop()
    await settle()
    assert post.sessions.open_count == 0
    assert post.budget.in_use_octets > 0
    post.reception.gate.set()
    await settle()
    assert post.budget.in_use_octets == 0


@timeless
async def test_at_the_end_idle_sessions_go_and_a_message_under_way_is_answered(post: LazyPost) -> None:
    idle, busy, halfway = [await (await post.client()).greet() for _ in range(3)]
    post.reception.gate = asyncio.Event()
    await busy.say(*ENVELOPE, *MESSAGE)
    await halfway.say(*ENVELOPE, "Subject: half")
    post.sessions.stop()
    await settle()
    assert [client.heard()[0][:9] for client in (idle, halfway)] == ["421 4.3.2"] * 2
    assert not busy.closed
    ending = asyncio.ensure_future(post.sessions.wait_ended(10.0))
    await settle()
    post.reception.gate.set()
    assert await ending
    assert [reply[:3] for reply in busy.heard()] == ["250", "421"]
    late = await post.client()
    assert late.heard()[0][:9] == "421 4.3.2"


@timeless
async def test_at_the_deadline_what_is_left_is_cut_off(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    post.reception.gate = asyncio.Event()
    await client.say(*ENVELOPE, *MESSAGE)
    post.sessions.stop()
    assert not await post.sessions.wait_ended(3.0)
    assert client.closed
    assert post.budget.in_use_octets == 0


@timeless
async def test_half_a_line_at_the_end_of_the_link_does_nothing(post: LazyPost) -> None:
    client = await (await post.client()).greet()
    await client.send(b"\r\n".join(line.encode() for line in ENVELOPE) + b"\r\nSubject: x\r\n\r\nbody\r\n.")
    client.session.eof_received()
    await settle()
    assert client.closed
    assert (post.mails, post.budget.in_use_octets) == ([], 0)


@timeless
async def test_what_came_before_a_half_close_is_carried_out(post: LazyPost) -> None:
    client = await post.client()
    client.heard()
    lines = ("EHLO c", *ENVELOPE, *MESSAGE)
    client.session.data_received(b"".join(f"{line}\r\n".encode() for line in lines))
    client.session.eof_received()
    await settle()
    assert (client.heard()[-1][:3], len(post.mails), client.closed) == ("250", 1, True)


@timeless
async def test_a_fault_of_ours_is_not_told_in_its_own_words(
    post: LazyPost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = await (await post.client()).greet()

    def broken(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(post.sessions, "may_send", broken)
    assert await client.say("MAIL FROM:<>") == ["421 4.3.0 Something went wrong here"]
    assert client.closed
    assert "KeyError" in caplog.text
    caplog.clear()


@timeless
async def test_a_flood_of_refusals_does_not_fill_the_log(post: LazyPost) -> None:
    post.set(max_refusals=1000, max_commands=1000)
    client = await (await post.client()).greet()
    await client.codes("MAIL FROM:<>", *["RCPT TO:<u@example.net>"] * 200)
    assert len(post.refusals) == 60


@timeless
async def test_a_connection_that_exists_can_be_taken_over(post: LazyPost) -> None:
    client = await post.client(protected=True, guarded=False, origin="provider")
    assert client.heard() == ["220 mx.example.org ESMTP"]
    client.session.data_received(b"EHLO p\r\nSTARTTLS\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.net>\r\n")
    assert [reply[:3] for reply in await client.say(*ENVELOPE[1:], *MESSAGE, "QUIT")] == [
        "250", "503", "250", "550", "250", "354", "250", "221",
    ]  # fmt: skip
    tally = await client.session.wait_ended()
    assert (tally.accepted, tally.refusals) == (1, 2)
    assert post.mails[0].received_with == "ESMTPS"
