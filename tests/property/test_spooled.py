"""A message that passes through a file is, octet for octet, the message that passes through memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailferry.destinations.letter import Envelope, Rewrite, compose
from mailferry.errors import RemoteProtocolError
from mailferry.message import headers, spool
from mailferry.message.digest import content_digest
from mailferry.message.headers import header_of, split_header
from mailferry.message.lineends import normalise_line_ends, normalised_pieces
from mailferry.message.rewriting import rewritten
from mailferry.message.spool import Spool, SpooledContent
from mailferry.model import Content, Delivery, Outcome
from mailferry.protocol.pop3 import Pop3Connection, Pop3Limits, Reply
from mailferry.protocol.pop3_commands import Pass, Retr, User
from mailferry.protocol.smtp import SmtpConnection, Transaction
from mailferry.protocol.smtp_commands import Ehlo
from mailferry.protocol.smtp_features import SmtpFeatures
from mailferry.protocol.smtp_replies import SmtpLimits
from mailferry.protocol.smtp_transaction import read_pieces
from support.deliveries import Reports

fast = settings(max_examples=150, deadline=None)

# Everything that has a meaning somewhere on the way, and what may stand between.
TOKENS = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b".",
        b"..",
        b"\r\n.",
        b"\r\n.\r\n",
        b" ",
        b"\r\n\r\n",
        b"\xe9",
        b"Subject: x\r\n",
    ]
)
RETURN_PATHS = st.sampled_from([b"Return-Path: <a@example.org>\r\n", b"return-path: <\xe9@example.org>\r\n"])
CONTENTS = st.lists(st.one_of(TOKENS, RETURN_PATHS, st.binary(max_size=5)), max_size=25).map(b"".join)
CUTS = st.lists(st.integers(0, 300), max_size=8)


def split(octets: bytes, at: list[int]) -> list[bytes]:
    borders = [0, *sorted(min(place, len(octets)) for place in at), len(octets)]
    return [octets[start:end] for start, end in pairwise(borders)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for spool files, and bounds so small that every message reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "PIECE_OCTETS", 7)
        patch.setattr(headers, "_SHORT_HEADER_OCTETS", 24)
        patch.setattr(headers, "HEADER_LIMIT_OCTETS", 60)
        yield tmp_path_factory.mktemp("spool")


def stored(folder: Path, octets: bytes, at: list[int]) -> SpooledContent:
    file = Spool(folder, 1, reserve_octets=0).new_file()
    for piece in split(octets, at):
        file.write(piece)
    content = file.content()
    assert content is not None, file.failure
    return content


# -- the file ---------------------------------------------------------------------------------------


@fast
@given(octets=CONTENTS, at=CUTS, start=st.integers(0, 300))
def test_a_file_tells_of_its_octets_what_they_are(
    folder: Path, octets: bytes, at: list[int], start: int
) -> None:
    content = stored(folder, octets, at)
    assert len(content) == len(octets)
    assert b"".join(content.pieces(start)) == octets[start:]
    assert content.head(start) == octets[:start]
    assert content_digest(content) == content_digest(octets)
    assert content.is_ascii == octets.isascii()
    assert content.is_crlf == (normalise_line_ends(octets) == octets)


@fast
@given(octets=CONTENTS, at=CUTS)
def test_the_header_is_the_same(folder: Path, octets: bytes, at: list[int]) -> None:
    assert header_of(stored(folder, octets, at)) == header_of(octets) == split_header(octets)[0]


@fast
@given(octets=CONTENTS, at=CUTS)
def test_line_ends_are_the_same_in_any_pieces(octets: bytes, at: list[int]) -> None:
    assert b"".join(normalised_pieces(split(octets, at))) == normalise_line_ends(octets)


# -- POP3 -------------------------------------------------------------------------------------------


def in_transaction(limits: Pop3Limits, folder: Path) -> Pop3Connection:
    connection = Pop3Connection(limits, Spool(folder, 1, reserve_octets=0).new_file)
    connection.receive_data(b"+OK\r\n")
    for command in (User("ann"), Pass("x")):
        connection.send(command)
        connection.receive_data(b"+OK\r\n")
    return connection


def bodies(
    folder: Path, stream: list[bytes], *, held: int | None, listed: int | None, limit: int
) -> tuple[list[bytes], bool]:
    """Return the bodies that came, and whether the session failed."""
    connection = in_transaction(Pop3Limits(message_octets=limit, held_octets=held), folder)
    for number in (1, 2):
        connection.send(Retr(number, listed))
    replies: list[object] = []
    failed = False
    for piece in stream:
        try:
            replies += connection.receive_data(piece)
        except RemoteProtocolError:
            replies += connection.events_before_failure
            failed = True
            break
    found = []
    for reply in replies:
        assert isinstance(reply, Reply)
        whole: Content | None = reply.body
        if reply.sink is not None:
            assert isinstance(reply.sink, spool.SpoolFile)
            whole = reply.sink.content()
        if whole is not None:
            found.append(whole if isinstance(whole, bytes) else b"".join(whole.pieces()))
    return found, failed


@fast
@given(
    stream=st.one_of(
        st.lists(CONTENTS, min_size=1, max_size=2).map(
            lambda each: b"".join(b"+OK\r\n" + octets + b"\r\n.\r\n" for octets in each)
        ),
        CONTENTS.map(lambda octets: b"+OK\r\n" + octets),
    ),
    at=CUTS,
    listed=st.one_of(st.none(), st.integers(0, 200)),
    limit=st.integers(10, 300),
)
@example(b"+OK\r\n.\r\n+OK\r\n..\r\n.\r\n", [], 100, 50)
def test_what_a_server_sends_comes_the_same_through_a_file(
    folder: Path, stream: bytes, at: list[int], listed: int | None, limit: int
) -> None:
    in_memory = bodies(folder, [stream], held=None, listed=listed, limit=limit)
    one_by_one = [stream[place : place + 1] for place in range(len(stream))]
    for pieces in ([stream], split(stream, at), one_by_one):
        assert bodies(folder, pieces, held=3, listed=listed, limit=limit) == in_memory


# -- SMTP -------------------------------------------------------------------------------------------


class Stream:
    """Implements `ContentStream` over pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __len__(self) -> int:
        return sum(map(len, self._pieces))

    @property
    def ends_line(self) -> bool:
        return True  # its content was made so, even where CR and LF are in two pieces

    def pieces(self) -> Iterator[bytes]:
        yield from self._pieces


def dialogue(transaction: Transaction, *, chunking: bool, pipelining: bool) -> list[bytes]:
    """Return what the client writes between one reply and the next."""
    # Content that is held goes with the group if it is small; a stream never does.
    connection = SmtpConnection(SmtpLimits(grouped_bdat_octets=-1))
    offers = b"250-CHUNKING\r\n" * chunking + b"250-PIPELINING\r\n" * pipelining
    said: list[bytes] = []

    def hear(*replies: bytes) -> None:
        for reply in replies:
            connection.receive_data(reply)
        octets = b"".join(connection.data_to_send())
        while connection.streaming:
            assert not any(run.content_sent for run in connection._dialogue.runs), "not whole yet"
            octets += b"".join(connection.data_to_send())
        said.append(octets)

    hear(b"220 x\r\n")
    connection.send(Ehlo("relay.example.net"))
    hear(b"250-x\r\n" + offers + b"250 SIZE\r\n")
    connection.begin(transaction)
    hear()
    for _ in range(4):
        if connection.awaiting == "final":
            break
        hear(b"354 go on\r\n" if connection.awaiting == "data" else b"250 ok\r\n")
    assert connection.in_doubt
    hear(b"250 done\r\n")
    assert connection.idle
    return said


@fast
@given(octets=CONTENTS, at=CUTS, chunking=st.booleans(), pipelining=st.booleans())
def test_the_wire_is_the_same(octets: bytes, at: list[int], chunking: bool, pipelining: bool) -> None:
    octets = normalise_line_ends(octets)
    first, *rest = split(octets, at)

    def transaction(*content: bytes | Stream) -> Transaction:
        return Transaction(None, "a@example.org", ("b@example.org",), content, len(octets))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mailferry.protocol.smtp_pipeline.DRAIN_OCTETS", 5)
        content = (first, Stream(rest)) if b"".join(rest) else (b"", Stream([first]))
        streamed = dialogue(transaction(*content), chunking=chunking, pipelining=pipelining)
        held = dialogue(transaction(octets), chunking=chunking, pipelining=pipelining)
    assert streamed == held


# -- from a delivery to the wire ----------------------------------------------------------------------


def sent(delivery: Delivery, features: SmtpFeatures, spool_folder: Spool) -> tuple[object, ...] | Outcome:
    """Compose, and write anew where that is asked for; return the transaction with its content joined."""
    envelope = Envelope("original", ("b@example.org",), "relay.example.net")
    letter = compose(delivery, envelope, features)
    for _ in range(2):
        if isinstance(letter, Rewrite):
            again = rewritten(delivery.message.content, spool_folder, seven_bit=letter.seven_bit)
            letter = compose(delivery, envelope, features, again)
    assert not isinstance(letter, Rewrite), "it must come to an end"
    if not isinstance(letter, Transaction):
        return letter
    octets = b"".join(read_pieces(letter.content))
    assert letter.size_octets == len(octets)
    return octets, letter.eight_bit, letter.size_octets, letter.envelope_sender


@fast
@given(octets=CONTENTS, at=CUTS, eight_bit_mime=st.booleans())
@example(b"Return-Path: <\xe9@example.org>\r\n" + b"Subject: x\r\n" * 20, [], False)
@example(b"Return-Path: <aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa>\r\n" + b"b\r\n" * 50, [], True)
def test_a_delivery_is_the_same(folder: Path, octets: bytes, at: list[int], eight_bit_mime: bool) -> None:
    place = Spool(folder, 1, reserve_octets=0)
    features = SmtpFeatures(eight_bit_mime=eight_bit_mime)
    in_memory = Reports().order(content=octets)
    in_a_file = replace(in_memory, message=replace(in_memory.message, content=stored(folder, octets, at)))
    assert sent(in_a_file, features, place) == sent(in_memory, features, place)


def test_the_bounds_are_the_small_ones(folder: Path) -> None:
    assert list(stored(folder, b"0123456789", []).pieces()) == [b"0123456", b"789"]
