"""Text from strangers, printed: it steers no terminal, forges no line, and turns no text around.

Every place in which a peer can put words is filled with what a hostile one would put
there; then all that the program and its commands print is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailferry.events import MaildropAuthRejected, MessageRelayed, PollFailed, RoutePaused
from mailferry.sandbox.maildrop import SandboxMaildrop
from support.clients import running
from support.configs import PASSWORD
from support.daemon import SOURCE_ROOT
from support.faults import GREETING, Fault
from support.relay import Relay
from support.scripted_pop3 import ScriptedPop3Server
from support.scripted_smtp import FINAL, ScriptedSmtpServer

# Clears the screen, sets the title, C1 CSI, carriage return, backspaces, NUL, DEL, bidi override and isolate,
# line and paragraph separators, next line, a lone surrogate in UTF-8, a vertical tab, markup of rich's, a forged field.
HOSTILE = (
    b"\x1b[2J\x1b]0;owned\x07 \xc2\x9b31m \xc2\x85 \x08\x08 \x0b \x0c \x00 \x7f \xe2\x80\xae \xe2\x81\xa6 \xd8\x9c "
    b'\xe2\x80\xa8 \xe2\x80\xa9 \xed\xa0\x80 \xff [red]x[/red] [/] \\" level=error event="daemon.stopped" {0} %s \\'
)
HOSTILE_CR = HOSTILE + b'\r{"event":"daemon.stopped","level":"error"}'
ENCODED = b"=?utf-8?q?=1B[2J=0D=0A=E2=80=AEabc=C2=9B=00_[red]x[/red]?="
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)
PLACES = [
    "greeting",
    "login",
    "retr",
    "uidl",
    "message",
    "hop greeting",
    "hop mail",
    "hop rcpt",
    "hop end",
    "receipt",
]


def safe(text: str) -> None:
    found = UNSAFE.search(text)
    assert found is None, text[max(0, found.start() - 100) : found.end() + 100].encode("unicode_escape")


def place_faults(place: str) -> tuple[list[Fault], list[Fault]]:
    """What the maildrop and the next hop say where."""
    pop3 = {
        "greeting": Fault(GREETING, reply=b"-ERR " + HOSTILE_CR + b"\r\n"),
        "login": Fault(b"SASL-RESPONSE", reply=b"-ERR [AUTH] " + HOSTILE_CR + b"\r\n"),
        "retr": Fault(b"RETR", reply=b"-ERR " + HOSTILE_CR + b"\r\n"),
    }
    hop = {
        "hop greeting": Fault(GREETING, reply=b"554 " + HOSTILE + b"\r\n"),
        "hop mail": Fault(b"MAIL", reply=b"550 5.1.8 " + HOSTILE + b"\r\n"),
        "hop rcpt": Fault(b"RCPT", reply=b"550-5.1.1 " + HOSTILE + b"\r\n550 5.1.1 " + HOSTILE + b"\r\n"),
        "hop end": Fault(FINAL, reply=b"451 4.3.0 " + HOSTILE + b"\r\n"),
        "receipt": Fault(FINAL, reply=b"250 2.0.0 " + HOSTILE + b"\r\n"),
    }
    return [pop3[place]] if place in pop3 else [], [hop[place]] if place in hop else []


def hostile_box(place: str) -> SandboxMaildrop:
    """A maildrop with one message."""
    content = b"From: %s\r\nTo: %s\r\nSubject: %s\r\n\r\nhello\r\n" % (ENCODED, HOSTILE, HOSTILE + ENCODED)
    box = SandboxMaildrop(PASSWORD)
    uidl = HOSTILE_CR.replace(b" ", b"_") if place == "uidl" else b"one"
    box.append(content if place in {"message", "hop rcpt"} else b"Subject: x\r\n\r\nx\r\n", uidl)
    return box


async def run(place: str, relay: Relay) -> None:
    """Poll once with hostile words in that place."""
    of_pop3, of_hop = place_faults(place)
    pop3, hop = ScriptedPop3Server({"ann": hostile_box(place)}, *of_pop3), ScriptedSmtpServer(*of_hop)
    async with running(pop3), running(hop):
        relay.maildrop(pop3.port)
        relay.destination(hop.port)
        await relay.once()


def something_was_told(place: str, relay: Relay) -> None:
    kinds = {"greeting": PollFailed, "login": MaildropAuthRejected, "hop greeting": RoutePaused}
    if place in kinds:
        assert relay.told(kinds[place])
    if place in {"uidl", "message", "receipt"}:
        assert relay.told(MessageRelayed)


@pytest.mark.parametrize("place", PLACES)
async def test_json_lines_stay_one_object_each(place: str, tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    relay.daemon |= {"log_format": "json", "log_level": "debug", "trace": True}
    await run(place, relay)
    something_was_told(place, relay)
    text = relay.log.getvalue()
    safe(text)
    lines = [line for line in map(json.loads, text.splitlines()) if line["event"] != "python.logged"]
    assert [line["event"] for line in lines] == [event.name for event in relay.events]
    safe("".join(leaf for line in lines for leaf in leaves(line)).replace("\n", ""))


def leaves(value: object) -> Iterator[str]:
    """Every text in a JSON document: escapes have become characters again."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (*leaves(key), *leaves(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)


CONSOLE_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


@pytest.mark.parametrize("place", PLACES)
async def test_console_lines_stay_one_event_each(place: str, tmp_path: Path) -> None:
    relay = Relay(tmp_path)
    relay.daemon |= {"log_format": "console", "log_level": "debug", "trace": True}
    await run(place, relay)
    something_was_told(place, relay)
    text = relay.log.getvalue()
    safe(text)
    # A slow machine makes asyncio's debug mode say so; that is no event of ours.
    lines = [line for line in text.splitlines() if "python.logged logger=asyncio" not in line]
    assert len(lines) == len(relay.events)
    assert all(CONSOLE_LINE.match(line) for line in lines)
    for line, event in zip(lines, relay.events, strict=True):
        if event.name != "wire.traced":
            fields = dict(console_fields(line))
            assert "level" not in fields, line
            assert "event" not in fields, line


def console_fields(line: str) -> Iterator[tuple[str, str]]:
    """Read `key=value` as a careful reader does: a quote ends a value unless a backslash stands before it."""
    pattern = r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^ "=]*|[\[{].*?[\]}]))(?: |$)'
    position = re.match(r"\S+ \S+ +\S+ ?", line)
    assert position is not None
    rest = line[position.end() :]
    while rest:
        match = re.match(pattern, rest)
        assert match, rest
        yield match[1], match[2] or match[3] or ""
        rest = rest[match.end() :]


COMMANDS = [
    ["status"],
    ["status", "--json"],
    ["history"],
    ["history", "--json"],
    ["once"],
    ["once", "--json"],
    ["quarantine", "list"],
    ["quarantine", "list", "--json"],
    ["quarantine", "show", "ENTRY"],
    ["quarantine", "show", "ENTRY", "--headers"],
    ["quarantine", "show", "ENTRY", "--json"],
    ["ledger", "export"],
]


def commands_output(config: Path) -> Iterator[tuple[list[str], bytes, bytes]]:
    """Run the commands as a person would; every second one on a narrow screen."""
    entry = ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILFERRY_")}
    environment |= {"PYTHONPATH": str(SOURCE_ROOT), "PYTHONIOENCODING": "utf-8", "MAILFERRY_DEBUG": "1"}
    for number, command in enumerate([*COMMANDS, ["history"]]):
        words = [entry if word == "ENTRY" else word for word in command]
        done = subprocess.run(
            [sys.executable, "-m", "mailferry", *words, "-c", str(config)],
            env=environment | {"COLUMNS": "80" if number % 2 else "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=40,
            check=False,
        )
        if command == ["quarantine", "list", "--json"]:
            entry = re.search(r'"(?:name|entry)": "([^"]+)"', done.stdout.decode())[1]  # type: ignore[index]
        yield command, done.stdout, done.stderr


async def test_the_commands_print_none_of_it(tmp_path: Path) -> None:
    """With hostile words in all places at once."""
    relay = Relay(tmp_path)
    servers: dict[str, tuple[ScriptedPop3Server, ScriptedSmtpServer]] = {}
    for place in PLACES:
        box, of_pop3, of_hop = hostile_box(place), *place_faults(place)
        pop3, hop = ScriptedPop3Server({place[-8:].strip(): box}, *of_pop3), ScriptedSmtpServer(*of_hop)
        servers[place] = (pop3, hop)
    async with contextlib.AsyncExitStack() as stack:
        for place, (pop3, hop) in servers.items():
            await stack.enter_async_context(running(pop3))
            await stack.enter_async_context(running(hop))
            name = place.replace(" ", "-")
            relay.maildrop(pop3.port, name, username=place[-8:].strip(), deliver=[name], keep=True)
            if place == "hop rcpt":
                relay.tables[f"maildrop.{name}"] = {
                    **relay.tables[f"maildrop.{name}"],
                    "rejected": "quarantine",
                }
            relay.destination(hop.port, name)
        await relay.once()
        outputs = await asyncio.to_thread(list, commands_output(relay.config()))
    told = 0
    for command, out, err in outputs:
        assert b"Traceback" not in err, (command, err[-2000:])
        for said in (out, err):
            safe(said.decode("utf-8"))
            told += said.count(b"owned")
        if command[0] in {"quarantine", "ledger"}:
            assert b"owned" in out, (command, out, err)
        if "--json" in command:
            json.loads(out)
        if command[-1] == "export":
            assert all(isinstance(json.loads(line), dict) for line in out.splitlines())
    assert told > len(PLACES), "nothing of it was printed, so nothing was shown to be harmless"
