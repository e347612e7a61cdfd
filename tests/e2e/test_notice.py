"""The operator's summary: the installed program, a real configuration, and what arrives."""

from __future__ import annotations

import asyncio
import email
import time
from collections.abc import AsyncIterator
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder, Value
from support.daemon import DaemonProcess
from support.faults import Fault, Stall
from support.mailset import make_messages
from support.scripted_smtp import FINAL, AcceptedMessage, ScriptedSmtpServer

BAD = b"From: J\xc3\xbcrgen <j@example.net>\r\nTo: ann@example.org\r\nSubject: a bad one\r\n\r\nbody\r\n"
REFUSAL = b"550 5.7.1 we do not want this\r\n"
OPERATOR = b"operator@example.org"


class Site:
    """A maildrop, a next hop that refuses one message, and a configuration with a summary."""

    def __init__(self, folder: Path) -> None:
        self.box = SandboxMaildrop(PASSWORD, [*make_messages(3, seed=3, sizes=(300, 400)), BAD])
        self.pop3 = SandboxPop3Server({"ann": self.box})
        self.smtp = ScriptedSmtpServer(Fault(FINAL, reply=REFUSAL, argument=b"Subject: a bad one"))
        self.folder = ConfigFolder(folder)

    def config(self, *, state: str = "state", **notice: Value) -> Path:
        state_dir = self.folder.folder / state
        state_dir.mkdir(mode=0o700, exist_ok=True)
        self.folder.state = state_dir
        return self.folder.write(
            {
                "maildrop.ann": self.folder.maildrop(self.pop3.port, "ann", every="1s"),
                "destination.hop": self.folder.smtp(self.smtp.port),
                "destination.way": self.folder.smtp(int(str(notice.pop("port", self.smtp.port)))),
                "notice": {"to": OPERATOR.decode(), "destination": "way", **notice},
            },
            log_format="json",
            stop_timeout="2s",
        )

    @property
    def summaries(self) -> list[AcceptedMessage]:
        return [message for message in self.smtp.accepted if message.recipients == (OPERATOR,)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.pop3.start()
    await site.smtp.start()
    yield site
    await site.pop3.stop()
    await site.smtp.stop()


async def run_until(config: Path, event: str, number: int = 1) -> DaemonProcess:
    """Run the daemon until it has told something, then stop it."""
    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(
            daemon.wait_for, lambda: len(daemon.named(event)) >= number and _idle(daemon), event
        )
        assert await asyncio.to_thread(daemon.stop) == 0
    return daemon


def _idle(daemon: DaemonProcess) -> bool:
    polls = daemon.named("poll.finished")
    return bool(polls) and polls[-1]["relayed"] == 0


def parsed(message: AcceptedMessage) -> EmailMessage:
    made = email.message_from_bytes(message.content, policy=SMTP)
    assert isinstance(made, EmailMessage)
    return made


async def test_a_refused_message_is_told_at_the_end_at_the_latest_and_only_once(site: Site) -> None:
    daemon = await run_until(site.config(), "message.rejected")
    (summary,) = site.summaries
    assert summary.envelope_sender == b""
    message = parsed(summary)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Subject"] == "[mailferry relay.example.org] 1 message was refused for good"
    assert " with local" in message["Received"], "nobody fetched it from a maildrop"
    text = str(message.get_content())
    assert text.startswith("1 message was refused for good.")
    for words in ("Jürgen <j@example.net>", "a bad one", "550 5.7.1 we do not want this"):
        assert words in text
    assert "mailferry retry --maildrop ann --uidl=" in text
    (sent,) = daemon.named("notice.sent")
    assert (sent["recipient"], sent["items"]) == (OPERATOR.decode(), 1)
    names = [event.get("event") for event in daemon.events]
    assert names.index("notice.sent") < names.index("daemon.stopped")

    daemon = await run_until(site.config(), "poll.finished")
    assert (len(site.summaries), daemon.named("notice.sent"), daemon.named("notice.failed")) == (1, [], [])


async def test_two_summaries_are_an_hour_apart_over_a_restart_too(site: Site) -> None:
    await run_until(site.config(), "message.rejected")
    site.box.append(BAD.replace(b"body", b"another"))
    daemon = await run_until(site.config(), "message.rejected")
    assert len(site.summaries) == 1
    (failed,) = daemon.named("notice.failed")
    assert "only in the log" in failed["error"]


async def test_a_summary_that_lands_in_a_maildrop_and_is_refused_makes_no_other(site: Site) -> None:
    await run_until(site.config(), "message.rejected")
    (summary,) = site.summaries
    site.box.append(summary.content)
    site.smtp.faults.add(Fault(FINAL, reply=REFUSAL, argument=b"Auto-Submitted: auto-generated"))
    site.box.remove([each for each in site.box.snapshot() if each.content == BAD])
    daemon = await run_until(site.config(state="fresh"), "message.rejected")
    assert daemon.named("message.rejected")[0]["subject"].startswith("[mailferry relay.example.org]")
    assert (daemon.named("notice.sent"), daemon.named("notice.failed")) == ([], [])


async def test_a_server_that_takes_no_summary_holds_up_neither_mail_nor_the_end(site: Site) -> None:
    way = ScriptedSmtpServer(Fault(FINAL, Stall()))
    await way.start()
    config = site.config(port=way.port)
    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: _idle(daemon), "end of the drain")
        began = time.monotonic()
        assert await asyncio.to_thread(daemon.stop) == 0
        assert time.monotonic() - began < 25, "its reply may take ten minutes"
    assert len(site.smtp.accepted) == 3
    (failed,) = daemon.named("notice.failed")
    assert "1 items are only in the log" in failed["error"]
    await way.stop()


async def test_once_tells_too(site: Site) -> None:
    with DaemonProcess(site.config(), command="once") as once:
        await asyncio.to_thread(once.wait)
    assert len(site.summaries) == 1
