"""Listings put together: the same in a thread as at once, and never far more than STAT told."""

from __future__ import annotations

import threading

import pytest

from mailferry.errors import RemoteProtocolError
from mailferry.net import pop3_listing
from mailferry.net.pop3_listing import read_listing

COUNT = 3000
SCAN = b"".join(b"%d %d\r\n" % (number, 100 + number) for number in range(1, COUNT + 1))
UIDS = b"".join(b"%d uid-%d\r\n" % (number, number) for number in range(1, COUNT + 1))


async def test_a_large_listing_is_read_in_a_thread_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = await read_listing(f"{COUNT} 9", SCAN, UIDS)
    threads: list[threading.Thread] = []
    really = pop3_listing.parse_stat

    def noted(text: str) -> tuple[int, int]:
        threads.append(threading.current_thread())
        return really(text)

    monkeypatch.setattr(pop3_listing, "THREAD_OCTETS", 1000)
    monkeypatch.setattr(pop3_listing, "parse_stat", noted)
    monkeypatch.setattr("mailferry.protocol.pop3_listings._AT_ONCE_OCTETS", 1000)
    assert await read_listing(f"{COUNT} 9", SCAN, UIDS) == at_once
    assert threads[0] is not threading.main_thread()
    assert (at_once.complete, len(at_once.messages), at_once.octets) == (True, COUNT, 9)


@pytest.mark.parametrize(("verb", "scan", "uids"), [("LIST", SCAN * 9, b""), ("UIDL", b"1 1\r\n", UIDS * 9)])
async def test_far_more_lines_than_stat_told_are_not_even_read(verb: str, scan: bytes, uids: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"{verb} has 27000 lines, but STAT told of 1 messages"):
        await read_listing("1 1", scan, uids)


async def test_some_more_than_stat_told_make_it_incomplete() -> None:
    listing = await read_listing("1 1", SCAN, UIDS)
    assert (len(listing.messages), listing.complete) == (COUNT, False)


async def test_an_order_that_does_not_rise_is_as_good() -> None:
    listing = await read_listing("2 1", b"2 5\r\n1 6\r\n", b"2 b\r\n1 a\r\n")
    assert [message.message_number for message in listing.messages] == [2, 1]
    with pytest.raises(RemoteProtocolError, match="comes twice"):
        await read_listing("3 1", b"2 5\r\n1 6\r\n2 5\r\n", b"2 b\r\n1 a\r\n")
