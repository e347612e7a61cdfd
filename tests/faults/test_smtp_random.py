"""Whatever goes wrong, every order is answered once, and nothing is told that is not true.

A seeded loop: a few faults at random places, a handful of messages, sometimes a
drain in the middle. A failing seed is in the test's name.
"""

from __future__ import annotations

import asyncio
import email
import random
from collections import Counter

import pytest

from mailferry.destinations import smtp as destination_module
from mailferry.destinations.letter import Envelope
from mailferry.destinations.smtp import SmtpDestination, SmtpLimits
from mailferry.model import Deferred, Delivered, DestinationName, PermanentFailure
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.smtp_connector import SmtpConnector, SmtpSettings
from support.clients import running
from support.deliveries import Reports
from support.faults import GREETING, Close, Delay, Delivery, Drip, Fault, Reset, Send, Stall
from support.scripted_smtp import FINAL, ScriptedSmtpServer, SmtpFeatures

SEEDS = range(30)
SECONDS = 0.12
VERBS = [
    GREETING,
    b"EHLO",
    b"MAIL",
    b"MAIL",
    b"RCPT",
    b"RCPT",
    b"DATA",
    b"DATA",
    FINAL,
    FINAL,
    b"RSET",
    b"QUIT",
]
REPLIES = [
    None,
    None,
    None,
    b"421 4.3.2 bye\r\n",
    b"451 4.3.0 later\r\n",
    b"550 5.1.1 no\r\n",
    b"nonsense\r\n",
    b"250 2.0.0 yes\r\n",
    b"354 go\r\n",
    b"250-unfinished\r\n",
]


def random_delivery(chance: random.Random) -> Delivery:
    kinds: list[Delivery] = [
        Send(),
        Send(),
        Send(b"250 unasked\r\n"),
        Send(b"421 4.3.2 shutting down\r\n"),
        Stall(chance.randrange(4)),
        Delay(chance.choice([0.01, 0.05])),
        Drip(0.005, 3),
        Close(chance.choice([0, 1, 5, None])),
        Reset(chance.choice([0, 1, 5])),
    ]
    return chance.choice(kinds)


def random_fault(chance: random.Random) -> Fault:
    reply = chance.choice(REPLIES)
    return Fault(
        chance.choice(VERBS),
        random_delivery(chance),
        reply=reply,
        nth=chance.choice([0, 1, 1, 2, 3, 4]),
        times=chance.choice([0, 1, 1, 2]),
        effect=chance.choice([None, True, False]) if reply is None else None,
    )


def random_server(chance: random.Random) -> ScriptedSmtpServer:
    features = SmtpFeatures(pipelining=chance.random() < 0.7, chunking=chance.random() < 0.4)
    return ScriptedSmtpServer(*(random_fault(chance) for _ in range(chance.randint(1, 4))), features=features)


def make_hop(server: ScriptedSmtpServer, chance: random.Random) -> SmtpDestination:
    endpoint = Endpoint(
        "127.0.0.1", server.port, TlsMode.NONE, connect_timeout_seconds=1.0, timeout_seconds=SECONDS
    )
    settings = SmtpSettings(endpoint, "relay.example.net", final_timeout_seconds=SECONDS)
    limits = SmtpLimits(chance.choice([1, 2, 4]), chance.choice([1, 2, 1000]))
    envelope = Envelope(
        "original", ("bob@example.org", "cyd@example.org")[: chance.randint(1, 2)], "relay.example.net"
    )
    return SmtpDestination(DestinationName("hop"), SmtpConnector(settings), envelope, limits)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_order_is_answered_once_and_truly(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(destination_module, "PATIENCE_SECONDS", 0.02)
    monkeypatch.setattr("mailferry.net.smtp_session.QUIT_SECONDS", SECONDS)
    # Half of the next hops count as far away: they get sessions, or windows, as soon as anything waits.
    monkeypatch.setattr("mailferry.policy.session_count.NEAR_SECONDS", chance.choice([-1.0, 60.0]))
    server, reports = random_server(chance), Reports()
    async with running(server):
        hop = make_hop(server, chance)
        for number in range(chance.randint(1, 8)):
            hop.submit(reports.order(f"m{number}"))
            if chance.random() < 0.4:
                await asyncio.sleep(chance.choice([0, 0, 0.005, 0.03]))
        if chance.random() < 0.6:
            await reports.all_done()
        async with asyncio.timeout(5):
            await hop.drain()
    assert not reports.open
    check(reports, server)


def tells_the_truth(fault: Fault) -> bool:
    """Whether the server's words and deeds agree: no yes without the deed, nothing unasked, no no after it."""
    unasked = isinstance(fault.delivery, Send) and fault.delivery.extra
    said_yes = fault.reply is not None and fault.reply[:1] in b"23"
    return not (unasked or said_yes or (fault.reply is None and fault.effect is False))


def check(reports: Reports, server: ScriptedSmtpServer) -> None:
    honest = all(tells_the_truth(fault) for fault in server.faults._seen)
    taken = Counter(
        (email.message_from_bytes(message.content)["Subject"], recipient.decode())
        for message in server.accepted
        for recipient in message.recipients
    )
    if honest:
        assert all(times == 1 for times in taken.values()), taken
    for name in reports.by_name:
        report = reports.report(name)  # and there is no second one
        here = {recipient for subject, recipient in taken if subject == name}
        assert isinstance(report.outcome, Delivered | Deferred | PermanentFailure)
        in_doubt = isinstance(report.outcome, Deferred) and report.outcome.in_doubt
        if honest and not in_doubt:
            assert here == set(report.accepted_recipients), name
        assert isinstance(report.outcome, Delivered) or report.outcome.reason, name
