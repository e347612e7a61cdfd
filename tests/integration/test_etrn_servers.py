"""ETRN as real servers do it: a Postfix and an Exim that keep mail, and the daemon that has it sent."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailferry.net.endpoint import Endpoint, TlsMode
from mailferry.net.etrn_connector import SmtpEtrnConnector
from mailferry.net.etrn_listener import SmtpListener
from mailferry.net.odmr_connector import SmtpOdmrConnector
from mailferry.net.smtp_connector import SmtpSettings
from mailferry.sandbox.smtp_sink import SmtpSink
from mailferry.services.etrn import EtrnPolicy, EtrnRound, NodeOutcome
from support.configs import ConfigFolder
from support.daemon import DaemonProcess
from support.exim import PrivateExim
from support.postfix import PrivatePostfix
from support.processes import free_port, wait_until

pytestmark = pytest.mark.real_server

OURS, THEIRS = "branch.example.org", "stranger.example.net"
MESSAGES = 5


@dataclass
class Provider:
    """A server that keeps mail for `OURS`, to be sent to `ours` on loopback."""

    port: int
    ours: int
    wait_deferred: Callable[[int], None]


@pytest.fixture
def postfix_provider(tmp_path: Path) -> Iterator[Provider]:
    port = free_port()
    settings = {
        "relay_domains": OURS,
        "relay_transport": f"relay:[127.0.0.1]:{port}",
        "fast_flush_domains": "$relay_domains",
        "smtp_tls_security_level": "none",
    }
    with PrivatePostfix(tmp_path / "postfix", settings=settings) as server:

        def wait_deferred(count: int) -> None:
            wait_until(lambda: server.log.read_text().count("status=deferred") >= count, "deferred mail")

        yield Provider(server.port, port, wait_deferred)


@pytest.fixture
def exim_provider(tmp_path: Path) -> Iterator[Provider]:
    port = free_port()
    with PrivateExim(tmp_path / "exim", domains=[OURS], deliver_to=port) as server:
        yield Provider(server.port, port, lambda count: server.wait_log(" == ", count))


@pytest.fixture(params=["postfix", "exim"])
def provider(request: pytest.FixtureRequest) -> Provider:
    found: Provider = request.getfixturevalue(f"{request.param}_provider")
    return found


def leave_mail(provider: Provider) -> None:
    """Give the provider messages while nobody is there to take them."""
    with smtplib.SMTP("127.0.0.1", provider.port) as client:
        for number in range(MESSAGES):
            text = f"Subject: m{number}\r\n\r\nhello\r\n".encode()
            client.sendmail("ann@example.com", [f"u{number}@{OURS}"], text)
    provider.wait_deferred(MESSAGES)


async def ask(port: int, *nodes: str, nodes_per_session: int = 8) -> dict[str, NodeOutcome]:
    where = Endpoint("127.0.0.1", port, TlsMode.NONE, timeout_seconds=10.0)
    connector = SmtpEtrnConnector(SmtpSettings(where, "branch.example.org", pipelining=False))
    outcomes: dict[str, NodeOutcome] = {}
    policy = EtrnPolicy("provider", "mx", nodes, nodes_per_session=nodes_per_session)

    def note(outcome: NodeOutcome) -> None:
        outcomes[outcome.node] = outcome

    report = await EtrnRound(policy, connector, lambda: 1.0, note).run(nodes)
    assert report.failure is None
    return outcomes


def words(outcomes: dict[str, NodeOutcome]) -> list[str]:
    return [outcome.answer.result.value for outcome in outcomes.values()]


async def test_the_nodes_that_are_served_and_those_that_are_not(provider: Provider) -> None:
    asked = await ask(provider.port, OURS, THEIRS, f"@{OURS}", f"#{THEIRS}")
    assert words(asked) == ["started", "refused", "started", "refused"]
    assert asked[OURS].reply.startswith("250 ")
    assert asked[THEIRS].reply.startswith("459 ")


async def test_an_empty_queue_is_accepted_as_well(postfix_provider: Provider) -> None:
    asked = await ask(postfix_provider.port, OURS)
    assert (words(asked), asked[OURS].answer.promised) == (["started"], False)


async def test_both_are_listeners(provider: Provider) -> None:
    assert await SmtpListener("127.0.0.1", provider.port).trouble() == ""


async def test_exim_drops_a_session_after_ten_and_is_asked_on(tmp_path: Path) -> None:
    nodes = [f"n{number}.example.org" for number in range(25)]
    with PrivateExim(tmp_path / "exim", domains=nodes) as server:
        asked = await ask(server.port, *nodes, nodes_per_session=100)
        log = server.log.read_text()
    assert set(asked) == set(nodes)
    assert set(words(asked)) == {"started"}
    assert log.count("too many nonmail commands") == 2


async def test_exim_without_a_command_takes_the_queue_form_alone(tmp_path: Path) -> None:
    with PrivateExim(tmp_path / "exim", domains=[OURS], settings={"smtp_etrn_command": None}) as server:
        asked = await ask(server.port, OURS, f"#{OURS}")
    assert words(asked) == ["refused", "started"]
    assert asked[OURS].reply.startswith("501 ")


async def test_exim_with_a_tainted_argument_says_458(tmp_path: Path) -> None:
    naive = {"smtp_etrn_command": "/bin/true $domain"}
    with PrivateExim(tmp_path / "exim", domains=[OURS], settings=naive) as server:
        asked = await ask(server.port, OURS)
    assert (words(asked), asked[OURS].reply) == (["unable"], "458 Internal failure")


async def test_debians_exim_knows_no_atrn(tmp_path: Path) -> None:
    # docs/etrn.md says so; when this fails, there is a real provider to test ODMR against.
    with PrivateExim(tmp_path / "exim", domains=[OURS]) as server:
        where = Endpoint("127.0.0.1", server.port, TlsMode.NONE, timeout_seconds=10.0)
        settings = SmtpSettings(where, "branch.example.org", pipelining=False)
        session = await SmtpOdmrConnector(settings, lambda *_: pytest.fail("the roles turned")).open()
        said = await session.ask([OURS])
        await session.quit()
    assert (session.traits.offered, said.code) == (False, 500)


async def test_a_postfix_that_lets_nobody_ask(tmp_path: Path) -> None:
    settings = {"relay_domains": OURS, "smtpd_etrn_restrictions": "reject"}
    with PrivatePostfix(tmp_path / "postfix", settings=settings) as server:
        asked = await ask(server.port, OURS)
    assert words(asked) == ["refused"]
    assert asked[OURS].reply.startswith("554 ")


# -- the whole way ------------------------------------------------------------------------------


def config_for(provider: Provider, folder: Path, **etrn: str | int) -> Path:
    configs = ConfigFolder(folder)
    tables = {
        "destination.hop": configs.smtp(provider.ours),
        "etrn.provider": {
            "host": "127.0.0.1",
            "port": provider.port,
            "tls": "none",
            "nodes": [OURS, THEIRS],
            "check_listener": f"127.0.0.1:{provider.ours}",
            **etrn,
        },
    }
    return configs.write(tables, log_format="json")


async def test_the_daemon_waits_for_our_server_and_then_has_the_mail_sent(
    provider: Provider, tmp_path: Path
) -> None:
    leave_mail(provider)
    sink = SmtpSink()
    with DaemonProcess(config_for(provider, tmp_path / "config", every="2s")) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: bool(daemon.named("etrn.postponed")), "postponement")
        assert not daemon.named("etrn.answered")
        await sink.start(port=provider.ours)
        assert daemon.stop() == 0
    # Nobody waits here for the minute after which it would look again: a new start looks at once.
    with DaemonProcess(tmp_path / "config" / "mailferry.toml") as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: bool(daemon.named("etrn.refused")), "refusal")
        for _ in range(300):
            if len(sink.received) >= MESSAGES:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)  # for what would come twice
        assert daemon.stop() == 0
    await sink.stop()
    assert sorted(message.recipients[0] for message in sink.received) == [
        f"u{number}@{OURS}" for number in range(MESSAGES)
    ]
    (answered, refused) = daemon.named("etrn.answered")
    assert (answered["node"], answered["result"], answered["level"]) == (OURS, "started", "info")
    assert (refused["node"], refused["result"]) == (THEIRS, "refused")
    (event,) = daemon.named("etrn.refused")
    assert (event["level"], event["reply"][:4]) == ("error", "459 ")
