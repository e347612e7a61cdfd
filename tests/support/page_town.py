"""A made-up town of maildrops for the status page: a source without a daemon, a ledger or a disk.

The hostile ones among its messages are what anybody can send.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mailferry.errors import ControlError, MailferryError
from mailferry.model import (
    DeliveryRecord,
    DeliveryState,
    DestinationName,
    KnownMessage,
    MaildropName,
    MessageId,
    MessageRecord,
    MessageState,
    QuarantineEntry,
    Uidl,
)
from mailferry.web.page.model import (
    DaemonFacts,
    Day,
    DestinationRow,
    EtrnRow,
    FoundMessages,
    MaildropRow,
    MessageQuery,
    Picture,
    Quarantined,
    QuarantinedMessage,
    ReceiverFacts,
    Tone,
    Totals,
    Wanted,
)

NOW = 1_767_268_800.0
"""2026-01-01, noon in UTC."""
FIRST_NUMBER = 1_767_000_000_000_000 << 11
HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202egnp.exe\x00&lt;'
QUARANTINED = "0123456789abcdef"


def day(scale: float, seed: int = 0, failures: Mapping[int, int] | None = None) -> Day:
    """Return a day with more mail around noon."""
    relayed = tuple(
        max(round(scale * (1 - math.cos((hour + seed) / 24 * 2 * math.pi) + ((hour * 7 + seed) % 3) / 3)), 0)
        for hour in range(24)
    )
    failed = failures or {}
    return Day(relayed, tuple(failed.get(hour, 0) for hour in range(24)), NOW // 3600 * 3600, NOW - 40 * 3600)


def maildrop(name: str, state: str = "ok", tone: Tone = Tone.GOOD, **more: Any) -> MaildropRow:
    """Return a maildrop's row."""
    row = MaildropRow(
        target=f"maildrop.{name}",
        name=name,
        state=state,
        tone=tone,
        last_success_at=NOW - 100,
        error="",
        error_at=None,
        failures=0,
        not_before=0.0,
        where="pop.example.net:995",
        last_poll_at=NOW - 100,
        next_poll_at=NOW + 200,
        waiting=0,
        day=day(4, len(name)),
        details=[("Server", "pop.example.net:995, tls implicit"), ("User name", f"{name}@example.net")],
    )
    return replace(row, **more)


def message(number: int, **more: Any) -> MessageRecord:
    """Return a message's row."""
    row = MessageRecord(
        message_id=MessageId(FIRST_NUMBER + number),
        maildrop=MaildropName("alice"),
        uidl=Uidl(b"000%d.5f3c" % number),
        state=MessageState.GONE,
        size_octets=4_210 * (number + 1),
        first_seen_at=NOW - 60 * number - 30,
        updated_at=NOW - 60 * number - 20,
        header_digest=b"h",
        content_digest=b"c",
        sender="Ann Example <ann@example.org>",
        recipient="alice@example.net",
        subject=f"Minutes of the meeting, part {number}",
        accepted_at=NOW - 60 * number - 25,
    )
    return replace(row, **more)


def delivery(number: int, destination: str = "office", **more: Any) -> DeliveryRecord:
    """Return a delivery's row."""
    row = DeliveryRecord(
        message_id=MessageId(FIRST_NUMBER + number),
        destination=DestinationName(destination),
        state=DeliveryState.ACCEPTED,
        attempts=1,
        next_attempt_at=0.0,
        updated_at=NOW - 60 * number - 25,
        receipt="2.0.0 Ok: queued as 4XkD2n3Zbz",
    )
    return replace(row, **more)


def messages() -> list[KnownMessage]:
    """Return what the town has seen, the newest change first."""
    refused = "550 5.7.1 Message rejected as spam by content filter"
    return [
        KnownMessage(
            message(1, subject="Angebot Nr. 4711 für Herrn Müller"), (delivery(1), delivery(1, "vault"))
        ),
        KnownMessage(
            message(2, subject="Отчёт за июнь", sender="Анна Пример <anna@example.org>", maildrop="sales")
        ),
        KnownMessage(
            message(3, subject="Invoice 2026-0017", state=MessageState.DEFERRED, accepted_at=None),
            (
                delivery(
                    3,
                    state=DeliveryState.DEFERRED,
                    receipt="",
                    error="452 4.2.2 Mailbox full",
                    attempts=3,
                    next_attempt_at=NOW + 900,
                ),
            ),
        ),
        KnownMessage(
            message(
                4, subject="You have won", state=MessageState.REJECTED, accepted_at=None, maildrop="info"
            ),
            (delivery(4, state=DeliveryState.REJECTED, receipt="", error=refused),),
        ),
        KnownMessage(
            message(
                5,
                subject=HOSTILE,
                sender=HOSTILE,
                recipient=HOSTILE,
                uidl=Uidl(b"<script>\xff\x1b"),
                reason=HOSTILE,
            ),
            (delivery(5, receipt=HOSTILE),),
        ),
        KnownMessage(
            message(
                6,
                subject="Holiday pictures",
                state=MessageState.SKIPPED,
                accepted_at=None,
                reason="too large",
            )
        ),
        *(KnownMessage(message(number), (delivery(number),)) for number in range(7, 60)),
    ]


class Town:
    """Implements `PageSource`; `trouble` makes it fail."""

    def __init__(self) -> None:
        self.maildrops = _maildrops()
        self.trouble: MailferryError | None = None
        self.problems: Sequence[str] = ()
        self.asked: list[object] = []
        self.forgotten = 0
        self.verdict = ("3 of 12 maildrops and 1 destination need a look", Tone.BAD)

    async def picture(self, wanted: Wanted) -> Picture:
        self._note(wanted)
        rows = [row for row in self.maildrops if wanted.text in row.name]
        return Picture(
            taken_at=NOW,
            daemon=DaemonFacts("0.1.0", "relay.example.org", NOW - 40 * 3600, False, 3, 0, 48_100),
            verdict=self.verdict[0],
            tone=self.verdict[1],
            totals=Totals(12, 3, 1, 0, 1, 17, 5, 1, 1),
            maildrops=rows[:50],
            matching=len(rows),
            page=wanted.page,
            pages=-(-len(rows) // 50),
            destinations=_destinations(),
            destinations_left_out=0,
            etrn=_etrn(),
            etrn_left_out=0,
            receiver=ReceiverFacts("192.0.2.25:25", ["rnd.example.org"], ["office"], day(2, 5)),
            day=day(60, 3, {4: 2, 9: 1, 22: 3, 23: 5}),
            problems=self.problems,
        )

    async def maildrop(self, name: str) -> MaildropRow | None:
        return next((row for row in self.maildrops if row.name == name), None)

    async def messages(self, query: MessageQuery) -> FoundMessages:
        self._note(query)
        found = [each for each in messages() if query.text.lower() in each.message.subject.lower()]
        if query.before is not None:
            found = [each for each in found if each.message.updated_at < query.before[0]]
        return FoundMessages(
            found[: query.limit], len(found) > query.limit, (NOW - 9.5, 77) if query.text == "slow" else None
        )

    async def message(self, number: MessageId) -> KnownMessage | None:
        return next((each for each in messages() if each.message.message_id == number), None)

    async def quarantine(self, page: int) -> Quarantined:
        self._note(page)
        stored = await self.quarantined(QUARANTINED)
        return Quarantined([stored] if stored is not None else [], 1)

    async def quarantined(self, name: str) -> QuarantinedMessage | None:
        known = messages()[4]
        refused = replace(
            known.deliveries[0], state=DeliveryState.REJECTED, receipt="", error=f"550 5.7.1 {HOSTILE}"
        )
        entry = QuarantineEntry(
            QUARANTINED, known.message, (refused,), HOSTILE, NOW - 500, "pop.example.net", "POP3S", NOW - 400
        )
        return QuarantinedMessage(QUARANTINED, entry, "", 21_050, NOW - 400) if name == QUARANTINED else None

    def forget(self) -> None:
        self.forgotten += 1

    def _note(self, asked: object) -> None:
        self.asked.append(asked)
        if self.trouble is not None:
            raise self.trouble


class TownHall:
    """Implements `PageOperations`: takes orders and notes them."""

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []
        self.poll_state = "under way"

    async def poll(self, names: Sequence[str] | None, *, wait_seconds: float) -> Mapping[str, Any]:
        self.done.append(("poll", *(names or ())))
        return {"polls": [{"state": self.poll_state}]}

    async def pause(self, names: Sequence[str] | None, *, seconds: float | None) -> Mapping[str, Any]:
        self.done.append(("pause", *(names or ()), seconds))
        return {}

    async def resume(self, names: Sequence[str] | None) -> Mapping[str, Any]:
        self.done.append(("resume", *(names or ())))
        return {}

    async def retry(self, maildrop: str | None, *, uidl: str | None) -> Mapping[str, Any]:
        self.done.append(("retry", maildrop, uidl))
        return {"messages": 1, "postponed": 1, "polling": [maildrop]}

    async def release(self, name: str) -> str:
        self.done.append(("release", name))
        if name != QUARANTINED:
            raise ControlError(f"there is no such message: {HOSTILE}")
        return "Released: office: accepted."


def _maildrops() -> list[MaildropRow]:
    refused = "auth_rejected: pop.example.net: login refused: -ERR [AUTH] wrong user name or password"
    lost = "connect_failed: pop.branch.example:995: cannot connect: Connection refused"
    return [
        maildrop(
            "info",
            "failing",
            Tone.BAD,
            error=refused,
            error_at=NOW - 400,
            failures=4,
            not_before=NOW + 3500,
            next_poll_at=NOW + 3500,
            waiting=None,
            rejected=1,
            day=day(2, 4, {20: 1, 21: 1, 22: 1, 23: 1}),
        ),
        maildrop(
            "branch-berlin",
            "failing",
            Tone.BAD,
            error=lost,
            error_at=NOW - 30,
            failures=2,
            not_before=NOW + 90,
            next_poll_at=NOW + 90,
            waiting=12,
            deferred=4,
            day=day(3, 9, {22: 2, 23: 4}),
        ),
        maildrop(
            "archive-2019",
            "paused by hand",
            Tone.WARN,
            paused_by_hand=True,
            pause_ends_at=NOW + 2400,
            next_poll_at=None,
            waiting=3,
            day=day(0),
        ),
        maildrop("alice", polling=True, waiting=2),
        *(
            maildrop(name, day=day(index % 5 + 1, index * 5))
            for index, name in enumerate(
                ("bob", "careers", "contact", "helpdesk", "orders", "press", "sales", "webmaster")
            )
        ),
        maildrop(
            "old-account",
            "disabled",
            Tone.QUIET,
            last_poll_at=None,
            next_poll_at=None,
            waiting=None,
            day=day(0),
        ),
    ]


def _destinations() -> list[DestinationRow]:
    common: dict[str, Any] = {
        "last_success_at": NOW - 25,
        "error": "",
        "error_at": None,
        "failures": 0,
        "not_before": 0.0,
    }
    down: dict[str, Any] = {
        "last_success_at": NOW - 7400,
        "error": "timeout: backup.example.org:25: no answer within 30 s",
        "error_at": NOW - 60,
        "failures": 5,
        "not_before": NOW + 240,
    }
    return [
        DestinationRow(
            "destination.backup",
            "backup",
            "paused",
            Tone.BAD,
            **down,
            kind="smtp",
            where="backup.example.org:25",
        ),
        DestinationRow(
            "destination.office",
            "office",
            "open",
            Tone.GOOD,
            **common,
            kind="smtp",
            where="smtp.example.org:587",
        ),
        DestinationRow(
            "destination.vault",
            "vault",
            "open",
            Tone.GOOD,
            **common,
            kind="maildir",
            where="/var/lib/mailferry/vault",
        ),
    ]


def _etrn() -> list[EtrnRow]:
    common: dict[str, Any] = {
        "last_success_at": NOW - 600,
        "error": "",
        "error_at": None,
        "failures": 0,
        "not_before": 0.0,
    }
    return [
        EtrnRow(
            "etrn.head-office",
            "head-office/rnd.example.org",
            "ok",
            Tone.GOOD,
            **common,
            server="head-office",
            node="rnd.example.org",
            last_attempt_at=NOW - 600,
            due_at=NOW + 1200,
            last_reply="253 2.0.0 Ok, 4 pending messages",
        )
    ]
