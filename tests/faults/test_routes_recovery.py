"""Routes that come back: without a restart and across one, beside another route that was never down."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from mailferry.events import (
    MessageDeferred,
    MessageRelayed,
    PollFinished,
    RouteAuthRejected,
    RoutePaused,
    RouteProbeFailed,
    RouteResumed,
)
from mailferry.model import DeliveryState, MessageState, StandingKind
from mailferry.policy.backoff import Backoff
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD
from support.daemon import DaemonProcess
from support.faults import GREETING, Close, Fault, Reset
from support.relay import Relay, until
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import AcceptedMessage, ScriptedSmtpServer

NUMBER = 12
MAIL = [b"Subject: %d\r\n\r\nbody of %d\r\n" % (number, number) for number in range(NUMBER)]
HOP = StandingKind.DESTINATION
DOWN = Fault(GREETING, reply=b"421 4.3.2 going down\r\n")


def once_each(accepted: Iterable[AcceptedMessage]) -> bool:
    """Whether every message came, and none of them twice."""
    return Counter(message.content.partition(b"Subject: ")[2] for message in accepted) == Counter(
        mail.partition(b"Subject: ")[2] for mail in MAIL
    )


@pytest.mark.parametrize(
    "fault",
    [
        DOWN,
        Fault(b"EHLO", Reset(), effect=False),
    ],
    ids=["greeting", "reset"],
)
async def test_the_route_that_is_up_gets_its_copies_at_once_and_the_other_later(
    fault: Fault, tmp_path: Path
) -> None:
    """Each exactly once, over four runs of the program; deleted only when both have them."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, up, down = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(), ScriptedSmtpServer(fault)
    async with running(pop3), running(up), running(down):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port, deliver=["up", "down"])
        relay.destination(up.port, "up")
        relay.destination(down.port, "down", timeout="0.5s")
        await relay.once()
        assert once_each(up.accepted)
        assert (down.accepted, box.messages) == ([], MAIL)
        assert {known.message.state for known in relay.rows()} == {MessageState.DEFERRED}
        for known in relay.rows():
            assert [(d.destination, d.state) for d in known.deliveries] == [("up", DeliveryState.ACCEPTED)]

        fetched = pop3.counts["retr"]
        await relay.once()  # the pause of the last run holds, and the other route has them all
        assert (pop3.counts["retr"], down.accepted, len(up.accepted)) == (fetched, [], NUMBER)

        await relay.end_pause(HOP, "down")
        await relay.once()  # a probe that fails
        assert (pop3.counts["retr"], len(up.accepted)) == (fetched + 1, NUMBER)

        down.faults.clear()
        await relay.end_pause(HOP, "down")
        await relay.once()
    assert once_each(up.accepted)
    assert once_each(down.accepted)
    assert box.messages == []
    assert {known.message.state for known in relay.rows()} == {MessageState.GONE}
    assert {event.attempt for event in relay.told(MessageRelayed)} == {1}
    assert relay.told(MessageDeferred) == []
    assert [event.destination for event in relay.told(RouteResumed)] == ["down"]


@pytest.mark.parametrize(
    "fault",
    [Fault(b"MAIL", reply=b"530 5.7.0 log in\r\n"), Fault(b"DATA", Close(), effect=False)],
    ids=["mail", "hangs up"],
)
async def test_what_a_probe_failed_with_comes_last(fault: Fault, tmp_path: Path) -> None:
    """It may be the message that does it: else it would be every probe, and hold up the others for ever."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, down = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(fault)
    async with running(pop3), running(down):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port, deliver=["down"])
        relay.destination(down.port, "down", timeout="0.5s")
        await relay.once()
        await relay.end_pause(HOP, "down")
        await relay.once()  # a probe that fails
        assert (down.accepted, box.messages) == ([], MAIL)

        down.faults.clear()
        await relay.end_pause(HOP, "down")
        await relay.once()
        assert len(down.accepted) == NUMBER - 1
        assert len(box.messages) == 1
    (waits,) = (known for known in relay.rows() if known.message.state is MessageState.DEFERRED)
    assert [delivery.attempts for delivery in waits.deliveries] == [1]


async def test_a_route_that_is_down_delays_no_maildrop_that_does_not_need_it(tmp_path: Path) -> None:
    """Not even one that shares the server and is polled at the same time."""
    boxes = {name: SandboxMaildrop(PASSWORD, MAIL) for name in ("ann", "ben")}
    pop3, up, down = ScriptedPop3Server(boxes), ScriptedSmtpServer(), ScriptedSmtpServer(DOWN)
    async with running(pop3), running(up), running(down):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port, "ann", deliver=["down"])
        relay.maildrop(pop3.port, "ben", deliver=["up"])
        relay.destination(up.port, "up")
        relay.destination(down.port, "down")
        await relay.once()
    assert (boxes["ann"].messages, boxes["ben"].messages) == (MAIL, [])
    assert once_each(up.accepted)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses last seconds, so that a test can wait for their end."""
    monkeypatch.setattr("mailferry.services.route.ROUTE_BACKOFF", Backoff(2.5, 2.5, jitter=0.0))
    monkeypatch.setattr("mailferry.services.route.ROUTE_AUTH_BACKOFF", Backoff(2.5, 2.5, jitter=0.0))


@pytest.mark.usefixtures("short_pauses")
async def test_a_route_comes_back_without_a_restart(tmp_path: Path) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(DOWN)
    async with running(pop3), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port, every="1s", jitter="0s")
        relay.destination(hop.port)
        async with relay.running():
            await until(lambda: relay.told(RoutePaused), "the pause")
            await until(lambda: len(relay.told(PollFinished)) == 1, "the end of the poll")
            fetched, sessions = pop3.counts["retr"], hop.counts["sessions"]
            await asyncio.sleep(1.8)
            assert len(relay.told(PollFinished)) >= 2, "the maildrop is polled on"
            assert not relay.told(RouteProbeFailed)
            assert (pop3.counts["retr"], hop.counts["sessions"]) == (fetched, sessions)

            await until(lambda: relay.told(RouteProbeFailed), "the first probe")
            assert (pop3.counts["retr"], hop.counts["sessions"]) == (fetched + 1, sessions + 1)
            assert (box.messages, relay.rows()) == (MAIL, [])

            hop.faults.clear()
            await until(lambda: relay.told(RouteResumed), "the way back")
            await until(lambda: not box.messages, "the deletions")
        assert once_each(hop.accepted)
    assert [len(relay.told(kind)) for kind in (RoutePaused, RouteResumed)] == [1, 1]
    assert pop3.counts["retr"] == fetched + len(relay.told(RouteProbeFailed)) + NUMBER


@pytest.mark.usefixtures("short_pauses")
async def test_a_route_comes_back_when_its_password_is_mended(tmp_path: Path) -> None:
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(credentials={"carol": "the new one"})
    secret = tmp_path / "hop-password"
    secret.touch(mode=0o600)
    secret.write_text("the old one\n")
    async with running(pop3), running(hop):
        relay = Relay(tmp_path / "relay")
        relay.maildrop(pop3.port, every="1s", jitter="0s")
        relay.destination(hop.port, username="carol", password={"file": str(secret)})
        async with relay.running():
            await until(lambda: relay.told(RouteAuthRejected), "the refusal")
            await asyncio.sleep(1.5)
            assert hop.counts["AUTH"] == 1
            secret.write_text("the new one\n")
            await until(lambda: not box.messages, "the mail")
    assert once_each(hop.accepted)
    refusals = relay.told(RouteAuthRejected)
    assert [event.failures for event in refusals] == list(range(1, len(refusals) + 1))


async def test_refused_credentials_are_not_tried_again_for_ten_minutes_or_by_a_restart(
    tmp_path: Path,
) -> None:
    """A next hop locks accounts, too."""
    box = SandboxMaildrop(PASSWORD, MAIL)
    pop3 = ScriptedPop3Server({"ann": box})
    hop = ScriptedSmtpServer(credentials={"carol": "another"})
    async with running(pop3), running(hop):
        relay = Relay(tmp_path)
        relay.maildrop(pop3.port, every="1s", jitter="0s")
        relay.destination(hop.port, username="carol", password={"file": str(relay.folder.secret)})
        for _ in range(3):
            async with relay.running():
                await until(lambda: relay.told(RouteAuthRejected), "the refusal")
                await asyncio.sleep(1.2)
    assert hop.counts["AUTH"] + hop.counts["AUTH-RESPONSE"] <= 2  # one exchange
    assert len(relay.told(RouteAuthRejected)) == 1
    standing = relay.standing(HOP, "hop")
    assert standing.not_before - (standing.last_error_at or 0) >= 450
    assert box.messages == MAIL


def test_the_real_program_keeps_the_pause_when_it_is_restarted(tmp_path: Path) -> None:
    async def work() -> None:
        box = SandboxMaildrop(PASSWORD, MAIL)
        pop3, hop = ScriptedPop3Server({"ann": box}), ScriptedSmtpServer(DOWN)
        async with running(pop3), running(hop):
            relay = Relay(tmp_path)
            relay.maildrop(pop3.port, every="1s", jitter="0s")
            relay.destination(hop.port)
            config = relay.config()
            await asyncio.to_thread(live, config, 1)
            fetched, sessions = pop3.counts["retr"], hop.counts["sessions"]
            await asyncio.to_thread(live, config, 2)
            assert (pop3.counts["retr"], hop.counts["sessions"]) == (fetched, sessions)
            assert (box.messages, relay.rows()) == (MAIL, [])
            hop.faults.clear()
            await relay.end_pause(HOP, "hop")
            await asyncio.to_thread(last_life, config, hop)
        assert once_each(hop.accepted)
        assert box.messages == []

    def live(config: Path, polls: int) -> None:
        with DaemonProcess(config) as program:
            program.wait_for(lambda: bool(program.named("route.paused")), "pause")
            program.wait_for(lambda: len(program.named("poll.finished")) >= polls, "polls")
            assert program.stop() == 0
            assert len(program.named("route.paused")) == 1

    def last_life(config: Path, hop: ScriptedSmtpServer) -> None:
        with DaemonProcess(config) as program:
            program.wait_for(lambda: len(hop.accepted) == NUMBER, "mail")
            assert program.stop() == 0
            assert program.named("route.paused") == []
            assert len(program.named("route.resumed")) == 1

    asyncio.run(work())
