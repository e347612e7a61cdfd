"""A message that breaks the session holds up no other, with an identity or without one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mailferry.errors import ConnectionLostError
from mailferry.events import MessageFetchFailed
from mailferry.model import Content, Deferred, DeliveryReport, ListedMessage, Scope, Uidl
from mailferry.policy.fingerprint import Fingerprint
from mailferry.policy.plan import Retention
from mailferry.services import memory, recognition
from mailferry.services.memory import PollMemory, Troubles
from support.fakes import FakeMail, mail
from support.rig import Rig
from support.virtual_time import settle, timeless


def mails(count: int) -> list[FakeMail]:
    return [mail(f"u{n}") for n in range(1, count + 1)]


def without_identity(*mails: FakeMail) -> Rig:
    rig = Rig(*mails)
    rig.maildrop.has_uidls = False
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    return rig


@pytest.mark.parametrize("breaker", [1, 3, 5])
@timeless
async def test_a_breaker_without_identity_holds_up_nobody_and_comes_last(breaker: int) -> None:
    rig = without_identity(*(mail(f"u{n}", body="x" * n) for n in range(1, 6)))
    rig.maildrop.dies_at = ("retr", breaker)
    report = await rig.run_poll()
    assert f"reset at retr {breaker}" in str(report.failure)
    (told,) = rig.told(MessageFetchFailed)
    assert (told.uidl, told.attempt) == (f"message {breaker}, no UIDL", 1)
    await rig.run_poll()  # its pause is not over, so the session lives to the end
    assert [m.uidl for m in rig.maildrop.mails] == [b"u%d" % breaker]
    assert len(rig.to["office"].submitted) == 4


@timeless
async def test_when_its_pause_is_over_it_is_tried_last_and_alone_and_may_come_through() -> None:
    rig = without_identity(*(mail(f"u{n}", body="x" * n) for n in range(1, 4)))
    rig.maildrop.dies_at = ("retr", 1)
    await rig.run_poll()
    rig.maildrop.dies_at = None
    rig.clock.base += 3600
    rig.effects.clear()
    report = await rig.run_poll()
    assert rig.did("retr")[-1] == "retr u1"
    assert (report.failure, rig.maildrop.mails) == (None, [])
    assert len(rig.to["office"].submitted) == 3
    assert rig.memory.troubles == {}


@timeless
async def test_it_is_tried_less_and_less_often() -> None:
    rig = without_identity(mail("u1"), mail("u2", "another"))
    rig.maildrop.dies_at = ("retr", 1)
    for _ in range(12):
        await rig.run_poll()
        rig.clock.base += 300
    attempts = [event.attempt for event in rig.told(MessageFetchFailed)]
    assert attempts == [1, 2, 3, 4, 5, 6]  # in an hour, with twelve polls


@timeless
async def test_what_is_dangerous_is_fetched_when_nothing_else_is_in_flight() -> None:
    rig = Rig(*mails(6))
    for number in (2, 4):
        rig.maildrop.refuses.add(("retr", number))
    rig.to["office"].script = {b"u1": [DeliveryReport(Deferred(Scope.MESSAGE, "lost", in_doubt=True))]}
    await rig.run_poll()
    rig.maildrop.refuses.clear()
    rig.maildrop.mails += [mail("u7"), mail("u8")]
    rig.clock.base += 3600
    rig.to["office"].when = "held"
    rig.effects.clear()
    task = asyncio.create_task(rig.run_poll())
    for expected in (["u7", "u8"], ["u1"], ["u2"], ["u4"]):
        await settle()
        assert [d.message.uidl.decode() for d in rig.to["office"].held] == expected
        while rig.to["office"].held:
            rig.to["office"].answer()
    report = await task
    assert (report.failure, report.relayed) == (None, 5)


@timeless
async def test_one_that_breaks_at_top_holds_up_nobody_either() -> None:
    rig = Rig(*mails(5)).set(retention=Retention(None))
    await rig.run_poll()
    for number, each in enumerate(rig.maildrop.mails, 1):
        each.uidl = b"n%d" % number
    rig.maildrop.mails.append(mail("n6"))
    rig.maildrop.dies_at = ("top", 3)
    assert (await rig.run_poll()).failure is not None
    report = await rig.run_poll()  # now it is fetched whole, last and alone
    assert (report.failure, report.relayed) == (None, 1)
    assert rig.did("retr")[-2:] == ["retr n6", "retr n3"]
    assert rig.ledger.states() == {f"n{n}": "accepted" for n in range(1, 7)}


@timeless
async def test_one_that_stands_under_a_known_unique_id_is_compared_last_and_left_alone_until_then() -> None:
    rig = Rig(*mails(4)).set(retention=Retention(None))
    await rig.run_poll()
    there, rig.maildrop.mails = rig.maildrop.mails, []
    await rig.run_poll()
    rig.maildrop.mails = there
    rig.maildrop.dies_at = ("top", 1)
    assert (await rig.run_poll()).failure is not None
    assert (await rig.run_poll()).failure is None
    assert rig.ledger.states() == {"u1": "missing", "u2": "accepted", "u3": "accepted", "u4": "accepted"}
    rig.maildrop.dies_at = None
    rig.clock.base += 3600
    assert (await rig.run_poll()).relayed == 0
    assert set(rig.ledger.states().values()) == {"accepted"}


@timeless
async def test_a_link_that_dies_between_two_answers_blames_nobody_twice() -> None:
    rig = without_identity(*mails(3)).set(prefetch=1)
    rig.to["office"].when = "held"
    task = asyncio.create_task(rig.run_poll())
    await settle()
    rig.maildrop.session.die(ConnectionLostError("autologout"))
    rig.to["office"].answer()
    await task
    assert rig.memory.troubles == {}


@timeless
async def test_one_that_trips_a_bug_while_it_is_looked_at_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(*mails(3)).set(retention=Retention(None))
    rig.maildrop.traits = replace(rig.maildrop.traits, has_top=False)
    await rig.run_poll()
    for number, each in enumerate(rig.maildrop.mails, 1):
        each.uidl = b"n%d" % number
    right, calls = recognition.fingerprint_of, iter(range(9))

    def wrong(content: Content) -> Fingerprint:
        if next(calls) == 1:
            raise RecursionError("a bug")
        return right(content)

    monkeypatch.setattr(recognition, "fingerprint_of", wrong)
    report = await rig.run_poll()
    assert (report.failure, report.relayed) == (None, 0)  # recognised when it was fetched again
    assert set(rig.ledger.states()) == {"n1", "n2", "n3"}
    assert "message 2" in caplog.text


# -- a session of its own ----------------------------------------------------------


async def with_a_breaker_that_is_due(login_delay_seconds: float | None = None) -> Rig:
    """u1 broke the only session so far; it is due in every poll that an hour lies before."""
    rig = Rig(*mails(4)).set(prefetch=1)
    rig.maildrop.traits = replace(rig.maildrop.traits, login_delay_seconds=login_delay_seconds)
    rig.maildrop.dies_at = ("retr", 1)
    await rig.run_poll()
    assert rig.did("submit") == []
    rig.clock.base += 3600
    rig.effects.clear()
    return rig


def left_on(rig: Rig) -> list[str]:
    return [each.name for each in rig.maildrop.mails]


@timeless
async def test_what_broke_a_session_gets_its_own_after_the_others_are_confirmed() -> None:
    rig = await with_a_breaker_that_is_due()
    report = await rig.run_poll()
    asked = ["login", "retr u2", "retr u3", "retr u4", "quit", "login", "retr u1"]
    assert rig.did("login", "retr", "quit") == asked
    assert left_on(rig) == ["u1"]
    assert "reset at retr 1" in str(report.failure)
    assert (report.listed, report.relayed, report.deleted, report.waiting) == (4, 3, 3, 1)


@timeless
async def test_both_sessions_count_when_it_comes_through() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.dies_at = None
    report = await rig.run_poll()
    assert rig.did("login", "quit") == ["login", "quit"] * 2
    assert (report.failure, left_on(rig)) == (None, [])
    assert (report.listed, report.relayed, report.deleted, report.waiting) == (4, 4, 4, 0)


@timeless
async def test_only_what_was_set_apart_is_fetched_in_the_second_session() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.dies_at = None

    async def arrive() -> None:
        if len(rig.maildrop.sessions) == 2:
            rig.maildrop.mails.append(mail("u5"))

    rig.maildrop.before_open = arrive
    await rig.run_poll()
    assert rig.did("retr")[-1] == "retr u1"
    assert left_on(rig) == ["u5"]


@timeless
async def test_deletions_of_earlier_polls_are_confirmed_first_too() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.dies_at, rig.maildrop.quit_deletes, rig.maildrop.quit_confirms = None, False, False
    await rig.run_poll()
    assert len(left_on(rig)) == 4
    rig.maildrop.quit_deletes = rig.maildrop.quit_confirms = True
    rig.maildrop.dies_at = ("retr", 1)
    rig.memory.left_out = False  # as after a new start
    await rig.run_poll()
    assert left_on(rig) == ["u1"]


@timeless
async def test_alone_in_the_maildrop_it_needs_no_second_session() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.mails = rig.maildrop.mails[:1]
    await rig.run_poll()
    assert rig.did("login", "retr") == ["login", "retr u1"]


@timeless
async def test_without_a_confirmed_quit_it_waits_for_the_next_poll_but_no_longer() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.quit_confirms = rig.maildrop.quit_deletes = False
    assert (await rig.run_poll()).failure is None
    assert "retr u1" not in rig.effects
    await rig.run_poll()
    assert rig.did("retr")[-1] == "retr u1"
    assert rig.did("login") == ["login"] * 2


@timeless
async def test_when_the_second_login_is_refused_the_first_session_stands() -> None:
    rig = await with_a_breaker_that_is_due()

    async def refuse() -> None:
        if len(rig.maildrop.sessions) == 2:
            raise ConnectionLostError("come later")

    rig.maildrop.before_open = refuse
    report = await rig.run_poll()
    assert (str(report.failure), report.relayed, report.deleted) == ("come later", 3, 3)
    assert left_on(rig) == ["u1"]


@timeless
async def test_a_login_delay_forbids_the_second_login_and_every_other_poll_confirms() -> None:
    rig = await with_a_breaker_that_is_due(login_delay_seconds=600.0)
    tried, left = [], []
    for number in range(5, 9):
        rig.effects.clear()
        report = await rig.run_poll()
        assert rig.did("login") == ["login"]
        tried.append("retr u1" in rig.effects)
        left.append(report.deleted)
        rig.maildrop.mails.append(mail(f"u{number}"))
        rig.clock.base += 24 * 3600
    assert tried == [True, False, True, False]
    assert left == [0, 4, 0, 2]


@timeless
async def test_the_place_at_the_server_is_kept_until_the_second_session_is_over() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.maildrop.dies_at = None
    poll = rig.poll()
    ended: list[int] = []
    seen: list[tuple[int, bool]] = []
    poll.on_session_end = lambda: ended.append(len(rig.maildrop.sessions))

    async def look() -> None:
        seen.append((len(ended), poll.has_mail_in_hand))

    rig.maildrop.before_open = look
    await poll.run()
    assert seen == [(0, False), (0, False)]  # so who ends the turn between the two may cancel it
    assert ended == [3]


@timeless
async def test_who_stops_in_the_first_session_sees_no_second() -> None:
    rig = await with_a_breaker_that_is_due()
    rig.to["office"].when = "held"
    poll = rig.poll()
    ended: list[str] = []
    poll.on_session_end = lambda: ended.append("ended")
    task = asyncio.create_task(poll.run())
    await settle()
    poll.stop()
    rig.to["office"].answer()
    report = await task
    assert (report.failure, report.relayed, report.deleted) == (None, 1, 1)
    assert (rig.did("login"), ended) == (["login"], ["ended"])


# -- the memory of it --------------------------------------------------------------


def listed(number: int, size: int = 10, uidl: bytes | None = None) -> ListedMessage:
    return ListedMessage(number, size, Uidl(uidl) if uidl is not None else None)


def test_messages_without_a_unique_id_are_told_apart_by_size_and_turn() -> None:
    kept = PollMemory()
    Troubles(kept, [listed(1), listed(2, 20), listed(3), listed(4, uidl=b"u")]).blame(3, 0.0, 0.5)
    assert set(kept.troubles) == {(10, 2)}
    later = Troubles(kept, [listed(1, 20), listed(2), listed(3, 30), listed(4)])
    assert later.failures == {4: 1}
    assert later.not_due(59.0) == {4}
    assert later.not_due(60.0) == set()


def test_what_is_no_longer_listed_is_forgotten() -> None:
    kept = PollMemory()
    Troubles(kept, [listed(1, uidl=b"a"), listed(2, uidl=b"b")]).blame(1, 0.0, 0.5)
    assert Troubles(kept, [listed(1, uidl=b"b")]).failures == {}
    assert kept.troubles == {}


def test_the_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_TROUBLES", 2)
    monkeypatch.setattr(memory, "MAX_SEEN", 2)
    kept = PollMemory()
    messages = [listed(n, uidl=b"u%d" % n) for n in range(1, 6)]
    troubles = Troubles(kept, messages)
    assert [troubles.blame(n, 0.0, 0.5) is None for n in range(1, 6)] == [False, False, True, True, True]
    assert troubles.blame(1, 0.0, 0.5) is not None  # one that is known already
    for message in messages:
        kept.keep_seen(message, Fingerprint(b"h", traced=True))
    assert len(kept.seen) == 2


def test_what_was_seen_holds_for_the_same_unique_id_and_size_only() -> None:
    kept = PollMemory()
    header, whole = Fingerprint(b"h", traced=True), Fingerprint(b"h", traced=True, content=b"c")
    kept.keep_seen(listed(1, 10, b"a"), header)
    kept.keep_seen(listed(2, 10, b"b"), whole)
    kept.keep_seen(listed(3, 10), whole)
    assert kept.seen_before(listed(7, 10, b"a"), whole=False) == header
    assert kept.seen_before(listed(7, 10, b"a"), whole=True) is None
    assert kept.seen_before(listed(7, 10, b"b"), whole=True) == whole
    assert kept.seen_before(listed(7, 11, b"b"), whole=True) is None
    assert kept.seen_before(listed(7, 10), whole=True) is None
