"""ATRN over real sockets: a provider that does as it is told, and our server on the turned connection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailferry.errors import (
    ConnectionLostError,
    EtrnNotOfferedError,
    HopAuthenticationError,
    RemoteProtocolError,
    TransportError,
)
from mailferry.events import EtrnMailTaken, Event
from mailferry.message.spool import Spool
from mailferry.model import DestinationName, ReceivedMail
from mailferry.net import odmr_connector
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.odmr_connector import SmtpOdmrConnector
from mailferry.net.smtp_connector import SmtpSettings
from mailferry.protocol.smtp_replies import SmtpReply, make_reply
from mailferry.receiver.link import SessionLimits
from mailferry.receiver.session import SmtpSession
from mailferry.receiver.sessions import ReceiverSessions, Surroundings
from mailferry.services.budget import MemoryBudget
from mailferry.services.etrn import EtrnPolicy, NodeOutcome, RoundReport
from mailferry.services.odmr import OdmrRound, OdmrServices
from support.certificates import LocalAuthority
from support.clients import running
from support.relay import until
from support.scripted_odmr import CREDENTIALS, Odd, ScriptedProvider, mail
from support.scripted_smtp import ScriptedSmtpServer

CUSTOMER = Credentials("customer", password=lambda: CREDENTIALS["customer"])
DOMAIN = "example.org"


class FakeReception:
    """Implements `ports.Reception`: remembers what came and says what it is told to, else 250."""

    def __init__(self) -> None:
        self.received: list[ReceivedMail] = []
        self.says: list[str] = []
        self.wait = asyncio.Event()
        self.wait.set()

    async def receive(self, mail: ReceivedMail) -> SmtpReply:
        await self.wait.wait()
        self.received.append(mail)
        code, _, text = (self.says.pop(0) if self.says else "250 2.0.0 delivered").partition(" ")
        return make_reply(int(code), (text,))


@dataclass
class Asked:
    """What one round brought."""

    report: RoundReport
    outcomes: dict[str, NodeOutcome]
    events: list[Event]
    sessions: list[SmtpSession]

    @property
    def results(self) -> dict[str, str]:
        return {node: outcome.answer.result.value for node, outcome in self.outcomes.items()}

    @property
    def taken(self) -> EtrnMailTaken:
        (event,) = [event for event in self.events if isinstance(event, EtrnMailTaken)]
        return event


@dataclass
class Customer:
    """Our side: a connector, and a server for what turns round."""

    folder: Path
    limits: SessionLimits = field(default_factory=SessionLimits)
    reception: FakeReception = field(default_factory=FakeReception)
    events: list[Event] = field(default_factory=list)
    sessions: list[SmtpSession] = field(default_factory=list)

    def connector(self, where: Endpoint, **more: Any) -> SmtpOdmrConnector:
        around = Surroundings(
            self.reception, MemoryBudget(1 << 20), Spool(self.folder, 1 << 16), self.events.append, "home.example.org"
        )  # fmt: skip
        house = ReceiverSessions(around, self.limits)

        def make(domains: Sequence[str], protected: bool) -> SmtpSession:
            session = house.protocol(
                domains=domains, deliver=[DestinationName("hop")], origin="home", guarded=False, protected=protected
            )  # fmt: skip
            self.sessions.append(session)
            return session

        settings = SmtpSettings(where, "home.example.org", pipelining=False, credentials=CUSTOMER, **more)
        return SmtpOdmrConnector(settings, make)

    def round(self, where: Endpoint, outcomes: dict[str, NodeOutcome], nodes: Sequence[str]) -> OdmrRound:
        loop = asyncio.get_running_loop()
        services = OdmrServices(
            self.connector(where, allow_cleartext=True), loop.time, loop.time, self.events.append
        )
        policy = EtrnPolicy("home", "odmr.example.net", tuple(nodes))
        return OdmrRound(policy, services, lambda outcome: outcomes.__setitem__(outcome.node, outcome))

    async def ask(self, where: Endpoint, *nodes: str) -> Asked:
        outcomes: dict[str, NodeOutcome] = {}
        report = await self.round(where, outcomes, nodes or (DOMAIN,)).run(nodes or (DOMAIN,))
        return Asked(report, outcomes, self.events, self.sessions)


@pytest.fixture
def customer(tmp_path: Path) -> Customer:
    return Customer(tmp_path)


def endpoint(port: int, tls: TlsMode = TlsMode.NONE, ca: Path | None = None) -> Endpoint:
    host = "localhost" if ca else "127.0.0.1"
    return Endpoint(host, port, tls, ca_file=ca, connect_timeout_seconds=5.0, timeout_seconds=2.0)


THREE = (mail(1), mail(2, "bob@example.org", "ann@example.org"), mail(3))


async def test_the_roles_turn_and_the_mail_comes(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert asked.results == {DOMAIN: "started"}
    assert provider.atrn == [DOMAIN]
    assert (provider.queue, provider.violations) == ([], [])
    assert [each.content for each in customer.reception.received] == [each.content for each in THREE]
    assert [each.envelope_recipients for each in customer.reception.received] == [m.recipients for m in THREE]
    assert customer.reception.received[0].envelope_sender == "friend@example.net"
    assert customer.reception.received[0].received_with == "ESMTP"
    assert (asked.taken.accepted, asked.taken.error) == (3, "")
    # RFC 2645 s.5.3: ours is the greeting; RFC 5321 s.4.1.1.10: theirs the QUIT, ours the 221.
    assert provider.heard[0].startswith(b"220 home.example.org")
    assert provider.heard[-1].startswith(b"221")
    assert not any(b"STARTTLS" in line for line in provider.heard)


@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "implicit"])
async def test_tls_goes_on_after_the_turn(
    customer: Customer, tmp_path: Path, authority: LocalAuthority, implicit: bool
) -> None:
    context = authority.good().server_context(tmp_path)
    provider = ScriptedProvider(*THREE, tls=context, implicit_tls=implicit)
    mode = TlsMode.IMPLICIT if implicit else TlsMode.STARTTLS
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port, mode, authority.write_ca(tmp_path)))
    assert asked.taken.accepted == 3
    assert provider.turned_under_tls == [True]
    assert {each.received_with for each in customer.reception.received} == {"ESMTPS"}
    assert not any(b"STARTTLS" in line for line in provider.heard)


async def test_what_comes_with_the_250_is_not_lost(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    provider.odd.append(Odd.SPEAKS_WITH_THE_250)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert asked.taken.accepted == 3
    assert (provider.queue, provider.violations) == ([], [])
    assert provider.heard[0].startswith(b"220 ")  # our greeting first, whoever could not wait


async def test_what_comes_with_the_250_under_tls_is_not_lost(
    customer: Customer, tmp_path: Path, authority: LocalAuthority
) -> None:
    provider = ScriptedProvider(*THREE, tls=authority.good().server_context(tmp_path), implicit_tls=True)
    provider.odd.append(Odd.SPEAKS_WITH_THE_250)
    async with running(provider):
        where = endpoint(provider.port, TlsMode.IMPLICIT, authority.write_ca(tmp_path))
        asked = await customer.ask(where)
    assert asked.taken.accepted == 3


async def test_mail_for_domains_that_nobody_asked_for_is_refused(customer: Customer) -> None:
    foreign = mail(2, "victim@example.com", "boss@sub.example.org")
    provider = ScriptedProvider(mail(1), foreign, mail(3, "bob@example.org", "x@example.net"))
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    received = [each.envelope_recipients for each in customer.reception.received]
    assert received == [("bob@example.org",), ("bob@example.org",)]
    assert provider.bounced == [foreign]
    assert (asked.taken.accepted, asked.taken.refusals) == (2, 3)


async def test_a_message_that_is_not_taken_everywhere_stays_with_the_provider(customer: Customer) -> None:
    customer.reception.says = ["250 ok", "451 4.4.1 later", "554 5.6.0 never"]
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert (provider.queue, provider.bounced) == ([THREE[1]], [THREE[2]])
    assert (asked.taken.accepted, asked.taken.deferred, asked.taken.rejected) == (1, 1, 1)


async def test_no_mail_is_said_without_turning(customer: Customer) -> None:
    provider = ScriptedProvider()
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert asked.results == {DOMAIN: "nothing_waiting"}
    assert (provider.counts["QUIT"], asked.events) == (1, [])


async def test_a_turn_without_mail_is_none_either(customer: Customer) -> None:
    # RFC 2645 s.5.2.1: instead of 453 the provider may turn round and quit.
    provider = ScriptedProvider(says={DOMAIN: [b"250 OK now reversing the connection"]})
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert asked.results == {DOMAIN: "started"}
    assert (asked.taken.accepted, asked.taken.error) == (0, "")


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"450 no", "unable"),
        (b"451 later", "unable"),
        (b"453 none", "nothing_waiting"),
        (b"502 what", "not_offered"),
        (b"530 5.7.0 Authentication required", "needs_tls"),
        (b"550 no", "refused"),
    ],
)
async def test_every_refusal_leaves_the_session_in_good_order(
    customer: Customer, line: bytes, word: str
) -> None:
    provider = ScriptedProvider(*THREE, says={DOMAIN: [line]})
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert (asked.results, provider.counts["QUIT"]) == ({DOMAIN: word}, 1)
    assert len(provider.queue) == 3


async def test_one_domain_without_access_does_not_starve_the_other(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port), "other.example.com", DOMAIN)
    assert provider.atrn == [f"other.example.com,{DOMAIN}", "other.example.com", DOMAIN]
    assert asked.results == {"other.example.com": "unable", DOMAIN: "started"}
    assert provider.queue == []
    assert provider.counts["sessions"] == 1


async def test_atrn_that_is_named_only_after_the_login_is_found(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE, atrn_after_login_only=True)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    assert asked.taken.accepted == 3


async def test_a_server_without_atrn_is_not_asked(customer: Customer) -> None:
    server = ScriptedSmtpServer(credentials=CREDENTIALS)
    async with running(server):
        asked = await customer.ask(endpoint(server.port))
    assert isinstance(asked.report.failure, EtrnNotOfferedError)
    assert server.counts["ATRN"] == 0


async def test_a_refused_login_asks_nothing(tmp_path: Path) -> None:
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        settings = SmtpSettings(
            endpoint(provider.port), "home", credentials=Credentials("customer", password=lambda: "wrong"),
            allow_cleartext=True,
        )  # fmt: skip
        with pytest.raises(HopAuthenticationError):
            await SmtpOdmrConnector(settings, lambda *_: pytest.fail("no turn")).open()
    assert provider.atrn == []


# -- connections that go wrong after the turn ---------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "word"),
    [
        (Odd.DROPS, "connection_lost"),
        (Odd.NEVER_SPEAKS, "timeout"),
        (Odd.TALKS_FOR_EVER, "protocol_error"),
        (Odd.SPEAKS_NO_SMTP, "protocol_error"),
    ],
)
async def test_misbehaviour_after_the_turn_has_an_end_and_a_name(
    customer: Customer, odd: Odd, word: str
) -> None:
    customer.limits = SessionLimits(idle_seconds=0.3, max_commands=20)
    provider = ScriptedProvider(*THREE)
    provider.odd.append(odd)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
        again = await Customer(customer.folder).ask(endpoint(provider.port))
    assert asked.results == {DOMAIN: word}
    assert asked.taken.error
    assert again.taken.accepted == 3, "the mail is still there the next time"


async def test_an_answer_that_is_lost_brings_the_message_again(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    provider.odd.append(Odd.LOSES_LAST_250)
    async with running(provider):
        first = await customer.ask(endpoint(provider.port))
        assert provider.queue == [THREE[2]]
        outcome = first.outcomes[DOMAIN]
        assert (outcome.accepted, outcome.more, first.taken.accepted) == (True, True, 3)
        second = await Customer(customer.folder).ask(endpoint(provider.port))
    assert second.taken.accepted == 1
    assert provider.queue == []


async def test_a_provider_that_leaves_without_quit_is_asked_again(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    provider.odd.append(Odd.LEAVES_WITHOUT_QUIT)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    outcome = asked.outcomes[DOMAIN]
    assert (outcome.accepted, outcome.more) == (True, True)
    assert "without QUIT" in asked.taken.error


async def test_a_link_that_breaks_behind_the_250_is_noticed(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        session = await customer.connector(endpoint(provider.port), allow_cleartext=True).open()
        assert (await session.ask([DOMAIN])).code == 250
        for each in tuple(provider._sessions):
            each.abort()
        await until(lambda: session._session.failure is not None, "the link's end")
        turn = await session.take_mail([DOMAIN])
        session.abort()
    assert isinstance(turn.failure, TransportError)
    assert customer.sessions == []


# -- bounds ---------------------------------------------------------------------------------------


async def test_a_session_brings_so_many_messages_and_no_more(customer: Customer) -> None:
    customer.limits = SessionLimits(max_messages=2)
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        asked = await customer.ask(endpoint(provider.port))
    outcome = asked.outcomes[DOMAIN]
    assert (asked.taken.accepted, outcome.accepted, outcome.more, asked.taken.error) == (2, True, True, "")
    assert provider.queue == [THREE[2]]


async def test_a_connection_has_its_time(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odmr_connector, "TURNED_SECONDS", 0.2)
    monkeypatch.setattr(odmr_connector, "_LAST_SECONDS", 0.2)
    customer.reception.wait.clear()  # a destination that does not answer
    provider = ScriptedProvider(*THREE)
    async with running(provider):
        asked = await asyncio.wait_for(customer.ask(endpoint(provider.port)), 5)
        customer.reception.wait.set()
    assert asked.report.failure is None
    assert asked.results == {DOMAIN: "connection_lost"}
    assert len(provider.queue) == 3


async def test_draining_answers_the_message_whose_end_has_come(customer: Customer) -> None:
    customer.reception.wait.clear()
    provider = ScriptedProvider(*THREE)
    outcomes: dict[str, NodeOutcome] = {}
    async with running(provider):
        asking = customer.round(endpoint(provider.port), outcomes, (DOMAIN,))
        task = asyncio.ensure_future(asking.run((DOMAIN,)))
        await until(lambda: customer.sessions and customer.sessions[0]._delivering, "a message on its way")
        assert asking.drain() is True
        customer.reception.wait.set()
        await asyncio.wait_for(task, 5)
    assert provider.queue == list(THREE[1:])
    assert customer.sessions[0].tally.accepted == 1
    assert outcomes[DOMAIN].accepted


async def test_a_cancelled_round_leaves_no_link(customer: Customer) -> None:
    provider = ScriptedProvider(*THREE)
    provider.odd.append(Odd.NEVER_SPEAKS)
    async with running(provider):
        task = asyncio.ensure_future(customer.ask(endpoint(provider.port)))
        await until(lambda: customer.sessions, "the turn")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(customer.sessions[0].wait_ended(), 5)
        await until(lambda: not provider.active_sessions, "the provider's link to end")


@pytest.mark.parametrize(
    ("farewell", "kind"),
    [("", ConnectionLostError), ("500 5.5.2 what", RemoteProtocolError), ("421 4.3.2 enough", type(None))],
)
def test_how_a_connection_ended_is_told_by_our_last_word(farewell: str, kind: type) -> None:
    assert isinstance(odmr_connector._failure("odmr:366", farewell), kind)


def test_the_answer_to_atrn_has_ten_minutes() -> None:
    assert odmr_connector.ATRN_SECONDS >= 600  # RFC 2645 s.5.2.1
