"""Crafted messages, octet for octet through the program: none altered, none that hides a second one.

The next hop is once strict about line ends, as RFC 5321 asks, and once as lax as
servers are that can be tricked (SMTP smuggling): it takes a dot between any two
line ends for the end of the data, and what follows for commands.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from mailferry.sandbox.maildrop import CRLF, SandboxFeatures
from support.fault_rig import FaultRig
from support.figures import record, thorough
from support.mailset import normalised
from support.programs import ProgramLauncher
from support.scripted_smtp import SmtpFeatures

ALTERED = "altered bodies"
SMUGGLED = "smuggled second messages"
HEADER = b"From: Ann <ann@example.org>\r\nSubject: crafted\r\n\r\n"
_RECEIVED = re.compile(rb"Received: [^\r\n]+\r\n(?:\t[^\r\n]+\r\n)*")


def second(line_end: bytes) -> bytes:
    """Commands that would send another message, if anybody took them for commands."""
    lines = [
        b"MAIL FROM:<evil@example.org>",
        b"RCPT TO:<all@example.org>",
        b"DATA",
        b"Subject: 2",
        b"",
        b"x",
        b".",
    ]
    return b"".join(line + line_end for line in lines)


BODIES: dict[str, bytes] = {
    "bare CR": b"one\rtwo\r\n",
    "bare LF": b"one\ntwo\r\n",
    "CR CR LF": b"one\r\r\ntwo\r\r\n",
    "LF CR": b"one\n\rtwo\n\r",
    "LF.LF": b"one\n.\ntwo\r\n" + second(b"\n"),
    "CR.CR": b"one\r.\rtwo\r\n" + second(b"\r"),
    "CRLF.LF": b"one\r\n.\n" + second(b"\r\n"),
    "LF.CRLF": b"one\n.\r\n" + second(b"\r\n"),
    "CRLF.CR": b"one\r\n.\r" + second(b"\r\n"),
    "CR.CRLF": b"one\r.\r\n" + second(b"\r\n"),
    "CRLF.CRLF": b"one\r\n.\r\n" + second(b"\r\n"),
    "LF.LF at the end": b"one\n.\n",
    "NUL before the dot": b"one\r\n\0.\r\n" + second(b"\r\n"),
    "NUL behind the dot": b"one\r\n.\0\r\n" + second(b"\r\n"),
    "chunk in words": b"BDAT 3 LAST\r\nabcMAIL FROM:<>\r\n",
    "dot lines": b".\r\n..\r\n...\r\n. \r\n.x\r\n\r\n.\r\n",
    "nothing but a dot": b".",
    "CR behind the last dot": b"one\r\n.\r",
    "dot without line end": b"one\r\n.",
    "NUL octets": b"\0one\0\r\n\0\0\r\n",
    "8-bit text": "Привет, мир\r\n".encode("koi8-r"),
    "UTF-16": "Привет\r\nмир\r\n".encode("utf-16"),
    "binary": bytes(range(256)) * 40,
    "a line of a megabyte": b"y" * 1_000_000 + b"\r\n.\r\n",
    "no final line end": b"the end",
    "many empty lines": b"\r\n" * 50,
    "empty body": b"",
}
WHOLE: dict[str, bytes] = {
    "empty message": b"",
    "a single line end": b"\r\n",
    "a single dot": b".\r\n",
    "header only": HEADER.removesuffix(b"\r\n"),
    "header without line end": b"Subject: cut",
    "no header": b"\r\nonly text\r\n",
    "no header at all": b"this is no header\r\n\r\ntext\r\n",
    "begins with a space": b" continued\r\nSubject: x\r\n\r\ntext\r\n",
    "begins with a dot": b".Subject: x\r\n\r\n.text\r\n",
    "a header of a hundred thousand octets": b"X-Long: " + b"z" * 100_000 + b"\r\n" + HEADER,
    "two thousand fields": b"".join(b"X-%d: y\r\n" % number for number in range(2000)) + HEADER,
    "header with bare line ends": HEADER.replace(b"\r\n", b"\n") + b"text\n",
    "header with bare CR": HEADER.replace(b"\r\n", b"\r") + b"text\r",
}
MAIL = [HEADER.replace(b"crafted", name.encode()) + body for name, body in BODIES.items()] + list(
    WHOLE.values()
)


def without_trace(content: bytes) -> bytes:
    """Return a message without the one field that is added to it."""
    trace = _RECEIVED.match(content)
    assert trace is not None, content[:200]
    return content[trace.end() :]


def as_fetched(content: bytes) -> bytes:
    """Return what comes out of RETR: the octet sequence CRLF ends every line there, the last one too."""
    return content if content.endswith(CRLF) else content + CRLF


@pytest.mark.parametrize("pop3_pipelining", [True, False] if thorough() else [True], ids=str)
@pytest.mark.parametrize(
    "features",
    [
        SmtpFeatures(),
        SmtpFeatures(lax_end=True),
        SmtpFeatures(chunking=True),
        SmtpFeatures(pipelining=False, lax_end=True),
    ],
    ids=["DATA", "DATA, lax", "BDAT", "DATA, lax, one by one"],
)
async def test_crafted_messages(
    launcher: ProgramLauncher, tmp_path: Path, features: SmtpFeatures, pop3_pipelining: bool
) -> None:
    async with FaultRig(
        launcher,
        tmp_path,
        MAIL,
        smtp_features=features,
        pop3_features=SandboxFeatures(pipelining=pop3_pipelining),
    ) as rig:
        program = await rig.run()
        assert program.code == 0, program.tail()
        arrived = Counter(without_trace(message.content) for message in rig.smtp.accepted)
        wanted = Counter(normalised(as_fetched(content)) for content in MAIL)
        asked = sum(command.startswith(b"MAIL ") for command in rig.smtp.commands)
        record(ALTERED, messages=len(MAIL), altered=(wanted - arrived).total())
        record(SMUGGLED, messages=len(MAIL), smuggled=len(rig.smtp.accepted) - len(MAIL))
        assert arrived == wanted
        assert len(rig.smtp.accepted) == len(MAIL)
        assert asked == len(MAIL), "no content was taken for a command"
        assert all(message.recipients == (b"all@example.org",) for message in rig.smtp.accepted)
        assert rig.smtp.violations == []
        assert rig.box.messages == []
