"""A message that came by SMTP: who gets it, what is written down, what its sender is told, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mailferry.events import Event, MessageRelayed, ReceiverMessageReceived
from mailferry.model import (
    RECEIVER,
    Deferred,
    Delivered,
    DeliveryReport,
    DeliveryState,
    DestinationName,
    MessageId,
    MessageState,
    PermanentFailure,
    ReceivedMail,
    Scope,
    Uidl,
)
from mailferry.policy.reception import KNOWN_SECONDS
from mailferry.services.budget import MemoryBudget
from mailferry.services.context import Surroundings
from mailferry.services.reception import MailReception, ReceptionPolicy
from support.fakes import FakeDestination, FakeLedger
from support.virtual_time import FakeClock, settle, timeless

CONTENT = b"From: a@example.net\r\nSubject: hi\r\nMessage-ID: <1@example.net>\r\n\r\nbody\r\n"
AWAY = DeliveryReport(Deferred(Scope.NEXT_HOP, "connection refused"))
BUSY = DeliveryReport(Deferred(Scope.MESSAGE, "450 4.2.0 greylisted"))
NEVER = DeliveryReport(PermanentFailure(Scope.MESSAGE, "550 5.7.1 we take no such thing"))
TAKEN = DeliveryReport(Delivered("250 2.0.0 queued"))


class Desk:
    """A reception with fakes for all that it needs."""

    def __init__(self, *to: str) -> None:
        self.effects: list[str] = []
        self.events: list[Event] = []
        self.domains: list[str] = []
        self.clock = FakeClock()
        self.ledger = FakeLedger(self.effects)
        self.to = {name: FakeDestination(name, self.effects) for name in to or ("office",)}
        self.says: dict[str, list[DeliveryReport]] = {name: [] for name in self.to}
        for name, destination in self.to.items():
            destination._next_report = lambda _uidl, name=name: (  # type: ignore[method-assign,misc]
                self.says[name].pop(0) if self.says[name] else TAKEN
            )
        numbers = iter(range(1, 1_000_000))
        self.around = Surroundings(
            ledger=self.ledger,
            destinations={each.name: each for each in self.to.values()},
            budget=MemoryBudget(1 << 20),
            emit=self.events.append,
            clock=self.clock,
            chance=lambda: 0.5,
            new_message_id=lambda: MessageId(next(numbers)),
        )
        self.reception = MailReception(ReceptionPolicy("mx.example.org"), self.around, self.domains.append)

    def mail(self, *recipients: str, content: bytes = CONTENT, sender: str = "a@example.net") -> ReceivedMail:
        return ReceivedMail(
            envelope_sender=sender,
            envelope_recipients=recipients or ("u@example.org",),
            content=content,
            received_from="mx.example.net ([192.0.2.1])",
            received_with="ESMTP",
            destinations=tuple(map(DestinationName, self.to)),
            session_id="s1",
        )

    async def bring(self, *recipients: str, **changes: Any) -> int:
        """Bring a message and return the reply's code."""
        return (await self.reception.receive(self.mail(*recipients, **changes))).code

    def asked(self, name: str = "office") -> list[tuple[str, ...]]:
        """For whom a destination was asked, order by order."""
        return [
            tuple(r for r in each.message.envelope_recipients if r not in each.settled_recipients)
            for each in self.to[name].submitted
        ]

    @property
    def states(self) -> dict[str, MessageState]:
        return {row.recipient: row.state for row in self.ledger.messages.values()}


async def test_two_hundred_and_fifty_is_said_only_when_the_row_is_synced() -> None:
    desk = Desk()
    desk.ledger.held = True
    answer = asyncio.ensure_future(desk.reception.receive(desk.mail()))
    await settle()
    assert [effect.split()[0] for effect in desk.effects] == ["submit", "note"]
    assert not answer.done()
    desk.ledger.sync()
    reply = await answer
    assert reply.code == 250
    assert [effect.split()[0] for effect in desk.effects] == ["submit", "note", "synced"]
    assert desk.states == {"u@example.org": MessageState.GONE}


async def test_every_destination_must_have_it_first() -> None:
    desk = Desk("office", "vault")
    desk.to["vault"].when = "held"
    answer = asyncio.ensure_future(desk.reception.receive(desk.mail()))
    await settle()
    assert not answer.done()
    assert desk.states == {"u@example.org": MessageState.DEFERRED}
    desk.to["vault"].answer()
    assert (await answer).code == 250
    assert desk.states == {"u@example.org": MessageState.GONE}


@timeless
async def test_a_row_shows_the_message_as_any_other() -> None:
    desk = Desk()
    await desk.bring()
    (row,) = desk.ledger.messages.values()
    assert (row.maildrop, row.subject, row.sender) == (RECEIVER, "hi", "a@example.net")
    assert row.uidl.startswith(b" smtp ")
    assert row.accepted_at == desk.clock()
    (told,) = [event for event in desk.events if isinstance(event, MessageRelayed)]
    assert (told.maildrop, told.recipient, told.destination) == ("receiver", "u@example.org", "office")
    message = desk.to["office"].submitted[0].message
    assert (message.envelope_sender, message.fetched_with) == ("a@example.net", "ESMTP")


@pytest.mark.parametrize(
    ("says", "code", "state"),
    [
        ([AWAY, TAKEN], 451, None),
        ([BUSY, TAKEN], 451, MessageState.DEFERRED),
        ([NEVER, TAKEN], 554, MessageState.REJECTED),
        ([DeliveryReport(Deferred(Scope.NEXT_HOP, "cut", in_doubt=True)), TAKEN], 451, MessageState.DEFERRED),
    ],
)
async def test_what_a_destination_does_not_take_stays_with_the_sender_and_is_tried_when_it_comes_again(
    says: list[DeliveryReport], code: int, state: MessageState | None
) -> None:
    desk = Desk()
    desk.says["office"] = says
    assert await desk.bring() == code
    assert desk.states.get("u@example.org") == state
    assert await desk.bring() == 250
    assert desk.states == {"u@example.org": MessageState.GONE}
    assert len(desk.ledger.messages) == 1


async def test_the_reason_of_a_refusal_is_for_the_sender_that_of_a_deferral_for_our_log() -> None:
    desk = Desk()
    desk.says["office"] = [NEVER, AWAY]
    assert "we take no such thing" in (await desk.reception.receive(desk.mail())).text
    assert "refused" not in (await desk.reception.receive(desk.mail())).text


async def test_what_comes_again_goes_only_where_it_is_missing() -> None:
    desk = Desk("office", "vault")
    desk.says["vault"] = [BUSY]
    assert await desk.bring() == 451
    assert await desk.bring() == 250
    assert (len(desk.asked("office")), len(desk.asked("vault"))) == (1, 2)


async def test_not_now_comes_before_never() -> None:
    desk = Desk("office", "vault")
    desk.says = {"office": [NEVER, NEVER], "vault": [BUSY]}
    assert await desk.bring() == 451
    assert await desk.bring() == 554


async def test_a_transaction_whose_answer_was_lost_is_answered_and_not_delivered_again() -> None:
    desk = Desk()
    assert await desk.bring() == 250
    assert await desk.bring() == 250
    assert len(desk.asked()) == 1
    told = [event.result for event in desk.events if isinstance(event, ReceiverMessageReceived)]
    assert told == ["accepted", "known"]
    desk.clock.base += KNOWN_SECONDS + 1
    assert await desk.bring() == 250
    assert len(desk.asked()) == 2, "so late, it is meant to come twice"


async def test_what_nothing_tells_apart_is_another_message_when_it_comes_again() -> None:
    desk = Desk()
    alarm = b"Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nSubject: door open\r\n\r\nalarm\r\n"
    desk.says["office"] = [TAKEN, BUSY]
    assert [await desk.bring(content=alarm) for _ in range(3)] == [250, 451, 250]
    assert len(desk.asked()) == 3
    assert [row.state for row in desk.ledger.messages.values()] == [MessageState.GONE] * 2


async def test_the_same_content_for_another_recipient_is_another_message() -> None:
    desk = Desk()
    assert [await desk.bring("u@example.org"), await desk.bring("v@example.org")] == [250, 250]
    assert desk.asked() == [("u@example.org",), ("v@example.org",)]
    assert await desk.bring(sender="") == 250
    assert len(desk.asked()) == 3, "another sender, another message"


async def test_recipients_may_come_again_in_other_groups() -> None:
    desk = Desk()
    desk.says["office"] = [
        DeliveryReport(Deferred(Scope.RECIPIENT, "v: 450"), accepted_recipients=("u@example.org",))
    ]
    assert await desk.bring("u@example.org", "v@example.org") == 451
    assert desk.states == {"u@example.org": MessageState.GONE, "v@example.org": MessageState.DEFERRED}
    assert await desk.bring("w@example.org", "u@example.org", "v@example.org") == 250
    assert desk.asked() == [("u@example.org", "v@example.org"), ("w@example.org", "v@example.org")]


async def test_a_recipient_that_is_refused_is_told_and_the_others_have_it() -> None:
    desk = Desk()
    desk.says["office"] = [
        DeliveryReport(
            PermanentFailure(Scope.RECIPIENT, "v@example.org: 550 5.1.1 unknown"),
            accepted_recipients=("u@example.org",),
            refused_recipients=("v@example.org",),
        )
    ]
    reply = await desk.reception.receive(desk.mail("u@example.org", "v@example.org"))
    assert (reply.code, "5.1.1 unknown" in reply.text) == (554, True)
    assert desk.states == {"u@example.org": MessageState.GONE, "v@example.org": MessageState.REJECTED}


async def test_a_destination_with_recipients_of_its_own_goes_on_where_it_stopped() -> None:
    desk = Desk()
    desk.says["office"] = [
        DeliveryReport(Deferred(Scope.RECIPIENT, "backup: 450"), accepted_recipients=("boss@office",))
    ]
    assert await desk.bring("u@example.org", "v@example.org") == 451
    assert await desk.bring("u@example.org", "v@example.org") == 250
    assert desk.to["office"].submitted[1].settled_recipients == {"boss@office"}
    assert desk.states == {"u@example.org": MessageState.GONE, "v@example.org": MessageState.GONE}


async def test_a_message_that_runs_in_a_loop_goes_nowhere() -> None:
    desk = Desk()
    reply = await desk.reception.receive(desk.mail(content=b"Received: from x; y\r\n" * 100 + CONTENT))
    assert (reply.code, reply.enhanced_status) == (554, "5.4.6")
    assert desk.asked() == []


@pytest.mark.parametrize("fault", ["commit", "note", "known", "raises"])
async def test_without_a_row_there_is_no_250(fault: str) -> None:
    desk = Desk()
    if fault == "commit":
        desk.ledger.fails = lambda _rows: True
    desk.ledger.note_fails = fault == "note"
    desk.ledger.known_fails = fault == "known"
    desk.ledger.raises = fault == "raises"
    assert await desk.bring() == 451
    assert len(desk.asked()) == (fault != "known")


async def test_a_fault_of_ours_leaves_the_message_with_its_sender(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.around.destinations.clear()  # type: ignore[attr-defined]
    assert await desk.bring() == 451
    assert "KeyError" in caplog.text
    caplog.clear()


async def test_a_fault_where_rows_are_written_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    monkeypatch.setattr(desk.ledger, "commit", lambda _rows, _done: 1 / 0)
    async with asyncio.timeout(5):
        assert await desk.bring() == 451
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


async def test_a_message_that_is_being_delivered_is_not_taken_a_second_time() -> None:
    desk = Desk()
    desk.to["office"].when = "held"
    first = asyncio.ensure_future(desk.reception.receive(desk.mail()))
    await settle()
    assert await desk.bring("w@example.org", "u@example.org") == 451
    desk.to["office"].answer()
    assert (await first).code == 250
    assert len(desk.asked()) == 1


async def test_what_nobody_waits_for_any_more_is_written_down_all_the_same() -> None:
    desk = Desk()
    desk.to["office"].when = "held"
    waiting = asyncio.ensure_future(desk.reception.receive(desk.mail()))
    await settle()
    waiting.cancel()
    await settle()
    desk.to["office"].answer()
    await settle()
    assert desk.states == {"u@example.org": MessageState.GONE}
    assert await desk.bring() == 250
    assert len(desk.asked()) == 1


async def test_whoever_asked_for_mail_learns_that_it_came() -> None:
    desk = Desk()
    desk.says["office"] = [AWAY]
    await desk.bring("u@example.org", "v@Example.org", "w@sub.example.org")
    assert desk.domains == ["example.org", "sub.example.org"]


async def test_a_destination_that_the_configuration_lost_is_not_waited_for() -> None:
    desk = Desk("office", "vault")
    desk.says["vault"] = [BUSY]
    await desk.bring()
    only = (DestinationName("office"),)
    reply = await desk.reception.receive(replace(desk.mail(), destinations=only))
    assert (reply.code, desk.states) == (250, {"u@example.org": MessageState.GONE})


async def test_messages_that_their_senders_gave_up_are_forgotten() -> None:
    desk = Desk("office", "vault")
    desk.says["vault"] = [BUSY, BUSY]
    await desk.bring("old@example.org")
    desk.clock.base += KNOWN_SECONDS - 10
    await desk.bring("new@example.org")
    await desk.reception.forget_old()
    assert set(desk.states.values()) == {MessageState.DEFERRED}
    desk.clock.base += 20
    await desk.reception.forget_old()
    assert desk.states == {"old@example.org": MessageState.GONE, "new@example.org": MessageState.DEFERRED}
    old = [row for row in desk.ledger.messages.values() if row.recipient == "old@example.org"]
    assert old[0].reason.startswith("the sender has not brought it again; 450")
    assert await desk.bring("old@example.org") == 250, (
        "and if it comes after all, it goes where it is missing"
    )
    assert len(desk.asked("office")) == 2
    states = [d.state for (number, _), d in desk.ledger.deliveries.items() if number == old[0].message_id]
    assert states == [DeliveryState.ACCEPTED, DeliveryState.ACCEPTED]


def uidls(rows: Sequence[Any]) -> list[Uidl]:
    return [row.uidl for row in rows]


async def test_the_case_of_a_domain_makes_no_other_recipient() -> None:
    desk = Desk()
    await desk.bring("u@example.org")
    await desk.bring("u@EXAMPLE.org")
    await desk.bring("U@example.org")
    assert len(set(uidls(list(desk.ledger.messages.values())))) == 2
