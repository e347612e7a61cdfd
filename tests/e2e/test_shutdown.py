"""SIGTERM in mid-drain: what is between a 250 and its row is finished, nothing is doubled, nothing lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from mailferry.sandbox.maildrop import SandboxMaildrop
from mailferry.sandbox.pop3_server import SandboxPop3Server
from support.configs import PASSWORD, ConfigFolder
from support.daemon import DaemonProcess
from support.faults import GREETING, Delay, Fault, Stall
from support.mailset import fingerprint, make_messages
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import FINAL, ScriptedSmtpServer


async def test_sigterm_in_mid_drain_doubles_nothing(tmp_path: Path) -> None:
    mail = make_messages(150, seed=11, sizes=(300, 4000))
    box = SandboxMaildrop(PASSWORD, mail)
    pop3 = SandboxPop3Server({"ann": box})
    smtp = ScriptedSmtpServer(Fault(FINAL, Delay(0.02)))
    await pop3.start()
    await smtp.start()
    folder = ConfigFolder(tmp_path)
    config = folder.write(
        {
            "maildrop.ann": folder.maildrop(pop3.port, "ann", every="1s"),
            "destination.hop": folder.smtp(smtp.port),
        },
        log_format="json",
    )
    for relayed in (20, 40):
        with DaemonProcess(config) as daemon:
            await asyncio.to_thread(
                daemon.wait_for,
                lambda daemon=daemon, relayed=relayed: len(daemon.named("message.relayed")) >= relayed,  # type: ignore[misc]
                f"{relayed} relayed messages",
            )
            assert await asyncio.to_thread(daemon.stop) == 0
            assert daemon.named("daemon.stopped")[0]["clean"] is True
            # What was accepted was also deleted: the session ended with a confirmed QUIT.
            assert len(box.messages) == len(mail) - len(smtp.accepted)
    with DaemonProcess(config, command="once") as rest:
        assert await asyncio.to_thread(rest.wait) == 0
    await pop3.stop()
    await smtp.stop()

    assert Counter(fingerprint(message.content) for message in smtp.accepted) == Counter(
        fingerprint(content) for content in mail
    )
    assert box.messages == []


async def test_sigterm_does_not_wait_for_a_server_that_says_nothing(tmp_path: Path) -> None:
    pop3 = ScriptedPop3Server({"ann": SandboxMaildrop(PASSWORD, [])}, Fault(GREETING, Stall()))
    await pop3.start()
    folder = ConfigFolder(tmp_path)
    config = folder.write(
        {
            "maildrop.ann": folder.maildrop(pop3.port, "ann", every="1s", timeout="10m"),
            "destination.hop": folder.smtp(1),
        },
        log_format="json",
        stop_timeout="10m",
    )
    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: pop3.active_sessions == 1, "session")
        assert await asyncio.to_thread(daemon.stop) == 0, "nothing was at stake, so nothing is waited for"
    await pop3.stop()


async def test_a_reply_that_does_not_come_before_the_end_leaves_its_message_in_doubt(tmp_path: Path) -> None:
    """It may have been accepted: the row says so, and the next start tries again and tells."""
    box = SandboxMaildrop(PASSWORD, make_messages(2, seed=5, sizes=(300, 400)))
    pop3 = SandboxPop3Server({"ann": box})
    silence = Fault(FINAL, Stall(), effect=True, nth=2)
    smtp = ScriptedSmtpServer(silence)
    await pop3.start()
    await smtp.start()
    folder = ConfigFolder(tmp_path)
    config = folder.write(
        {
            "maildrop.ann": folder.maildrop(pop3.port, "ann", every="1s"),
            "destination.hop": folder.smtp(smtp.port),
        },
        log_format="json",
        stop_timeout="1s",
    )
    with DaemonProcess(config) as daemon:
        await asyncio.to_thread(daemon.wait_for, lambda: smtp.faults.struck(silence) == 1, "silence")
        assert await asyncio.to_thread(daemon.stop) == 0
        (in_doubt,) = daemon.named("message.in_doubt")
        assert "stopped before the reply" in in_doubt["reason"]
        assert daemon.named("daemon.stopped")[0]["clean"] is False
        names = [event.get("event") for event in daemon.events]
        assert names.index("message.in_doubt") < names.index("daemon.stopped")
        assert len(box.messages) == 1
    await pop3.stop()
    await smtp.stop()
