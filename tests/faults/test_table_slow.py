"""One slow peer beside twenty healthy maildrops: nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import SandboxMaildrop
from support.configs import PASSWORD, ConfigFolder, Value
from support.faults import Delivery, Drip, Fault, Stall
from support.figures import record, thorough
from support.mailset import fingerprint, make_messages
from support.programs import ProgramLauncher
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import FINAL, ScriptedSmtpServer

ROW = "one slow server beside 20 healthy maildrops: late messages"
HEALTHY = 20
EACH = 15
SLOW_HOST = "127.0.0.2"
FEW = ("listing drips", "message stalls", "next hop never says 250")
_PATIENCE_SECONDS = 40.0

POP3_WAYS: dict[str, tuple[bytes, Delivery]] = {
    "greeting stalls": (b"GREETING", Stall()),
    "listing drips": (b"UIDL", Drip(0.2)),
    "message drips": (b"RETR", Drip(0.2)),
    "message stalls": (b"RETR", Stall(100)),
}
SMTP_WAYS: dict[str, tuple[bytes, Delivery]] = {
    "next hop greets never": (b"GREETING", Stall()),
    "next hop never says 250": (FINAL, Stall()),
    "next hop drips": (b"MAIL", Drip(0.2)),
}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("way", [*POP3_WAYS, *SMTP_WAYS] if thorough() else FEW)
async def test_the_healthy_are_not_late(launcher: ProgramLauncher, tmp_path: Path, way: str) -> None:
    mail = make_messages(HEALTHY * EACH, seed=51, sizes=(300, 3000))
    boxes = {
        f"drop-{number}": SandboxMaildrop(PASSWORD, mail[number * EACH : (number + 1) * EACH])
        for number in range(HEALTHY)
    }
    slow_box = SandboxMaildrop(PASSWORD, make_messages(EACH, seed=52, sizes=(3000,)))
    pop3 = ScriptedPop3Server(boxes)
    slow_pop3 = ScriptedPop3Server({"slow": slow_box})
    smtp, slow_smtp = ScriptedSmtpServer(), ScriptedSmtpServer()
    verb, delivery = (POP3_WAYS | SMTP_WAYS)[way]
    (slow_pop3 if way in POP3_WAYS else slow_smtp).faults.add(Fault(verb, delivery))
    hosts = {pop3: "127.0.0.1", slow_pop3: SLOW_HOST, smtp: "127.0.0.1", slow_smtp: SLOW_HOST}
    for server, host in hosts.items():
        await server.start(host)

    folder = ConfigFolder(tmp_path)
    tables: dict[str, Mapping[str, Value]] = {
        f"maildrop.{name}": folder.maildrop(pop3.port, name, every="1h", jitter="0s") for name in boxes
    }
    tables["maildrop.slow"] = folder.maildrop(
        slow_pop3.port, "slow", host=SLOW_HOST, deliver=["slow-hop"], every="1h", jitter="0s"
    )
    tables["destination.hop"] = folder.smtp(smtp.port)
    tables["destination.slow-hop"] = folder.smtp(slow_smtp.port, host=SLOW_HOST)
    config = folder.write(tables, log_format="json", stop_timeout="1s", start_rate=500)

    program = launcher.start(tmp_path / "output.txt", "run", "-c", str(config))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while len(smtp.accepted) < len(mail) or any(box.messages for box in boxes.values()):
                assert program.code is None, program.tail()
                await asyncio.sleep(0.01)
    except TimeoutError:
        pass  # the figures say it
    arrived = {fingerprint(message.content) for message in smtp.accepted}
    late = sum(fingerprint(content) not in arrived for content in mail)
    record(ROW, messages=len(mail), late=late)
    program.kill()
    await program.wait()
    for server in hosts:
        await server.stop()
    assert late == 0
    assert not any(box.messages for box in boxes.values())
    assert slow_box.messages, "the slow one was in the midst of it all the time"
