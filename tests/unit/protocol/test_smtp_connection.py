"""The SMTP machine where a transcript cannot show it: objects, tricks, and octets that belong together."""

from __future__ import annotations

import sys

import pytest

from mailferry.errors import LocalProtocolError, RemoteProtocolError
from mailferry.protocol.smtp import (
    Replied,
    SmtpConnection,
    SmtpFeatures,
    SmtpState,
    Transaction,
    TransactionFinished,
    dot_stuff,
)
from mailferry.protocol.smtp_commands import Auth, AuthResponse, Command, Ehlo, Noop, StartTls
from mailferry.protocol.smtp_transaction import dot_stuff as original_dot_stuff


def ready(*keywords: str, **options: bool) -> SmtpConnection:
    connection = SmtpConnection(**options)
    connection.receive_data(b"220 mx\r\n")
    connection.send(Ehlo("me.example.org"))
    connection.data_to_send()
    lines = [b"mx", *(keyword.encode() for keyword in keywords)]
    wire = b"".join(b"250-%b\r\n" % line for line in lines[:-1]) + b"250 %b\r\n" % lines[-1]
    connection.receive_data(wire)
    return connection


def order(tag: str = "A", content: tuple[bytes, ...] = (b"Hi\r\n",)) -> Transaction:
    return Transaction(tag, "a@x.org", ("b@y.org",), content, sum(map(len, content)))


def finished(events: object) -> TransactionFinished:
    [event] = events  # type: ignore[misc]  # a wrong number of events fails here, as it should
    assert isinstance(event, TransactionFinished)
    return event


def test_everything_a_driver_needs_is_in_one_module() -> None:
    assert dot_stuff is original_dot_stuff


@pytest.mark.parametrize(
    "injected", [b"250 evil\r\n", b"421 bye\r\n", b"2", b"\r\n", b"250-multi\r\n", b"\x16\x03\x01"]
)
def test_octets_after_the_reply_to_starttls_end_the_session(injected: bytes) -> None:
    connection = ready("STARTTLS")
    connection.send(StartTls())
    connection.data_to_send()

    with pytest.raises(RemoteProtocolError):
        connection.receive_data(b"220 go\r\n" + injected)
    assert connection.state is SmtpState.CLOSED
    with pytest.raises(RemoteProtocolError):
        connection.tls_established()


@pytest.mark.parametrize("late", [b"2", b"hello\r\n", b"\x16\x03\x01"])
def test_octets_before_the_handshake_end_the_session_even_when_they_come_later(late: bytes) -> None:
    connection = ready("STARTTLS")
    connection.send(StartTls())
    connection.receive_data(b"220 go\r\n")

    with pytest.raises(RemoteProtocolError, match="between the reply to STARTTLS and the TLS handshake"):
        connection.receive_data(late)
    with pytest.raises(RemoteProtocolError, match="between"):
        connection.tls_established()


def test_tls_forgets_the_features() -> None:
    connection = ready("STARTTLS", "PIPELINING", "SIZE 10")
    connection.send(StartTls())
    connection.receive_data(b"220 go\r\n")
    assert connection.features.pipelining

    connection.tls_established()

    assert connection.features == SmtpFeatures()
    assert connection.state is SmtpState.CONNECTED


@pytest.mark.parametrize("keywords", [("PIPELINING",), ("PIPELINING", "CHUNKING"), ()])
def test_content_is_handed_on_uncopied(keywords: tuple[str, ...]) -> None:
    connection = ready(*keywords)
    chunks = (b"one\r\n", b"two\r\n")
    connection.begin(order(content=chunks))
    buffers = connection.data_to_send()
    for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        if not connection.in_doubt:
            connection.receive_data(reply)
            buffers += connection.data_to_send()

    assert all(any(chunk is buffer for buffer in buffers) for chunk in chunks)


def test_a_group_is_one_buffer() -> None:
    connection = ready("PIPELINING")

    connection.begin(order())

    assert connection.data_to_send() == [b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n"]
    assert connection.data_to_send() == []


def test_content_counts_as_sent_only_when_it_was_handed_over() -> None:
    connection = ready("PIPELINING")
    connection.begin(order())
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert not connection.in_doubt

    report = finished(connection.connection_lost())

    assert not report.content_sent
    assert not report.in_doubt
    assert connection.data_to_send() == []


def test_nothing_of_a_finished_transaction_is_kept() -> None:
    connection = ready("PIPELINING")
    content = bytes(bytearray(b"Hi\r\n"))
    held = sys.getrefcount(content)
    connection.begin(order(content=(content,)))
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n")

    assert sys.getrefcount(content) == held


def test_the_next_may_begin_before_the_content_was_drained() -> None:
    connection = ready("PIPELINING")
    connection.begin(order())
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")

    connection.begin(order("B"))

    assert b"".join(connection.data_to_send()).startswith(b"Hi\r\n.\r\nMAIL FROM:<a@x.org>\r\n")


def test_an_answer_to_content_that_was_not_sent_is_not_believed() -> None:
    connection = ready("PIPELINING")
    connection.begin(order())
    connection.data_to_send()

    with pytest.raises(RemoteProtocolError, match="answered before it was sent"):
        connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n250 I have it, promised\r\n")
    report = finished(connection.connection_lost())

    assert report.data_reply is None
    assert not report.in_doubt


def test_a_250_counts_whatever_nonsense_follows_it() -> None:
    connection = ready("PIPELINING")
    connection.begin(order())
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")
    connection.data_to_send()

    with pytest.raises(RemoteProtocolError):
        connection.receive_data(b"250 2.0.0 queued\r\nHTTP/1.1 400 what\r\n")
    report = finished(connection.connection_lost())

    assert str(report.data_reply) == "250 2.0.0 queued"
    assert not report.in_doubt
    assert connection.connection_lost() == []


def test_a_dead_session_takes_and_gives_nothing() -> None:
    connection = ready()
    connection.send(Noop())
    connection.connection_lost()

    assert connection.data_to_send() == []
    assert connection.receive_data(b"250 ok\r\n") == []
    assert connection.awaiting == ""
    assert not connection.can_begin
    with pytest.raises(LocalProtocolError, match="CLOSED"):
        connection.begin(order())


def test_replies_carry_the_command_itself() -> None:
    connection = ready()
    command = Noop()
    connection.send(command)

    [event] = connection.receive_data(b"250 ok\r\n")

    assert isinstance(event, Replied)
    assert event.command is command


def test_an_unknown_kind_of_command_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="not legal"):
        ready().send(Command())


def test_an_ehlo_that_is_refused_keeps_what_was_known() -> None:
    connection = ready("PIPELINING")
    connection.send(Ehlo("again.example.org"))
    connection.receive_data(b"503 once is enough\r\n")

    assert connection.features.pipelining
    assert connection.state is SmtpState.READY


def test_receiving_octets_tell_a_drip_from_silence() -> None:
    connection = ready()
    connection.send(Noop())

    assert connection.receive_data(b"250-a\r\n25") == []
    assert connection.receiving_octets == 9
    connection.receive_data(b"0 b\r\n")
    assert connection.receiving_octets == 0


def test_the_trace_masks_secrets_and_content() -> None:
    seen: list[tuple[str, str]] = []
    connection = SmtpConnection(trace=lambda direction, text: seen.append((direction, text)))
    connection.receive_data(b"220 mx\r\n")
    connection.send(Ehlo("me.example.org"))
    connection.receive_data(b"250-mx\r\n250 PIPELINING\r\n")
    connection.send(Auth("LOGIN", b"hush"))
    connection.receive_data(b"334 UGFzc3dvcmQ6\r\n")
    connection.send(AuthResponse(b"hush"))
    connection.receive_data(b"235 2.7.0 ok\r\n")
    connection.begin(order(content=(b"hush\r\n",)))
    connection.data_to_send()
    connection.receive_data(b"250 ok\r\n250 ok\r\n354 go\r\n")

    assert seen == [
        ("reply", "220 mx"),
        ("send", "EHLO me.example.org"),
        ("reply", "250 mx"),
        ("reply", "250 PIPELINING"),
        ("send", "AUTH LOGIN ***"),
        ("reply", "334 UGFzc3dvcmQ6"),
        ("send", "***"),
        ("reply", "235 2.7.0 ok"),
        ("send", "MAIL FROM:<a@x.org>"),
        ("send", "RCPT TO:<b@y.org>"),
        ("send", "DATA"),
        ("reply", "250 ok"),
        ("reply", "250 ok"),
        ("reply", "354 go"),
        ("note", "9 octets of content"),
    ]
