from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from mailferry.events import Event, RouteAuthRejected, RoutePaused, RouteProbeFailed, RouteResumed
from mailferry.model import (
    Deferred,
    Delivered,
    Delivery,
    DeliveryReport,
    DestinationName,
    FetchedMessage,
    MaildropName,
    MessageId,
    PermanentFailure,
    Scope,
    StandingKind,
    StandingRecord,
    Summary,
    Uidl,
)
from mailferry.policy.backoff import ROUTE_AUTH_BACKOFF, ROUTE_BACKOFF
from mailferry.services.route import Route, RouteStandings
from support.fakes import FakeDestination
from support.virtual_time import START, FakeClock, run

OK = DeliveryReport(Delivered("250"))
DOWN = DeliveryReport(Deferred(Scope.NEXT_HOP, "421 going down"))
UNTRIED = DeliveryReport(Deferred(Scope.NEXT_HOP, "stopping", attempted=False))
LATER = DeliveryReport(Deferred(Scope.MESSAGE, "451 greylisted"))
FIRST_PAUSE = ROUTE_BACKOFF.pause_seconds(1, 0.5)


class Bench:
    """A route around a destination that answers when told."""

    def __init__(self, standing: StandingRecord | None = None) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        self.inner = FakeDestination("office", [], when="held")
        self.route = Route(self.inner, self.events.append, self.clock, lambda: 0.5, standing)
        self.answers: dict[str, list[DeliveryReport]] = {}

    def submit(self, name: str) -> None:
        said = self.answers.setdefault(name, [])
        message = FetchedMessage(
            MaildropName("m"),
            MessageId(1),
            Uidl(name.encode()),
            b"",
            b"",
            b"",
            "",
            Summary(),
            0.0,
            "",
            "POP3",
        )
        self.route.submit(Delivery(message, said.append))

    def wait(self, seconds: float) -> None:
        self.clock.base += seconds

    def under_way(self) -> list[str]:
        return [delivery.message.uidl.decode() for delivery in self.inner.held]

    def said(self, name: str) -> str:
        """What the submitter heard, in a word."""
        if not self.answers[name]:
            return "nothing"
        (report,) = self.answers[name]
        outcome = report.outcome
        if isinstance(outcome, Deferred):
            return f"{outcome.scope} deferred" if outcome.attempted else "untried"
        return type(outcome).__name__


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for name, said in bench.answers.items():
        assert len(said) <= 1, f"{name} was answered {len(said)} times"


def pause(bench: Bench) -> None:
    bench.submit("first")
    bench.inner.answer(DOWN)


def test_an_open_route_passes_everything_on(bench: Bench) -> None:
    for name in ("a", "b"):
        bench.submit(name)
    bench.inner.answer()
    bench.inner.answer(LATER)
    assert (bench.said("a"), bench.said("b")) == ("Delivered", "message deferred")
    assert bench.events == []
    assert (bench.route.name, bench.route.available) == ("office", True)


def test_a_failure_of_the_next_hop_pauses_the_route(bench: Bench) -> None:
    pause(bench)
    assert bench.events == [RoutePaused("office", "421 going down", 1, START + FIRST_PAUSE)]
    assert not bench.route.available
    bench.submit("second")
    assert (bench.said("first"), bench.said("second")) == ("next-hop deferred", "untried")
    assert bench.under_way() == []


def test_the_shares_of_one_failure_count_once(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.submit(name)
    for _ in range(3):
        bench.inner.answer(DOWN)
    assert [e.failures for e in bench.events if isinstance(e, RoutePaused)] == [1]


def test_a_delivery_in_doubt_pauses_the_route(bench: Bench) -> None:
    bench.submit("a")
    bench.inner.answer(DeliveryReport(Deferred(Scope.MESSAGE, "lost at the dot", in_doubt=True)))
    assert not bench.route.available
    assert bench.said("a") == "message deferred"


@pytest.mark.parametrize("answer", [OK, LATER, DeliveryReport(PermanentFailure(Scope.MESSAGE, "554"))])
def test_after_the_pause_one_goes_first_and_its_answer_opens_the_route(
    bench: Bench, answer: DeliveryReport
) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    assert bench.route.available
    for name in ("probe", "b", "c"):
        bench.submit(name)
    assert bench.under_way() == ["probe"]
    bench.inner.answer(answer)
    assert bench.under_way() == ["b", "c"]
    assert bench.events[-1] == RouteResumed("office", 1)
    assert bench.route.available


def test_a_probe_that_fails_pauses_for_longer_and_releases_who_waits(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b"):
        bench.submit(name)
    bench.inner.answer(DOWN)
    assert (bench.said("probe"), bench.said("b")) == ("next-hop deferred", "untried")
    assert bench.events[-1] == RouteProbeFailed(
        "office", "421 going down", 2, bench.clock() + ROUTE_BACKOFF.pause_seconds(2, 0.5)
    )


def test_a_probe_that_fails_in_its_own_transaction_counts_for_its_message_too(bench: Bench) -> None:
    """Else the message at which the next hop hangs up would be every probe, and hold up all others."""
    hung_up = DeliveryReport(Deferred(Scope.NEXT_HOP, "421 at MAIL", in_transaction=True))
    for name in ("a", "b"):
        bench.submit(name)
        bench.inner.answer(hung_up)
        bench.wait(FIRST_PAUSE * 3)
    bench.submit("c")
    bench.inner.answer(DOWN)
    counted = [
        (outcome.scope, outcome.counts)
        for name in "abc"
        for report in bench.answers[name]
        if isinstance(outcome := report.outcome, Deferred)
    ]
    assert counted == [(Scope.NEXT_HOP, False), (Scope.NEXT_HOP, True), (Scope.NEXT_HOP, False)]


def test_a_probe_that_was_not_tried_lets_the_next_one_try(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b", "c"):
        bench.submit(name)
    bench.inner.answer(UNTRIED)
    assert bench.said("probe") == "untried"
    assert bench.under_way() == ["b"]
    bench.inner.answer(OK)
    assert bench.under_way() == ["c"]


def test_a_probe_whose_clock_was_set_back_releases_who_waits(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b"):
        bench.submit(name)
    bench.wait(-FIRST_PAUSE)
    bench.inner.answer(DOWN)
    assert bench.said("b") == "untried"
    bench.wait(FIRST_PAUSE)
    bench.submit("c")
    assert bench.under_way() == ["c"]


def test_a_late_answer_from_before_the_pause_counts_too(bench: Bench) -> None:
    for name in ("a", "slow"):
        bench.submit(name)
    bench.inner.answer(DOWN)
    bench.inner.answer(OK)
    assert bench.said("slow") == "Delivered"
    assert bench.route.available
    assert bench.events[-1] == RouteResumed("office", 1)


def test_a_destination_that_raises_does_not_stop_the_others(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    bench.inner.when = "now"
    bench.inner.script[b"probe"] = [ValueError("a bug")]
    with caplog.at_level(logging.ERROR, "mailferry.bugs"):
        bench.submit("probe")
    bench.submit("b")
    assert (bench.said("probe"), bench.said("b")) == ("message deferred", "Delivered")
    assert "a bug" in caplog.text


def test_one_behind_the_probe_that_raises_is_answered_and_so_are_the_rest(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b", "c"):
        bench.submit(name)
    bench.inner.when = "now"
    bench.inner.script[b"b"] = [ValueError("a bug")]
    bench.inner.answer(OK)
    assert [bench.said(name) for name in ("probe", "b", "c")] == [
        "Delivered",
        "message deferred",
        "Delivered",
    ]


def test_those_behind_a_probe_hear_of_a_pause_that_begins_among_them(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b", "c"):
        bench.submit(name)
    bench.inner.when = "now"
    bench.inner.script[b"b"] = [DOWN]
    bench.inner.answer(OK)
    assert [bench.said(name) for name in ("b", "c")] == ["next-hop deferred", "untried"]


def test_drain_refuses_what_waits_and_drains_the_destination(bench: Bench) -> None:
    pause(bench)
    bench.wait(FIRST_PAUSE)
    for name in ("probe", "b"):
        bench.submit(name)
    run(bench.route.drain())
    assert bench.inner.drained
    assert (bench.said("probe"), bench.said("b")) == ("nothing", "untried")
    bench.inner.answer(OK)
    assert bench.said("probe") == "Delivered"


def test_there_is_one_line_for_each_change_of_state(bench: Bench) -> None:
    for number in range(4):
        bench.submit(f"down {number}")
        bench.inner.answer(DOWN)
        bench.wait(bench.route.changed_standing().not_before - bench.clock())  # type: ignore[union-attr]
    bench.submit("up")
    bench.inner.answer(OK)
    pause(bench)
    assert [type(event) for event in bench.events] == [
        RoutePaused, RouteProbeFailed, RouteProbeFailed, RouteProbeFailed, RouteResumed, RoutePaused
    ]  # fmt: skip
    assert [event.failures for event in bench.events] == [1, 2, 3, 4, 4, 1]  # type: ignore[attr-defined]


def test_while_a_probe_is_under_way_nothing_more_is_fetched_for_the_route(bench: Bench) -> None:
    pause(bench)
    assert bench.route.half_open
    bench.wait(FIRST_PAUSE)
    assert (bench.route.available, bench.route.half_open) == (True, True)
    bench.submit("probe")
    assert (bench.route.available, bench.route.half_open) == (False, True)
    bench.inner.answer(OK)
    assert (bench.route.available, bench.route.half_open) == (True, False)


def test_refused_credentials_are_tried_rarely_and_told_as_an_error(bench: Bench) -> None:
    refused = DeliveryReport(Deferred(Scope.NEXT_HOP, "AUTH: 535 no", credentials=True))
    for failures in range(1, 6):
        bench.submit(f"message {failures}")
        bench.inner.answer(refused)
        assert bench.events[-1] == RouteAuthRejected("office", "AUTH: 535 no", failures)
        pause_seconds = ROUTE_AUTH_BACKOFF.pause_seconds(failures, 0.5)
        assert pause_seconds >= 600
        bench.wait(pause_seconds - 1)
        assert not bench.route.available
        bench.wait(1)
        assert bench.route.available


# -- across restarts -----------------------------------------------------------


def test_a_pause_outlives_a_restart_and_is_told_again() -> None:
    standing = StandingRecord(StandingKind.DESTINATION, "office", 1.0, 2.0, "421 before", 4, START + 100)
    bench = Bench(standing)
    assert bench.events == [RoutePaused("office", "421 before", 4, START + 100)]
    assert not bench.route.available
    assert bench.route.changed_standing() is None
    bench.wait(100)
    for name in ("probe", "b"):
        bench.submit(name)
    assert bench.under_way() == ["probe"]
    bench.inner.answer(DOWN)
    changed = bench.route.changed_standing()
    assert changed is not None
    assert (changed.consecutive_failures, changed.last_success_at) == (5, 1.0)
    assert [type(event) for event in bench.events] == [RoutePaused, RouteProbeFailed]


def test_a_pause_that_ended_before_the_restart_is_told_when_its_probe_fails() -> None:
    bench = Bench(StandingRecord(StandingKind.DESTINATION, "office", 1.0, 2.0, "421 before", 4, START - 1))
    assert (bench.events, bench.route.available, bench.route.half_open) == ([], True, True)
    bench.submit("probe")
    bench.inner.answer(DOWN)
    assert [type(event) for event in bench.events] == [RoutePaused]


def test_a_standing_without_failures_is_an_open_route() -> None:
    bench = Bench(StandingRecord(StandingKind.DESTINATION, "office", 1.0))
    assert (bench.events, bench.route.available) == ([], True)


def test_the_standing_is_handed_out_until_it_is_saved(bench: Bench) -> None:
    assert bench.route.changed_standing() is None
    pause(bench)
    standing = bench.route.changed_standing()
    assert standing == StandingRecord(
        StandingKind.DESTINATION, "office", None, START, "421 going down", 1, START + FIRST_PAUSE
    )
    assert bench.route.changed_standing() == standing, "nobody has said that it was saved"
    bench.route.standing_saved(standing)
    assert bench.route.changed_standing() is None
    bench.wait(FIRST_PAUSE)
    bench.submit("probe")
    bench.inner.answer(OK)
    standing = bench.route.changed_standing()
    assert standing is not None
    assert (standing.last_success_at, standing.consecutive_failures, standing.not_before) == (
        START + FIRST_PAUSE, 0, 0.0,
    )  # fmt: skip
    assert standing.name == DestinationName("office")


def test_a_refused_message_opens_the_route_but_is_no_success(bench: Bench) -> None:
    bench.submit("a")
    bench.inner.answer(LATER)
    assert bench.route.changed_standing() is None


def test_what_changes_while_it_is_saved_is_a_change_still(bench: Bench) -> None:
    standings = RouteStandings({bench.route.name: bench.route})
    assert standings.changed() == []
    pause(bench)
    (paused,) = standings.changed()
    bench.wait(FIRST_PAUSE)
    bench.submit("probe")
    bench.inner.answer(OK)
    standings.saved([paused])
    (resumed,) = standings.changed()
    assert (paused.consecutive_failures, resumed.consecutive_failures) == (1, 0)
    standings.saved([resumed])
    assert standings.changed() == []


def test_a_pause_that_lies_further_away_than_any_is_over(bench: Bench) -> None:
    """The clock was set back: nobody waits until it has caught up."""
    pause(bench)
    assert not bench.route.available
    bench.clock.base -= 86_400
    assert bench.route.available
    bench.submit("probe")
    assert bench.under_way() == ["probe"]
    bench.inner.answer(DOWN)
    assert not bench.route.available


def test_a_route_that_is_followed_by_another_finishes_what_it_has_and_tells_nothing_of_itself() -> None:
    async def main() -> None:
        bench = Bench()
        for name in ("a", "b"):
            bench.submit(name)
        retiring = asyncio.ensure_future(bench.route.retire())
        await asyncio.sleep(0)
        bench.inner.answer(DOWN)
        await asyncio.sleep(0)
        assert not bench.inner.drained
        bench.inner.answer()
        await retiring
        assert bench.inner.drained
        assert (bench.said("a"), bench.said("b")) == ("next-hop deferred", "Delivered")
        assert bench.events == [], "its successor is not paused by it"

    run(main())


def test_a_route_with_nothing_under_way_retires_at_once(bench: Bench) -> None:
    pause(bench)
    run(bench.route.retire())
    assert bench.inner.drained


def test_what_was_removed_while_its_row_was_written_is_passed_over(bench: Bench) -> None:
    pause(bench)
    routes = {bench.route.name: bench.route}
    standings = RouteStandings(routes)
    changed = standings.changed()
    del routes[bench.route.name]
    standings.saved(changed)
    assert bench.route.changed_standing() is not None
