"""Accepted is not "mail came": who is called silent, how loudly, and for how long."""

from __future__ import annotations

import pytest

from mailferry.events import EtrnAcceptedButSilent, EtrnMailCame, EtrnPendingButSilent, Event
from mailferry.policy.etrn import judge
from mailferry.services.etrn import ArrivalWatch, NodeOutcome
from support.fake_etrn import reply

AFTER = 600.0
X = "x.org"


class Bench:
    def __init__(self, *nodes: str, silent: bool = False) -> None:
        self.now = 5000.0
        self.events: list[Event] = []
        self.changes: list[bool] = []
        self.watch = ArrivalWatch(self.events.append, lambda: self.now, lambda: self.now)
        for node in nodes or (X,):
            self.watch.watch("office", node, AFTER, self.changes.append, silent=silent)

    def says(self, line: str, node: str = X) -> None:
        answer = judge(reply(line), protected=True, logged_in=True)
        self.watch.answered("office", NodeOutcome(node, self.now, answer, line))

    def later(self, seconds: float) -> list[Event]:
        """What is told after so long."""
        self.now += seconds
        before = len(self.events)
        self.watch.look()
        return self.events[before:]


def test_silence_after_an_accepted_request_is_told_once() -> None:
    bench = Bench()
    bench.says("250 started")
    assert bench.later(AFTER - 1) == []
    assert bench.later(1) == [EtrnAcceptedButSilent("office", X, 5000.0, AFTER)]
    bench.says("250 started")
    assert bench.later(10 * AFTER) == []
    assert bench.changes == [True]


def test_a_later_request_does_not_put_it_off() -> None:
    bench = Bench()
    bench.says("250 started")
    bench.later(AFTER - 1)
    bench.says("250 started")
    assert bench.later(1) == [EtrnAcceptedButSilent("office", X, 5000.0, AFTER)]


def test_mail_in_time_is_no_news() -> None:
    bench = Bench()
    bench.says("250 started")
    bench.later(AFTER - 1)
    bench.watch.mail_came(X)
    assert bench.later(10 * AFTER) == []
    assert bench.changes == []


def test_mail_ends_the_silence_and_the_next_one_is_told_again() -> None:
    bench = Bench()
    bench.says("250 started")
    bench.later(AFTER)
    bench.watch.mail_came(X)
    bench.watch.mail_came(X)
    assert bench.events[1:] == [EtrnMailCame("office", X)]
    bench.now += 5
    bench.says("250 started")
    assert len(bench.later(AFTER)) == 1
    assert bench.changes == [True, False, True]


def test_mail_that_came_before_the_answer_was_read_counts() -> None:
    bench = Bench()
    asked_at = bench.now
    bench.now += 1
    bench.watch.mail_came(X)
    answer = judge(reply("250 started"), protected=True, logged_in=True)
    bench.watch.answered("office", NodeOutcome(X, asked_at, answer, "250 started"))
    assert bench.later(2 * AFTER) == []


def test_mail_from_long_before_does_not_count() -> None:
    bench = Bench()
    bench.watch.mail_came(X)
    bench.now += 1
    bench.says("250 started")
    assert len(bench.later(AFTER)) == 1


@pytest.mark.parametrize(
    ("line", "pending"), [("252 pending started", 0), ("253 4 pending", 4), ("253 ok", 0)]
)
def test_a_promise_that_is_not_kept_is_a_warning(line: str, pending: int) -> None:
    bench = Bench()
    bench.says(line)
    assert bench.later(AFTER) == [EtrnPendingButSilent("office", X, 5000.0, AFTER, pending)]


def test_a_promise_after_a_told_silence_is_told_too() -> None:
    bench = Bench()
    bench.says("250 started")
    bench.later(AFTER)
    bench.says("253 4 pending")
    at = bench.now
    assert bench.later(AFTER - 1) == []
    assert bench.later(1) == [EtrnPendingButSilent("office", X, at, AFTER, 4)]
    assert bench.later(10 * AFTER) == []
    assert bench.changes == [True]


def test_a_promise_of_nothing_is_none() -> None:
    bench = Bench()
    bench.says("253 0 pending")
    assert bench.later(AFTER) == [EtrnAcceptedButSilent("office", X, 5000.0, AFTER)]


def test_an_empty_queue_explains_the_silence() -> None:
    bench = Bench()
    bench.says("250 started")
    bench.says("251 none")
    assert bench.later(10 * AFTER) == []
    bench.says("250 started")
    bench.later(AFTER)
    bench.says("251 none")
    assert bench.changes == [True, False]


@pytest.mark.parametrize("line", ["458 no", "459 no", "421 busy", "550 no"])
def test_nothing_is_expected_after_a_refusal(line: str) -> None:
    bench = Bench()
    bench.says(line)
    assert bench.later(10 * AFTER) == []


def test_nodes_that_no_receiver_serves_are_not_watched() -> None:
    bench = Bench()
    bench.says("250 started", "other.org")
    assert bench.later(10 * AFTER) == []


def test_mail_for_a_subdomain_counts_for_the_at_form_alone() -> None:
    bench = Bench(X, "@x.org")
    bench.says("250 started", X)
    bench.says("250 started", "@x.org")
    bench.watch.mail_came("a.x.org")
    assert [event.node for event in bench.later(AFTER)] == [X]  # type: ignore[attr-defined]


def test_a_silence_from_before_the_start_ends_with_mail() -> None:
    bench = Bench(silent=True)
    bench.says("250 started")
    assert bench.later(AFTER) == []  # it has been told
    bench.watch.mail_came(X)
    assert bench.events == [EtrnMailCame("office", X)]
    assert bench.changes == [False]
