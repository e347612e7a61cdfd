"""How often a maildrop that refuses is asked again, over days of virtual time: never so often that an account is locked."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from mailferry.errors import (
    AuthenticationRejectedError,
    ConnectError,
    LoginDelayedError,
    MaildropBusyError,
    MaildropFaultError,
    MaildropUnavailableError,
)
from mailferry.events import MaildropAuthRejected, MaildropFaultReported, MaildropRecovered, PollFailed
from mailferry.model import StandingKind, StandingRecord
from mailferry.runtime.caps import SessionCaps
from mailferry.runtime.turn import Maildrop, Turns
from mailferry.services.route import RouteStandings
from support.fakes import ALICE, mail
from support.rig import Rig
from support.virtual_time import settle, timeless

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
EVERY = 5 * MINUTE


class Days:
    """A maildrop that is scheduled every five minutes, and the times at which it was asked."""

    def __init__(self, seed: int = 1) -> None:
        self.rig = Rig(mail("u1"))
        self.asked: list[float] = []
        chance = random.Random(seed).random
        self.rig.around = replace(self.rig.around, chance=chance)
        self.rig.maildrop.before_open = self._note
        self.restart()

    async def _note(self) -> None:
        self.asked.append(self.rig.clock())

    def restart(self) -> None:
        """Stop the program and start it again: only the ledger remembers."""
        standing = self.rig.ledger.standing_rows.get((StandingKind.MAILDROP, ALICE))
        maildrop = Maildrop(self.rig.policy, self.rig.maildrop)
        self.turns = Turns(maildrop, self.rig.around, SessionCaps(1, 1), RouteStandings({}), standing)

    async def pass_by(self, seconds: float) -> None:
        """Let time pass; the schedule calls, as it does whatever has happened."""
        until = self.rig.clock() + seconds
        while self.rig.clock() < until:
            self.turns.start()
            await asyncio.sleep(EVERY)

    @property
    def gaps(self) -> list[float]:
        """The times between attempts."""
        return [later - earlier for earlier, later in zip(self.asked, self.asked[1:], strict=False)]


def most_within(times: list[float], seconds: float) -> int:
    """The most attempts in any span of that length."""
    return max(sum(start <= time < start + seconds for time in times) for start in times)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("refusal", [AuthenticationRejectedError, MaildropFaultError])
def test_a_refused_password_is_tried_a_few_times_a_day(refusal: type[Exception], seed: int) -> None:
    @timeless
    async def work() -> None:
        days = Days(seed)
        days.rig.maildrop.open_error = refusal("no")
        await days.pass_by(7 * DAY)
        assert 7.5 * MINUTE <= days.gaps[0] <= 12.5 * MINUTE
        assert all(gap <= 7.5 * HOUR for gap in days.gaps)
        assert all(gap >= 4.5 * HOUR for gap in days.gaps[7:])
        # Lock-outs are commonly five to ten failures in ten minutes to an hour, or twenty in a day.
        assert most_within(days.asked, 30 * MINUTE) <= 3
        assert most_within(days.asked, HOUR) <= 3
        assert most_within(days.asked, DAY) <= 11
        assert len(set(days.gaps)) == len(days.gaps), "chance spreads them"
        kind = MaildropAuthRejected if refusal is AuthenticationRejectedError else MaildropFaultReported
        assert len(days.rig.told(kind)) == len(days.rig.told(PollFailed)) == len(days.asked)

    work()


@pytest.mark.parametrize("seed", range(3))
def test_restarts_do_not_make_it_hammer(seed: int) -> None:
    @timeless
    async def work() -> None:
        days = Days(seed)
        days.rig.maildrop.open_error = AuthenticationRejectedError("no")
        for _ in range(24 * 6):  # a restart every ten minutes for a day
            await days.pass_by(10 * MINUTE)
            days.turns.stop()
            days.restart()
        assert most_within(days.asked, HOUR) <= 3
        assert len(days.asked) <= 11

    work()


@timeless
async def test_it_recovers_at_the_next_attempt_without_a_restart() -> None:
    days = Days()
    days.rig.maildrop.open_error = AuthenticationRejectedError("no")
    await days.pass_by(2 * DAY)
    attempts = len(days.asked)
    days.rig.maildrop.open_error = None
    await days.pass_by(8 * HOUR)
    assert days.rig.told(MaildropRecovered)[0].failures == attempts
    assert len(days.asked) > 8 * HOUR / EVERY / 4, "it is polled by its schedule again"


@timeless
async def test_a_password_that_is_written_anew_is_tried_at_once_and_once() -> None:
    days = Days()
    days.rig.maildrop.open_error = AuthenticationRejectedError("no")
    await days.pass_by(2 * DAY)
    attempts = len(days.asked)
    days.rig.maildrop.password_written_at = days.rig.clock()
    await days.pass_by(HOUR)
    assert len(days.asked) == attempts + 1, "the new one is wrong, too"
    days.rig.maildrop.open_error = None
    days.rig.maildrop.password_written_at = days.rig.clock()
    await days.pass_by(EVERY)
    assert days.rig.told(MaildropRecovered)


@timeless
async def test_it_is_tried_at_once_after_a_restart_too() -> None:
    days = Days()
    days.rig.maildrop.open_error = AuthenticationRejectedError("no")
    await days.pass_by(2 * DAY)
    attempts = len(days.asked)
    days.turns.stop()
    days.rig.maildrop.password_written_at = days.rig.clock()
    days.restart()
    await days.pass_by(HOUR)
    assert len(days.asked) == attempts + 1


@pytest.mark.parametrize("written_in", [-3 * DAY, DAY])
def test_only_a_time_since_the_refusal_counts(written_in: float) -> None:
    """Not one before it, nor one in the future, which would count for ever."""

    @timeless
    async def work() -> None:
        days = Days()
        days.rig.maildrop.open_error = AuthenticationRejectedError("no")
        days.rig.maildrop.password_written_at = days.rig.clock() + written_in
        await days.pass_by(12 * HOUR)
        assert len(days.asked) <= 8

    work()


@pytest.mark.parametrize(
    "error", [ConnectError("no"), MaildropUnavailableError("no"), MaildropBusyError("no")]
)
def test_a_new_password_changes_nothing_about_other_failures(error: Exception) -> None:
    @timeless
    async def work() -> None:
        plain, mended = Days(), Days()
        for days in (plain, mended):
            days.rig.maildrop.open_error = error
            start = days.rig.clock()
            days.rig.maildrop.password_written_at = start + HOUR if days is mended else None
            await days.pass_by(6 * HOUR)
            days.turns.stop()
            days.asked = [round(time - start) for time in days.asked]
        assert plain.asked == mended.asked

    work()


# -- the other refusals --------------------------------------------------------------------


def gaps_of(error: Exception, seconds: float = DAY) -> list[float]:
    gaps: list[float] = []

    @timeless
    async def work() -> None:
        days = Days()
        days.rig.maildrop.open_error = error
        await days.pass_by(seconds)
        gaps.extend(days.gaps)
        assert days.rig.told(MaildropAuthRejected) == []

    work()
    return gaps


def test_a_busy_maildrop_is_asked_again_soon_all_day_long() -> None:
    gaps = gaps_of(MaildropBusyError("in use"))
    assert gaps[0] <= 40
    assert max(gaps) <= EVERY + 375


def test_passing_trouble_is_asked_about_again_within_the_hour() -> None:
    gaps = gaps_of(MaildropUnavailableError("[SYS/TEMP]"))
    assert gaps[0] <= 40
    assert max(gaps) <= 2 * 37.5 * MINUTE


@pytest.mark.parametrize("wanted", [90.0, 900.0, 3600.0])
def test_a_login_delay_is_kept_to(wanted: float) -> None:
    gaps = gaps_of(LoginDelayedError("too soon", wanted))
    assert min(gaps) >= wanted
    assert max(gaps) <= wanted + 2 * EVERY


@timeless
async def test_with_a_daily_schedule_passing_trouble_is_not_a_lost_day() -> None:
    days = Days()
    days.rig.maildrop.open_error = ConnectError("refused")
    days.turns.start()
    await asyncio.sleep(10 * MINUTE)
    assert len(days.asked) >= 4
    days.rig.maildrop.open_error = None
    await asyncio.sleep(10 * MINUTE)
    assert days.rig.told(MaildropRecovered)
    asked = len(days.asked)
    await asyncio.sleep(HOUR)
    assert len(days.asked) == asked, "once it is well, the schedule rules"


@timeless
async def test_a_turn_that_a_person_asked_for_is_not_repeated() -> None:
    """`mailferry once` polls once."""
    days = Days()
    days.rig.maildrop.open_error = ConnectError("refused")
    days.turns.start(despite_pause=True)
    await asyncio.sleep(HOUR)
    assert len(days.asked) == 1


@timeless
async def test_the_delay_that_was_told_after_login_outlasts_the_one_told_before() -> None:
    """RFC 2449 s.6.5: `LOGIN-DELAY 60 USER` before the login, 900 for this user after it."""
    days = Days()
    days.rig.maildrop.traits = replace(days.rig.maildrop.traits, login_delay_seconds=900)
    days.turns.start()
    await settle()
    days.rig.maildrop.open_error = LoginDelayedError("too soon", 60)
    await asyncio.sleep(1000)
    days.turns.start()
    await settle()
    days.turns.stop()
    assert days.turns.standing.not_before == days.rig.clock() + 900


@timeless
async def test_a_refusal_after_a_long_outage_is_a_first_refusal() -> None:
    """The outage's failures do not count against the password: ten minutes, not six hours."""
    days = Days()
    days.rig.maildrop.open_error = ConnectError("refused")
    await days.pass_by(3 * DAY)
    days.rig.maildrop.open_error = AuthenticationRejectedError("no")
    while not days.rig.told(MaildropAuthRejected):
        await days.pass_by(EVERY)
    standing = days.turns.standing
    assert standing.not_before - (standing.last_error_at or 0) <= 12.5 * MINUTE
    assert standing.consecutive_failures > 50


@timeless
async def test_other_failures_in_between_do_not_bring_a_refused_password_back_sooner() -> None:
    days = Days()
    attempts: list[float] = []
    errors: list[Callable[[], Exception]] = [
        lambda: AuthenticationRejectedError("no"), lambda: MaildropBusyError("in use")
    ]  # fmt: skip

    async def alternate() -> None:
        days.asked.append(days.rig.clock())
        days.rig.maildrop.open_error = errors[len(days.asked) % 2]()
        if len(days.asked) % 2 == 0:
            attempts.append(days.rig.clock())

    days.rig.maildrop.before_open = alternate
    await days.pass_by(3 * DAY)
    assert most_within(attempts, DAY) <= 12


@timeless
async def test_a_standing_of_an_older_version_is_understood() -> None:
    rig = Rig()
    standing = StandingRecord(
        StandingKind.MAILDROP, ALICE, None, rig.clock() - 1, "no word of ours", 9, rig.clock() + 60
    )
    maildrop = Maildrop(rig.policy, rig.maildrop)
    assert Turns(maildrop, rig.around, SessionCaps(1, 1), RouteStandings({}), standing).start() is None
