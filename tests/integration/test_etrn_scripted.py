"""ETRN over real sockets, against a server that says and does whatever a server can."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mailferry.errors import (
    ConnectError,
    ConnectTimeoutError,
    EtrnNotOfferedError,
    HopAuthenticationError,
    HopError,
    ReadTimeoutError,
    TlsError,
)
from mailferry.net.credentials import Credentials
from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.etrn_connector import SmtpEtrnConnector
from mailferry.net.etrn_listener import SmtpListener
from mailferry.net.smtp_connector import SmtpSettings
from mailferry.services.etrn import EtrnPolicy, EtrnRound, NodeOutcome, RoundReport
from support.certificates import LocalAuthority
from support.clients import running
from support.closed_doors import refusing
from support.faults import GREETING, Close, Drip, Endless, Fault, Reset, Send, Stall
from support.raw_server import RawServer
from support.scripted_smtp import ScriptedSmtpServer, SmtpFeatures

NODES = ("a.example.org", "@b.example.org", "#c")
A, B, C = NODES
SECONDS = 1.0
ALICE = Credentials("alice", password=lambda: "correct horse")


def endpoint(port: int, tls: TlsMode = TlsMode.NONE, ca: Path | None = None, **more: Any) -> Endpoint:
    host = "localhost" if ca else "127.0.0.1"
    return Endpoint(host, port, tls, ca_file=ca, connect_timeout_seconds=5.0, timeout_seconds=SECONDS, **more)


class Asked:
    """What one round brought."""

    def __init__(self, report: RoundReport, outcomes: list[NodeOutcome]) -> None:
        self.report = report
        self.outcomes = outcomes
        self.results = {each.node: each.answer.result.value for each in outcomes}


async def ask(where: Endpoint, *nodes: str, policy: dict[str, Any] | None = None, **more: Any) -> Asked:
    connector = SmtpEtrnConnector(SmtpSettings(where, "branch.example.net", pipelining=False, **more))
    outcomes: list[NodeOutcome] = []
    settings = replace(EtrnPolicy("office", "mx", nodes or NODES), **(policy or {}))
    report = await EtrnRound(settings, connector, lambda: 1.0, outcomes.append).run(nodes or NODES)
    return Asked(report, outcomes)


async def ask_scripted(*faults: Fault, **more: Any) -> tuple[Asked, ScriptedSmtpServer]:
    nodes = more.pop("nodes", ())
    server = ScriptedSmtpServer(*faults, features=more.pop("features", None))
    async with running(server):
        asked = await ask(endpoint(server.port), *nodes, **more)
    assert not server.violations
    return asked, server


async def test_the_whole_dialogue() -> None:
    asked, server = await ask_scripted()
    assert list(server.commands) == [
        b"EHLO branch.example.net",
        b"ETRN a.example.org",
        b"ETRN @b.example.org",
        b"ETRN #c",
        b"QUIT",
    ]
    assert asked.report == RoundReport(connected=True)
    assert asked.outcomes[0].reply == "250 2.0.0 OK, queuing for node a.example.org started"


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"250 2.0.0 Queuing started", "started"),
        (b"251 no messages waiting for node a.example.org", "nothing_waiting"),
        (b"252 pending messages for node a.example.org started", "started"),
        (b"253 OK, 7 pending messages for node a.example.org started", "started"),
        (b"250-2.0.0 Queuing\r\n250 2.0.0 started", "started"),
        (b"450 4.7.1 Client host rejected", "unable"),
        (b"451 4.3.0 try later", "unable"),
        (b"454 4.7.1 Relay access denied", "needs_auth"),
        (b"458 Unable to queue messages for node a.example.org", "unable"),
        (b"459 Node a.example.org not allowed", "refused"),
        (b"500 5.5.2 what", "not_offered"),
        (b"501 5.5.4 Syntax", "refused"),
        (b"502 5.7.0 Sorry", "not_offered"),
        (b"503 5.5.1 not now", "protocol_error"),
        (b"504 5.5.4 no", "refused"),
        (b"530 5.7.0 Authentication required", "needs_auth"),
        (b"530 5.7.0 Must issue a STARTTLS command first", "needs_tls"),
        (b"538 5.7.11 Encryption required", "needs_tls"),
        (b"550 5.7.1 no", "refused"),
        (b"554 5.7.1 no", "refused"),
        (b"599 what", "refused"),
    ],
)
async def test_every_reply_is_understood_and_the_next_nodes_are_asked(said: bytes, word: str) -> None:
    asked, server = await ask_scripted(Fault(b"ETRN", reply=said + b"\r\n", argument=A.encode()))
    assert asked.results == {A: word, B: "started", C: "started"}
    assert server.counts["sessions"] == 1
    assert asked.report.failure is None


async def test_a_number_is_read() -> None:
    asked, _ = await ask_scripted(Fault(b"ETRN", reply=b"253 14 pending messages\r\n"), nodes=[A])
    assert asked.outcomes[0].answer.pending == 14


async def test_a_reply_of_control_characters_is_shown_harmless() -> None:
    asked, _ = await ask_scripted(Fault(b"ETRN", reply=b"459 no \x1b[2J\xe2\x80\xae\r\n"), nodes=[A])
    assert asked.outcomes[0].reply.isprintable()


# -- what is wanted before -----------------------------------------------------------------


async def test_a_server_that_offers_none_is_not_asked() -> None:
    asked, server = await ask_scripted(features=SmtpFeatures(etrn=False))
    assert isinstance(asked.report.failure, EtrnNotOfferedError)
    assert server.counts["ETRN"] == 0
    assert asked.report.unasked == NODES


async def test_helo_offers_nothing_either() -> None:
    asked, server = await ask_scripted(features=SmtpFeatures(ehlo=False))
    assert isinstance(asked.report.failure, EtrnNotOfferedError)
    assert server.counts["ETRN"] == 0


async def test_who_insists_asks_and_hears_the_servers_own_words() -> None:
    asked, server = await ask_scripted(features=SmtpFeatures(etrn=False), policy={"insist": True})
    assert set(asked.results.values()) == {"not_offered"}
    assert server.counts["ETRN"] == 3


async def test_what_was_offered_before_tls_does_not_count(tmp_path: Path, authority: LocalAuthority) -> None:
    context = authority.good().server_context(tmp_path)
    plain = b"250-x\r\n250-ETRN\r\n250 STARTTLS\r\n"
    server = ScriptedSmtpServer(
        Fault(b"EHLO", reply=plain, nth=1), tls=context, features=SmtpFeatures(etrn=False)
    )
    async with running(server):
        asked = await ask(endpoint(server.port, TlsMode.STARTTLS, authority.write_ca(tmp_path)))
    assert isinstance(asked.report.failure, EtrnNotOfferedError)
    assert server.counts["ETRN"] == 0


async def test_tls_and_login_come_first(tmp_path: Path, authority: LocalAuthority) -> None:
    context = authority.good().server_context(tmp_path)
    server = ScriptedSmtpServer(tls=context, credentials={"alice": "correct horse"})
    async with running(server):
        where = endpoint(server.port, TlsMode.STARTTLS, authority.write_ca(tmp_path))
        asked = await ask(where, A, credentials=ALICE)
    verbs = [command.split()[0] for command in server.commands]
    assert verbs[:3] == [b"EHLO", b"STARTTLS", b"EHLO"]
    assert verbs[-2:] == [b"ETRN", b"QUIT"]
    assert b"AUTH" in verbs
    assert asked.results == {A: "started"}


async def test_the_session_that_asks_knows_how_it_stands(tmp_path: Path, authority: LocalAuthority) -> None:
    context = authority.good().server_context(tmp_path)
    server = ScriptedSmtpServer(tls=context, implicit_tls=True, credentials={"alice": "correct horse"})
    async with running(server):
        where = endpoint(server.port, TlsMode.IMPLICIT, authority.write_ca(tmp_path))
        session = await SmtpEtrnConnector(SmtpSettings(where, "me", credentials=ALICE)).open()
        traits = session.traits
        await session.quit()
        session.abort()
    assert (traits.offered, traits.protected, traits.logged_in, traits.offers_auth) == (True,) * 4


async def test_no_tls_where_it_is_demanded_asks_nothing() -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        asked = await ask(endpoint(server.port, TlsMode.STARTTLS))
    assert isinstance(asked.report.failure, TlsError)
    assert server.counts["ETRN"] == 0


async def test_a_refused_login_asks_nothing() -> None:
    server = ScriptedSmtpServer(credentials={"alice": "another"})
    async with running(server):
        asked = await ask(endpoint(server.port), credentials=ALICE, allow_cleartext=True)
    assert isinstance(asked.report.failure, HopAuthenticationError)
    assert server.counts["ETRN"] == 0
    assert "correct horse" not in str(asked.report.failure)


async def test_the_source_address_is_ours_to_choose() -> None:
    peers: list[str] = []
    raw = RawServer()
    raw.on_open = lambda transport: peers.append(transport.get_extra_info("peername")[0])
    async with raw.running():
        await ask(endpoint(raw.port, source_address="127.0.0.5"))
    assert peers == ["127.0.0.5"]


# -- sessions that end ------------------------------------------------------------------------


async def test_a_session_dropped_after_n_commands_is_followed_by_another() -> None:
    # Exim 4's words, and the link closed behind them.
    fault = Fault(b"ETRN", Close(None), reply=b"554 Too many nonmail commands\r\n", nth=5)
    nodes = tuple(f"d{number}.example.org" for number in range(8))
    asked, server = await ask_scripted(fault, nodes=nodes)
    assert asked.report.failure is None
    assert set(asked.results) == set(nodes)
    assert set(asked.results.values()) == {"started"}
    assert server.counts["sessions"] == 2


@pytest.mark.parametrize("delivery", [Close(0), Close(4), Reset(0)], ids=["close", "half", "reset"])
async def test_a_link_that_breaks_at_one_node_costs_that_node(delivery: Close | Reset) -> None:
    asked, server = await ask_scripted(Fault(b"ETRN", delivery, argument=A.encode()))
    assert asked.results == {B: "started", C: "started", A: "connection_lost"}
    assert server.counts["sessions"] == 2
    assert asked.report.failure is None


async def test_a_421_ends_the_session_not_the_round() -> None:
    asked, server = await ask_scripted(Fault(b"ETRN", reply=b"421 4.3.2 restarting\r\n", nth=2))
    assert asked.results == {A: "started", C: "started", B: "started"}
    assert server.counts["sessions"] == 2


async def test_a_421_that_comes_unasked_is_heard() -> None:
    fault = Fault(b"ETRN", Send(extra=b"421 4.3.2 restarting\r\n"), nth=1)
    asked, server = await ask_scripted(fault)
    assert set(asked.results.values()) == {"started"}
    assert server.counts["sessions"] == 2


async def test_421_after_421_is_enough_after_two() -> None:
    asked, server = await ask_scripted(Fault(b"ETRN", reply=b"421 4.3.2 no\r\n"))
    assert isinstance(asked.report.failure, HopError)
    assert server.counts["sessions"] == 2
    assert set(asked.report.unasked) == set(NODES)


@pytest.mark.parametrize(
    "delivery",
    [Stall(), Stall(6), Drip(0.15), Endless(b"250-more\r\n")],
    ids=["stall", "half", "drip", "endless"],
)
async def test_a_reply_without_end_has_an_end(delivery: Stall | Drip | Endless) -> None:
    asked, server = await ask_scripted(Fault(b"ETRN", delivery, argument=A.encode()))
    assert asked.results[B] == asked.results[C] == "started"
    assert asked.results[A] in {"timeout", "protocol_error"}
    assert server.counts["sessions"] == 2


async def test_a_server_that_says_nothing_at_all() -> None:
    asked, _ = await ask_scripted(Fault(GREETING, Stall()))
    assert isinstance(asked.report.failure, ReadTimeoutError)
    assert asked.report.connected is False


async def test_a_greeting_that_refuses() -> None:
    asked, _ = await ask_scripted(Fault(GREETING, reply=b"554 5.7.1 not you\r\n"))
    assert isinstance(asked.report.failure, HopError)


async def test_a_challenge_where_a_reply_is_due_kills_the_session() -> None:
    asked, _ = await ask_scripted(Fault(b"ETRN", reply=b"334 abc\r\n"), nodes=[A])
    assert asked.results == {A: "protocol_error"}


async def test_a_round_that_is_cancelled_leaves_no_link() -> None:
    asked = asyncio.Event()

    def hear(transport: asyncio.Transport, data: bytes) -> None:
        if data.startswith(b"EHLO"):
            transport.write(b"250-me\r\n250 ETRN\r\n")
        else:
            asked.set()

    raw = RawServer()
    raw.on_open = lambda transport: transport.write(b"220 me\r\n")
    raw.on_data = hear
    async with raw.running():
        task = asyncio.create_task(ask(endpoint(raw.port)))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await raw.empty()
    assert raw.heard.endswith(b"ETRN a.example.org\r\n")


async def test_nobody_there() -> None:
    with refusing() as port:
        asked = await ask(endpoint(port))
    assert isinstance(asked.report.failure, ConnectError | ConnectTimeoutError)


# -- our own listener ---------------------------------------------------------------------------


async def test_a_listener_is_greeted_politely() -> None:
    server = ScriptedSmtpServer()
    async with running(server):
        assert await SmtpListener("127.0.0.1", server.port).trouble() == ""
    assert list(server.commands) == [b"QUIT"]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault(GREETING, reply=b"554 5.3.2 closed\r\n"), "greets with 554 5.3.2 closed"),
        (Fault(GREETING, reply=b"421 4.3.2 busy\r\n"), "greets with 421 4.3.2 busy"),
        (Fault(GREETING, reply=b"SSH-2.0\r\n"), "not an SMTP reply"),
        (Fault(GREETING, Close(0)), "connection lost"),
        (Fault(GREETING, Stall()), "nothing came"),
    ],
    ids=["554", "421", "ssh", "closed", "silent"],
)
async def test_a_listener_that_takes_no_mail(
    fault: Fault, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailferry.net.etrn_listener.LOOK_SECONDS", 0.3)
    server = ScriptedSmtpServer(fault)
    async with running(server):
        assert word in await SmtpListener("127.0.0.1", server.port).trouble()


async def test_a_listener_that_is_silent_at_quit_takes_mail() -> None:
    server = ScriptedSmtpServer(Fault(b"QUIT", Close(0)))
    async with running(server):
        assert await SmtpListener("127.0.0.1", server.port).trouble() == ""


async def test_no_listener() -> None:
    with refusing() as port:
        assert "cannot connect" in await SmtpListener("127.0.0.1", port).trouble()


async def test_a_listener_behind_a_name_that_does_not_exist() -> None:
    assert "cannot connect" in await SmtpListener("no-such-host.invalid", 25).trouble()
