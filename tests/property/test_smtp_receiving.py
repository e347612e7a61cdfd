"""Whatever a server sends, in whatever pieces: events or a remote protocol error, and always the same."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailferry.errors import RemoteProtocolError
from mailferry.protocol.smtp import (
    Event,
    SmtpConnection,
    SmtpLimits,
    SmtpState,
    Transaction,
    TransactionFinished,
)
from mailferry.protocol.smtp_commands import Auth, Ehlo, Noop, Quit, StartTls

LIMITS = SmtpLimits(reply_line_octets=40, reply_lines=4)
ORDER = Transaction("A", "a@x.org", ("b@y.org", "c@y.org"), (b"x\r\n",), 3)
NEXT = Transaction("B", "b@x.org", ("d@y.org",), (b"y\r\n",), 3)

# Much of it nearly right, so that it comes far.
PIECES = st.one_of(
    st.sampled_from(
        [b"250 ok\r\n", b"250-x\r\n", b"354 go\r\n", b"550 5.1.1 no\r\n", b"451 later\r\n", b"421 bye\r\n", b"334 eA==\r\n",
         b"334 \r\n", b"220 go\r\n", b"235 ok\r\n", b"221 bye\r\n", b"\r\n", b"\n", b"250", b"-", b" ", b"2", b"250 " + b"x" * 40]
    ),
    st.binary(max_size=6),
)  # fmt: skip
STREAMS = st.lists(PIECES, max_size=14).map(b"".join)
CUTS = st.lists(st.integers(0, 120), max_size=10)


def fresh() -> SmtpConnection:
    return SmtpConnection(LIMITS)


def connected() -> SmtpConnection:
    connection = fresh()
    connection.receive_data(b"220 mx\r\n")
    connection.send(Ehlo("me.example.org"))
    connection.data_to_send()
    return connection


def ready(*keywords: bytes) -> SmtpConnection:
    connection = connected()
    lines = [b"mx", *keywords]
    connection.receive_data(b"".join(b"250-%b\r\n" % line for line in lines[:-1]) + b"250 %b\r\n" % lines[-1])
    return connection


def asking_for_tls() -> SmtpConnection:
    connection = ready()
    connection.send(StartTls())
    return connection


def authenticating() -> SmtpConnection:
    connection = ready()
    connection.send(Auth("PLAIN", b"x"))
    return connection


def asked() -> SmtpConnection:
    connection = ready()
    connection.send(Noop())
    return connection


def quitting() -> SmtpConnection:
    connection = ready()
    connection.send(Quit())
    return connection


def sending(*keywords: bytes) -> SmtpConnection:
    connection = ready(*keywords)
    connection.begin(ORDER)
    connection.data_to_send()
    return connection


def overlapping() -> SmtpConnection:
    connection = sending(b"PIPELINING")
    connection.receive_data(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    connection.begin(NEXT)
    connection.data_to_send()
    return connection


def chunking() -> SmtpConnection:
    connection = sending(b"PIPELINING", b"CHUNKING")
    connection.begin(NEXT)
    connection.data_to_send()
    return connection


STAGES = [
    fresh, connected, ready, asking_for_tls, authenticating, asked, quitting, sending, overlapping, chunking,
    lambda: sending(b"PIPELINING"), lambda: sending(b"CHUNKING"),
]  # fmt: skip


def read(
    connection: SmtpConnection, pieces: list[bytes]
) -> tuple[list[Event], list[TransactionFinished], bool]:
    """Return the events, those of them that end a transaction (lost ones too), and whether an error came."""
    events: list[Event] = []
    try:
        for piece in pieces:
            events += connection.receive_data(piece)
    except RemoteProtocolError:
        assert connection.state is SmtpState.CLOSED
        assert connection.receive_data(b"250 ok\r\n") == []
        ends = [event for event in events if isinstance(event, TransactionFinished)]
        return [], ends + connection.connection_lost(), True
    assert connection.receiving_octets <= 4 * 40
    ends = [event for event in events if isinstance(event, TransactionFinished)]
    return events, ends + connection.connection_lost(), False


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=40, deadline=None)
@given(STREAMS, CUTS)
def test_any_octets_in_any_pieces(
    stage: Callable[[], SmtpConnection], stream: bytes, cuts: list[int]
) -> None:
    borders = [0, *sorted(min(place, len(stream)) for place in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(borders)]

    whole = read(stage(), [stream])

    assert read(stage(), pieces) == whole
    assert read(stage(), [bytes([octet]) for octet in stream]) == whole


@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=20, deadline=None)
@given(STREAMS)
def test_every_transaction_ends_exactly_once(stage: Callable[[], SmtpConnection], stream: bytes) -> None:
    connection = stage()
    begun = connection.unfinished

    _, ends, _ = read(connection, [stream])

    assert len(ends) == begun
    assert len({end.transaction.tag for end in ends}) == begun
    assert sum(end.in_doubt for end in ends) <= 1
    assert connection.unfinished == 0
