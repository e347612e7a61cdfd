"""Questions for a page: found by whatever names a message, page by page, and never for long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailferry.errors import StoreError
from mailferry.ledger import HistoryFilter, SqlLedger, browsing
from mailferry.ledger.browsing import open_browser
from mailferry.message.received import message_name, message_number
from mailferry.model import MessageId, Uidl
from support.ledger_contract import delivery, message, numbers


async def filled(ledger: SqlLedger, many: int = 5) -> None:
    rows = [
        replace(
            message(number),
            uidl=Uidl(b"u%d" % number),
            subject=f"Grüße {number}",
            sender="ann@example.org",
            updated_at=1000.0 + number // 2,  # some at the same time
            accepted_at=3600.0 * number,
        )
        for number in range(1, many + 1)
    ]
    await ledger.save([*rows, delivery(2)])


async def test_a_search_goes_on_behind_its_last_message(ledger: SqlLedger, url: str) -> None:
    await filled(ledger)
    with open_browser(url) as browser:
        wanted = HistoryFilter(text="GRÜSSE", limit=2)
        assert browser.search(wanted).messages == [], "sharp s is no double s"
        wanted = HistoryFilter(text="grüße", limit=2)
        first = browser.search(wanted)
        assert (numbers(first.messages), first.more, first.searched_to) == ([5, 4], True, None)
        seen, last = numbers(first.messages), first.messages[-1].message
        while (found := browser.search(wanted, (last.updated_at, last.message_id))).messages:
            seen += numbers(found.messages)
            last = found.messages[-1].message
        assert seen == [5, 4, 3, 2, 1]
        assert not found.more


async def test_a_message_is_found_by_its_number_and_its_uidl(ledger: SqlLedger, url: str) -> None:
    await filled(ledger)
    with open_browser(url) as browser:
        assert numbers(browser.search(HistoryFilter(text=message_name(3))).messages) == [3]
        assert numbers(browser.search(HistoryFilter(text="u4")).messages) == [4]
        known = browser.message(MessageId(2))
        assert known is not None
        assert [each.destination for each in known.deliveries] == ["office"]
        assert browser.message(MessageId(99)) is None


async def test_accepted_messages_are_counted_by_the_hour(ledger: SqlLedger, url: str) -> None:
    await filled(ledger)
    with open_browser(url) as browser:
        assert sorted(browser.relayed_by_hour(0.0, 3 * 3600.0)) == [
            ("alice", 1, 1),
            ("alice", 2, 1),
            ("alice", 3, 1),
        ]


async def test_a_long_search_says_how_far_it_came_and_goes_on_there(
    ledger: SqlLedger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(ledger, 20)
    monkeypatch.setattr(browsing, "SLICE", 3)
    with open_browser(url) as browser:
        assert numbers(browser.search(HistoryFilter(text="grüße", limit=7)).messages) == [*range(20, 13, -1)]
        monkeypatch.setattr(browsing, "SEARCH_SECONDS", -1.0)
        wanted = HistoryFilter(text="grüße 1", limit=50)  # 1, and 10 to 19
        found = browser.search(wanted)
        assert (numbers(found.messages), found.searched_to) == ([19, 18], (1009.0, 18))
        seen = numbers(found.messages)
        while found.searched_to is not None:
            found = browser.search(wanted, found.searched_to)
            seen += numbers(found.messages)
        assert seen == [*range(19, 9, -1), 1]


async def test_what_takes_too_long_is_given_up(ledger: SqlLedger, url: str) -> None:
    await filled(ledger, 1500)
    with open_browser(url) as browser:
        browser._seconds = -1.0
        for question in (browser.counts, lambda: browser.search(HistoryFilter(text="nowhere"))):
            with pytest.raises(StoreError, match="needs more than -1 s"):
                question()
        browser._seconds = 2.0
        assert sum(browser.counts().values()) == 1500


@pytest.mark.parametrize("number", [0, 1, 35, 36, (1 << 63) - 1])
def test_names_of_messages_can_be_read_again(number: int) -> None:
    assert message_number(message_name(number)) == number


@pytest.mark.parametrize("text", ["", "Alice", "a b", "zzzzzzzzzzzzz", "0" * 14, "ß"])
def test_other_text_is_no_number(text: str) -> None:
    assert message_number(text) is None
