"""SMTP replies: parsing, bounds, and what they look like to a person."""

from __future__ import annotations

import pytest

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.smtp_replies import ReplyParser, SmtpLimits, SmtpReply, make_reply

LIMITS = SmtpLimits()


def parse(data: bytes, limits: SmtpLimits = LIMITS) -> list[SmtpReply]:
    return list(ReplyParser(limits).feed(data))


@pytest.mark.parametrize(
    ("wire", "code", "status", "lines", "shown"),
    [
        (b"250 2.1.5 Ok\r\n", 250, "2.1.5", ("Ok",), "250 2.1.5 Ok"),
        (b"250 Ok\r\n", 250, None, ("Ok",), "250 Ok"),
        (b"250 \r\n", 250, None, ("",), "250"),
        (b"250\r\n", 250, None, ("",), "250"),
        (b"550 5.1.1\r\n", 550, "5.1.1", ("",), "550 5.1.1"),
        (b"550 5.7.30 Basic\r\n", 550, "5.7.30", ("Basic",), "550 5.7.30 Basic"),
        # The reply code is believed where the status contradicts it.
        (b"550 4.1.1 x\r\n", 550, None, ("4.1.1 x",), "550 4.1.1 x"),
        (b"250 5.1.1 x\r\n", 250, None, ("5.1.1 x",), "250 5.1.1 x"),
        (b"250 2.1 x\r\n", 250, None, ("2.1 x",), "250 2.1 x"),
        (b"250 2.1.5x\r\n", 250, None, ("2.1.5x",), "250 2.1.5x"),
        (b"250 2.1234.5 x\r\n", 250, None, ("2.1234.5 x",), "250 2.1234.5 x"),
        (b"334 2.0.0 x\r\n", 334, None, ("2.0.0 x",), "334 2.0.0 x"),
        (b"550-5.1.1 a\r\n550 5.1.1 b\r\n", 550, "5.1.1", ("a", "b"), "550 5.1.1 a / b"),
        (b"550-5.1.1 a\r\n550 5.2.2 b\r\n", 550, "5.1.1", ("a", "5.2.2 b"), "550 5.1.1 a / 5.2.2 b"),
        (b"550-5.1.1 a\r\n550\r\n", 550, "5.1.1", ("a", ""), "550 5.1.1 a / "),
        ("250 Привет\r\n".encode(), 250, None, ("Привет",), "250 Привет"),
        (b"250 \xff\r\n", 250, None, ("�",), "250 �"),
        (b"250 a\x1b[31m\tb\rc\x00\r\n", 250, None, ("a\x1b[31m\tb\rc\x00",), "250 a?[31m?b?c?"),
    ],
)
def test_one_reply(wire: bytes, code: int, status: str | None, lines: tuple[str, ...], shown: str) -> None:
    [reply] = parse(wire)

    assert reply == SmtpReply(code, status, lines)
    assert str(reply) == shown


def test_text_hides_what_could_play_tricks_on_a_terminal() -> None:
    assert make_reply(250, ("a\u202eb", "c\u2028d")).text == "a?b / c?d"


def test_what_is_shown_is_bounded() -> None:
    shown = str(make_reply(250, ("x" * 4000,)))

    assert len(shown) == 500
    assert shown.endswith("x...")


@pytest.mark.parametrize(
    ("code", "name"), [(250, "positive"), (354, "intermediate"), (451, "transient"), (550, "permanent")]
)
def test_each_class_is_itself_only(code: int, name: str) -> None:
    reply = SmtpReply(code, None, ("",))
    classes = ("positive", "intermediate", "transient", "permanent")

    assert [each for each in classes if getattr(reply, each)] == [name]


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n", b"\r\n", b"25 x\r\n", b"2500 x\r\n", b"250x\r\n", b"250\tx\r\n", b"600 x\r\n", b"199 x\r\n",
        b"+OK x\r\n", b"250 x\n", b"250\rx\r\n", b" 250 x\r\n", b"\xb2\xb5\xb0 x\r\n", b"SSH-2", b"250x",
    ],
)  # fmt: skip
def test_what_is_no_reply_is_refused(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not an SMTP reply"):
        parse(wire)


def test_lines_of_one_reply_have_one_code() -> None:
    with pytest.raises(RemoteProtocolError, match="began with 250"):
        parse(b"250-a\r\n251 b\r\n")


@pytest.mark.parametrize("ended", [b"", b"\r\n"])
def test_a_line_is_bounded_whether_it_ends_or_not(ended: bytes) -> None:
    limits = SmtpLimits(reply_line_octets=20)

    assert parse(b"250 " + b"x" * 14 + b"\r\n", limits)[0].lines == ("x" * 14,)
    with pytest.raises(RemoteProtocolError, match="more than 20 octets"):
        parse(b"250 " + b"x" * 16 + ended, limits)


def test_the_number_of_lines_is_bounded() -> None:
    assert len(parse(b"250-x\r\n" * 255 + b"250 x\r\n")[0].lines) == 256
    with pytest.raises(RemoteProtocolError, match="more than 256 lines"):
        parse(b"250-x\r\n" * 257)


def test_an_unfinished_reply_is_counted_and_kept() -> None:
    parser = ReplyParser(SmtpLimits())

    assert list(parser.feed(b"250-ab\r\n250")) == []
    assert parser.receiving_octets == 11
    assert [reply.lines for reply in parser.feed(b" c\r\n250 d\r\n2")] == [("ab", "c"), ("d",)]
    assert parser.receiving_octets == 1
    assert [reply.lines for reply in parser.feed(b"50 e\r\n")] == [("e",)]
    assert parser.receiving_octets == 0
