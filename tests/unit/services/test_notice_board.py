from __future__ import annotations

from typing import Any

import pytest

from mailferry import events
from mailferry.message.notice import NoticeEnvelope
from mailferry.message.notice_items import Matter
from mailferry.services.notice_board import (
    ITEMS_KEPT,
    LASTING_MAILDROP_SECONDS,
    LASTING_ROUTE_SECONDS,
    REMIND_SECONDS,
    SOON_SECONDS,
    NoticeBoard,
)

ENVELOPE = NoticeEnvelope("relay.example.org", "operator@example.org")
OWN = {"sender": f"mailferry <{ENVELOPE.sender}>", "subject": f"{ENVELOPE.subject_mark}1 message was refused"}


class Bench:
    """A board, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.board = NoticeBoard(ENVELOPE, lambda: 1e9 + self.now, lambda: self.now)

    def hear(self, *heard: events.Event) -> None:
        for event in heard:
            self.board(event)

    def wait(self, seconds: float) -> bool:
        """Let time pass; return whether a summary is due then."""
        self.now += seconds
        return self.board.is_due()

    def told(self) -> list[Matter]:
        """Tell what there is, and return it."""
        batch = self.board.batch()
        self.board.told(batch)
        return [item.matter for item in batch.all]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def about(uidl: str = "u1", **changes: Any) -> dict[str, Any]:
    fields = {"maildrop": "alice", "poll_id": "p", "uidl": uidl, "size_octets": 9}
    return fields | {"sender": "a@x", "recipient": "b@x", "subject": "s"} | changes


def rejected(uidl: str = "u1", destination: str = "office", **changes: Any) -> events.MessageRejected:
    return events.MessageRejected(**about(uidl, **changes), destination=destination, attempt=1, reason="550")


def quarantined(uidl: str = "u1", **changes: Any) -> events.MessageQuarantined:
    return events.MessageQuarantined(**about(uidl, **changes), entry="e", reason="550")


def in_doubt(uidl: str = "u1", **changes: Any) -> events.MessageInDoubt:
    return events.MessageInDoubt(**about(uidl, **changes), destination="office", attempt=1, reason="lost")


def paused(destination: str = "office", failures: int = 1) -> events.RoutePaused:
    return events.RoutePaused(destination, "421", failures, 0.0)


def login_refused(maildrop: str = "alice", failures: int = 1) -> events.MaildropAuthRejected:
    return events.MaildropAuthRejected(maildrop, "-ERR", failures)


def poll_failed(maildrop: str = "alice", failures: int = 1) -> events.PollFailed:
    return events.PollFailed(maildrop, "p", "timeout", "silence", failures, 0.0)


# -- what happens once -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "matter"),
    [
        (rejected(), Matter.REFUSED),
        (quarantined(), Matter.QUARANTINED),
        (in_doubt(), Matter.IN_DOUBT),
        (events.QuarantineFailed("alice", "p", "u1", "disk full"), Matter.QUARANTINE_FAILED),
        (events.LedgerRestored("garbled", 1.0, 1), Matter.LEDGER_RESTORED),
        (events.LedgerFailed("disk full"), Matter.LEDGER_FAILED),
        (events.ClockJumped(86_400.0), Matter.CLOCK_SET),
        (events.UidlsChanged("alice", "p", 1, 0), Matter.UIDLS_CHANGED),
    ],
)
def test_what_needs_a_person_is_told_soon_and_once(bench: Bench, event: events.Event, matter: Matter) -> None:
    bench.hear(event)
    assert not bench.wait(SOON_SECONDS - 1), "a burst is one mail"
    assert bench.wait(1)
    assert bench.told() == [matter]
    assert not bench.wait(REMIND_SECONDS * 2)
    assert bench.told() == []


@pytest.mark.parametrize(
    "event",
    [
        events.DaemonStarted("1", 1, 1),
        events.MaildropRecovered("alice", 3),
        events.RouteResumed("office", 3),
        events.NoticeFailed("operator@example.org", "421"),
        events.NoticeSent("operator@example.org", 1, "250"),
        events.LedgerRecovered(3),
        events.MessageSkipped("alice", "p", "u1", 9, "too large"),
    ],
)
def test_what_needs_nobody_is_not_told(bench: Bench, event: events.Event) -> None:
    bench.hear(event)
    assert not bench.wait(REMIND_SECONDS)
    assert bench.told() == []


def test_what_was_not_handed_over_stays(bench: Bench) -> None:
    bench.hear(rejected())
    bench.board.batch()
    assert bench.wait(SOON_SECONDS)
    assert bench.told() == [Matter.REFUSED]


def test_what_comes_while_a_summary_is_on_its_way_is_for_the_next(bench: Bench) -> None:
    bench.hear(rejected("u1"), events.LedgerFailed("a"))
    batch = bench.board.batch()
    bench.hear(rejected("u2"), events.LedgerFailed("b"))
    bench.board.told(batch)
    assert bench.told() == [Matter.REFUSED, Matter.LEDGER_FAILED]
    assert bench.told() == []


def test_the_same_again_is_one_item_that_counts(bench: Bench) -> None:
    for _ in range(3):
        bench.hear(events.LedgerFailed("disk full"))
    (item,) = bench.board.batch().all
    assert item.times == 3


def test_a_message_in_the_quarantine_is_told_once_not_per_refusal(bench: Bench) -> None:
    bench.hear(rejected("u1"), rejected("u1", "vault"), in_doubt("u1"), rejected("u2"), quarantined("u1"))
    assert sorted(bench.told()) == [Matter.REFUSED, Matter.QUARANTINED, Matter.IN_DOUBT]


def test_memory_is_bounded_the_newest_are_kept_the_others_counted(bench: Bench) -> None:
    for n in range(5000):
        bench.hear(rejected(f"u{n}"))
    batch = bench.board.batch()
    assert (len(batch.items), batch.more, batch.count) == (ITEMS_KEPT, 5000 - ITEMS_KEPT, 5000)
    assert bench.board.untold == 5000
    assert {key[2] for key in batch.items} == {f"u{n}" for n in range(5000 - ITEMS_KEPT, 5000)}
    bench.hear(rejected("new"))
    bench.board.told(batch)
    assert [key[2] for key in bench.board.batch().items] == ["new"]
    assert bench.board.untold == 2, "the one that had to make room was told, but who can know"


# -- what goes on ----------------------------------------------------------------------------


def test_a_refused_login_is_told_soon_and_again_after_a_day(bench: Bench) -> None:
    bench.hear(login_refused())
    assert bench.wait(SOON_SECONDS)
    assert bench.told() == [Matter.LOGIN_REFUSED]
    for failures in range(2, 10):
        assert not bench.wait(7000)
        bench.hear(login_refused(failures=failures))
    assert bench.wait(REMIND_SECONDS)
    assert bench.told() == [Matter.LOGIN_REFUSED]


def test_the_end_tells_of_a_refused_login_at_once(bench: Bench) -> None:
    bench.hear(login_refused(), paused(), poll_failed("bob"))
    assert not bench.board.is_due()
    assert bench.told() == [Matter.LOGIN_REFUSED]


def test_a_server_that_needs_mending_is_told_as_a_refused_login_is(bench: Bench) -> None:
    bench.hear(events.MaildropFaultReported("alice", "-ERR [SYS/PERM] gone", 1))
    assert bench.wait(SOON_SECONDS)
    (item,) = bench.board.batch().all
    assert "server needs" in item.advice[0]


@pytest.mark.parametrize(
    ("event", "seconds", "matter"),
    [
        (paused(), LASTING_ROUTE_SECONDS, Matter.ROUTE_PAUSED),
        (poll_failed(), LASTING_MAILDROP_SECONDS, Matter.NOT_POLLED),
    ],
)
def test_what_may_be_over_soon_is_told_when_it_lasts(
    bench: Bench, event: events.Event, seconds: float, matter: Matter
) -> None:
    bench.hear(event)
    assert not bench.wait(seconds - 1)
    assert bench.told() == []
    bench.hear(event)
    assert not bench.wait(1)
    assert bench.wait(SOON_SECONDS), "the second failure does not begin it anew"
    assert bench.told() == [matter]
    assert not bench.wait(REMIND_SECONDS)
    assert bench.wait(SOON_SECONDS)


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (paused(), events.RouteResumed("office", 3)),
        (poll_failed(), events.MaildropRecovered("alice", 3)),
        (login_refused(), events.MaildropRecovered("alice", 3)),
    ],
)
def test_what_is_over_is_told_only_if_it_had_been_told(
    bench: Bench, event: events.Event, end: events.Event
) -> None:
    bench.hear(event, end)
    assert not bench.wait(REMIND_SECONDS)
    bench.hear(event)
    assert bench.wait(LASTING_MAILDROP_SECONDS + SOON_SECONDS)
    assert len(bench.told()) == 1
    bench.hear(end)
    assert not bench.wait(SOON_SECONDS - 1)
    assert bench.wait(1)
    assert bench.told() == [Matter.RECOVERED]


def test_an_unreachable_maildrop_that_then_refuses_the_login_is_told_anew(bench: Bench) -> None:
    bench.hear(poll_failed())
    assert bench.wait(LASTING_MAILDROP_SECONDS + SOON_SECONDS)
    assert bench.told() == [Matter.NOT_POLLED]
    bench.hear(poll_failed(failures=2), login_refused(failures=2))
    assert bench.wait(SOON_SECONDS)
    assert bench.told() == [Matter.LOGIN_REFUSED]
    bench.hear(poll_failed(failures=3))
    assert not bench.wait(3600)


# -- our own summaries ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", [rejected(**OWN), quarantined(**OWN), in_doubt(**OWN)])
def test_a_summary_of_ours_that_comes_back_and_is_refused_makes_no_other(
    bench: Bench, event: events.Event
) -> None:
    bench.hear(event)
    assert bench.told() == []


def test_nor_does_one_that_cannot_even_be_put_into_the_quarantine(bench: Bench) -> None:
    failed = events.QuarantineFailed("alice", "p", "u1", "disk full")
    bench.hear(rejected(**OWN), failed)
    assert bench.told() == []
    bench.hear(events.QuarantineFailed("alice", "p", "u2", "disk full"))
    assert bench.told() == [Matter.QUARANTINE_FAILED]


def test_what_is_known_of_our_own_is_bounded(bench: Bench) -> None:
    for n in range(5000):
        bench.hear(rejected(f"u{n}", **OWN))
    assert bench.told() == []
    assert len(bench.board._own) <= 1000
