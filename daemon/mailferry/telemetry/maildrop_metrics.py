"""What is counted of maildrops: each by itself, or all of them together.

A site with thousands of maildrops may not want dozens of series for each. Then the
same families have one member whose `maildrop` label is empty, which to Prometheus is
no label at all: sums over them read the same either way. What only one maildrop can
have (when it was last polled) is left out, and the totals below tell how many are
silent and for how long the worst has been. The totals are there either way.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from mailferry import events
from mailferry.events import Event
from mailferry.model import RECEIVER, StandingRecord
from mailferry.policy.poll_result import PollResult, result_of
from mailferry.ports import Clock
from mailferry.telemetry.daemon_series import guarded
from mailferry.telemetry.results import MaildropState, MessageOutcome
from mailferry.telemetry.series import (
    MaildropCounters,
    MaildropFamilies,
    MaildropGauges,
    MessageCounters,
    drop_maildrop,
)

ALL = ""
"""The name under which all maildrops are counted together."""

SILENT_INTERVALS = 3
SILENT_LEAST_SECONDS = 300.0
"""As `mailferry status` has it: late after three intervals, and not before five minutes."""

_FOR_A_PERSON = (PollResult.AUTH_REJECTED, PollResult.SERVER_FAULT, PollResult.CONFIG_ERROR)


@dataclass(slots=True)
class MaildropFacts:
    """What is known of one maildrop, whether or not it has series of its own."""

    state: MaildropState = MaildropState.UNPOLLED
    last_success_at: float = 0.0
    last_failure_at: float = 0.0
    interval_seconds: float = 0.0
    login_delay_seconds: float = 0.0
    refused: bool = False
    paused: bool = False
    """By hand."""
    waiting: int = 0
    oldest_waiting_at: float = 0.0
    listed: int = 0
    octets: int = 0

    @property
    def longest_gap_seconds(self) -> float:
        """The longest time between two polls."""
        return max(self.interval_seconds, self.login_delay_seconds)

    def is_silent(self, now: float) -> bool:
        """Whether it has not been polled with success for too long, though it should have been."""
        if self.paused:
            return False
        limit = max(SILENT_INTERVALS * self.longest_gap_seconds, SILENT_LEAST_SECONDS)
        return now - self.last_success_at > limit


class MaildropMetrics:
    """Counts what happens in maildrops."""

    def __init__(
        self, registry: CollectorRegistry, names: Iterable[str], *, each: bool, clock: Clock
    ) -> None:
        self._families = MaildropFamilies(registry)
        self._clock = clock
        self._each = each
        self._facts: dict[str, MaildropFacts] = {}
        self._gauges: dict[str, MaildropGauges] = {}
        self._counters: dict[str, MaildropCounters] = {}
        self._received: MessageCounters | None = None
        if not each:
            self._add_sums()
        for name in names:
            self.add(name)
        self._add_totals(registry)

    # -- the configured names

    def add(self, name: str) -> MaildropFacts:
        """Take a maildrop in; nothing happens when it is known."""
        facts = self._facts.get(name)
        if facts is None:
            facts = self._facts[name] = MaildropFacts()
            if self._each:
                self._gauges[name] = MaildropGauges(self._families, name)
                self._counters[name] = MaildropCounters(self._families, name)
        return facts

    def remove(self, name: str) -> None:
        """Forget a maildrop; its last poll must have ended, or it comes back."""
        if self._facts.pop(name, None) is not None and self._each:
            del self._gauges[name], self._counters[name]
            drop_maildrop(self._families, name)

    def count_received(self) -> None:
        """Count messages that come by SMTP, under their own name."""
        self._received = MessageCounters(self._families, RECEIVER)

    def set_interval(self, name: str, seconds: float) -> None:
        """Note the longest time between two polls."""
        facts = self.add(name)
        facts.interval_seconds = seconds
        self._show(name, facts)

    def restore(self, standing: StandingRecord, now: float) -> None:
        """Take over what the ledger remembers of a maildrop; one that is not configured passes."""
        facts = self._facts.get(standing.name)
        if facts is None:
            return
        facts.last_success_at = min(standing.last_success_at or 0.0, now)
        facts.last_failure_at = min(standing.last_error_at or 0.0, now)
        facts.login_delay_seconds = standing.login_delay_seconds
        if standing.consecutive_failures:
            result = result_of(standing.last_error)
            facts.state, facts.refused = _failed(result), result is PollResult.AUTH_REJECTED
        elif facts.last_success_at:
            facts.state = MaildropState.OK
        self._show(standing.name, facts)

    def pause(self, name: str, *, paused: bool) -> None:
        """Note that a maildrop rests because somebody said so, or no longer."""
        if name in self._facts:
            self._facts[name].paused = paused

    # -- events

    def handlers(self) -> Mapping[type[Event], Callable[[Any], None]]:
        """Return one method per class of events."""
        # Any: each method takes the one class that it stands beside.
        return {
            events.PollFinished: self._poll_finished,
            events.MaildropAuthRejected: self._auth_rejected,
            events.QuitUnconfirmed: lambda event: self._of(event.maildrop).quit_unconfirmed.inc(),
            events.UidlsChanged: lambda event: self._of(event.maildrop).uidls_changed.inc(),
            events.MessageRelayed: self._relayed,
            events.MessageDeferred: partial(self._message, MessageOutcome.DEFERRED),
            events.MessageInDoubt: partial(self._message, MessageOutcome.IN_DOUBT),
            events.MessageRejected: partial(self._message, MessageOutcome.REJECTED),
            events.MessageFetchFailed: partial(self._message, MessageOutcome.FETCH_FAILED),
            events.MessageSkipped: partial(self._message, MessageOutcome.SKIPPED),
            events.MessageRecognised: partial(self._message, MessageOutcome.RECOGNISED),
            events.MessageQuarantined: partial(self._message, MessageOutcome.QUARANTINED),
        }

    def _of(self, name: str) -> MaildropCounters:
        # Events carry configured names only, so making a missing one is no door for a peer.
        self.add(name)
        return self._counters[name if self._each else ALL]

    def _messages_of(self, name: str) -> MessageCounters:
        """Return where messages are counted; what came by SMTP is nobody's who is polled."""
        return self._of(name) if self._received is None or name != RECEIVER else self._received

    def _poll_finished(self, event: events.PollFinished) -> None:
        counters, facts = self._of(event.maildrop), self._facts[event.maildrop]
        counter = counters.results.get(event.result)
        (counter if counter is not None else counters.results[PollResult.INTERNAL_ERROR]).inc()
        if event.result == PollResult.STOPPED:
            return
        facts.login_delay_seconds = event.login_delay_seconds
        if event.result == PollResult.OK:
            facts.state, facts.last_success_at, facts.refused = MaildropState.OK, self._clock(), False
            facts.waiting, facts.oldest_waiting_at = event.waiting, event.oldest_waiting_at
            facts.listed, facts.octets = event.listed, event.maildrop_octets
        else:
            # What waits is not known after a failure: the gauges keep the last listing's word.
            facts.state, facts.last_failure_at = _failed(event.result), self._clock()
        self._show(event.maildrop, facts)

    def _auth_rejected(self, event: events.MaildropAuthRejected) -> None:
        self._of(event.maildrop).auth_rejections.inc()
        facts = self._facts[event.maildrop]
        facts.refused = True
        self._show(event.maildrop, facts)

    def _relayed(self, event: events.MessageRelayed) -> None:
        counters = self._messages_of(event.maildrop)
        counters.outcomes[MessageOutcome.RELAYED].inc()
        counters.octets.inc(event.size_octets)

    def _message(self, outcome: MessageOutcome, event: Any) -> None:  # Any: all that have a maildrop
        self._messages_of(event.maildrop).outcomes[outcome].inc()

    # -- gauges

    def _show(self, name: str, facts: MaildropFacts) -> None:
        gauges = self._gauges.get(name)
        if gauges is None:
            return  # counted together: read when somebody looks
        gauges.last_success.set(facts.last_success_at)
        gauges.last_failure.set(facts.last_failure_at)
        gauges.interval.set(facts.longest_gap_seconds)
        gauges.refused.set(int(facts.refused))
        gauges.waiting.set(facts.waiting)
        gauges.oldest_waiting.set(facts.oldest_waiting_at)
        gauges.listed.set(facts.listed)
        gauges.size.set(facts.octets)

    def _now(self) -> list[MaildropFacts]:
        return list(self._facts.values())  # a copy: a scrape's thread reads while the loop adds and removes

    def _add_sums(self) -> None:
        self._counters[ALL] = MaildropCounters(self._families, ALL)
        families = self._families
        for family, read in (
            (families.waiting, lambda: sum(each.waiting for each in self._now())),
            (families.oldest_waiting, lambda: _oldest(each.oldest_waiting_at for each in self._now())),
            (families.listed, lambda: sum(each.listed for each in self._now())),
            (families.size, lambda: sum(each.octets for each in self._now())),
        ):
            family.labels(ALL).set_function(guarded("a sum over maildrops", read))

    def _add_totals(self, registry: CollectorRegistry) -> None:
        states = Gauge("mailferry_maildrops", "Maildrops by how they fare.", ["state"], registry=registry)
        for word in MaildropState:
            states.labels(word).set_function(guarded("maildrops", partial(self._count, word)))
        silent = Gauge(
            "mailferry_silent_maildrops",
            "Maildrops without a successful poll for three of their intervals.",
            registry=registry,
        )
        silent.set_function(guarded("silent_maildrops", self._count_silent))
        oldest = Gauge(
            "mailferry_oldest_successful_poll_timestamp_seconds",
            "The last successful poll of the maildrop that has been silent longest; 0 when one never was.",
            registry=registry,
        )
        oldest.set_function(
            guarded("oldest_poll", lambda: min((each.last_success_at for each in self._now()), default=0.0))
        )

    def _count(self, state: MaildropState) -> int:
        states = (MaildropState.PAUSED if each.paused else each.state for each in self._now())
        return Tally(states)[state]

    def _count_silent(self) -> int:
        now = self._clock()
        return sum(each.is_silent(now) for each in self._now())


def _failed(result: str) -> MaildropState:
    return MaildropState.REFUSED if result in _FOR_A_PERSON else MaildropState.FAILING


def _oldest(times: Iterable[float]) -> float:
    return min((at for at in times if at), default=0.0)
