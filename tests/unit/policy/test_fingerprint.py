from __future__ import annotations

import pytest

from mailferry.model import KnownMessage, MaildropName, MessageId, MessageRecord, MessageState, Uidl
from mailferry.policy.fingerprint import Fingerprint, Pool, comparable_content, is_same

KEPT, SKIPPED = MessageState.ACCEPTED, MessageState.SKIPPED


def row(
    number: int = 1, header: bytes = b"h", content: bytes = b"c", state: MessageState = KEPT, size: int = 5
) -> MessageRecord:
    return MessageRecord(
        MessageId(number), MaildropName("m"), Uidl(b"u%d" % number), state, size, 0.0, 0.0, header, content
    )


def entries(*rows: MessageRecord) -> list[KnownMessage]:
    return [KnownMessage(each) for each in rows]


def seen(header: bytes = b"h", content: bytes = b"", *, traced: bool = False) -> Fingerprint:
    return Fingerprint(header, traced, content)


def number_of(entry: KnownMessage | None) -> int | None:
    return entry.message.message_id if entry is not None else None


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (seen(traced=True), True),
        (seen(traced=False), None),
        (seen(b"other", traced=True), False),
        (seen(b"other", traced=False), False),
        (seen(content=b"c"), True),
        (seen(content=b"x"), False),
        (seen(content=b"x", traced=True), True),  # the server rewrites something in the message
        (seen(b"other", b"c"), True),
    ],
)
def test_a_header_with_a_trace_tells_and_one_without_leaves_it_to_the_content(
    shown: Fingerprint, same: bool | None
) -> None:
    assert is_same(shown, row()) is same


def test_the_digest_of_a_note_is_not_that_of_the_message() -> None:
    skipped = row(state=SKIPPED)
    assert comparable_content(skipped) == b""
    assert is_same(seen(traced=True), skipped) is True
    assert is_same(seen(), skipped) is False
    assert is_same(seen(content=b"c"), skipped) is False
    assert Pool(entries(skipped)).claim(seen(content=b"c")) is None


def test_each_row_is_claimed_once_and_copies_are_counted() -> None:
    pool = Pool(entries(row(1), row(2), row(3, b"other", b"d")))
    claimed = [number_of(pool.claim(seen(content=b"c"))) for _ in range(3)]
    assert claimed == [1, 2, None]
    assert [entry.message.message_id for entry in pool.unclaimed()] == [3]
    assert len(pool) == 1


def test_a_row_claimed_by_its_content_cannot_be_claimed_by_its_header() -> None:
    pool = Pool(entries(row(1), row(2)))
    assert number_of(pool.claim(seen(b"x", b"c"))) == 1
    assert number_of(pool.claim(seen(traced=True))) == 2
    assert pool.claim(seen(b"x", b"c")) is None
    assert pool.claim(seen(traced=True)) is None


def test_a_header_without_a_trace_claims_nothing() -> None:
    assert Pool(entries(row())).claim(seen()) is None


def test_the_content_is_wanted_only_where_it_can_tell() -> None:
    pool = Pool(entries(row(1), row(2, b"skipped", state=SKIPPED)))
    assert pool.wants_content(seen())
    assert not pool.wants_content(seen(traced=True))
    assert not pool.wants_content(seen(content=b"x"))
    assert not pool.wants_content(seen(b"other"))
    assert not pool.wants_content(seen(b"skipped"))
    pool.claim(seen(content=b"c"))
    assert not pool.wants_content(seen())


def test_what_was_never_seen_can_be_recognised_by_nobody() -> None:
    pool = Pool(entries(row(1, b"", b"", size=7)))
    assert (len(pool), pool.recognisable, pool.has_size(7)) == (1, False, False)
    assert pool.claim(seen(b"", b"")) is None
    assert Pool(entries(row(1, size=7))).has_size(7)
