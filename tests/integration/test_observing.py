"""What the daemon's metrics hold after real sessions, and how a log line leads from one end to the other."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from mailferry.events import MessageRelayed, PollFinished, SessionFailed, WireTraced
from mailferry.model import StandingKind
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.certificates import LocalAuthority
from support.clients import running
from support.closed_doors import refusing
from support.configs import PASSWORD
from support.faults import Fault
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import ScriptedSmtpServer

MESSAGE = b"Subject: x\r\n\r\nx\r\n"
OFFICE = {"destination": "hop"}


class Run:
    """One run of the program, polling everything once, and its metrics afterwards."""

    def __init__(self, relay: Relay) -> None:
        self._application = relay.application()
        self.registry: CollectorRegistry = self._application.registry

    async def once(self) -> None:
        await self._application.run_once([], lambda _name, _report: None)

    def __call__(self, series: str, /, **labels: str) -> float:
        value = self.registry.get_sample_value(f"mailferry_{series}", labels)
        assert value is not None, series
        return value


async def test_sessions_leave_their_marks(tmp_path: Path) -> None:
    authority = LocalAuthority()
    box = SandboxMaildrop(PASSWORD, [MESSAGE])
    tls = authority.good().server_context(tmp_path / "tls")
    pop3 = ScriptedPop3Server({"ann": box}, tls=tls, implicit_tls=True)
    hop = ScriptedSmtpServer(Fault(b"RCPT", reply=b"451 4.3.0 later\r\n"))
    relay = Relay(tmp_path / "relay")
    async with running(pop3), running(hop):
        relay.maildrop(pop3.port, tls="implicit", tls_ca_file=str(authority.write_ca(tmp_path)), every="10m")
        relay.destination(hop.port)
        run = Run(relay)
        await run.once()
    replies = {word: run("smtp_replies_total", **OFFICE, **{"class": word}) for word in ("2xx", "4xx", "5xx")}
    assert replies["2xx"] >= 3  # greeting, EHLO, MAIL
    assert (replies["4xx"], replies["5xx"]) == (1, 1)  # RCPT, and DATA without a recipient behind it
    assert run("open_sessions", protocol="smtp") == 0
    assert run("certificate_expiry_timestamp_seconds", peer="maildrop", name="ann") > time.time()
    assert run("poll_interval_seconds", maildrop="ann") >= 600
    assert run("waiting_messages", maildrop="ann") == 1
    assert 0 < time.time() - run("oldest_waiting_message_timestamp_seconds", maildrop="ann") < 60
    assert run("memory_budget_bytes") == 256 << 20
    assert run("ledger_size_bytes") > 4096
    assert run("state_free_bytes") > 4096


async def test_what_waited_is_known_over_a_restart_until_it_is_delivered(tmp_path: Path) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, [MESSAGE])})
    hop = ScriptedSmtpServer(Fault(b"RCPT", reply=b"451 4.3.0 later\r\n"))
    relay = Relay(tmp_path)
    async with running(pop3), running(hop):
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        for _ in range(2):  # the second time it is not due yet
            await relay.once()
    first, second = (event.oldest_waiting_at for event in relay.told(PollFinished))
    assert first == second > 0
    (row,) = relay.rows()
    assert row.message.first_seen_at == first


async def test_what_is_delivered_does_not_wait(tmp_path: Path) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, [MESSAGE])})
    hop = ScriptedSmtpServer()
    relay = Relay(tmp_path)
    async with running(pop3), running(hop):
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    assert [event.oldest_waiting_at for event in relay.told(PollFinished)] == [0.0]


async def test_sessions_that_could_not_be_had_are_counted_by_why(tmp_path: Path) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, [MESSAGE])})
    async with running(pop3):
        with refusing() as port:
            relay = Relay(tmp_path)
            relay.maildrop(pop3.port)
            relay.destination(port)
            run = Run(relay)
            await run.once()
    assert run("session_failures_total", **OFFICE, result="connect_failed") == 1
    assert run("route_up", **OFFICE) == 0
    assert [event.result for event in relay.told(SessionFailed)] == ["connect_failed"]
    assert relay.standing(StandingKind.DESTINATION, "hop").consecutive_failures == 1


async def test_a_line_leads_from_the_pop3_session_to_the_250(tmp_path: Path) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, [MESSAGE])})
    hop = ScriptedSmtpServer()
    relay = Relay(tmp_path)
    relay.daemon |= {"trace": True}
    async with running(pop3), running(hop):
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()
    (relayed,) = relay.told(MessageRelayed)
    sessions = {each.session for each in relay.told(WireTraced) if each.peer == "maildrop.ann"}
    assert sessions == {relayed.poll_id}
    (delivered,) = hop.accepted
    received = re.search(rb"\bid (\w+)", delivered.content)
    assert received is not None
    assert received[1].decode() == relayed.message_id
    lines = [json.loads(line) for line in relay.log.getvalue().splitlines()]
    (line,) = [each for each in lines if each["event"] == "message.relayed"]
    assert (line["poll_id"], line["message_id"]) == (relayed.poll_id, relayed.message_id)
    assert line["receipt"].startswith("250")
    finished = [each for each in lines if each["event"] == "poll.finished"]
    assert [each["poll_id"] for each in finished] == [relayed.poll_id]
